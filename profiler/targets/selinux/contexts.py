"""Read file_contexts(5) of a machine: the regular expressions that say which type a file gets.

Source: libselinux 3.4, label_file.c: names without wildcards go before patterns, and of those the last one that fits
counts. The files next to it with the suffixes .homedirs and .local belong to it; .subs and .subs_dist name directories
that are looked up under another name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

_LINE = re.compile(r"(/\S*)\s+(?:-([bcdpls-])\s+)?(<<none>>|[^\s:]+:[^\s:]+:([A-Za-z][A-Za-z0-9_.]*)(?::\S+)?)\s*")
_META = re.compile(r"[.^$?*+|\[({]")
_CLASSES = {
    "-": "file", "d": "dir", "l": "lnk_file", "c": "chr_file", "b": "blk_file", "p": "fifo_file", "s": "sock_file",
}  # fmt: skip

SUFFIXES = (".homedirs", ".local")
SUBSTITUTIONS = (".subs", ".subs_dist")


@dataclass(frozen=True)
class Spec:
    """A line: what it fits, for files of one class (None: of any), and the type (None: ``<<none>>``)."""

    regex: str
    kind: str | None
    type: str | None

    @cached_property
    def stem(self) -> str:
        """The text with which every path that fits begins."""
        plain = re.match(r"(?:[^.^$?*+|\[({\\]|\\[^A-Za-z0-9])*", self.regex)
        assert plain is not None
        text, rest = plain[0], self.regex[plain.end() : plain.end() + 1]
        if rest in ("?", "*", "{") and text:
            text = text[:-1].removesuffix("\\")
        elif rest == "(" or "|" in self.regex:
            text = text if "|" not in self.regex.split("(")[0] else ""
        return text.replace("\\", "")

    @cached_property
    def pattern(self) -> re.Pattern[str] | None:
        """The expression, None when Python's dialect does not have it."""
        try:
            return re.compile(self.regex, re.DOTALL)
        except re.error:
            return None

    def fits(self, path: str, kind: str) -> bool:
        """Return whether the line is for the file."""
        return (
            self.kind in (None, kind)
            and path.startswith(self.stem)
            and self.pattern is not None
            and self.pattern.fullmatch(path) is not None
        )


@dataclass(frozen=True)
class Contexts:
    """A machine's file contexts. ``specs``: in the order in which they are tried."""

    specs: tuple[Spec, ...]
    same: tuple[tuple[str, str], ...] = ()

    def find(self, path: str, kind: str) -> Spec | None:
        """Return the line that decides the type of a path, None when there is none."""
        path = renamed(path, self.same)
        return next((spec for spec in self.specs if spec.fits(path, kind)), None)


def renamed(path: str, same: Iterable[tuple[str, str]]) -> str:
    """Return the path under the name by which it is looked up."""
    for name, other in same:
        if path == name or path.startswith(f"{name}/"):
            return other + path[len(name) :]
    return path


def read(texts: Sequence[str], substitutions: Sequence[str] = ()) -> Contexts:
    """Return what files say: file_contexts and those that belong to it, in this order; and those of substitutions."""
    specs = [spec for text in texts for spec in _specs(text)]
    plain = [spec for spec in specs if not _META.search(re.sub(r"\\.", "", spec.regex))]
    rest = [spec for spec in specs if _META.search(re.sub(r"\\.", "", spec.regex))]
    same = []
    for text in substitutions:
        rows = [line.split() for line in text.splitlines() if line.startswith("/")]
        same += [(row[0].rstrip("/"), row[1].rstrip("/")) for row in rows if len(row) == 2]
    return Contexts((*reversed(plain), *reversed(rest)), tuple(sorted(same, key=lambda row: -len(row[0]))))


def _specs(text: str) -> Iterator[Spec]:
    for line in text.splitlines():
        if found := _LINE.fullmatch(line):
            yield Spec(found[1], _CLASSES[found[2]] if found[2] else None, found[4])
