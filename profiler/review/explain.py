"""Why something is allowed: the entry of the policy, who made it, the evidence of the trace, and what it opens.

An item is a word for one right: a syscall (``openat``, ``i386:open``), a capability (``CAP_CHOWN``, ``net_raw``), a
path, a program (``exec:/bin/sh``), a socket family (``AF_INET``, ``unix``), a signal (``SIGTERM``). A word may mean
several: ``chown`` is a syscall and a capability, and both are explained. ``KIND:WORD`` asks for one.
"""

from __future__ import annotations

import bisect
import difflib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from profiler.errors import InputError
from profiler.kernel.abi import ABIS
from profiler.kernel.arguments import render, spec_for
from profiler.kernel.capabilities import CAPABILITIES, advisory_reason
from profiler.kernel.cves import verdicts
from profiler.kernel.risks import Risk
from profiler.kernel.syscalls import known_names
from profiler.policy import patterns
from profiler.policy.evidence import capability_outcomes, name_for, outcome_of, program_names
from profiler.policy.model import Allowed, FileRule, Policy
from profiler.policy.reasons import Reason, Reasons, sentence
from profiler.policy.touched import touched
from profiler.policy.variables import Places, names_of
from profiler.quoting.text import printable, word
from profiler.review.diff import Change, compare
from profiler.review.rights import REFUSED, Rights, in_words, of_policy, tests_of
from profiler.review.score import PermissionsOf
from profiler.trace.model import File, Syscall, Trace
from profiler.wording import counted, duration, grouped, listed, shortened

KINDS = ("syscall", "capability", "path", "exec", "socket", "signal")

SHOWN = 12
"""Values, rows or holes listed for one item; the rest are counted."""
SUGGESTED = 3

Facts = list[tuple[str, str]]


@dataclass(frozen=True)
class Explanation:
    """One right. ``verdict``: allowed, refused (answered with an error of its own), or not allowed. ``where``: the
    place in policy.yaml, empty when it is in none. ``facts``: label and text, in the order in which they are read; a
    label may come several times."""

    kind: str
    item: str
    verdict: str
    where: str
    facts: tuple[tuple[str, str], ...]
    risk: Risk | None = None

    @property
    def allowed(self) -> bool:
        """Whether it is."""
        return self.verdict == "allowed"


@dataclass(frozen=True)
class Line:
    """One right in the table of all: the most dangerous come first."""

    change: Change
    runs: str


def nothing(rights: Rights) -> Rights:
    """Rights of the same machine that allow nothing."""
    watched = rights.files is not None
    none = () if watched else None
    return Rights(
        "nothing",
        rights.kind,
        rights.native,
        rights.abis,
        "refuse",
        {},
        frozenset(),
        no_new_privs=rights.no_new_privs,
        files=none,
        transitions=none,
        sockets=none,
        signals=none,
        inspections=none,
        mounts=none,
        user_namespaces=(),
        io_uring=(),
    )


def _when(first: float, last: float) -> str:
    return f"first {duration(first)}, last {duration(last)} after the start"


def _counted(results: Mapping[str, int]) -> str:
    return ", ".join(
        f"{printable(name)} {grouped(number)}"
        for name, number in sorted(results.items(), key=lambda item: (item[0] != "ok", item[0]))
    )


_MAKERS: Mapping[str, str] = {
    "failed": "failed_probes",
    "widened": "arguments",
    "fallback": "fallbacks",
    "generalised": "generalise",
    "denied": "refine",
    "logged": "refine",
    "assumed": "refine",
    "minimise": "minimise",
    "user": "by hand",
}
"""Kind of reason to the pass or command that gives it; the others are of the pass that makes the entry."""


def made_by(usual: str, because: Sequence[Reason], *more: str) -> str:
    """Return the passes and commands behind an entry; ``usual`` is the pass that makes such entries."""
    return ", ".join(dict.fromkeys([*(_MAKERS.get(reason.kind, usual) for reason in because), *more]))


def _programs(trace: Trace, calls: Mapping[int, int]) -> str:
    """Return ``nginx: 1 204 calls, sh: 2 calls``, the busiest first."""
    names: dict[str, int] = {}
    for index, number in calls.items():
        name = (program_names(trace, [index]) or ("unknown program",))[0]
        names[name] = names.get(name, 0) + number
    ranked = sorted(names.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(shortened([f"{word(name)}: {counted(number, 'call')}" for name, number in ranked], SHOWN))


def _who(trace: Trace, programs: Iterable[int]) -> str:
    return ", ".join(shortened(list(map(word, program_names(trace, programs))), 3)) or "unknown program"


def holes(rights: Rights, calls: Iterable[tuple[str, str]], capability: str = "") -> Facts:
    """Return which published holes these syscalls (ABI, name), or a capability, alone open."""
    held = rights.capabilities or frozenset()
    without = replace(rights, syscalls={**rights.syscalls, **dict.fromkeys(calls, REFUSED)})
    before = {row.cve.identifier for row in verdicts(PermissionsOf(rights, held)) if not row.blocked}
    after = {row.cve.identifier for row in verdicts(PermissionsOf(without, held - {capability})) if not row.blocked}
    opened = sorted(before - after, key=lambda cve: tuple(int(part) for part in cve.split("-")[1:]))
    if not opened:
        return [("holes", "none of the listed holes needs only this")]
    named = listed(opened, 6)
    return [("holes", f"{grouped(len(opened))} of the listed ones could not be reached without it: {named}")]


def _plain(name: str) -> str:
    return name.lower().removeprefix("cap_")


def is_name(word: str, names: Iterable[str]) -> bool:
    """Return whether a word is one of these names of syscalls and capabilities, in whatever case."""
    return _plain(word) in map(_plain, names)


def alike(word: str, names: Iterable[str]) -> list[str]:
    """Return the names that look like a word, in whatever case."""
    known = {_plain(name): name for name in names}
    return [known[name] for name in difflib.get_close_matches(_plain(word)[:100], sorted(known), SUGGESTED)]


class Explainer:
    """Answers for one policy, with the evidence of its trace where that is given."""

    def __init__(self, policy: Policy, trace: Trace | None, source: str) -> None:
        self.policy, self.trace, self.source = policy, trace, source
        self.rights = of_policy(policy, source)
        self.native = policy.abis[0]
        self._sockets = () if trace is None else trace.sockets
        self._signals = () if trace is None else trace.signals
        self._written = names_of(policy)
        """Pattern to how policy.yaml has it, where that is with a variable."""
        self._rules: dict[str, list[FileRule]] = {}
        for rule in policy.files:
            self._rules.setdefault(rule.pattern, []).append(rule)
        self._used: dict[str, list[File]] = {}
        for file in () if trace is None else trace.files:
            self._used.setdefault(file.path, []).append(file)

    def explain(self, text: str) -> list[Explanation]:
        """Everything the word may mean and that is there, in the policy or in the trace; empty when nothing is. Raises
        InputError."""
        kind, separator, rest = text.partition(":")
        readers: dict[str, Callable[[str], Iterator[Explanation]]] = {
            "syscall": self._syscall,
            "capability": self._capability,
            "path": self._path,
            "exec": self._exec,
            "socket": self._socket,
            "signal": self._signal,
        }
        if separator and kind in readers:
            return list(readers[kind](rest))
        if text.startswith(("/", "{home}")):
            return list(self._path(text))
        if text.startswith("{@"):
            return [found for path in Places(self.policy.variables).unfold(text, {}) for found in self._path(path)]
        return [found for name in ("syscall", "capability", "socket", "signal") for found in readers[name](text)]

    def suggestions(self, text: str) -> list[str]:
        """Names that are there and look alike."""
        word = text.partition(":")[2] if text.startswith(tuple(f"{kind}:" for kind in KINDS)) else text
        if word.startswith("/"):
            return [f"{rule.pattern} ({', '.join(rule.access)})" for rule in self._nearest(word)]
        names = [row.name for row in self.policy.syscalls] + [row.name for row in self.policy.capabilities]
        names += [f"SIG{row.signal}" for row in self.policy.signals] + [row.family for row in self.policy.sockets]
        every = [*CAPABILITIES, *known_names()]
        return [] if is_name(word, every) else alike(word, names) or alike(word, every)

    def all(self) -> list[Line]:
        """Return everything that is allowed."""
        runs = self._runs()
        changes = compare(nothing(self.rights), self.rights, exact=True).changes
        return [Line(row, self._of_all(runs.get((row.subject, row.name)))) for row in changes]

    def facts(self, row: Change) -> Facts:
        """Return the facts of a row of :meth:`all`; none for what has only the row's own reasons."""
        if row.subject == "path":
            path = patterns.path_of(row.name)
            rules = self._rules.get(row.name, [])
            facts = [fact for rule in rules for fact in self._file(rule)]
            return [*facts, *(self._uses(path) if rules and path is not None else [])]
        if row.subject == "network":
            family, kind, _, protocol = row.name.split(" ")
            found = self._socket(family, (kind, int(protocol)))
        elif row.subject == "syscall":
            found = self._syscall(row.name)
        elif row.subject == "capability":
            found = self._capability(row.name)
        elif row.subject == "execution":
            found = self._exec(row.name)
        elif row.subject == "signal":
            found = self._signal(row.name.partition(" ")[0])
        else:
            return []
        return [fact for explanation in found if explanation.allowed for fact in explanation.facts]

    def _runs(self) -> dict[tuple[str, str], int]:
        """Return in how many of the trace's recordings each right was used, by subject and name of its change."""
        trace = self.trace
        if trace is None:
            return {}
        found: dict[tuple[str, str], int] = {}
        rows: list[tuple[str, str, int]] = [
            *(
                ("syscall", (name := str(name_for(row))) if row.abi == self.native else f"{row.abi}:{name}", row.runs)
                for row in trace.syscalls
            ),
            *(("capability", check.capability, check.runs) for check in trace.capabilities),
            *(("path", patterns.literal(file.path), file.runs) for file in trace.files if file.path.startswith("/")),
            *(("network", f"{use.family} {use.type} protocol {use.protocol}", use.runs) for use in trace.sockets),
        ]
        for subject, label, runs in rows:
            found[subject, label] = max(found.get((subject, label), 0), runs)
        for rule in self.policy.files:
            if not patterns.is_literal(rule.pattern):
                seen = (file.runs for path in self._seen(rule.pattern) for file in self._used[path])
                found["path", rule.pattern] = max(seen, default=0)
        return found

    def _of_all(self, runs: int | None) -> str:
        return "" if not runs or self.trace is None else f"{runs} of {self.trace.meta.runs}"

    def _reasons(self, because: Reasons, usual: str, *more: str, seen: bool | None) -> Facts:
        """``seen``: the trace, where there is one, has evidence for the entry; None: it needs none."""
        facts: Facts = [("because", sentence(reason)) for reason in because]
        if because or (seen and self.trace is not None):
            facts.append(("made by", made_by(usual, because or (Reason("observed"),), *more)))
        else:
            facts.append(("because", "no reason is given"))
        if seen is False and self.trace is not None:
            facts.append(("evidence", "none in the trace: it was added by hand, by refine, or by a merge"))
        return facts

    def _seen_in(self, runs: Iterable[int]) -> Facts:
        most = max(runs, default=0)
        several = self.trace is not None and self.trace.meta.runs > 1
        return [("seen in", f"{self._of_all(most)} runs")] if several and most else []

    def _risk(self, **members: Any) -> Risk | None:
        """The risk of rights that are nothing but this: a recording may have very many paths, so not all are weighed
        for one."""
        none = nothing(self.rights)
        return compare(none, replace(none, **members), exact=True).highest

    # Syscalls.

    def _syscall(self, text: str) -> Iterator[Explanation]:
        abi, separator, name = text.partition(":")
        if not separator:
            abis, name = list(self.policy.abis), text
        elif abi not in ABIS:
            raise InputError(f"unknown ABI {printable(abi)!r}: one of {', '.join(ABIS)}")
        else:
            abis = [abi]
        for one in abis:
            yield from self._syscall_of(one, name)

    def _syscall_of(self, abi: str, name: str) -> Iterator[Explanation]:
        label = name if abi == self.native else f"{abi}:{name}"
        entries = [row for row in self.policy.syscalls if (row.abi, row.name) == (abi, name)]
        evidence = self._calls(abi, name)
        for entry in entries:
            more = ["arguments"] if entry.rules and entry.section != "base" else []
            seen = bool(evidence) if entry.section == "observed" else None
            facts = self._reasons(entry.because, _PASS[entry.section], *more, seen=seen)
            facts += self._entry(entry)
            if entry is entries[0]:
                facts += evidence + holes(self.rights, [(abi, name)])
            where = f"syscalls.{entry.section}.{label}"
            yield Explanation(
                "syscall",
                label,
                "allowed",
                where,
                tuple(facts),
                self._risk(syscalls={(abi, name): self.rights.allowance(abi, name)}),
            )
        refused = [row for row in self.policy.refused if row.name == name]
        for row in refused:
            facts = [*self._reasons(row.because, "observed", seen=None), ("answer", row.errno)]
            yield Explanation("syscall", label, "refused", f"refused.{name}", (*facts, *evidence))
        if evidence and not entries and not refused:
            yield Explanation("syscall", label, "not allowed", "", tuple(evidence))

    def _entry(self, entry: Allowed) -> Iterator[tuple[str, str]]:
        if entry.stands_for:
            yield "stands for", ", ".join(entry.stands_for)
        if entry.rules:
            texts = [in_words(entry.name, entry.abi, tests_of(rule)) for rule in entry.rules]
            yield from (("allowed", text) for text in shortened(texts, SHOWN))
        elif spec_for(entry.name, entry.abi) is not None:
            yield "allowed", "any arguments"

    def _calls(self, abi: str, name: str) -> Facts:
        trace = self.trace
        if trace is None:
            return []
        facts: Facts = []
        for row in trace.syscalls:
            if row.abi == abi and (name_for(row) or row.label) == name:
                facts.append(("calls", f"{grouped(row.calls)}, {_when(row.first, row.last)}"))
                facts.append(("programs", _programs(trace, row.programs)))
                results = _counted(
                    {"ok": row.results.ok, **row.results.errors} if row.results.ok else row.results.errors
                )
                if results:
                    facts.append(("results", f"{results} (watched until the first success of each program)"))
                facts += self._values(trace, row, name)
                facts += self._seen_in([row.runs])
        return facts

    def _values(self, trace: Trace, row: Syscall, name: str) -> Iterator[tuple[str, str]]:
        if row.arguments is None:
            return
        if row.arguments.overflow:
            yield "arguments", "too many different values to list"
        texts = []
        for value, programs in sorted(row.arguments.values.items()):
            words = ", ".join(
                f"{field} {render(name, field, part, value)}"
                for field, part in zip(row.arguments.fields, value, strict=True)
            )
            names = [word(name) for name in program_names(trace, programs)]
            texts.append(f"{words} ({', '.join(shortened(names, 3))})")
        yield from (("arguments", text) for text in shortened(texts, SHOWN))

    # Capabilities.

    def _capability(self, text: str) -> Iterator[Explanation]:
        name = text.upper() if text.upper().startswith("CAP_") else f"CAP_{text.upper()}"
        facts: Facts = []
        rows = [row for row in self.policy.capabilities if row.name == name]
        checks = list(self._checks(name))
        for row in rows:
            facts += self._reasons(row.because, "capabilities", seen=bool(checks))
        if self.trace is not None and not rows and (outcome := capability_outcomes(self.trace).get(name)):
            facts.append(("outcome", f"{outcome}: not granted"))
        facts += checks
        if rows:
            facts += holes(self.rights, (), name)
        if facts:
            where = f"capabilities.{name}" if rows else ""
            risk = self._risk(capabilities=frozenset({name})) if rows else None
            yield Explanation("capability", name, "allowed" if rows else "not allowed", where, tuple(facts), risk)

    def _checks(self, name: str) -> Iterator[tuple[str, str]]:
        trace = self.trace
        if trace is None:
            return
        for check in sorted((row for row in trace.capabilities if row.capability == name), key=lambda row: -row.count):
            calls = ", ".join(
                printable(call) for call, _ in sorted(check.syscalls.items(), key=lambda item: (-item[1], item[0]))
            )
            words = [f"{outcome_of(check)}: {check.verdict} {counted(check.count, 'time')} in {calls or 'no syscall'}"]
            words += [f"by {_who(trace, check.programs)}", f"{check.namespace} user namespace"]
            words.append(_when(check.first, check.last))
            words += ["inferred"] if check.inferred else []
            words += ["silent"] if check.audited is False else []
            yield "check", ", ".join(words)
            yield from (("chain", " < ".join(map(printable, chain))) for chain in check.chains[:SUGGESTED])
            own = () if check.decisive else ("link",)
            why = dict.fromkeys(reason for chain in check.chains if (reason := advisory_reason(name, chain, own=own)))
            yield from (("settles", f"nothing: {reason}") for reason in why)
        yield from self._seen_in(check.runs for check in trace.capabilities if check.capability == name)

    # Files, programs, sockets, signals.

    def _path(self, text: str) -> Iterator[Explanation]:
        facts: Facts = []
        rules = [rule for rule in self.policy.files if rule.pattern == text or patterns.matches(rule.pattern, text)]
        for rule in rules:
            facts += [*self._file(rule)]
        facts += self._uses(text)
        if not facts:
            return
        if not rules:
            facts += [("nearest", f"{rule.pattern}: {', '.join(rule.access)}") for rule in self._nearest(text)]
        where = ", ".join(f"files.{self._written.get(rule.pattern, rule.pattern)}" for rule in rules)
        yield Explanation(
            "path", text, "allowed" if rules else "not allowed", where, tuple(facts), self._risk(files=tuple(rules))
        )

    @cached_property
    def _paths(self) -> list[str]:
        """The paths of the trace, sorted."""
        return sorted(self._used)

    def _seen(self, pattern: str) -> list[str]:
        """Return the paths of the trace that a pattern matches, sorted: only those that begin as it does can."""
        start = patterns.start_of(pattern)
        after = itertools.islice(self._paths, bisect.bisect_left(self._paths, start), None)
        near = itertools.takewhile(lambda path: path.startswith(start), after)
        return [path for path in near if patterns.matches(pattern, path)]

    def _file(self, rule: FileRule) -> Iterator[tuple[str, str]]:
        own = " (own files only)" if rule.owner else ""
        yield "rule", f"{rule.pattern}: {', '.join(rule.access)}{own}"
        concrete = patterns.is_literal(rule.pattern)
        seen = self._seen(rule.pattern)
        yield from self._reasons(rule.because, "files" if concrete else "generalise", seen=bool(seen))
        if place := Places(self.policy.variables).find(rule.pattern):
            (row,) = (row for row in self.policy.variables if row.name == place.name)
            yield "mounted", f"{{@{row.name}}} at {place.prefix}: {', '.join(map(sentence, row.because))}"
        if rule.programs:
            yield "programs", ", ".join(shortened(list(map(word, rule.programs)), 4))
        if not concrete:
            yield "opens", patterns.opens(rule.pattern) + (f"; seen: {grouped(len(seen))}" if seen else "")
            yield from (("stands for", printable(path)) for path in shortened(sorted(seen), 4))

    def _uses(self, text: str) -> Iterator[tuple[str, str]]:
        trace = self.trace
        if trace is None:
            return
        rows = tuple(self._used.get(text, ()))
        for item in touched(replace(trace, files=rows)).values():
            if item.outcome != "needed":
                yield "outcome", f"{item.outcome}: not granted"
        for row in rows:
            owner = ", ".join(sorted(row.owner)) or "unknown"
            who = _who(trace, row.programs)
            yield "use", f"{row.access}: {_counted(row.results)}, by {who}, {_when(row.first, row.last)}, owner {owner}"
        yield from self._seen_in(row.runs for row in rows)

    def _nearest(self, path: str) -> list[FileRule]:
        """Rules for paths that look alike, those of the same directories first."""

        def likeness(rule: FileRule) -> tuple[int, float]:
            pairs = zip(rule.pattern.split("/"), path.split("/"), strict=False)
            shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
            return (shared, difflib.SequenceMatcher(None, rule.pattern, path).ratio())

        return sorted(self.policy.files, key=likeness, reverse=True)[:SUGGESTED]

    def _exec(self, text: str) -> Iterator[Explanation]:
        facts: Facts = []
        where = []
        trace = self.trace
        executed = [] if trace is None else [trace.programs[one.program].path for one in trace.execs]
        for number, row in enumerate(self.policy.transitions):
            if row.program == text or patterns.matches(row.program, text):
                where.append(f"executions[{number}]")
                by = "the start of the workload" if row.by is None else word(row.by)
                facts.append(("rule", f"{word(row.program)} by {by}"))
                seen = any(patterns.matches(row.program, path) for path in executed)
                facts += self._reasons(row.because, "processes", seen=seen)
        if self.trace is not None:
            for one in self.trace.execs:
                program = self.trace.programs[one.program]
                if program.path == text:
                    by = "profgen, as the start" if one.by is None else word(self.trace.programs[one.by].path)
                    facts.append(("executed", f"{counted(one.count, 'time')} by {by}"))
                    facts += [("interpreter", printable(program.interpreter))] if program.interpreter else []
                    facts += [("sha256", program.sha256)] if program.sha256 else []
        if facts:
            steps = tuple(
                row for row in self.policy.transitions if row.program == text or patterns.matches(row.program, text)
            )
            verdict = "allowed" if where else "not allowed"
            yield Explanation("exec", text, verdict, ", ".join(where), tuple(facts), self._risk(transitions=steps))

    def _socket(self, text: str, only: tuple[str, int] | None = None) -> Iterator[Explanation]:
        """``only``: one type and protocol."""
        family = text.lower().removeprefix("af_").removeprefix("pf_")
        facts: Facts = []
        where = []
        for number, row in enumerate(self.policy.sockets):
            if row.family != family or only not in (None, (row.type, row.protocol)):
                continue
            where.append(f"network[{number}]")
            facts.append(("rule", f"{row.type} protocol {row.protocol}: {', '.join(row.operations)}"))
            facts += [("ports", f"{word} {', '.join(map(str, ports))}") for word, ports in row.ports]
            facts += [("addresses", f"{word} {', '.join(shortened(names, 4))}") for word, names in row.addresses]
            kind = (row.family, row.type, row.protocol)
            seen = any((use.family, use.type, use.protocol) == kind for use in self._sockets)
            facts += self._reasons(row.because, "network", seen=seen)
        domain = f"domain AF_{family.upper()}"
        for entry in self.policy.syscalls:
            texts = [in_words(entry.name, entry.abi, tests_of(rule)) for rule in entry.rules]
            for words in texts:
                if words.split(", ")[0] == domain:
                    where.append(f"syscalls.{entry.section}.{entry.name}")
                    facts.append(("syscall", f"{entry.name} with {words}"))
        for use in self._sockets:
            if use.family == family and only in (None, (use.type, use.protocol)):
                place = "" if use.port is None else f" port {use.port}"
                place += "" if use.address is None else f" {printable(use.address)}"
                facts.append(("use", f"{use.operation}{place}: {_counted(use.results)}, {_when(use.first, use.last)}"))
        if facts:
            risk = self._risk(sockets=tuple(row for row in self.policy.sockets if row.family == family))
            verdict = "allowed" if where else "not allowed"
            yield Explanation("socket", family, verdict, ", ".join(dict.fromkeys(where)), tuple(facts), risk)

    def _signal(self, text: str) -> Iterator[Explanation]:
        name = text.removeprefix("SIG")
        facts: Facts = []
        where = []
        sent = [use for use in self._signals if use.signal == name]
        for number, row in enumerate(self.policy.signals):
            if row.signal == name:
                where.append(f"signals[{number}]")
                facts.append(("rule", f"SIG{name} to {row.whom}"))
                facts += self._reasons(row.because, "processes", seen=bool(sent))
        facts += [("sent", f"to {use.whom}: {_counted(use.results)}") for use in sent]
        if facts:
            risk = self._risk(signals=tuple(row for row in self.policy.signals if row.signal == name))
            yield Explanation(
                "signal", f"SIG{name}", "allowed" if where else "not allowed", ", ".join(where), tuple(facts), risk
            )


_PASS = {"observed": "observed", "equivalent": "equivalents", "companion": "companions", "base": "runtime_base"}
