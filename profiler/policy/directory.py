"""The directory that ``generate`` writes: the policy, and next to it the trace that it was made from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from profiler.errors import InputError

if TYPE_CHECKING:
    from profiler.trace.model import Trace

POLICY_FILE = "policy.yaml"
TRACE_FILE = "trace.json"
_FILES = (".json", ".yaml", ".yml")


def is_directory(output: str, names: Sequence[str]) -> bool:
    """Return whether ``-o`` names a directory for files of these names.

    A path that exists is what it is. One that ends with a slash, or a new name without a suffix, is a directory. A new
    name with a suffix is a directory for several files, unless it ends in .json or .yaml or as one of the files does
    (``run.sh``). ``.profile`` is the end of a directory, unless the one file has it too.
    """
    path = Path(output)
    if output.endswith("/") or path.exists():
        return output.endswith("/") or path.is_dir()
    ends = {Path(name).suffix for name in names}
    if path.suffix == ".profile":
        return len(names) > 1 or path.suffix not in ends
    return not path.suffix or (len(names) > 1 and path.suffix not in (*_FILES, *ends))


def default_directory(path: str | Path) -> Path:
    """Return the directory that ``generate`` writes when none is given: ``app.profile`` in the working directory for
    ``app.trace.json``; for a file of a directory that it wrote, given with that directory, the directory."""
    found = Path(path)
    if found.name in (POLICY_FILE, TRACE_FILE) and os.path.dirname(path):
        return found.parent
    stem = found.stem if found.suffix in _FILES else found.name
    return Path(f"{stem.removesuffix('.trace') or 'workload'}.profile")


def policy_path(path: str) -> str:
    """Return the path of the policy, given it or its directory."""
    return os.path.join(path, POLICY_FILE) if os.path.isdir(path) else path


def trace_path(path: str) -> Path | None:
    """Return the path of the trace next to a policy, given the policy or its directory; None when there is none."""
    policy = Path(policy_path(path))
    found = policy.with_name(TRACE_FILE)
    return found if policy.suffix == ".yaml" and found.is_file() else None


def evidence(path: str) -> Trace | None:
    """Return the trace next to a policy; None when there is none. Raises InputError for one that cannot be read."""
    from profiler.trace.store import read_trace

    found = trace_path(path)
    try:
        return None if found is None else read_trace(str(found))
    except InputError as error:
        raise InputError(f"{error} (it is read as the evidence behind {policy_path(path)})") from error
