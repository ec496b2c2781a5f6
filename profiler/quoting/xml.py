"""Write text into XML 1.0 documents."""

from __future__ import annotations

from profiler.quoting.text import printable

_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;", "\n": "&#10;"})


def xml(text: str) -> str:
    """Return ``text`` as character data or as the value of an attribute, with its line breaks.

    XML has no form for most control characters, even as references: they are shown as by
    :func:`profiler.quoting.text.printable`.
    """
    return "\n".join(map(printable, text.split("\n"))).translate(_ENTITIES)


def exact(text: str) -> bool:
    """Return whether :func:`xml` keeps the text as it is: XML has a form for it, and it is on one line."""
    return text.isprintable()


def xml_comment(text: str) -> str:
    """Return ``text`` for the inside of a comment, where two hyphens must not stand together."""
    return printable(text).replace("--", "- -").replace("--", "- -").rstrip("-")


FILTERS = {"xml": xml, "xml_comment": xml_comment}
