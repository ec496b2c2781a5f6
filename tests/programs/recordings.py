"""Each program prepared once, recorded once with each tracer, and its profile made from that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from system.lab import runs
from system.lab.fixtures import Recordings
from system.lab.processes import LabError
from system.lab.runtimes import Confinement
from system.lab.workloads import Workload


class Programs(Recordings):
    """Recordings, and what ``profgen generate`` made of each."""

    def profile(self, kind: type[Workload], tracer: str) -> Path:
        """Return the directory of the profile for runc."""
        trace = self.trace(kind, tracer)
        directory = trace.with_suffix("").with_suffix(".profile")
        if not directory.exists():
            words = ("generate", str(trace), "-o", str(directory), "--runtime", "runc")
            result = self._profgen(*words, cwd=Path("/"))
            if result.returncode != 0:
                raise LabError(f"profgen generate ended with status {result.returncode}: {result.stderr}")
        return directory


def confinement(profile: Path) -> Confinement:
    """Return what a profile says to a runtime."""
    document: dict[str, Any] = json.loads((profile / "capabilities.json").read_text())
    return Confinement(profile / "seccomp.json", runs.capability_sets(profile), document.get("no_new_privileges", True))
