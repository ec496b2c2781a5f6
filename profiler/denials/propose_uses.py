"""Additions for what AppArmor refused: files, sockets, signals, looks at other processes, mounts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from profiler.denials import dangers
from profiler.denials.additions import ALLOWED_ALREADY, Addition, Case, Danger, State, because, grouped
from profiler.denials.check import Held
from profiler.denials.model import Denial
from profiler.denials.uses import use_of, whom_of
from profiler.errors import InputError
from profiler.policy import covering, patterns
from profiler.policy.model import FileRule, InspectionRule, MountRule, Policy, SignalRule, SocketRule, Transition
from profiler.policy.reasons import Reasons, joined
from profiler.policy.tiers import owner_tells
from profiler.policy.touched import base_pattern
from profiler.quoting.text import printable
from profiler.trace.model import FILE_ACCESSES, FILE_KINDS, FILE_STATES, INSPECTIONS, SOCKET_OPERATIONS, WHOM

T = TypeVar("T", int, str)

_NAMELESS = re.compile(r".*/#[0-9]+", re.DOTALL)
"""AppArmor's path of a file made with O_TMPFILE: the directory and the inode's number."""


# --- files


def files(state: State, denials: Sequence[Denial]) -> None:
    policy, held = state.policy, Held(state.policy)
    groups: dict[tuple[str, bool], list[Denial]] = {}
    for denial in denials:
        path = denial.path or ""
        what = f"{denial.operation} of {printable(path)[:200]!r}"
        if denial.info and "name lookup" in denial.info:
            state.leave(
                what,
                f"{printable(denial.info)}: no path leads to it; attach_disconnected or mediate_deleted may",
                [denial],
            )
        elif (
            not path.startswith("/")
            or "\0" in path
            or not {"", ".", ".."}.isdisjoint(path.split("/")[1:] if path != "/" else ())
        ):
            state.leave(what, "no path that a rule could name", [denial])
        elif not denial.access:
            state.leave(what, f"no word for the mask {printable(denial.mask)!r}", [denial])
        elif not policy.has_files:
            state.leave(what, "the policy says nothing of files: record again with files watched", [denial])
        elif (left := held.left(denial)) is None:
            state.leave(what, ALLOWED_ALREADY, [denial])
        else:
            pattern = base_pattern(path, _state(denial), denial.whose)
            groups.setdefault((pattern, denial.directory), []).append(left)
    by_pattern: dict[str, list[Denial]] = {}
    for (pattern, _), rows in groups.items():
        by_pattern.setdefault(pattern, []).extend(rows)
    for pattern, rows in by_pattern.items():
        _file(state, pattern, rows)


def _state(denial: Denial) -> str:
    return denial.state or ("deleted" if _NAMELESS.fullmatch(denial.path or "") else "linked")


def _file(state: State, pattern: str, rows: Sequence[Denial]) -> None:
    words = {word for row in rows for word in row.access}
    access = tuple(word for word in FILE_ACCESSES if word in words)
    executed = [row.program for row in state.policy.transitions]
    executed += [rule.pattern for rule in state.policy.files if "execute" in rule.access]
    why = dict.fromkeys(reason for row in rows for reason in dangers.of_file(row.path or "", row.access, executed))
    notes = []
    if "execute" in words and not any(patterns.matches(known, rows[0].path or "") for known in executed):
        notes.append("a program that was never seen to be executed; it runs under the same profile")
    if not patterns.is_literal(pattern):
        notes.append(f"process, terminal and inode numbers stand for any: {patterns.opens(pattern)}")

    def rule(old: FileRule | None, reasons: Reasons) -> FileRule:
        return _rule(old or _new_rule(pattern, rows, state.policy.programs), rows, words, reasons)

    addition = Addition(
        "files",
        pattern,
        f"{', '.join(access)}: {pattern}",
        because(rows),
        tuple(rows),
        tuple(notes),
        tuple(Danger(pattern, reason) for reason in why),
    )
    state.cases.append(Case(addition, pattern=pattern, rule=rule))


def _new_rule(pattern: str, rows: Sequence[Denial], programs: tuple[str, ...]) -> FileRule:
    """Return a rule that allows nothing yet."""
    own = all(row.owner is True for row in rows) and owner_tells(pattern)
    whose = _in_order({row.whose for row in rows if row.whose}, WHOM)
    return FileRule(pattern, (), (), owner=own, programs=programs, states=(), whose=whose)


def _rule(old: FileRule, rows: Sequence[Denial], words: Collection[str], reasons: Reasons) -> FileRule:
    """Return the rule that allows these words as well."""
    whose = {row.whose for row in rows if row.whose}
    return replace(
        old,
        access=_in_order({*old.access, *words}, FILE_ACCESSES),
        kinds=_in_order({*old.kinds, *(row.sort_of_file for row in rows)}, FILE_KINDS),
        owner=old.owner and all(row.owner is True for row in rows),
        existing=tuple(sorted({*old.existing, *(patterns.literal(row.existing) for row in rows if row.existing)})),
        states=_in_order({*old.states, *map(_state, rows)}, FILE_STATES),
        whose=_in_order({*old.whose, *whose}, WHOM) if old.whose else (),
        because=joined([old.because, reasons]),
    )


def _in_order(words: Collection[str], order: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for word in order if word in words)


# --- sockets, signals, inspections, mounts, and the rest


def sockets(state: State, denials: Sequence[Denial]) -> None:
    held = Held(state.policy)
    for every in grouped(denials, lambda denial: (denial.family, denial.type, denial.protocol)):
        family, kind, protocol = every[0].family or "", every[0].type or "", every[0].protocol or 0
        what = f"sockets {printable(family)} {printable(kind)} {protocol}"
        if not state.policy.has_files:
            state.leave(what, "the policy says nothing of sockets: record again with files watched", every)
            continue
        if not re.fullmatch(r"[a-z][a-z0-9_]*", family) or not re.fullmatch(r"[a-z][a-z0-9_]*", kind):
            state.leave(what, "no word that a policy has", every)
            continue
        rows = [row for row in every if held.left(row) is not None]
        if not rows:
            state.leave(what, ALLOWED_ALREADY, every)
            continue
        uses = [use for row in rows if isinstance(use := use_of(row), SocketRule)]
        item = f"{family}/{kind}/{protocol}"

        def change(policy: Policy, reasons: Reasons, uses: Sequence[SocketRule] = uses) -> Policy:
            key = (uses[0].family, uses[0].type, uses[0].protocol)
            old = [rule for rule in policy.sockets if (rule.family, rule.type, rule.protocol) == key]
            rest = [rule for rule in policy.sockets if rule not in old]
            rule = _widened(old[0] if old else SocketRule(*key, (), ()), uses)
            rule = replace(rule, because=(*rule.because, *reasons))
            return replace(
                policy, sockets=tuple(sorted([*rest, rule], key=lambda rule: (rule.family, rule.type, rule.protocol)))
            )

        operations = _in_order({word for use in uses for word in use.operations}, SOCKET_OPERATIONS)
        ports = [port for use in uses for _, several in use.ports for port in several]
        addition = Addition(
            "network",
            item,
            f"{what}: {', '.join(operations)}",
            because(rows),
            tuple(rows),
            (),
            tuple(Danger(item, reason) for reason in dangers.of_socket(family, kind, protocol, ports, operations)),
        )
        state.cases.append(Case(addition, change))


def _widened(rule: SocketRule, uses: Sequence[SocketRule]) -> SocketRule:
    """Return the rule with what it does not grant of the uses."""
    for use in uses:
        rest = covering.left([rule], use)
        if rest is not None:
            rule = replace(
                rule,
                operations=_in_order({*rule.operations, *rest.operations}, SOCKET_OPERATIONS),
                ports=_tables(rule.ports, rest.ports),
                addresses=_tables(rule.addresses, rest.addresses),
            )
    return rule


def _tables(*tables: Iterable[tuple[str, tuple[T, ...]]]) -> tuple[tuple[str, tuple[T, ...]], ...]:
    found: dict[str, set[T]] = {}
    for word, values in (item for table in tables for item in table):
        found.setdefault(word, set()).update(values)
    return tuple((word, tuple(sorted(found[word]))) for word in SOCKET_OPERATIONS if word in found)


def signals(state: State, denials: Sequence[Denial]) -> None:
    held = Held(state.policy)
    for rows in grouped(denials, lambda denial: (denial.signal, whom_of(denial), denial.operations == ("receive",))):
        signal, whom = rows[0].signal or "", whom_of(rows[0])
        what = f"signal {printable(signal)} to {whom}"
        if rows[0].operations == ("receive",):
            if whom == "outside":
                peers = ", ".join(sorted({printable(row.peer or "?") for row in rows}))
                state.leave(
                    f"signal {printable(signal)} from outside",
                    f"sent by {peers}: a policy has rules for what is sent only",
                    rows,
                )
                continue
            if any((row.signal, "send" in row.operations, whom_of(row)) == (signal, True, whom) for row in denials):
                continue  # the same signal, at its other end
            what = f"signal {printable(signal)} among the workload's own"
        if not state.policy.has_files:
            state.leave(what, "the policy says nothing of signals: record again with files watched", rows)
            continue
        if not re.fullmatch(r"[A-Z][A-Z0-9]*(\+[0-9]{1,2})?|0", signal):
            state.leave(what, "no word that a policy has", rows)
            continue
        if all(held.left(row) is None for row in rows):
            state.leave(what, ALLOWED_ALREADY, rows)
            continue

        def change(policy: Policy, reasons: Reasons, key: tuple[str, str] = (signal, whom)) -> Policy:
            return replace(policy, signals=(*policy.signals, SignalRule(*key, reasons)))

        item = f"{signal}/{whom}"
        found = tuple(Danger(item, why) for why in dangers.of_signal(whom))
        state.cases.append(Case(Addition("signals", item, what, because(rows), tuple(rows), dangers=found), change))


_OTHER_SIDE = {"tracedby": "trace", "readby": "read"}


def inspections(state: State, denials: Sequence[Denial]) -> None:
    held = Held(state.policy)
    groups: dict[tuple[str, str], list[Denial]] = {}
    for denial in denials:
        for word in denial.operations:
            if word in _OTHER_SIDE and whom_of(denial) == "outside":
                peer = printable(denial.peer or "?")
                state.leave(
                    f"{word} {peer}",
                    "done to the workload by another: a policy has rules for what it does only",
                    [denial],
                )
            elif _OTHER_SIDE.get(word, word) not in INSPECTIONS:
                state.leave(f"{printable(word)} of a process", "no word that a policy has", [denial])
            else:
                groups.setdefault((_OTHER_SIDE.get(word, word), whom_of(denial)), []).append(denial)
    for (operation, whom), rows in groups.items():
        what = f"{operation} processes: {whom}"
        if not state.policy.has_files:
            state.leave(what, "the policy says nothing of other processes: record again with files watched", rows)
            continue
        if all(held.left(replace(row, operations=(operation,))) is None for row in rows):
            state.leave(what, ALLOWED_ALREADY, rows)
            continue

        def change(policy: Policy, reasons: Reasons, key: tuple[str, str] = (operation, whom)) -> Policy:
            return replace(policy, inspections=(*policy.inspections, InspectionRule(*key, reasons)))

        item = f"{operation}/{whom}"
        found = tuple(Danger(item, why) for why in dangers.of_inspection())
        state.cases.append(Case(Addition("inspections", item, what, because(rows), tuple(rows), dangers=found), change))


def mounts(state: State, denials: Sequence[Denial]) -> None:
    held = Held(state.policy)
    for rows in grouped(denials, lambda one: (one.operation, one.source, one.target, one.filesystem, one.flags)):
        one = rows[0]
        words = [
            one.operation or "",
            ",".join(flag for flag in one.flags if flag != one.operation),
            one.source or "",
            f"-> {one.target}" if one.target else "",
        ]
        what = printable(" ".join(word for word in words if word))
        if not state.policy.has_files:
            state.leave(what, "the policy says nothing of mounts: record again with files watched", rows)
            continue
        try:
            rule = use_of(one)
            granted = held.left(one) is None
        except InputError as error:
            state.leave(what, str(error), rows)
            continue
        if granted or not isinstance(rule, MountRule):
            state.leave(what, ALLOWED_ALREADY, rows)
            continue

        def change(policy: Policy, reasons: Reasons, rule: MountRule = rule) -> Policy:
            return replace(policy, mounts=(*policy.mounts, replace(rule, because=reasons)))

        item = ":".join([rule.operation, *(text for text in (rule.source, rule.target, ",".join(rule.flags)) if text)])
        found = tuple(Danger(item, why) for why in dangers.of_mount())
        state.cases.append(Case(Addition("mounts", item, what, because(rows), tuple(rows), dangers=found), change))


def executions(state: State, denials: Sequence[Denial]) -> None:
    held = Held(state.policy)
    for rows in grouped(denials, lambda denial: (denial.path, denial.source)):
        program, by = rows[0].path or "", rows[0].source or ""
        what = f"execution of {printable(program)} by {printable(by)}"
        rule = use_of(rows[0])
        if held.left(rows[0]) is None or not isinstance(rule, Transition):
            state.leave(what, ALLOWED_ALREADY, rows)
            continue

        def change(policy: Policy, reasons: Reasons, rule: Transition = rule) -> Policy:
            return replace(policy, transitions=(*policy.transitions, replace(rule, because=reasons)))

        item = f"{rule.program} by {rule.by}"
        state.cases.append(Case(Addition("executions", item, what, because(rows), tuple(rows)), change))


def user_namespaces(state: State, denials: Sequence[Denial]) -> None:
    _switch(state, denials, "user_namespaces", "namespaces.user", "make user namespaces", dangers.of_user_namespaces())


def io_uring(state: State, denials: Sequence[Denial]) -> None:
    _switch(state, denials, "io_uring", "io_uring", "use io_uring", dangers.of_io_uring())


def _switch(state: State, denials: Sequence[Denial], member: str, section: str, what: str, whys: Iterable[str]) -> None:
    """Add a right that a policy has or does not have: ``member`` holds nothing but its reasons."""
    known: Reasons = getattr(state.policy, member)
    if known:
        state.leave(member.replace("user_", "user "), ALLOWED_ALREADY, denials)
        return

    def change(policy: Policy, reasons: Reasons) -> Policy:
        members: dict[str, Any] = {member: (*known, *reasons)}
        return replace(policy, **members)

    found = tuple(Danger(member, why) for why in whys)
    state.cases.append(Case(Addition(section, member, what, because(denials), tuple(denials), dangers=found), change))


def others(state: State, denials: Sequence[Denial]) -> None:
    for rows in grouped(denials, lambda denial: (denial.by, denial.operation, denial.info)):
        one = rows[0]
        what = printable(" ".join(word for word in (one.by, one.operation, one.info) if word))
        state.leave(what, "a policy has no words for it", rows)
