"""Read data files in YAML, each of them once.

Parsing them takes as long as a short command. So what a file holds is kept as Python keeps compiled modules: in
``__pycache__`` next to it, until the file changes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

_SUFFIX = ".py"
"""What is appended to a data file's path for Python, which derives the name of the compiled file from it."""


class _Compiler(SourceFileLoader):
    """Compiles a data file, or one of its sections, to an expression."""

    def __init__(self, path: Path, section: str | None = None) -> None:
        self._path = path
        self._section = section
        super().__init__(path.name, f"{path}{'' if section is None else f'-{section}'}{_SUFFIX}")

    def value(self) -> Any:
        """Return what the file holds."""
        code = self.get_code(self.name)
        assert code is not None
        return eval(code, {})

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """See importlib.abc.SourceLoader."""
        status = os.stat(self._path)
        return {"mtime": status.st_mtime, "size": status.st_size}

    def get_data(self, path: str) -> bytes:
        """See importlib.abc.ResourceLoader."""
        if path != self.path:
            return super().get_data(path)  # the compiled file
        if self._section is None:
            return self._path.read_bytes()
        # As long as the file: Python compares this size with that of path_stats.
        return _sections(self._path)[self._section].encode().ljust(self._path.stat().st_size, b"\n")

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:  # type: ignore[override]
        """See importlib.abc.InspectLoader."""
        import yaml

        return compile(repr(yaml.load(data, getattr(yaml, "CSafeLoader", yaml.SafeLoader))), path, "eval")


@cache
def load(name: str, module: str = __file__) -> Any:
    """Return the content of the data file next to a module's file, by default in this package.

    Its values have literals in Python: no dates. Callers must not modify it.
    """
    return _Compiler(Path(module).with_name(name)).value()


@cache
def _sections(path: Path) -> dict[str, str]:
    """Return the text of each top-level key of a data file."""
    text = path.read_text(encoding="utf-8")
    return {section.partition(":")[0]: section for section in re.split(r"^(?=\w)", text, flags=re.MULTILINE)}


@cache
def load_section(name: str, key: str) -> Any:
    """Return the value of one top-level key of a file of this package whose sections share no anchors. A recording
    needs few sections of a large file. Callers must not modify it."""
    return _Compiler(Path(__file__).with_name(name), key).value()[key]
