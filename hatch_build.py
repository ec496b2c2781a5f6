"""The build hook: a wheel gets manual pages, made from the commands."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualPages(BuildHookInterface):  # type: ignore[type-arg]
    """Put the pages into share/man/man1 of the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the pages, unless the wheel only points at this checkout."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from profiler.cli.manual import write

        self._directory = tempfile.TemporaryDirectory()
        for path in write(Path(self._directory.name)):
            build_data["shared_data"][str(path)] = f"share/man/man1/{path.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove them."""
        if version != "editable":
            self._directory.cleanup()
