"""A review of the changes to a policy, one at a time: what each change allows, and the answers so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from profiler.kernel.risks import LEVELS, Risk, highest
from profiler.policy.changes import KEYS, Edit, Step, applied, place, steps
from profiler.policy.classes import Classes, Level, classes
from profiler.policy.covering import FileRules
from profiler.policy.model import FileRule, Policy
from profiler.review.diff import Change, compare
from profiler.review.rights import of_policy
from profiler.trace.model import Trace

RISKY = LEVELS.index("high")

SORTED_MAX = 2000
"""Changes that are sorted by their risk; to find it takes a few milliseconds for each."""


@dataclass(frozen=True)
class Choice:
    """One change, with what may be chosen in its place."""

    step: Step
    classes: Classes
    section: str
    """Of policy.yaml, as ``item``, the name of the entry there."""
    item: str

    @property
    def items(self) -> tuple[str, ...]:
        """The words under which ``explain`` knows the right; none where it does not."""
        row = self.step.edit.row
        match self.step.edit.section:
            case "capabilities":
                return (f"capability:{row.name}",)
            case "syscalls" | "refused":
                return (f"syscall:{self.item}",)
            case "files":
                return (f"path:{row.pattern}",)
            case "transitions":
                return (f"exec:{row.program}",)
            case "sockets":
                return (f"socket:{row.family}",)
            case "signals":
                return (f"signal:{row.signal}",)
            case _:
                return ()

    def edits(self, level: int) -> tuple[Edit, ...]:
        """Return the edits at one of its classes. What follows from the change does so as it was proposed; it is left
        out where less is chosen."""
        rows = self.classes.levels[level].rows
        more = self.step.more if level >= self.classes.proposed else ()
        return (replace(self.step.edit, after=rows), *more)


class Changes:
    """The changes from one policy to another, as choices: the riskiest first, unless there are more than SORTED_MAX.

    ``trace`` is the evidence of the new policy.
    """

    def __init__(self, old: Policy, new: Policy, trace: Trace | None = None) -> None:
        self.old, self.new, self.trace = old, new, trace
        native = old.abis[0]
        found = [(self._rights(step.edits), step) for step in steps(old, new)]
        found.sort(key=lambda item: _order(item[0]))
        self.choices = tuple(
            Choice(step, classes(step.edit, trace), *place(step.edit.section, step.edit.row, native))
            for _, step in found
        )
        self._known = {
            (index, choice.classes.proposed): rights
            for index, (choice, (rights, _)) in enumerate(zip(self.choices, found, strict=True))
        }

    @cached_property
    def _files(self) -> FileRules:
        return FileRules(self.old.files)

    def rights(self, index: int, level: int) -> tuple[Change, ...]:
        """Return what a change allows, or no longer allows, at one of its classes."""
        key = index, level
        if key not in self._known:
            self._known[key] = self._rights(self.choices[index].edits(level))
        return self._known[key]

    def _rights(self, made: tuple[Edit, ...]) -> tuple[Change, ...]:
        near = self._near(made)
        return compare(of_policy(near, "old"), of_policy(applied(near, near, made), "new")).changes

    def _near(self, made: tuple[Edit, ...]) -> Policy:
        """Return the old policy with the sections of these edits only, and of its files with those that matter."""
        sections = {edit.section for edit in made}
        empty: dict[str, Any] = {name: () for name in KEYS if name not in sections}
        if "files" in sections:
            rules = [row for edit in made for row in (*edit.before, *edit.after) if isinstance(row, FileRule)]
            patterns = dict.fromkeys(rule.pattern for rule in rules)
            found = [
                row
                for one in patterns
                for row in (*self._files.of(one), *self._files.around(one), *self._files.inside(one))
            ]
            empty["files"] = tuple(dict.fromkeys(found))
        return replace(self.old, has_files=self.old.has_files or self.new.has_files, **empty)

    def risk(self, index: int, level: int) -> Risk | None:
        """Return the highest risk of what a change allows; None when it allows nothing more."""
        return _risk(self.rights(index, level))

    def policy(self, taken: Mapping[int, int]) -> Policy:
        """Return the old policy with the changes that were taken, each at a class."""
        return applied(
            self.old, self.new, [edit for at, level in taken.items() for edit in self.choices[at].edits(level)]
        )


def _risk(rights: Sequence[Change]) -> Risk | None:
    found = [row.risk for row in rights if row.risk is not None]
    return highest(found) if found else None


def _order(rights: Sequence[Change]) -> tuple[bool, int]:
    """Return the place of a change by what it allows: the riskiest first, and last what changes no right by itself."""
    risk = _risk(rights)
    return not rights, 0 if risk is None else -risk.rank


@dataclass(frozen=True)
class Review:
    """Where a review is. ``answers``: of each change, None for undecided; ``levels``: the class that is chosen."""

    choices: tuple[Choice, ...]
    answers: tuple[bool | None, ...]
    levels: tuple[int, ...]
    at: int = 0

    @classmethod
    def of(cls, choices: tuple[Choice, ...]) -> Review:
        """Return a review with nothing decided."""
        return cls(choices, (None,) * len(choices), tuple(choice.classes.proposed for choice in choices))

    @property
    def level(self) -> Level:
        """The class of the current change that is chosen."""
        return self.choices[self.at].classes.levels[self.levels[self.at]]

    @property
    def done(self) -> bool:
        """Whether all changes are decided."""
        return None not in self.answers

    @property
    def taken(self) -> dict[int, int]:
        """The changes that were taken, each with its class."""
        return {index: self.levels[index] for index, answer in enumerate(self.answers) if answer}

    def answered(self, yes: bool) -> Review:
        """Return the review with an answer for the current change, at the next undecided one."""
        return self._with({self.at: yes})

    def rest(self, yes: bool, ask: Callable[[int, int], bool] = lambda index, level: False) -> Review:
        """Return the review with one answer for the current change and all undecided ones after it. ``ask``: whether a
        change, at its class, is to be decided on its own."""
        later = range(self.at + 1, len(self.answers))
        open_ = [index for index in later if self.answers[index] is None and not ask(index, self.levels[index])]
        return self._with(dict.fromkeys((self.at, *open_), yes))

    def _with(self, answers: Mapping[int, bool]) -> Review:
        made = tuple(answers.get(index, answer) for index, answer in enumerate(self.answers))
        order = (*range(self.at, len(made)), *range(self.at))
        return replace(self, answers=made, at=next((index for index in order if made[index] is None), self.at))

    def moved(self, step: int, undecided: bool = False) -> Review | None:
        """Return the review at the next change in a direction, 1 or -1; None when there is none. ``undecided``: past
        those that are decided."""
        order = range(self.at + step, len(self.answers) if step > 0 else -1, step)
        at = next((index for index in order if not undecided or self.answers[index] is None), None)
        return None if at is None else replace(self, at=at)

    def resized(self, step: int) -> Review | None:
        """Return the review with the next wider class (1) or narrower one (-1); None when there is none."""
        level = self.levels[self.at] + step
        if not 0 <= level < len(self.choices[self.at].classes.levels):
            return None
        return replace(self, levels=(*self.levels[: self.at], level, *self.levels[self.at + 1 :]))
