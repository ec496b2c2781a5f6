"""What runs that name denials share: which refused calls count as different, and the head of a trace that is not
written."""

from __future__ import annotations

from collections.abc import Sequence

from profiler.kernel.arguments import spec_for
from profiler.trace.model import Meta
from profiler.tracers.recording import Recording


def filtered(name: str | None, abi: str, registers: Sequence[int]) -> tuple[int, ...]:
    """Return the registers of a call that a filter looks at; calls that are equal in them are one denial."""
    spec = None if name is None else spec_for(name, abi)
    if spec is None or spec.pointer:
        return ()
    return tuple(registers[at] & mask for at, mask in zip(spec.positions, spec.masks, strict=True))


def head(recording: Recording) -> Meta:
    """Return the head of a trace that is not written; only its features are used."""
    return Meta(
        tool="",
        tracer="",
        features=tuple(sorted(recording.features)),
        kernel="",
        arch=recording.native,
        distribution=None,
        libc=None,
        argv=(),
        cwd="",
        uid=0,
        gid=0,
        groups=(),
        no_new_privs=False,
        start="",
        duration=0.0,
        exit_status=None,
        complete=True,
        losses={},
        last_new=0.0,
    )
