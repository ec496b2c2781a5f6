"""Recordings of the operations: each made once in a test session, whichever tests ask for it."""

from __future__ import annotations

import os
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import pytest
from system.harness import Profgen
from system.operations.build import REFUSED_HERE, build, operations, prepare
from system.operations.evidence import seen
from system.operations.table import Evidence, Places

from profiler.trace.model import Trace
from profiler.trace.store import read_trace


@dataclass(frozen=True)
class Recorded:
    """One recording of one operation. ``status`` 77: not offered here."""

    status: int
    stderr: str
    path: Path
    places: Places

    @property
    def trace(self) -> Trace:
        assert self.path.exists(), f"no trace was written; status {self.status}, stderr: {self.stderr}"
        return read_trace(self.path)

    @property
    def evidence(self) -> Evidence:
        return seen(self.trace, self.places)


class Runs:
    """Operations, each recorded once by each tracer, below ``root``; begun ahead of those who will ask for them."""

    def __init__(self, profgen: Profgen, root: Path) -> None:
        self.root = root
        self.programs = root / "programs"
        self.programs.mkdir(parents=True)
        build(self.programs)
        self._profgen = profgen
        self._workers: ThreadPoolExecutor | None = None
        self._runs: dict[tuple[str, str, str], Future[Recorded]] = {}
        self._one_at_a_time: dict[tuple[str, str], Lock] = defaultdict(Lock)

    def get(self, name: str, tracer: str, variant: str = "ops") -> Recorded:
        """A recording; skips the test when the operation is not offered here."""
        recorded = self.begin(name, tracer, variant).result()
        if recorded.status == REFUSED_HERE:
            pytest.skip(f"not offered here: {recorded.stderr.splitlines()[0]}")
        return recorded

    def begin(self, name: str, tracer: str, variant: str = "ops") -> Future[Recorded]:
        """Start a recording, unless it was started before."""
        key = (name, tracer, variant)
        if key not in self._runs:
            self._workers = self._workers or ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
            self._runs[key] = self._workers.submit(self._record, *key)
        return self._runs[key]

    def _record(self, name: str, tracer: str, variant: str) -> Recorded:
        program, directory = self.programs / variant, self.root / variant / name
        cwd = self.root / f"{variant}.{name}.{tracer}"
        cwd.mkdir()
        directory.parent.mkdir(exist_ok=True)
        with self._one_at_a_time[
            name, variant
        ]:  # both tracers' runs want the same directory, so that paths can be compared, and port
            prepare(program, name, directory)
            recording = self._profgen.record(tracer, [str(program), name, str(directory)], cwd=cwd, options=["-q"])
        return Recorded(recording.status, recording.stderr, recording.path, Places(str(directory), str(program)))

    def possible(self, name: str) -> bool:
        """Whether this user can have the operation done."""
        return os.geteuid() == 0 or not any(
            each.root for each in operations(self.programs / "ops") if each.name == name
        )

    def close(self) -> None:
        """Wait for the recordings under way, and make none of those that wait; who asks for one later gets it."""
        if self._workers is not None:
            self._workers.shutdown(cancel_futures=True)
            self._workers = None
            self._runs = {key: run for key, run in self._runs.items() if not run.cancelled()}
