"""Additions for what AppArmor refused: files, sockets, signals, looks at other processes, mounts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from profiler.denials import dangers
from profiler.denials.additions import ALLOWED_ALREADY, Addition, Case, Danger, State, because, grouped
from profiler.denials.model import Denial
from profiler.errors import InputError
from profiler.kernel.apparmor import letters
from profiler.policy import patterns
from profiler.policy.model import PATHS_MAX, FileRule, InspectionRule, MountRule, Policy, SignalRule, SocketRule
from profiler.policy.passes.files import base_pattern
from profiler.policy.passes.owners import kept
from profiler.quoting.text import printable
from profiler.trace.model import FILE_ACCESSES, FILE_KINDS, INSPECTIONS, SOCKET_OPERATIONS

T = TypeVar("T", int, str)

_NAMELESS = re.compile(r".*/#[0-9]+", re.DOTALL)
"""AppArmor's path of a file made with O_TMPFILE: the directory and the inode's number."""


# --- files


def _modes(words: Iterable[str]) -> set[str]:
    return {letter for word in words for letter in letters([word])}


def _allowed(policy: Policy, denial: Denial) -> bool:
    """Whether file rules grant already what was refused."""
    assert denial.path is not None
    granted: set[str] = set()
    linked = False
    for rule in policy.files:
        fits = (
            rule.use == "needed"
            and (not rule.owner or denial.owner is True)
            and patterns.matches(rule.pattern, denial.path)
        )
        if not fits or (denial.directory and not {"directory", "unknown"} & set(rule.kinds)):
            continue
        granted |= _modes(rule.access)
        linked = linked or (
            "link" in rule.access
            and (denial.existing is None or any(patterns.matches(name, denial.existing) for name in rule.existing))
        )
    return linked if "link" in denial.access else _modes(denial.access) <= granted


def files(state: State, denials: Sequence[Denial]) -> None:
    policy = state.policy
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
        elif _allowed(policy, denial):
            state.leave(what, ALLOWED_ALREADY, [denial])
        else:
            pattern = base_pattern(path, "deleted" if _NAMELESS.fullmatch(path) else "linked", denial.whose)
            groups.setdefault((pattern, denial.directory), []).append(denial)
    by_pattern: dict[str, list[Denial]] = {}
    for (pattern, _), rows in groups.items():
        by_pattern.setdefault(pattern, []).extend(rows)
    for pattern, rows in by_pattern.items():
        _file(state, pattern, rows)


def _file(state: State, pattern: str, rows: Sequence[Denial]) -> None:
    words = {word for row in rows for word in row.access}
    access = tuple(word for word in FILE_ACCESSES if word in words)
    executed = [row.program for row in state.policy.transitions]
    executed += [rule.pattern for rule in state.policy.files if rule.use == "needed" and "execute" in rule.access]
    why = dict.fromkeys(reason for row in rows for reason in dangers.of_file(row.path or "", row.access, executed))
    notes = []
    if "execute" in words and not any(patterns.matches(known, rows[0].path or "") for known in executed):
        notes.append("a program that was never seen to be executed; it runs under the same profile")
    if not patterns.is_literal(pattern):
        notes.append(f"process, terminal and inode numbers stand for any: {patterns.opens(pattern)}")

    def rule(old: FileRule | None, reasons: tuple[str, ...]) -> FileRule:
        return _rule(pattern, old, rows, words, reasons)

    addition = Addition(
        "files.needed",
        pattern,
        f"{', '.join(access)}: {pattern}",
        because(rows),
        tuple(rows),
        tuple(notes),
        tuple(Danger(pattern, reason) for reason in why),
    )
    state.cases.append(Case(addition, pattern=pattern, rule=rule))


def _rule(
    pattern: str, old: FileRule | None, rows: Sequence[Denial], words: Collection[str], reasons: tuple[str, ...]
) -> FileRule:
    kinds = {row.sort_of_file for row in rows}
    own = all(row.owner is True for row in rows)
    existing = {patterns.literal(row.existing) for row in rows if row.existing}
    states = ("deleted",) if any(_NAMELESS.fullmatch(row.path or "") for row in rows) else ("linked",)
    if old is None:
        paths = (
            () if patterns.is_literal(pattern) else tuple(sorted({patterns.literal(row.path or "") for row in rows}))
        )
        old = FileRule(
            pattern,
            "needed",
            (),
            (),
            (),
            own,
            seen=max(len(paths), 1),
            paths=paths[:PATHS_MAX],
            opens=patterns.opens(pattern),
            states=states,
        )
    elif old.use != "needed":
        old = replace(
            old, use="needed", access=(), kinds=tuple(kind for kind in old.kinds if kind != "unknown"), owner=own
        )
    rule = replace(
        old,
        access=tuple(word for word in FILE_ACCESSES if word in {*old.access, *words}),
        kinds=tuple(kind for kind in FILE_KINDS if kind in {*old.kinds, *kinds}),
        owner=old.owner and own,
        existing=tuple(sorted({*old.existing, *existing})),
        because=(*old.because, *reasons),
    )
    return replace(rule, owner=rule.owner and kept(rule))


# --- sockets, signals, inspections, mounts, and the rest


def sockets(state: State, denials: Sequence[Denial]) -> None:
    policy = state.policy
    for rows in grouped(denials, lambda denial: (denial.family, denial.type, denial.protocol)):
        family, kind, protocol = rows[0].family or "", rows[0].type or "", rows[0].protocol or 0
        what = f"sockets {printable(family)} {printable(kind)} {protocol}"
        words = {word for row in rows for word in row.operations if word in SOCKET_OPERATIONS}
        operations = tuple(word for word in SOCKET_OPERATIONS if word in words)
        ports = {
            (word, row.port)
            for row in rows
            if row.port is not None
            for word in row.operations
            if word in ("bind", "connect", "send")
        }
        addresses = {
            (word, row.address)
            for row in rows
            if row.address
            for word in row.operations
            if word in ("bind", "connect", "send")
        }
        if not policy.has_files:
            state.leave(what, "the policy says nothing of sockets: record again with files watched", rows)
            continue
        if not re.fullmatch(r"[a-z][a-z0-9_]*", family) or not re.fullmatch(r"[a-z][a-z0-9_]*", kind):
            state.leave(what, "no word that a policy has", rows)
            continue
        same = [rule for rule in policy.sockets if (rule.family, rule.type) == (family, kind)]
        known = [(word, place) for rule in same for word, places in rule.addresses for place in places]
        addresses = {
            (word, one)
            for word, one in addresses
            if not any(word == name and patterns.matches(place, one) for name, place in known)
        }
        if same and (
            family != "unix" or (words <= {word for rule in same for word in rule.operations} and not addresses)
        ):
            state.leave(what, ALLOWED_ALREADY, rows)
            continue
        section, item = "network", f"{family}/{kind}/{protocol}"

        def change(
            policy: Policy,
            reasons: tuple[str, ...],
            key: tuple[str, str, int] = (family, kind, protocol),
            words: set[str] = words,
            ports: set[tuple[str, int]] = ports,
            addresses: set[tuple[str, str]] = addresses,
        ) -> Policy:
            old = next(
                (rule for rule in policy.sockets if (rule.family, rule.type, rule.protocol) == key),
                SocketRule(*key, (), ()),
            )
            rest = [rule for rule in policy.sockets if (rule.family, rule.type, rule.protocol) != key]
            numbers = {(word, port) for word, several in old.ports for port in several} | ports
            places = {(word, place) for word, several in old.addresses for place in several}
            places |= {(word, patterns.literal(place)) for word, place in addresses}
            rule = replace(
                old,
                operations=tuple(word for word in SOCKET_OPERATIONS if word in {*old.operations, *words}),
                because=(*old.because, *reasons),
                ports=_by_word(numbers),
                addresses=_by_word(places),
            )
            return replace(
                policy, sockets=tuple(sorted([*rest, rule], key=lambda rule: (rule.family, rule.type, rule.protocol)))
            )

        why = dangers.of_socket(family, kind, protocol, [port for _, port in ports], operations)
        addition = Addition(
            section,
            item,
            f"{what}: {', '.join(operations)}",
            because(rows),
            tuple(rows),
            (),
            tuple(Danger(item, reason) for reason in why),
        )
        state.cases.append(Case(addition, change))


def _by_word(pairs: Iterable[tuple[str, T]]) -> tuple[tuple[str, tuple[T, ...]], ...]:
    found: dict[str, list[T]] = {}
    for word, value in sorted(pairs):
        found.setdefault(word, []).append(value)
    return tuple((word, tuple(found[word])) for word in SOCKET_OPERATIONS if word in found)


def _whom(denial: Denial) -> str:
    """Of the other side. Where only its profile is known: the same one, or a child or parent of it, is the
    workload's."""
    if denial.whom is not None:
        return "outside" if denial.whom == "outside" else "workload"
    mine, other = (denial.profile or "").partition("//")[0], (denial.peer or "").partition("//")[0]
    return "workload" if mine and mine == other else "outside"


def signals(state: State, denials: Sequence[Denial]) -> None:
    have = {(rule.signal, "outside" if rule.whom == "outside" else "workload") for rule in state.policy.signals}
    for rows in grouped(denials, lambda denial: (denial.signal, _whom(denial), denial.operations == ("receive",))):
        signal, whom = rows[0].signal or "", _whom(rows[0])
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
            if any((row.signal, "send" in row.operations, _whom(row)) == (signal, True, whom) for row in denials):
                continue  # the same signal, at its other end
            what = f"signal {printable(signal)} among the workload's own"
        if not state.policy.has_files:
            state.leave(what, "the policy says nothing of signals: record again with files watched", rows)
            continue
        if not re.fullmatch(r"[A-Z][A-Z0-9]*(\+[0-9]{1,2})?|0", signal):
            state.leave(what, "no word that a policy has", rows)
            continue
        if (signal, whom) in have:
            state.leave(what, ALLOWED_ALREADY, rows)
            continue

        def change(policy: Policy, reasons: tuple[str, ...], key: tuple[str, str] = (signal, whom)) -> Policy:
            return replace(policy, signals=(*policy.signals, SignalRule(*key, reasons)))

        item = f"{signal}/{whom}"
        found = tuple(Danger(item, why) for why in dangers.of_signal(whom))
        state.cases.append(Case(Addition("signals", item, what, because(rows), tuple(rows), dangers=found), change))


_OTHER_SIDE = {"tracedby": "trace", "readby": "read"}


def inspections(state: State, denials: Sequence[Denial]) -> None:
    have = {(rule.operation, "outside" if rule.whom == "outside" else "workload") for rule in state.policy.inspections}
    groups: dict[tuple[str, str], list[Denial]] = {}
    for denial in denials:
        for word in denial.operations:
            if word in _OTHER_SIDE and _whom(denial) == "outside":
                peer = printable(denial.peer or "?")
                state.leave(
                    f"{word} {peer}",
                    "done to the workload by another: a policy has rules for what it does only",
                    [denial],
                )
            elif _OTHER_SIDE.get(word, word) not in INSPECTIONS:
                state.leave(f"{printable(word)} of a process", "no word that a policy has", [denial])
            else:
                groups.setdefault((_OTHER_SIDE.get(word, word), _whom(denial)), []).append(denial)
    for (operation, whom), rows in groups.items():
        what = f"{operation} processes: {whom}"
        if not state.policy.has_files:
            state.leave(what, "the policy says nothing of other processes: record again with files watched", rows)
            continue
        if (operation, whom) in have:
            state.leave(what, ALLOWED_ALREADY, rows)
            continue

        def change(policy: Policy, reasons: tuple[str, ...], key: tuple[str, str] = (operation, whom)) -> Policy:
            return replace(policy, inspections=(*policy.inspections, InspectionRule(*key, reasons)))

        item = f"{operation}/{whom}"
        found = tuple(Danger(item, why) for why in dangers.of_inspection())
        state.cases.append(Case(Addition("inspections", item, what, because(rows), tuple(rows), dangers=found), change))


def _covers(rule: MountRule, denial: Denial) -> bool:
    """Whether a rule is for this change of the mount tree."""
    pairs = ((rule.source, denial.source), (rule.target, denial.target), (rule.filesystem, denial.filesystem))
    fits = all(
        have is want or (have is not None and want is not None and patterns.matches(have, want)) for have, want in pairs
    )
    return fits and rule.operation == (denial.operation or "mount") and set(rule.flags) == set(denial.flags)


def mounts(state: State, denials: Sequence[Denial]) -> None:
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
            source, target, filesystem = (
                None if text is None else patterns.literal(text) for text in (one.source, one.target, one.filesystem)
            )
        except InputError as error:
            state.leave(what, str(error), rows)
            continue
        rule = MountRule(one.operation or "mount", source, target, filesystem, one.flags, ())
        if any(_covers(known, one) for known in state.policy.mounts):
            state.leave(what, ALLOWED_ALREADY, rows)
            continue

        def change(policy: Policy, reasons: tuple[str, ...], rule: MountRule = rule) -> Policy:
            return replace(policy, mounts=(*policy.mounts, replace(rule, because=reasons)))

        item = ":".join([rule.operation, *(text for text in (source, target, ",".join(rule.flags)) if text)])
        found = tuple(Danger(item, why) for why in dangers.of_mount())
        state.cases.append(Case(Addition("mounts", item, what, because(rows), tuple(rows), dangers=found), change))


def user_namespaces(state: State, denials: Sequence[Denial]) -> None:
    if state.policy.user_namespaces:
        state.leave("user namespaces", ALLOWED_ALREADY, denials)
        return

    def change(policy: Policy, reasons: tuple[str, ...]) -> Policy:
        return replace(policy, user_namespaces=(*policy.user_namespaces, *reasons))

    found = tuple(Danger("user_namespaces", why) for why in dangers.of_user_namespaces())
    addition = Addition(
        "namespaces.user", "user_namespaces", "make user namespaces", because(denials), tuple(denials), dangers=found
    )
    state.cases.append(Case(addition, change))


def io_uring(state: State, denials: Sequence[Denial]) -> None:
    if state.policy.io_uring:
        state.leave("io_uring", ALLOWED_ALREADY, denials)
        return

    def change(policy: Policy, reasons: tuple[str, ...]) -> Policy:
        return replace(policy, io_uring=(*policy.io_uring, *reasons))

    found = tuple(Danger("io_uring", why) for why in dangers.of_io_uring())
    state.cases.append(
        Case(Addition("io_uring", "io_uring", "use io_uring", because(denials), tuple(denials), dangers=found), change)
    )


def others(state: State, denials: Sequence[Denial]) -> None:
    for rows in grouped(denials, lambda denial: (denial.by, denial.operation, denial.info)):
        one = rows[0]
        what = printable(" ".join(word for word in (one.by, one.operation, one.info) if word))
        state.leave(what, "a policy has no words for it", rows)
