"""The files of an image as a tree, which layers are put into one after another.

Nothing is unpacked. Names, links and sizes are chosen by strangers: a path never leads out of the tree, and everything
has a bound.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from profiler.kernel.file_capabilities import FileCapabilities

LINKS_MAX = 40
"""Symbolic links that a path may lead through: the kernel's own limit (MAXSYMLINKS, include/linux/namei.h)."""
PATH_MAX = 4096
"""Bytes of a path, as in include/uapi/linux/limits.h."""

_PRIVILEGED = 0o6000
"""The bits for setuid and setgid."""

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
"""How the name of a whiteout begins, and the name that hides all of a directory (OCI image-spec, layer.md)."""


@dataclass(frozen=True)
class Node:
    """What an image has at a path. ``mode``: permissions with the bits for setuid, setgid and sticky. ``target``: of a
    symbolic link."""

    kind: Literal["file", "directory", "symlink", "device", "other"]
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    target: str = ""
    capabilities: FileCapabilities | None = None


@dataclass(frozen=True)
class HardLink:
    """A further name of the file at another path of the image.

    ``mode`` and ``capabilities``: those in the entry of the link. Engines give them to the file; others ignore them.
    """

    existing: str
    mode: int = 0
    capabilities: FileCapabilities | None = None


@dataclass
class _Item:
    node: Node
    children: dict[str, _Item] = field(default_factory=dict)

    @property
    def is_directory(self) -> bool:
        return self.node.kind == "directory"


class Files:
    """The tree. Paths are absolute, without a slash at the end."""

    def __init__(self) -> None:
        self._root = _Item(Node("directory"))
        self.left_out = 0
        """Entries of layers that no path in the tree can have."""

    def apply(self, layer: Iterable[tuple[str, Node | HardLink]]) -> None:
        """Put a layer over what is there. Its whiteouts hide files of the layers below it, wherever they stand in
        it."""
        entries = list(layer)
        for path, _ in entries:
            directory, _, name = path.rstrip("/").rpartition("/")
            if name.startswith(WHITEOUT):
                self._hide(directory, name)
        for path, node in entries:
            if not path.rstrip("/").rpartition("/")[2].startswith(WHITEOUT):
                self._add(path, node)

    def _hide(self, directory: str, name: str) -> None:
        found = self._reach(directory)
        if found is not None and found[1].is_directory:
            if name == OPAQUE:
                found[1].children.clear()
            else:
                found[1].children.pop(name.removeprefix(WHITEOUT), None)

    def _add(self, path: str, node: Node | HardLink) -> None:
        words = _words(path)
        if words is None or len(path) > PATH_MAX or any(word.startswith(WHITEOUT) for word in words):
            self.left_out += 1
            return
        if isinstance(node, HardLink):
            linked = self._reach(node.existing, last=False)
            if linked is None or linked[1].is_directory:
                self.left_out += 1
                return
            item = linked[1]
            own = item.node
            # Of the file and the link, the more privileged one is taken: which one holds is up to the engine.
            item.node = replace(
                own,
                mode=own.mode | node.mode & _PRIVILEGED,
                capabilities=own.capabilities or node.capabilities,
            )
        else:
            item = _Item(node)
        if not words:
            self._root.node = item.node if item.is_directory else self._root.node
            return
        parent = self._reach("/".join(words[:-1]), make=True)
        if parent is None or not parent[1].is_directory:
            self.left_out += 1
            return
        known = parent[1].children.get(words[-1])
        if known is not None and known.is_directory and item.is_directory:
            item.children = known.children
        parent[1].children[words[-1]] = item

    def _reach(self, path: str, *, last: bool = True, make: bool = False) -> tuple[str, _Item] | None:
        """Return the path that this one leads to inside the tree, and what is there; None when nothing is.

        ``last``: a link at the end is followed too. ``make``: missing directories are made.
        """
        ahead = _reversed(path)
        stack, names, links = [self._root], list[str](), 0
        while ahead:
            name = ahead.pop()
            if name == "..":
                if names:
                    stack.pop()
                    names.pop()
                continue
            here = stack[-1]
            if not here.is_directory:
                return None
            child = here.children.get(name)
            if child is None:
                if not make or name.startswith(WHITEOUT):
                    return None
                child = here.children[name] = _Item(Node("directory"))
            if child.node.kind == "symlink" and (ahead or last):
                links += 1
                target = child.node.target
                if links > LINKS_MAX or not target or len(target) > PATH_MAX:
                    return None
                if target.startswith("/"):
                    del stack[1:], names[:]
                ahead += _reversed(target)
                continue
            stack.append(child)
            names.append(name)
        return "/" + "/".join(names), stack[-1]

    def find(self, path: str) -> tuple[str, Node] | None:
        """Return where a path leads to, through links, and what is there; None when nothing is."""
        found = self._reach(path)
        return None if found is None else (found[0], found[1].node)

    def nearest(self, path: str) -> tuple[str, Node]:
        """Return the path, or the directory above it that is there."""
        while (found := self.find(path)) is None:
            path = path.rpartition("/")[0] or "/"
        return found

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        """Yield every path with what is there, sorted within each directory; nothing for the root."""
        ahead = [("", self._root)]
        while ahead:
            path, item = ahead.pop()
            if path:
                yield path, item.node
            ahead += [(f"{path}/{name}", child) for name, child in sorted(item.children.items(), reverse=True)]


def _words(path: str) -> list[str] | None:
    """Return the names in a path; None when it leads out of the image. Engines settle ``..`` by the text alone (Go's
    path.Clean)."""
    words = [word for word in posixpath.normpath(path).split("/") if word not in ("", ".")]
    return None if ".." in words else words


def _reversed(path: str) -> list[str]:
    return [word for word in reversed(path.split("/")) if word not in ("", ".")]
