"""What a recording cannot show, and what to do about it: lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from profiler.quoting.text import printable
from profiler.trace.model import Program, Trace
from profiler.wording import counted, grouped, listed

FEW_SYSCALLS = 10
"""A workload that works makes more different syscalls than these: starting a program takes more."""

_STREAMS = {"stdin": "standard input", "stdout": "standard output", "stderr": "standard error"}
_MAKES_PROCESSES = frozenset({"fork", "vfork", "clone", "clone3"})
_SETS = ("capget", "capset")
_TERMINAL = "/dev/tty"
_ALWAYS_ASKS = frozenset({"bash"})
"""Programs that open the terminal whenever they start, whether they use it or not."""


IDLE_FIX = "record while it works"


def idle(syscalls: int) -> str:
    """Return what to say of a recording that joined a workload which made only so many different syscalls."""
    seen = f"only {counted(syscalls, 'different syscall')}" if syscalls else "no syscall"
    return f"{seen} seen: the workload was idle, and its profile allows nearly nothing"


def is_idle(joined: bool, syscalls: int) -> bool:
    """Return whether so few different syscalls of a running workload were seen that it must have been idle. A program
    that starts makes some: when there are none, it was running."""
    return syscalls < FEW_SYSCALLS if joined else syscalls == 0


def lost(losses: Mapping[str, int]) -> str:
    """Return what a recording lost: ``lost 3 programs, 1 204 paths``."""
    named = [f"{grouped(losses[name])} {printable(name)}" for name in sorted(losses)]
    return f"lost {', '.join(named) or 'unknown items'}"


def caveats(trace: Trace) -> tuple[str, ...]:
    """Return what this recording cannot show: it was idle, or the workload stood otherwise than in a container."""
    number = len(trace.syscalls)
    found = [f"{idle(number)}; {IDLE_FIX}"] if trace.meta.runs and is_idle(bool(trace.joined), number) else []
    return (*found, *circumstances(trace))


def circumstances(trace: Trace) -> tuple[str, ...]:
    """Return where the command stood otherwise than it will in a container, and its recording may differ for it."""
    return (*_streams(trace), *_leaders(trace), *_terminal(trace), *_looked(trace))


def _only(trace: Trace, word: str, other: str) -> bool:
    """Return whether the command stood so in each recording."""
    return word in trace.meta.standing and other not in trace.meta.standing


def _streams(trace: Trace) -> Iterator[str]:
    kinds: dict[str, set[str]] = {}
    for word in trace.meta.standing:
        stream, _, kind = word.partition("_")
        if stream in _STREAMS:
            kinds.setdefault(stream, set()).add(kind)
    files = [name for stream, name in _STREAMS.items() if kinds.get(stream) == {"file"}]
    if files:
        yield (
            f"{' and '.join(files)} {'was a file' if len(files) == 1 else 'were files'}: with a pipe or a terminal, as "
            "in a container, programs make other calls; record with the streams of production (for a pipe: | cat)"
        )


def _leaders(trace: Trace) -> Iterator[str]:
    """Find programs that began a session or a group in the process that they were started in."""
    if not _only(trace, "no_group_leader", "group_leader"):
        return
    made: dict[int, set[str]] = {}
    for row in trace.syscalls:
        for program in row.programs:
            made.setdefault(program, set()).add(row.label)
    leaders = [
        program for index, program in enumerate(trace.programs) if "setsid" in (calls := made.get(index, set()))
        and not calls & _MAKES_PROCESSES and _began(trace, index)
    ]  # fmt: skip
    if leaders:
        yield (
            f"{_names(leaders)} made a session, which the first process of a container cannot (setsid(2): it leads "
            "its group already); such programs then make a process first: record it in a container too (--image)"
        )


def _began(trace: Trace, program: int) -> bool:
    """Return whether the workload started with this program."""
    return any(row.program == program and row.by is None for row in trace.execs)


def _looked(trace: Trace) -> Iterator[str]:
    """Find programs that read their capability sets, which were those of root, and changed none."""
    calls = {
        label: {index for row in trace.syscalls if row.label == label for index in row.programs} for label in _SETS
    }
    looked = [trace.programs[index] for index in sorted(calls["capget"] - calls["capset"])]
    if looked and trace.meta.uid == 0:
        yield (
            f"{_names(looked)} read the capability sets (capget), which were those of root, and may give up without a "
            "capability that no call shows: if it does under the profile, add the capability to policy.yaml"
        )


def _names(programs: list[Program]) -> str:
    return listed([program.name for program in programs], 4)


def _terminal(trace: Trace) -> Iterator[str]:
    others = {index for index, program in enumerate(trace.programs) if program.name not in _ALWAYS_ASKS}
    asked = (row for row in trace.files if row.path == _TERMINAL and row.programs & others)
    results = {result for row in asked for result in row.results}
    if "ok" in results and _only(trace, "terminal", "no_terminal"):
        yield f"the workload used its terminal ({_TERMINAL}): start the container with one (-t), or record without"
    elif "ENXIO" in results and "ok" not in results and _only(trace, "no_terminal", "terminal"):
        yield f"the workload asked for a terminal ({_TERMINAL}) and had none: record with one if the container has one"
