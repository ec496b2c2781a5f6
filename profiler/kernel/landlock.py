"""What Landlock can refuse (landlock.yaml)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import cache

from profiler.confinement import Right
from profiler.kernel.data import load


@cache
def rights(group: str) -> tuple[Right, ...]:
    """Return the rights of ``files``, ``network`` or ``scopes``."""
    data = load("landlock.yaml")
    return tuple(
        Right(name, 1 << row["bit"], row["abi"], data["abis"][row["abi"]], row.get("file", False))
        for name, row in data[group].items()
    )


def in_order(names: Collection[str]) -> tuple[str, ...]:
    """Return names of rights of files in the kernel's order."""
    return tuple(right.name for right in rights("files") if right.name in names)


def of_object(access: Iterable[str], kinds: Collection[str]) -> frozenset[str]:
    """Return the rights that uses of a file need of the file itself. ``kinds``: what it may be, empty for anything."""
    data = load("landlock.yaml")
    found: set[str] = set()
    anything = not kinds or "unknown" in kinds
    for word in access:
        if anything or "directory" in kinds:
            found.update(data["of_directories"].get(word, ()))
        if anything or set(kinds) - {"directory", "symlink"}:
            found.update(data["of_files"].get(word, ()))
    return frozenset(found)


def of_name(access: Iterable[str], kinds: Collection[str]) -> frozenset[str]:
    """Return the rights that uses of a file need of the directory with its name."""
    data = load("landlock.yaml")
    makes = data["makes"]
    known = set(makes) if not kinds or "unknown" in kinds else set(kinds)
    found: set[str] = set()
    for word in access:
        for right in data["of_names"].get(word, ()):
            if right == "MAKE":
                # open(2) with O_CREAT makes regular files and opens others.
                found.update({makes[kind] for kind in known} if word != "create" else {makes["file"]} & _made(known))
            elif right == "REMOVE":
                found.update("remove_dir" if kind == "directory" else "remove_file" for kind in known)
            else:
                found.add(right)
    return frozenset(found)


def _made(kinds: Collection[str]) -> set[str]:
    return {load("landlock.yaml")["makes"][kind] for kind in kinds}


def is_loader(name: str) -> bool:
    """Return whether a file's name is that of a dynamic loader."""
    return re.fullmatch(load("landlock.yaml")["loader"], name) is not None
