"""Capability checks of a workload that another tracer runs: the kernel's own answers, also those no call reports."""

from __future__ import annotations

from types import TracebackType

from profiler.errors import TracerError
from profiler.tracers.ebpf.checks import SYMBOLS_HIDDEN, symbols_readable
from profiler.tracers.ebpf.limits import limits_with
from profiler.tracers.ebpf.loader import Programs
from profiler.tracers.ebpf.reader import Maps, Reader
from profiler.tracers.ebpf.tracer import EbpfTracer, arm, prepare
from profiler.tracers.recording import Recording

_LOSSES = ("capabilities", "events", "stacks", "tasks")
"""Losses after which a check may be missing or unexplained."""


class CapabilityWatch:
    """A run's checks. Leaving it as a context manager detaches everything."""

    def __init__(self, recording: Recording, *, confined: bool) -> None:
        """Load and attach. ``recording``: filled by :meth:`collect`. ``confined``: see Checks. Raises TracerError."""
        reason = EbpfTracer().unavailable() or (None if symbols_readable() else SYMBOLS_HIDDEN)
        if reason is not None:
            raise TracerError(reason)
        self._recording = recording
        self._programs = Programs(limits_with({}))
        try:
            self._reader = Reader(self._programs, recording, confined=confined)
            prepare(self._programs, self._reader, files=False)
        except BaseException:
            self._programs.close()
            raise

    def __enter__(self) -> CapabilityWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._programs.close()

    def arm(self, pid: int) -> None:
        """Mark the waiting child that becomes the workload. Raises TracerError."""
        arm(self._programs, pid)

    def executed(self) -> None:
        """Take the programs that were executed since the last time."""
        self._programs.consume("events")

    def collect(self) -> dict[str, int]:
        """Fill the recording, after the run; return what was lost, by class."""
        self.executed()
        maps = Maps(self._programs)
        self._reader.collect(self._recording, maps)
        self._reader.collect_checks(self._recording, maps)
        return {name: count for name in _LOSSES if (count := self._recording.losses[name])}
