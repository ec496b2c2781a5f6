"""The tables of targets in the documentation, as the interface gives them.

``python -m unit.targets.tables`` from tests/ prints them, to be pasted.
"""

from __future__ import annotations

from collections.abc import Sequence

from profiler.targets import catalogue
from profiler.targets.base import SECTIONS


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    cells = [heads, ["---"] * len(heads), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells).replace("| --- ", "|---").replace("---| |", "---|\n|")


def summaries() -> str:
    """For the README."""
    return table(["target", "files, and who reads them"], [[f"`{row.name}`", row.summary] for row in catalogue.TARGETS])


def targets() -> str:
    """For docs/targets.md."""
    return table(
        ["target", "sort", "expresses", "names"],
        [
            [
                f"`{row.name}`",
                "launcher" if row.launches else "artifact",
                ", ".join(section for section in SECTIONS if section in row.says),
                ", ".join(sorted(row.launches.names)) if row.launches else "",
            ]
            for row in catalogue.TARGETS
        ],
    )


def settings() -> str:
    """For docs/targets.md."""
    return table(
        ["option", "meaning"],
        [
            [f"`{row.name}.{setting.name}={setting.metavar}`", setting.help]
            for row in catalogue.TARGETS
            for setting in row.settings
        ],
    )


if __name__ == "__main__":
    print(summaries(), targets(), settings(), sep="\n")
