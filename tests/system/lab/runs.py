"""One run of a workload: recorded by profgen, or confined by a runtime; the load and what counts as success are the
same."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import judging
from system.harness import Profgen, run_here
from system.lab.processes import ENVIRONMENT, LabError
from system.lab.runtimes import Confinement, Runtime, container
from system.lab.workloads import Workload
from waiting import HANG_SECONDS, eventually


class Running(Protocol):
    """A container that has been started: of a runtime, or of a pod."""

    @property
    def running(self) -> bool: ...

    @property
    def stdout(self) -> str: ...

    def signal(self, name: str) -> None: ...

    def wait(self, seconds: float) -> int: ...

    def report(self) -> str: ...


def confined(workload: Workload, runtime: Runtime, confinement: Confinement, seconds: float = HANG_SECONDS) -> None:
    """Run the workload and its load in a container. ``seconds`` limits its start and its end, each.

    LabError, with all that is known, when anything was wrong.
    """
    workload.reset()
    with container(runtime, workload.job, confinement) as running:
        served(workload, running, runtime.name, seconds)


def served(workload: Workload, running: Running, where: str, seconds: float = HANG_SECONDS) -> None:
    """Drive a workload in a container from its start to its end. LabError as in :func:`confined`."""
    try:
        if not workload.batch:
            if not eventually(lambda: not running.running or workload.ready(), seconds):
                raise LabError("it never answered")
            if not running.running:
                raise LabError("it ended before it was ready")
            workload.load()
            running.signal(workload.stop.name.removeprefix("SIG"))
        status = running.wait(seconds)
        if status != 0:
            raise LabError(f"it ended with status {status}")
        workload.check(running.stdout)
    except (LabError, OSError) as error:
        raise LabError(f"{workload.name} under {where}: {error}\n{running.report()}") from None


def recorded(profgen: Profgen, workload: Workload, tracer: str, trace: Path) -> Path:
    """Record the workload under its load. LabError when load, workload or recording went wrong."""
    output = trace.with_suffix(".stdout")
    words = ("record", "--tracer", tracer, "-o", str(trace))
    try:
        status = driven(profgen, workload, words, output, workload.rounds)
        if status != 0:
            raise LabError(f"it ended with status {status}")
        workload.check(output.read_text())
    except (LabError, OSError, subprocess.TimeoutExpired) as error:
        said = output.with_suffix(".stderr").read_text(errors="replace")
        raise LabError(f"{workload.name} recorded with {tracer}: {error}\n{said}") from None
    return trace


def driven(
    profgen: Profgen,
    workload: Workload,
    words: Sequence[str],
    output: Path,
    loads: int = 1,
    command: Sequence[str] | None = None,
) -> int:
    """Run ``profgen WORDS -- the workload`` under its load, and return the status.

    Standard output goes to ``output``, standard error to a file next to it. ``command`` starts the workload, in a
    container for example; by default the workload starts itself.

    LabError when a service never answers or its load fails; subprocess.TimeoutExpired when it does not end.
    """
    workload.reset()
    words = (*words, *(() if workload.user == "root" or command is not None else ("--user", workload.user)))
    with open(output, "wb") as stdout, open(output.with_suffix(".stderr"), "wb") as stderr:
        process = profgen.start(
            *words,
            "--",
            *(workload.argv if command is None else command),
            cwd=Path("/"),
            env=ENVIRONMENT,
            stdout=stdout,
            stderr=stderr,
        )
    try:
        if not workload.batch:
            if not eventually(lambda: process.poll() is not None or workload.ready()):
                raise LabError("it never answered")
            if process.poll() is not None:
                raise LabError("it ended before it was ready")
            for _ in range(loads):
                workload.load()
            process.send_signal(workload.stop)
        return process.wait(HANG_SECONDS)
    finally:
        if process.poll() is None:
            process.terminate()
            if not eventually(lambda: process.poll() is not None, 10):
                process.kill()
                process.wait()


def generated(
    trace: Path, directory: Path, runtime: str, no_new_privs: bool, options: Sequence[str] = ()
) -> Confinement:
    """The confinement that `profgen generate` makes for this runtime. AssertionError when it fails."""
    privileges = () if no_new_privs else ("--allow-new-privs",)
    run_here("generate", str(trace), "-o", str(directory), "--runtime", runtime, *privileges, *options)
    judging.written(directory)
    return Confinement(directory / "seccomp.json", capability_sets(directory), no_new_privs)


def capability_sets(directory: Path) -> dict[str, list[str]]:
    """The five OCI sets of a generated capabilities.json."""
    document: dict[str, Any] = json.loads((directory / "capabilities.json").read_text())
    return {name: list(names) for name, names in document["oci"].items()}
