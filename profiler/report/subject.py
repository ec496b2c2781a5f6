"""What a report is about: a policy, and the recordings behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.directory import POLICY_FILE, evidence
from profiler.policy.model import Options, Policy
from profiler.review.foreign import Source
from profiler.review.rights import Rights, of_policy, of_trace
from profiler.review.yardsticks import named
from profiler.trace.merge import merge
from profiler.trace.model import Trace
from profiler.trace.store import read_trace


@dataclass(frozen=True)
class Subject:
    """``policy``: what the workload may do. ``traces``: its recordings, empty if they are not known. ``is_trace``: the
    policy is what ``generate`` makes of them. ``outdated``: the head of the policy's file does not say what its entries
    say."""

    name: str
    policy: Policy
    traces: tuple[Trace, ...]
    is_trace: bool = False
    outdated: bool = False

    @cached_property
    def trace(self) -> Trace | None:
        """The recordings as one trace; None without any."""
        return merged(self.traces) if self.traces else None

    @cached_property
    def rights(self) -> Rights:
        """What ``profgen diff`` compares: of traces what they need, with nothing added."""
        if self.is_trace and self.trace is not None:
            return of_trace(self.trace, self.name)
        return of_policy(self.policy, self.name)


def read(files: Sequence[str], recordings: Sequence[str] = ()) -> Subject:
    """Read traces of one workload, or a policy with the traces behind it: ``recordings``, else the one next to it.

    Raises InputError for any other file, and for a policy together with other files.
    """
    sources = [named(path) for path in files]
    for path, source in zip(files, sources, strict=True):
        if source.trace is None and source.policy is None:
            raise InputError(f"{path} is neither a trace nor a policy, and a report needs the reasons that these hold")
        if source.policy is not None and len(sources) > 1:
            raise InputError(f"{path} is a policy: give it alone, and its recordings with --trace")
    policy = sources[0].policy
    if policy is None:
        traces = (*(source.trace for source in sources if source.trace is not None), *map(read_trace, recordings))
        return Subject(_name(files), derive(merged(traces), Options()), traces, is_trace=True)
    near = None if recordings else evidence(files[0])
    traces = tuple(map(read_trace, recordings)) if near is None else (near,)
    return Subject(_name(files), policy, traces, outdated=sources[0].outdated)


def merged(traces: Sequence[Trace]) -> Trace:
    """Return one trace or more as one. Raises InputError as merging does."""
    return merge(traces) if len(traces) > 1 else traces[0]


def _name(files: Sequence[str]) -> str:
    """Return a name for people: the file's, or that of the directory that ``generate`` wrote."""
    path = Path(files[0])
    name = path.parent.name if path.name == POLICY_FILE and path.parent.name else path.name
    return name if len(files) == 1 else f"{name} and {len(files) - 1} more"


def read_base(path: str) -> Subject | Source:
    """Read what a report is compared with: anything that ``profgen diff`` reads. Raises InputError."""
    source = named(path)
    return source if source.trace is None and source.policy is None else read([path])
