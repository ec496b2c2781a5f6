"""Names of kernel functions by their addresses (/proc/kallsyms)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import cached_property

UNKNOWN = "[unknown]"
_ADDRESS, _TYPE, _NAME = 16, 17, 19
"""In a line: where the address ends, the type is, and the name begins. A tab and [MODULE] follow in a module's."""


def _address(line: bytes) -> int:
    return int(line[:_ADDRESS], 16)


def _names(line: bytes) -> bool:
    """Whether a line is that of a function."""
    return line[_TYPE : _TYPE + 1] in b"tTwW"


def _nearest(lines: list[bytes], address: int) -> str:
    at = bisect_right(lines, address, key=_address) - 1
    if at < 0:
        return UNKNOWN
    first = bisect_left(lines, _address(lines[at]), hi=at, key=_address)
    return lines[first][_NAME:].partition(b"\t")[0].decode("ascii", "replace")


class Symbols:
    """The functions of the running kernel, read at the first question.

    The kernel's own symbols come first, in the order of their addresses: the kernel itself searches them by halves
    (kernel/kallsyms.c, get_symbol_pos). So only those of modules and BPF programs are parsed and sorted.
    """

    def __init__(self, known: dict[str, str] | None = None, path: str = "/proc/kallsyms") -> None:
        """``known``: names of the kernel's own functions by addresses, of the same boot; new ones are added."""
        self._known = {} if known is None else known
        self._path = path

    def name(self, address: int) -> str:
        """Return the name of the function that an address is in, of several names the first; UNKNOWN outside of all."""
        place = f"{address:x}"
        if place in self._known:
            return self._known[place]
        own, others = self._lines
        within = bool(own) and _address(own[0]) <= address <= _address(own[-1])
        name = _nearest(own if within else others, address)
        if within:  # a module may go, and another one come to its place
            self._known[place] = name
        return name

    @cached_property
    def _lines(self) -> tuple[list[bytes], list[bytes]]:
        """The kernel's own functions, and all others, both sorted."""
        with open(self._path, "rb") as file:
            text = file.read()
        end = text.rfind(b"\n", 0, text.find(b"\t")) + 1 if b"\t" in text else len(text)
        own, others = text[:end].splitlines(), text[end:].splitlines()
        return own, sorted(filter(_names, others), key=_address)
