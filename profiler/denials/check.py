"""Uses held against a policy: what its rules for files, sockets, signals, other processes and mounts do not allow.

A use is no denial when nothing would be added for it (propose.py), so what is found here and what is proposed can never
disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from profiler.denials.model import Denial
from profiler.denials.propose import propose
from profiler.kernel.arguments import spec_for
from profiler.policy import patterns
from profiler.policy.model import Policy
from profiler.policy.passes.capabilities import use_of
from profiler.policy.passes.files import MAKING, PAST_CHECK
from profiler.policy.passes.observed import name_for
from profiler.trace.model import FILES_FEATURE, Syscall, Trace

BY = "policy"
"""Who speaks of denials found here (Denial.by)."""

_REMEMBERED = 1 << 16


class Held:
    """Rows in, denials out: without those who did it, None for what is allowed."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._known: dict[Denial, bool] = {}
        self._spared = [rule.pattern for rule in policy.files if rule.use != "needed"]
        """Paths that the recording looked for in vain or was refused: they are so without the policy."""

    def denied(self, denial: Denial) -> bool:
        """Whether the policy's rules leave it out."""
        known = self._known.get(denial)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            proposal = propose(self._policy, [denial])
            known = self._known[denial] = bool(proposal.added or proposal.refused)
        return known

    def _if_denied(self, denial: Denial) -> Denial | None:
        return denial if self.denied(denial) else None

    def file(
        self,
        path: str,
        accesses: Iterable[str],
        kind: str,
        owner: Iterable[str] = (),
        existing: str | None = None,
        whose: str | None = None,
    ) -> Denial | None:
        """Uses of one path at once; the denial has those that are not allowed. Words as in trace.model.File."""
        words = tuple(word for word in accesses if word != "look")
        if kind == "unknown":
            words = tuple(
                word for word in words if word in MAKING or "create" in words
            )  # what is not there is not asked for
        if not words or (self._spared and any(patterns.matches(pattern, path) for pattern in self._spared)):
            return None
        own = {"self"} == set(owner) or (kind == "unknown" and not set(owner))
        denial = Denial(
            "file",
            BY,
            True,
            operation="symlink" if kind == "symlink" and "make" in words else words[0],
            path=path,
            directory=kind == "directory" and path != "/",
            file_kind=None if kind == "unknown" else kind,
            owner=own,
            whose=whose,
            existing=existing,
        )
        left = tuple(word for word in words if self.denied(replace(denial, access=(word,))))
        return replace(denial, access=left) if left else None

    def socket(
        self, family: str, kind: str, protocol: int, operation: str, port: int | None, address: str | None
    ) -> Denial | None:
        """One operation, words as in trace.model.Socket."""
        return self._if_denied(
            Denial(
                "socket",
                BY,
                True,
                operation=operation,
                family=family,
                type=kind,
                protocol=protocol,
                operations=(operation,),
                port=port,
                address=address,
            )
        )

    def signal(self, signal: str, whom: str) -> Denial | None:
        """As in trace.model.Signal."""
        return self._if_denied(
            Denial("signal", BY, True, operation="send", operations=("send",), signal=signal, whom=whom)
        )

    def inspection(self, operation: str, whom: str) -> Denial | None:
        """As in trace.model.Inspection."""
        return self._if_denied(Denial("inspection", BY, True, operation=operation, operations=(operation,), whom=whom))

    def mount(
        self, operation: str, source: str | None, target: str | None, filesystem: str | None, flags: tuple[str, ...]
    ) -> Denial | None:
        """As in trace.model.Mount."""
        return self._if_denied(
            Denial(
                "mount", BY, True, operation=operation, source=source, target=target, filesystem=filesystem, flags=flags
            )
        )

    def capability(self, name: str, use: str) -> Denial | None:
        """``use``: one of USES of the policy's model. One that was refused or asked for in vain while recording is none
        now."""
        listed = {row.use for row in self._policy.capabilities if row.name == name}
        if use not in ("needed", "refused") or (use == "refused" and listed):
            return None
        return self._if_denied(Denial("capability", "kernel", True, operation="capable", capability=name))

    def calls(self, trace: Trace) -> Iterator[Denial]:
        """Syscalls of a recording that the policy does not allow, by program; what it refuses by name is none.
        ``refused`` is False."""
        by_name = {row.name for row in self._policy.refused}
        for row in trace.syscalls:
            name = name_for(row)
            rows: list[tuple[tuple[int, ...] | None, tuple[int, ...]]]
            if name is None:
                rows = [(None, tuple(row.programs))]
            elif name in by_name:
                continue
            else:
                rows = list(self._not_permitted(row, name))
            for registers, programs in rows:
                denial = Denial(
                    "syscall",
                    "policy",
                    False,
                    action="log",
                    abi=row.abi,
                    number=row.number,
                    name=name,
                    arguments=registers,
                )
                yield from _by_program(denial, trace, programs, row.calls)

    def _not_permitted(self, row: Syscall, name: str) -> Iterator[tuple[tuple[int, ...] | None, tuple[int, ...]]]:
        entries = [entry for entry in self._policy.syscalls if (entry.abi, entry.name) == (row.abi, name)]
        if any(not entry.rules for entry in entries):
            return
        spec = spec_for(name, row.abi)
        if spec is None or spec.pointer or row.arguments is None or row.arguments.overflow:
            yield None, tuple(row.programs)
            return
        for value, programs in row.arguments.values.items():
            registers = [0] * 6
            for position, one in zip(spec.positions, value, strict=True):
                registers[position] = one
            if not self._policy.permits(row.abi, name, registers):
                yield tuple(registers), tuple(sorted(programs))

    def uses(self, trace: Trace) -> Iterator[Denial]:
        """What a recording did that the policy does not allow, by program (``exe``; processes are not known);
        ``refused`` is False.

        Syscalls are left out, of files and the like only what succeeded counts. Capabilities: also those that were
        refused.
        """

        def told(denial: Denial | None, programs: Iterable[int], uses: int, refused: bool = False) -> Iterator[Denial]:
            if denial is not None:
                yield from _by_program(replace(denial, refused=refused), trace, programs, uses)

        for check in trace.capabilities:
            use = use_of(check)
            yield from told(self.capability(check.capability, use), check.programs, check.count, use == "refused")
        if FILES_FEATURE not in trace.meta.features:
            return
        grouped: dict[tuple[object, ...], list[str]] = {}
        for file in trace.files:
            if _happened(file.results, file.access):
                grouped.setdefault(
                    (file.path, file.kind, file.owner, file.existing, file.whose, file.programs), []
                ).append(file.access)
        counts = {(file.path, file.programs): sum(file.results.values()) for file in trace.files}
        for (path, kind, owner, existing, whose, programs), accesses in grouped.items():
            denial = self.file(path, accesses, kind, owner, existing, whose)  # type: ignore[arg-type]
            yield from told(denial, programs, counts[path, programs])  # type: ignore[arg-type, index]
        for socket in trace.sockets:
            if socket.results.get("ok") and socket.operation != "inherit":  # it may never be used
                denial = self.socket(
                    socket.family, socket.type, socket.protocol, socket.operation, socket.port, socket.address
                )
                yield from told(denial, socket.programs, socket.results["ok"])
        for signal in trace.signals:
            if signal.results.get("ok"):
                yield from told(self.signal(signal.signal, signal.whom), signal.programs, signal.results["ok"])
        for look in trace.inspections:
            if look.results.get("ok"):
                yield from told(self.inspection(look.operation, look.whom), look.programs, look.results["ok"])
        for mount in trace.mounts:
            if mount.results.get("ok"):
                denial = self.mount(mount.operation, mount.source, mount.target, mount.filesystem, mount.flags)
                yield from told(denial, mount.programs, mount.results["ok"])


def _by_program(denial: Denial, trace: Trace, programs: Iterable[int], uses: int) -> Iterator[Denial]:
    """The same denial for each program; how the uses are shared out among several is not known."""
    listed = sorted(set(programs))
    for index in listed:
        program = trace.programs[index]
        yield replace(
            denial, exe=program.interpreter or program.path, comm=_comm(program.path), count=max(1, uses // len(listed))
        )


def _happened(results: Mapping[str, int], access: str) -> bool:
    past = PAST_CHECK | {"EISDIR"} if access == "remove" else PAST_CHECK
    return any(number and (errno == "ok" or errno in past) for errno, number in results.items())


def _comm(path: str) -> str:
    """What the kernel calls a process that executes this file, unless it says otherwise (PR_SET_NAME, prctl(2)): 15
    bytes of its name."""
    return path.rpartition("/")[2].encode("utf-8", "surrogateescape")[:15].decode("utf-8", "surrogateescape")
