"""Write text into HTML pages (WHATWG HTML, 13.1)."""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup

from profiler.quoting.json import as_json
from profiler.quoting.text import printable

SHOWN_MAX = 400
"""Characters of one text that a page shows: a name of 4 096 bytes would hide what is around it."""


def shown(text: str) -> str:
    """Return ``text`` as a page shows it: printable, and without its middle if it is longer than SHOWN_MAX."""
    made = printable(text)
    if len(made) <= SHOWN_MAX:
        return made
    half = SHOWN_MAX // 2
    return f"{made[:half]}[... {len(made) - SHOWN_MAX} characters ...]{made[-half:]}"


def finalize(value: Any) -> Any:
    """Return a value that a template prints: strings as :func:`shown`; what is HTML already stays.

    As the ``finalize`` of a Jinja environment with ``autoescape``, no expression of a template can be without it.
    """
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def script_json(value: Any) -> Markup:
    """Return ``value`` as JSON for a script element, with each string as :func:`shown`.

    ``<``, ``>`` and ``&`` are escaped, so no string can end the element or begin a comment (WHATWG HTML, 4.12.1.3).
    """
    text = as_json(_shown(value), indent=None)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def script(code: str) -> Markup:
    """Return trusted code for a script element. In strings and patterns, ``<`` before what would end the element or
    begin a comment is written as an escape."""
    return Markup(re.sub(r"<(?=!--|/?script)", r"\\x3c", code, flags=re.IGNORECASE))


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {key: _shown(each) for key, each in value.items()}
    return [_shown(each) for each in value] if isinstance(value, (list, tuple)) else value


FILTERS = {"script_json": script_json}
