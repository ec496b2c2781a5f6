"""Reasons for one entry from several policies as one list: counts of the same evidence add up, all else stays as it was
said."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from profiler.policy.passes.observed import count

_NUMBER = "[0-9]{1,3}(?: [0-9]{3})*"
"""As :func:`count` writes one."""
_CALLS = re.compile(r"(?P<before>(?:.* )?observed )\((?P<list>.*?)(?:, (?P<more>[0-9]+) more programs?)?\)", re.DOTALL)
_CALL = re.compile(rf"(?:\A|, )(?P<name>.+?): (?P<number>{_NUMBER}) calls?(?=, |\Z)", re.DOTALL)
_TIMES = re.compile(rf"(?P<before>checked|inferred|executed) (?P<number>{_NUMBER}) times?(?P<after>.*)", re.DOTALL)
_USES = re.compile(rf"(?P<before>.*; )(?P<number>{_NUMBER}) uses?(?P<after>\))", re.DOTALL)
_FAILED = re.compile(r"(?P<before>never seen to succeed )\((?P<list>.*)\)", re.DOTALL)
_EDIT = re.compile(r"user(?::|\Z)|minimise: |(?:denied|logged) [0-9]")
_ERROR = re.compile(rf"(?:\A|, )(?P<name>[A-Z0-9_]+): (?P<number>{_NUMBER})(?=, |\Z)")


@dataclass
class _Counted:
    """A reason in parts: ``unit`` of each number in ``counts``, and ``more`` programs that are not named."""

    before: str
    after: str = ""
    unit: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    more: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.before, self.after, self.unit)

    def text(self) -> str:
        if self.unit in ("call", ""):
            parts = [f"{name}: {_units(number, self.unit)}" for name, number in self._ranked()]
            if self.more:
                parts.append(f"{self.more} more program{'' if self.more == 1 else 's'}")
            return f"{self.before}({', '.join(parts)})"
        if not self.unit.strip():
            return self.before
        return f"{self.before}{_units(self.counts[''], self.unit)}{self.after}"

    def _ranked(self) -> list[tuple[str, int]]:
        if self.unit:
            return sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return sorted(self.counts.items())


def _units(number: int, unit: str) -> str:
    return count(number) + (f" {unit}{'' if number == 1 else 's'}" if unit else "")


def _listed(regex: re.Pattern[str], text: str) -> Counter[str] | None:
    """The counts by name; None when the text holds anything else."""
    found: Counter[str] = Counter()
    at = 0
    for one in regex.finditer(text):
        if one.start() != at:
            return None
        found[one["name"]] += _number(one["number"])
        at = one.end()
    return found if at == len(text) and found else None


def _number(text: str) -> int:
    return int(text.replace(" ", ""))


_PLAIN = " "
"""Unit of a reason that counts nothing."""


def _parsed(text: str) -> _Counted:
    if (found := _CALLS.fullmatch(text)) and (counts := _listed(_CALL, found["list"])) is not None:
        return _Counted(found["before"], "", "call", counts, int(found["more"] or 0))
    if (found := _FAILED.fullmatch(text)) and (counts := _listed(_ERROR, found["list"])) is not None:
        return _Counted(found["before"], "", "", counts)
    for regex, unit in ((_TIMES, "time"), (_USES, "use")):
        if found := regex.fullmatch(text):
            before = found["before"] + (" " if unit == "time" else "")
            return _Counted(before, found["after"], unit, Counter({"": _number(found["number"])}))
    return _Counted(text, unit=_PLAIN)


def is_failure(text: str) -> bool:
    """Whether it says that a syscall was never seen to succeed."""
    return _FAILED.fullmatch(text) is not None


def is_edit(text: str) -> bool:
    """Whether no recording gave it: it is of a reviewer, ``minimise`` or ``refine``."""
    return _EDIT.match(text) is not None


def added(several: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The reasons of all, with counts added. Those of a single list are left as they are; else evidence comes before
    the rest, by text."""
    lists = list(several)
    if len(lists) == 1:
        return tuple(lists[0])
    found: dict[tuple[str, str, str], _Counted] = {}
    for reasons in lists:
        for text in reasons:
            one = _parsed(text)
            known = found.setdefault(one.key, one)
            if known is not one:
                known.counts.update(one.counts)
                known.more = max(known.more, one.more)
    return tuple(
        row.text() for row in sorted(found.values(), key=lambda row: (row.unit == _PLAIN, row.unit == "", row.key))
    )


def key(text: str) -> tuple[str, str, str]:
    """What two reasons share that say the same of two recordings: all but the counts."""
    return _parsed(text).key
