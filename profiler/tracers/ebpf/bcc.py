"""bcc's Python part, as the distribution installs it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from profiler.errors import TracerError

DIST_PACKAGES = Path("/usr/lib/python3/dist-packages")
"""Where distributions install bcc (package python3-bpfcc): a virtual environment does not see it."""


def find_bcc() -> Path | None:
    """Return the folder of the distribution's bcc, None when it is not installed. Imports nothing."""
    folder = DIST_PACKAGES / "bcc"
    return folder if (folder / "libbcc.py").is_file() else None


def bcc_version() -> str:
    """Return the text of the distribution's bcc that names its version, "" when it is not installed. Imports nothing:
    the compiler's library alone takes a fifth of a recording's start."""
    folder = find_bcc()
    with contextlib.suppress(OSError):
        return (folder / "version.py").read_text(encoding="utf-8") if folder else ""
    return ""


def import_bcc() -> ModuleType:
    """Import the distribution's bcc by its folder: PyPI has an unrelated package of this name. Raises TracerError."""
    known = sys.modules.get("bcc")
    if known is not None and hasattr(known, "BPF"):
        return known
    folder = find_bcc()
    if folder is None:
        raise TracerError("bcc is not installed; install it: apt install python3-bpfcc")
    spec = importlib.util.spec_from_file_location(
        "bcc", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, OSError) as error:
        del sys.modules["bcc"]
        raise TracerError(
            f"bcc does not load ({error}); reinstall it: apt install --reinstall python3-bpfcc libbpfcc"
        ) from error
    return module


@contextlib.contextmanager
def quiet_stderr() -> Iterator[Callable[[], str]]:
    """Collect what bcc and clang print, which goes to the descriptor itself. Yields a function that returns the text
    so far."""
    with open(os.memfd_create("profgen-stderr", os.MFD_CLOEXEC), "w+b", buffering=0) as sink:
        saved = os.dup(2)
        os.dup2(sink.fileno(), 2)

        def said() -> str:
            sink.seek(0)
            return sink.read().decode("utf-8", "replace")

        try:
            yield said
        finally:
            os.dup2(saved, 2)
            os.close(saved)
