"""The options of ``profgen record``, as one object for each group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profiler.engines.pods import Selector


@dataclass(frozen=True)
class RecordOptions:
    """How to record. ``snapshot``: seconds between writing. ``limits``: as in tracers.base.Options."""

    tracer: str
    limits: dict[str, int]
    allow_loss: bool
    wait: bool
    snapshot: float | None
    merge_restarts: bool
    metrics: str | None
    live: bool


@dataclass(frozen=True)
class SubjectOptions:
    """What to watch instead of a command; at most one of these is given, but any number of containers.

    ``pods``: of all containers, those in pods that one of these selects.
    """

    image: str | None
    container: tuple[str, ...]
    pid: int | None
    cgroup: str | None
    unit: str | None
    all_containers: bool
    pods: tuple[Selector, ...] = ()

    @property
    def given(self) -> list[str]:
        """The options that are given, as they are typed."""
        named = {name: value for name, value in vars(self).items() if name != "pods"}
        return [f"--{name.replace('_', '-')}" for name, value in named.items() if value not in (None, False, ())]
