"""Name files as code scanning and merge requests do: from the root of the repository."""

from __future__ import annotations

import os
from pathlib import Path


def root() -> Path:
    """Return the directory of the repository that the working directory is in, which has ``.git``; else the working
    directory. Raises OSError when that is gone."""
    here = Path.cwd()
    return next((path for path in (here, *here.parents) if (path / ".git").exists()), here)


def place(path: str) -> str:
    """Return the path of a file from :func:`root`; an absolute path when the file is outside of it."""
    if not path:
        return path
    try:
        whole, top = Path(os.path.abspath(path)), root()
    except OSError:
        return path
    return str(whole.relative_to(top) if whole.is_relative_to(top) else whole)
