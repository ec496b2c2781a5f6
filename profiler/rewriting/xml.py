"""Edit an XML document in place: elements are put in, replaced or taken out, and every other byte stays as it is.

expat says where each element begins and ends. A document with a DOCTYPE is refused, so no entity is ever expanded; so
is one whose encoding is not UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from profiler.quoting.text import printable
from profiler.quoting.xml import xml

DEPTH = 200
"""Elements in elements; deeper documents are refused."""


class Unreadable(ValueError):
    """The text is not a document that can be edited; ``str()`` says why."""


@dataclass(frozen=True)
class Element:
    """An element to write."""

    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    children: tuple[Element, ...] = ()
    text: str = ""


@dataclass
class Node:
    """An element of a document. ``start`` and ``end``: its first byte, and the one after its last; ``inner`` and
    ``close``: where its content begins and ends (equal for ``<a/>``)."""

    name: str
    attributes: dict[str, str]
    start: int
    parent: Node | None = None
    inner: int = 0
    close: int = 0
    end: int = 0
    children: list[Node] = field(default_factory=list)
    text: str = ""

    def all(self, name: str) -> list[Node]:
        """Return the children of that name."""
        return [child for child in self.children if child.name == name]

    def one(self, *path: str) -> Node | None:
        """Return the only element that a path of names leads to; None when there is none. Raises Unreadable."""
        node = self
        for name in path:
            found = node.all(name)
            if len(found) > 1:
                raise Unreadable(f"it has several elements {name} in {node.name}")
            if not found:
                return None
            node = found[0]
        return node

    def says(self, element: Element) -> bool:
        """Return whether it has the name, attributes, text and children of an element to write."""
        return (
            (self.name, self.attributes, self.text.strip()) == (element.name, dict(element.attributes), element.text)
            and len(self.children) == len(element.children)
            and all(node.says(other) for node, other in zip(self.children, element.children, strict=True))
        )


@dataclass(frozen=True)
class Document:
    """A document and its root element."""

    data: bytes
    root: Node

    def put(self, parent: Node, element: Element, old: Node | None = None) -> Document:
        """Return the document with an element in place of ``old``, or as the last child of ``parent``."""
        if old is not None:
            same = old.says(element)
            return self if same else self._spliced(old.start, old.end, self._text(element, self._before(old)))
        last = parent.children[-1] if parent.children else None
        outer = self._before(parent)
        indent = self._before(last) if last else (None if outer is None else outer + self._step())
        text = self._text(element, indent)
        gap = "" if indent is None else self._newline() + indent
        if last:
            return self._spliced(last.end, last.end, gap + text)
        tail = "" if outer is None else self._newline() + outer
        if parent.inner == parent.end:  # <a/>
            tag = self.data[parent.start : parent.end].decode()
            opened = tag[:-2].rstrip() + ">"
            return self._spliced(parent.start, parent.end, f"{opened}{gap}{text}{tail}</{parent.name}>")
        inside = self.data[parent.inner : parent.close].decode()
        end = parent.inner + len(inside.rstrip().encode())
        return self._spliced(end, parent.close, f"{gap}{text}{tail}")

    def before(self, node: Node, element: Element) -> Document:
        """Return the document with an element in front of another one."""
        indent = self._before(node)
        gap = "" if indent is None else self._newline() + indent
        return self._spliced(node.start, node.start, self._text(element, indent) + gap)

    def remove(self, node: Node) -> Document:
        """Return the document without an element, and without its line when nothing else stands there."""
        start, end = node.start, node.end
        if self._before(node) is not None and (blank := re.compile(rb"[ \t]*\r?\n").match(self.data, end)):
            start, end = self.data.rfind(b"\n", 0, start) + 1, blank.end()
        return self._spliced(start, end, "")

    def _spliced(self, start: int, end: int, text: str) -> Document:
        return loads(self.data[:start] + text.encode() + self.data[end:])

    def _before(self, node: Node) -> str | None:
        """Return the blanks in front of an element on its line, None when something else stands there."""
        line = self.data[self.data.rfind(b"\n", 0, node.start) + 1 : node.start]
        return line.decode() if not line.strip() else None

    def _newline(self) -> str:
        return "\r\n" if b"\r\n" in self.data else "\n"

    def _step(self) -> str:
        """Return the white space that one level adds, as the root's first child has it."""
        first = self.root.children[0] if self.root.children else None
        return (first and self._before(first)) or "  "

    def _text(self, element: Element, indent: str | None) -> str:
        """Return an element as text; on one line where ``indent`` is None."""
        head = element.name + "".join(f" {name}='{xml(value)}'" for name, value in element.attributes.items())
        if element.children:
            inner = None if indent is None else indent + self._step()
            gap = "" if inner is None else self._newline() + inner
            end = "" if indent is None else self._newline() + indent
            content = "".join(gap + self._text(child, inner) for child in element.children)
            return f"<{head}>{content}{end}</{element.name}>"
        return f"<{head}>{xml(element.text)}</{element.name}>" if element.text else f"<{head}/>"


def loads(data: bytes) -> Document:
    """Return a document. Raises Unreadable."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    open_: list[Node] = []
    roots: list[Node] = []

    def declaration(version: str, encoding: str | None, standalone: int) -> None:
        if (encoding or "UTF-8").upper() != "UTF-8":
            raise Unreadable(f"its encoding is {printable(encoding or '')}: save it as UTF-8")

    def doctype(*_: object) -> None:
        raise Unreadable("it has a DOCTYPE")

    def begin(name: str, attributes: dict[str, str]) -> None:
        node = Node(name, attributes, parser.CurrentByteIndex, open_[-1] if open_ else None)
        node.inner = _tag_end(data, node.start)
        if len(open_) >= DEPTH:
            raise Unreadable("it is nested too deeply")
        (open_[-1].children if open_ else roots).append(node)
        open_.append(node)

    def finish(name: str) -> None:
        node = open_.pop()
        node.close = parser.CurrentByteIndex
        if data[node.inner - 2 : node.inner] == b"/>":
            node.close = node.end = node.inner
        else:
            node.end = data.index(b">", node.close) + 1

    def words(text: str) -> None:
        if open_:
            open_[-1].text += text

    parser.XmlDeclHandler, parser.StartDoctypeDeclHandler = declaration, doctype
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = begin, finish, words
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        raise Unreadable("its encoding is not UTF-8")
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise Unreadable(f"line {error.lineno}: {expat.ErrorString(error.code)}") from error
    return Document(data, roots[0])


_TAG = re.compile(rb"""<(?:[^>"']|"[^"]*"|'[^']*')*>""")


def _tag_end(data: bytes, start: int) -> int:
    """Return the place after a start tag. expat has accepted it."""
    found = _TAG.match(data, start)
    if found is None:
        raise Unreadable(f"the element at byte {start} has no end")
    return found.end()


def walk(node: Node) -> Iterator[Node]:
    """Yield an element and all below it, in the order of the document."""
    yield node
    for child in node.children:
        yield from walk(child)
