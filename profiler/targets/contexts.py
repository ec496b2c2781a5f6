"""SELinux contexts of processes, as launchers write them."""

from __future__ import annotations

import re

from profiler.errors import InputError
from profiler.targets.base import Request, Setting

_CONTEXT = re.compile(r"[\w.-]+:[\w.-]+:[\w.-]+(:[\w.,:-]+)?", re.ASCII)


def parse(text: str) -> str:
    """Return the context. Raises InputError for a text that is not one."""
    if not _CONTEXT.fullmatch(text):
        raise InputError("write it as USER:ROLE:TYPE or USER:ROLE:TYPE:LEVEL, such as system_u:system_r:container_t:s0")
    return text


def setting(name: str, whose: str) -> Setting[str]:
    """Return a setting of a launcher that gives the context. ``whose``: of the process, of the container."""
    return Setting(name, f"the SELinux context of the {whose}; default: the file's own", "LABEL", "", parse)


def of_process(type_: str) -> str:
    """Return the context of a process with a type. A policy without MLS ignores the level."""
    return f"system_u:system_r:{type_}:s0"


def wanted(request: Request, given: str = "") -> str:
    """Return the context to write: the given one, or one with the type that was made; empty for none."""
    made = request.artifacts.get("selinux")
    return given or (of_process(made.called) if made else "")
