"""profgen as a process of its own, as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from waiting import HANG_SECONDS

CHECKOUT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(CHECKOUT)}


def python(*arguments: str | Path, environ: Mapping[str, str] | None = None, **options: Any) -> Any:
    """Run the tests' Python to its end, with text output; standard input is empty.

    ``environ`` adds to the environment. ``options`` are those of subprocess.run().
    """
    settings: dict[str, Any] = {"capture_output": True, "text": True, "timeout": HANG_SECONDS, "check": False}
    if "input" not in options:
        settings["stdin"] = subprocess.DEVNULL
    return subprocess.run(
        [sys.executable, *map(str, arguments)], env={**ENVIRONMENT, **(environ or {})}, **(settings | options)
    )


def profgen(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``profgen ARGUMENTS`` to its end."""
    done: subprocess.CompletedProcess[str] = python("-m", "profiler", *arguments, **options)
    return done
