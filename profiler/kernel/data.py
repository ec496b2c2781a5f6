"""Read data files in YAML, each of them once."""

from __future__ import annotations

import re
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


@cache
def _sections(name: str) -> dict[str, str]:
    """Return the text of each top-level key of a data file of this package."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return {section.partition(":")[0]: section for section in re.split(r"^(?=\w)", text, flags=re.MULTILINE)}


@cache
def load_section(name: str, key: str) -> Any:
    """Return the value of one top-level key of a file whose sections share no anchors. A recording needs few sections
    of a large file, and parsing the rest takes longer than a short command. Callers must not modify it."""
    return yaml.load(_sections(name)[key], Loader=_Loader)[key]
