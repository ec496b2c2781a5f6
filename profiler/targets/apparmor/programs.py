"""File rules by profile: one profile for all programs, or one for each further program."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from profiler.errors import InputError
from profiler.kernel.apparmor import letters
from profiler.policy import patterns
from profiler.policy.model import FileRule, Policy
from profiler.policy.variables import names_of
from profiler.quoting.apparmor import Inexpressible
from profiler.quoting.apparmor import apparmor as quoted_path
from profiler.targets.apparmor import rules
from profiler.targets.apparmor.rules import FileLine, FileLines, LinkLine
from profiler.targets.base import Loss


def _same(program: str, pattern: str) -> bool:
    """Return whether a program's path or pattern is ``pattern``, or fits it."""
    return program == pattern or patterns.matches(pattern, program)


class _Programs:
    """The profile that each program runs under, when programs have profiles of their own. None is the main profile.

    A program with a pattern for its path stays in the profile that executes it: two patterns that overlap would be an
    error. A path and a pattern may overlap (the path wins).
    """

    def __init__(self, policy: Policy) -> None:
        self._transitions = policy.transitions
        self.first = {row.program for row in policy.transitions if row.by is None}
        self.executed = {row.program for row in policy.transitions}
        wanted = sorted(self.executed - self.first)
        self.children: dict[str, str] = {}
        taken: set[str] = set()
        for program in wanted:
            path = patterns.path_of(program)
            if path is None:
                continue
            base = re.sub(r"[^A-Za-z0-9_.+-]+", "_", path.rsplit("/", 1)[-1]).strip("_")[:60] or "program"
            name, number = base, 2
            while name in taken or name in rules.RESERVED:
                name, number = f"{base}-{number}", number + 1
            taken.add(name)
            self.children[program] = name

    def of(self, program: str) -> set[str | None]:
        """Return the profiles in which this program (a path or a pattern) runs."""
        found: set[str | None] = set()
        todo, seen = [program], set()
        while todo:
            current = todo.pop()
            if current in seen:
                continue
            seen.add(current)
            child = next((name for pattern, name in self.children.items() if _same(current, pattern)), None)
            if child is not None:
                found.add(child)
                continue
            if any(_same(current, pattern) for pattern in self.first):
                found.add(None)
                continue
            todo += [row.by for row in self._transitions if row.by is not None and _same(current, row.program)]
        return found or {None}

    def having(self, programs: Iterable[str]) -> set[str | None]:
        """Return the profiles for a rule that these programs need; all profiles when the programs are not known."""
        found = {profile for program in programs for profile in self.of(program)}
        return found or {None, *self.children.values()}


class Files:
    """File and link rules of the main profile (None) and of its children."""

    def __init__(self, policy: Policy, name: str, children: bool) -> None:
        self.programs = _Programs(policy) if children else None
        self._name = name
        self._named = names_of(policy)
        # The user who starts the workload differs between installations: its first program has no owner condition.
        started = {row.program for row in policy.transitions if row.by is None}
        executed = [rule for rule in policy.files if "execute" in rule.access]
        self._own = (
            {rule.pattern for rule in executed if rule.owner}
            - {rule.pattern for rule in executed if not rule.owner}
            - started
        )
        names: list[str | None] = [None, *(self.programs.children.values() if self.programs else ())]
        self._lines: dict[str | None, FileLines] = {key: FileLines() for key in names}
        self._links: dict[str | None, set[LinkLine]] = {key: set() for key in names}
        self.losses: list[Loss] = []
        for rule in policy.files:
            try:
                self._add(rule)
            except (Inexpressible, InputError) as error:
                self.losses.append(Loss("files", rule.pattern, str(error), "refused"))
        if rules.shared_memory(policy):
            for lines in self._lines.values():
                lines.add(("/",), "rw")
        if self.programs:
            self._transitions(policy, self.programs)

    def lines(self, profile: str | None) -> tuple[FileLine, ...]:
        """Return a profile's file rules."""
        return self._lines[profile].lines()

    def links(self, profile: str | None) -> tuple[LinkLine, ...]:
        """Return a profile's link rules."""
        return tuple(sorted(self._links[profile], key=lambda line: (line.name, line.existing, line.owner)))

    def _parts(self, pattern: str) -> rules.Parts:
        """Return a pattern in AppArmor's terms, with the policy's own variables."""
        return rules.parts_of(self._named.get(pattern, pattern))

    def _add(self, rule: FileRule) -> None:
        modes = rules.modes_of(rule)
        pattern = rule.pattern
        if rule.states == ("detached",):
            seen_as = rules.detached(pattern, "x" in modes)
            if seen_as is None:
                return
            pattern = seen_as
            if pattern == "/":
                modes = modes.strip("mrwlk")
        parts = self._parts(pattern) if pattern == rule.pattern else rules.parts_of(pattern)
        quoted_path(parts)  # fails before anything is added
        profiles = self.programs.having(rule.programs) if self.programs else {None}
        for profile in profiles:
            lines = self._lines[profile]
            if modes.strip("x"):
                for form in rules.forms(parts, rule.kinds):
                    lines.add(form, modes.replace("x", ""), owner=rule.owner)
                    if rules.is_namespace(pattern):
                        lines.add(("/",), modes.replace("x", ""))
                    if "append" in rule.access:
                        # The kernel checks each write, perhaps under another user id by then (nginx's workers).
                        lines.add(form, letters(["append"]))
            # The transitions decide who executes a program that has a profile.
            if "x" in modes and not (self.programs and rule.pattern in self.programs.executed):
                lines.execute(parts, owner=pattern in self._own)
            if "link" in rule.access:
                self._link(rule, parts, profile)

    def _link(self, rule: FileRule, parts: rules.Parts, profile: str | None) -> None:
        name = quoted_path(parts)
        if not rule.existing:
            raise Inexpressible("the file that it is another name of is not known")
        for existing in rule.existing:
            line = LinkLine(name, quoted_path(self._parts(existing)), rule.owner)
            if not (line.owner and replace(line, owner=False) in self._links[profile]):
                self._links[profile].add(line)

    def _transitions(self, policy: Policy, programs: _Programs) -> None:
        for program, child in programs.children.items():
            self._lines[child].add(self._parts(program), "mr", owner=program in self._own)
        for row in policy.transitions:
            try:
                parts = self._parts(row.program)
                quoted_path(parts)
            except Inexpressible as error:
                self.losses.append(Loss("transitions", row.program, str(error), "refused"))
                continue
            if row.by is None:
                # It is entered from outside. The profile is asked for the exec only when the program executes itself.
                self._lines[None].add(parts, "mr")
                self._lines[None].execute(parts)
                continue
            target, own = programs.children.get(row.program), row.program in self._own
            for profile in programs.of(row.by):
                lines = self._lines[profile]
                if target is not None and target != profile:
                    lines.execute(
                        parts, *(("cx", target) if profile is None else ("px", f"{self._name}//{target}")), owner=own
                    )
                elif target is None and row.program in programs.first and profile is not None:
                    lines.execute(parts, "px", self._name)
                else:
                    lines.execute(parts, owner=own)
