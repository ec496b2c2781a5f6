"""Read user_namespaces.yaml: what a process in a user namespace cannot do, whatever capabilities it holds there."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from profiler.kernel.data import load


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = load("user_namespaces.yaml")
    return data


def only_initial() -> Mapping[str, str]:
    """Return the capabilities that count only in the initial user namespace, and what needs each of them."""
    found: Mapping[str, str] = _data()["capabilities"]
    return found


def can_be_mounted(filesystem: str) -> bool:
    """Return whether a file system of this type can be mounted in a user namespace; those of fuse have subtypes."""
    return filesystem.partition(".")[0] in _data()["filesystems"]


def mapped_ids() -> int:
    """Return the number of user and group ids that the usual mapping of a container has, from 0 on."""
    number: int = _data()["ids"]
    return number
