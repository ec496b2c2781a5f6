"""Why a profile from elsewhere allows something: the rules that it has. There is no trace, and reasons only where a
SeccompProfile says in how many recordings a syscall was seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from profiler.errors import InputError
from profiler.kernel.abi import ABIS
from profiler.kernel.capabilities import CAPABILITIES
from profiler.kernel.syscalls import known_names, names_of
from profiler.quoting.text import printable
from profiler.review.diff import compare
from profiler.review.explain import SHOWN, Explanation, Line, alike, holes, nothing
from profiler.review.rights import KINDS, Rights, Row
from profiler.wording import shortened

Facts = tuple[tuple[str, str], ...]

_OTHER_KINDS = ("path", "exec", "socket", "signal")


class ProfileExplainer:
    """Answers for a seccomp JSON, an OCI config.json or a SeccompProfile."""

    def __init__(self, rights: Rights) -> None:
        self.rights = rights
        self.source = rights.source

    def explain(self, text: str) -> list[Explanation]:
        """Return all that the word may mean here, empty when it names no syscall or capability. Raises InputError."""
        kind, separator, rest = text.partition(":")
        if text.startswith(("/", "{")) or (separator and kind in _OTHER_KINDS):
            raise InputError(
                f"{self.source} is a {KINDS[self.rights.kind]}, which says nothing of {printable(text)[:80]}: ask for "
                "a syscall or a capability"
            )
        if separator and kind == "syscall":
            return list(self._syscall(rest))
        if separator and kind == "capability":
            return list(self._capability(rest))
        return [*self._syscall(text), *self._capability(text)]

    def suggestions(self, text: str) -> list[str]:
        """Return syscalls and capabilities that look alike."""
        return alike(text.rpartition(":")[2], [*CAPABILITIES, *known_names()])

    def all(self) -> list[Line]:
        """Return everything that is allowed."""
        return [Line(row, "") for row in compare(nothing(self.rights), self.rights, exact=True).changes]

    def _syscall(self, text: str) -> Iterator[Explanation]:
        abi, separator, name = text.partition(":")
        if separator and abi not in ABIS:
            raise InputError(f"unknown ABI {printable(abi)!r}: one of {', '.join(ABIS)}")
        alike: dict[Facts, list[str]] = {}
        for one in (abi,) if separator else self.rights.abis:
            if (name if separator else text) in names_of(one):
                alike.setdefault(self._facts(one, name if separator else text), []).append(one)
        for facts, abis in alike.items():
            yield self._call(abis, name if separator else text, facts)

    def _facts(self, abi: str, name: str) -> Facts:
        """Return the rules for a call, or what decides without a rule, and what is allowed."""
        rights = self.rights
        rows = self._rows(name)
        if abi not in rights.abis:
            return (("because", f"the profile refuses all calls of {abi}"),)
        facts = [
            ("rule", f"{row.where}: {row.action}" + ("" if row.errno is None else f" (errno {row.errno})"))
            for row in rows
        ]
        if not rows and rights.written is not None:
            facts.append(("because", f"no rule names it, and the default action is {rights.written.default}"))
        elif not rows:
            facts.append(("because", "there is no seccomp filter"))
        facts += [("because", text) for text in rights.reason("syscall", abi, name).because]
        allowance = rights.allowance(abi, name)
        if not allowance.refused:
            facts += [("allowed", words) for words in shortened(allowance.texts, SHOWN)]
        return tuple(facts)

    def _rows(self, name: str) -> list[Row]:
        written = self.rights.written
        return [row for row in written.rows if name in row.names and row.applies] if written else []

    def _call(self, abis: Sequence[str], name: str, facts: Facts) -> Explanation:
        """Return a call that is allowed alike, or refused, under these ABIs."""
        rights, calls = self.rights, [(abi, name) for abi in abis]
        allowances = {call: rights.allowance(*call) for call in calls}
        refused = all(allowance.refused for allowance in allowances.values())
        label = name if rights.native in abis else f"{abis[0]}:{name}"
        if len(abis) > 1:
            facts = (*facts, ("ABIs", ", ".join(abis)))
        if refused:
            return Explanation("syscall", label, "not allowed", "", facts)
        none = nothing(rights)
        risk = compare(none, replace(none, syscalls=allowances), exact=True).highest
        where = ", ".join(dict.fromkeys(row.where for row in self._rows(name) if row.allows))
        return Explanation("syscall", label, "allowed", where, (*facts, *holes(rights, calls)), risk)

    def _capability(self, text: str) -> Iterator[Explanation]:
        name = text.upper() if text.upper().startswith("CAP_") else f"CAP_{text.upper()}"
        if name not in CAPABILITIES:
            return
        held = self.rights.capabilities
        if held is None:
            facts: Facts = (("because", "the file does not list capabilities: the engine's own options decide"),)
            yield Explanation("capability", name, "not listed", "", facts)
        elif name in held:
            yield Explanation(
                "capability", name, "allowed", "process.capabilities", tuple(holes(self.rights, (), name))
            )
        else:
            yield Explanation("capability", name, "not allowed", "", (("because", "no set of the file has it"),))
