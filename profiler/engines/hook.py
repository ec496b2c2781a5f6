"""The input of an OCI hook, and the name in its annotation (runtime-spec, config.md and runtime.md)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiler.engines import bundle
from profiler.errors import InputError
from profiler.trace.model import Container

ANNOTATION = "io.profgen.record"

STATE_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class State:
    """A container that is being made. ``record``: the value of the annotation, None without it. ``bundle``: the
    directory with its config.json."""

    identity: str
    pid: int
    record: str | None
    bundle: str | None = None


def state(text: bytes) -> State:
    """Return the state that a runtime writes to a hook's standard input. Raises InputError."""
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"a hook reads the state of a container on its standard input, and this is not JSON: {str(error)[:100]}"
        ) from error
    if not isinstance(data, dict) or not isinstance(identity := data.get("id"), str) or not identity:
        raise InputError("a hook reads the state of a container on its standard input, and this does not name one")
    pid = data.get("pid")
    annotations = data.get("annotations")
    wanted = annotations.get(ANNOTATION) if isinstance(annotations, dict) else None
    bundle = data.get("bundle")
    return State(
        identity,
        pid if type(pid) is int and pid > 0 else 0,
        wanted if isinstance(wanted, str) else None,
        bundle if isinstance(bundle, str) and bundle.startswith("/") else None,
    )


def container(state: State) -> Container:
    """Return what the container's bundle says of it, for runtimes whose engine cannot be asked."""
    found = None if state.bundle is None else bundle.read(state.identity, state.bundle)
    return Container(None, None, state.identity, None) if found is None else found.container


def chosen_name(wanted: str, directory: Path) -> str:
    """Return the name that the annotation chooses for a trace, without ``.trace.json`` or ``.json``. Raises InputError.

    A user who may annotate a container may not write files as root, so the file must be directly in ``directory``; it
    is named by its path or by its name. The text is a stranger's: watch.outputs makes a file name of it.
    """
    name = wanted.removeprefix(f"{directory}/")
    if not name or "/" in name or name.startswith(".") or "\0" in name or len(os.fsencode(name)) > 200:
        raise InputError(
            f"{ANNOTATION} is {wanted[:200]!a}: it must name a file in {directory}, such as {directory}/web.trace.json"
        )
    return name.removesuffix(".json").removesuffix(".trace")
