"""Read data files in YAML, each of them once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def load(name: str, module: str = __file__) -> Any:
    """Return the content of the data file next to a module's file, by default in this package.

    Callers must not modify it.
    """
    text = Path(module).with_name(name).read_text(encoding="utf-8")
    return yaml.load(text, Loader=_Loader)
