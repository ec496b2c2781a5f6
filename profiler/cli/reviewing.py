"""Review the changes to a policy at the terminal, one at a time, with the keys of ``git add -p``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from profiler.cli.terminal import style_for
from profiler.errors import InputError
from profiler.quoting.text import printable, word
from profiler.wording import counted, shortened

if TYPE_CHECKING:
    from profiler.policy.model import Policy
    from profiler.review.diff import Change
    from profiler.review.stepwise import Changes, Choice, Review

DETAILS, REST, REASONS = 12, 3, 3
"""Lines about one right: what is new, what was there, why."""

_INDENT = "    "

NAME_MAX = 400
"""Characters of a name; ``e`` shows the rest."""

_KEYS = {
    "y": "take this change",
    "n": "do not take this change",
    "a": "take this change and all later ones that are undecided, except risky ones",
    "d": "take neither this change nor any later one that is undecided",
    "-": "make this change narrower: fewer uses, or only what was seen",
    "+": "make this change wider: the next class of names, or fewer arguments that are compared",
    "j": "leave this change undecided and go to the next undecided one; J: to the next one",
    "k": "leave this change undecided and go to the previous undecided one; K: to the previous one",
    "e": "explain this change: reasons, evidence, and what it opens",
    "q": "quit: take what was taken so far, and nothing else",
    "?": "show this help",
}


class Evidence(Protocol):
    """What a command knows about a change besides the two policies."""

    def about(self, choice: Choice) -> Sequence[str]:
        """Return lines about why the change is proposed."""

    def dangers(self, choice: Choice) -> Sequence[str]:
        """Return why the change must be decided on its own."""


class NoEvidence:
    """The policies say everything."""

    def about(self, choice: Choice) -> Sequence[str]:
        """Return nothing."""
        return ()

    def dangers(self, choice: Choice) -> Sequence[str]:
        """Return nothing."""
        return ()


@dataclass(frozen=True)
class Outcome:
    """How a review ended. ``policy``: None when no change was taken."""

    policy: Policy | None
    taken: int
    of: int

    @property
    def words(self) -> str:
        """The outcome in words."""
        return f"took {self.taken} of {counted(self.of, 'change')}"


def terminal(source_is_input: bool = False) -> TextIO:
    """Return the terminal that answers are read from. ``source_is_input``: standard input is a file to read, so the
    controlling terminal is used. Raises InputError when there is none, or messages would not be seen."""
    if sys.stderr.isatty():
        if not source_is_input and sys.stdin.isatty():
            return sys.stdin
        if source_is_input:
            try:
                return open("/dev/tty", encoding="utf-8", errors="replace")
            except OSError:
                pass
    raise InputError("--review asks at a terminal, and standard input or standard error is not one; leave --review out")


def review(changes: Changes, answers: TextIO, evidence: Evidence) -> Outcome:
    """Ask about each change, and return what was taken. Raises KeyboardInterrupt when the user ends it with Ctrl-C."""
    return _Session(changes, answers, evidence).run()


class _Session:
    def __init__(self, changes: Changes, answers: TextIO, evidence: Evidence) -> None:
        self._changes, self._answers, self._evidence = changes, answers, evidence
        self._style = style_for(sys.stderr)

    def run(self) -> Outcome:
        from profiler.review.stepwise import Review

        now = Review.of(self._changes.choices)
        if now.choices:
            self._show(now)
        while not now.done:
            answer = self._ask(now)
            if answer is None or answer == "q":
                break
            then = self._after(now, answer)
            if then is not None:
                now = then
                if not now.done:
                    self._show(now)
        taken = now.taken
        return Outcome(self._changes.policy(taken) if taken else None, len(taken), len(now.choices))

    def _after(self, now: Review, answer: str) -> Review | None:
        """Return the review after an answer; None when it was answered with a text, and the question stays."""
        then: Review | None = None
        if answer in ("y", "n"):
            return now.answered(answer == "y")
        if answer in ("a", "d"):
            return now.rest(True, self._is_risky) if answer == "a" else now.rest(False)
        if answer in ("-", "+"):
            then = now.resized(1 if answer == "+" else -1)
            text = f"there is nothing {'wider' if answer == '+' else 'narrower'} to choose"
        elif answer in ("j", "J", "k", "K"):
            then = now.moved(1 if answer in "jJ" else -1, undecided=answer.islower())
            text = f"there is no {'next' if answer in 'jJ' else 'previous'} change"
            text += " to decide" if answer.islower() else ""
        elif answer == "e":
            self._explain(now)
            return None
        else:
            self._tell(*(f"{key} - {what}" for key, what in _KEYS.items()))
            return None
        if then is None:
            self._tell(text)
        return then

    def _is_risky(self, index: int, level: int) -> bool:
        from profiler.review.stepwise import RISKY

        risk = self._changes.risk(index, level)
        return (risk is not None and risk.rank >= RISKY) or bool(self._evidence.dangers(self._changes.choices[index]))

    def _ask(self, now: Review) -> str | None:
        """Return the key that was typed, an empty text for none; None at the end of the input."""
        keys = ",".join(_KEYS)
        question = f"({now.at + 1}/{len(now.choices)}) Take this change [{keys}]? "
        sys.stderr.write(self._style("title", question))
        sys.stderr.flush()
        try:
            line = self._answers.readline()
        except KeyboardInterrupt:
            sys.stderr.write("\n")
            raise
        if not line:
            sys.stderr.write("\n")
            return None
        return line.strip()[:1]

    def _show(self, now: Review) -> None:
        choice = now.choices[now.at]
        sys.stderr.write("\n")
        rights = self._changes.rights(now.at, now.levels[now.at])
        for row in rights:
            for line in _about(row):
                self._print(line)
        if not rights:
            self._print(_Line("title", f"{choice.section}: {_name(choice.item)}"))
            self._print(_Line("", "changes no right by itself: other entries allow the same", _INDENT))
        for text in self._evidence.about(choice):
            self._print(_Line("faint", text, _INDENT))
        told = {row.risk.why for row in rights if row.risk}
        for text in (text for text in self._evidence.dangers(choice) if text not in told):
            self._print(_Line("warning", f"danger: {text}", _INDENT))
        if now.level.words:
            self._print(_Line("note", f"not as proposed: {now.level.words}", _INDENT))
        answer = now.answers[now.at]
        if answer is not None:
            self._print(_Line("note", f"decided: {'taken' if answer else 'not taken'}", _INDENT))

    def _explain(self, now: Review) -> None:
        """Print what explain says about the right after the change."""
        from profiler.review.explain import Explainer

        choice = now.choices[now.at]
        explainer = Explainer(self._changes.policy({now.at: now.levels[now.at]}), self._changes.trace, "policy.yaml")
        found = [row for item in choice.items for row in explainer.explain(item)]
        for row in found:
            facts = [*row.facts, *([("risk", f"{row.risk.level}: {row.risk.why}")] if row.risk else [])]
            self._print(_Line("title", f"{row.item}: {row.verdict}"))
            for label, text in facts:
                self._print(_Line("", f"{label}: {text}", _INDENT))
        if not found:
            self._tell(f"{choice.section}: {_name(choice.item)}: the policy and its recording say no more about it")

    def _tell(self, *lines: str) -> None:
        for line in lines:
            self._print(_Line("", line))

    def _print(self, line: _Line) -> None:
        """Print a text in lines that fit the terminal."""
        wrapped = self._style.wrapped(printable(line.text), f"{line.indent}  ", line.indent)
        for text in wrapped.splitlines():
            print(self._style(line.meaning, text) if line.meaning else text, file=sys.stderr)


@dataclass(frozen=True)
class _Line:
    """A text for the terminal. ``meaning``: of profiler/style.py; empty for none."""

    meaning: str
    text: str
    indent: str = ""


def _name(text: str) -> str:
    """Return a name that is short enough to leave the rest of the change on the screen."""
    text = printable(text)
    return text if len(text) <= NAME_MAX else f"{text[:NAME_MAX]}... ({counted(len(text), 'character')}; e shows all)"


def _about(row: Change) -> Iterator[_Line]:
    """Yield what a change allows or no longer allows, with its risk and reasons."""
    level = row.risk.level if row.risk else "removed"
    yield _Line(level, f"{row.change} {row.subject} {_name(row.name)}" + (f", {level} risk" if row.risk else ""))
    if row.risk and row.risk.rank:
        yield _Line("", row.risk.why, _INDENT)
    for text in shortened(row.details, DETAILS):
        yield _Line(level, f"{'+' if row.gains else '-'} {_name(text)}", _INDENT)
    if row.rest:
        yield _Line("", f"{'was' if row.gains else 'now'} {_name('; '.join(shortened(row.rest, REST)))}", _INDENT)
    if row.equivalents:
        yield _Line("", f"with its equivalents {', '.join(row.equivalents)}", _INDENT)
    if not row.reason.because and row.reason.programs:
        yield _Line("faint", f"by {', '.join(shortened(list(map(word, row.reason.programs)), REASONS))}", _INDENT)
    for text in shortened(row.reason.because, REASONS):
        yield _Line("faint", text, _INDENT)
