"""Compiles the operations, and runs what an operation needs to find before it.

``ops`` is linked statically: nothing of a loader or a C library is in its evidence. ``ops-dynamic`` is the same program
with them, and ``ops32`` (x86-64 only) the static one for i386.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from system.harness import environment

SOURCE = Path(__file__).parent / "ops.c"
X86 = platform.machine() == "x86_64"
VARIANTS: dict[str, tuple[str, ...]] = {
    "ops": ("-static",),
    "ops-dynamic": (),
    **({"ops32": ("-static", "-m32")} if X86 else {}),
}
REFUSED_HERE = 77
"""Exit status: this kernel or file system does not offer the operation."""


@dataclass(frozen=True)
class Operation:
    """One line of ``ops list``. ``traces``: it uses ptrace itself, which a process that is traced already cannot."""

    name: str
    root: bool
    traces: bool


def build(directory: Path) -> None:
    """Compile all variants into ``directory`` (which must exist). Raises RuntimeError with gcc's words."""
    jobs = [
        ["gcc", "-O1", "-Wall", "-pthread", *flags, "-o", str(directory / name), str(SOURCE)]
        for name, flags in VARIANTS.items()
    ]
    for job, process in [
        (job, subprocess.Popen(job, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)) for job in jobs
    ]:
        output, _ = process.communicate(timeout=120)
        if process.returncode:
            raise RuntimeError(f"{' '.join(job)} failed:\n{output}")


def operations(program: Path) -> tuple[Operation, ...]:
    """What the built program offers."""
    lines = subprocess.run(
        [program, "list"], capture_output=True, text=True, check=True, timeout=120
    ).stdout.splitlines()
    return tuple(Operation(name, "root" in needs, "traces" in needs) for name, *needs in map(str.split, lines))


def prepare(program: Path, name: str, directory: Path) -> None:
    """Make ``directory`` afresh, with what the operation finds there."""
    shutil.rmtree(directory, ignore_errors=True)
    # With an environment of its own: pytest changes its process's at each test, while threads call this.
    subprocess.run([program, "prepare", name, directory], check=True, timeout=120, env=environment())
