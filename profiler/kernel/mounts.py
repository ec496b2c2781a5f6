"""Which calls change the mount tree, and how. The data is in mounts.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from profiler.kernel.data import load

_MAGIC_MASK, _MAGIC = 0xFFFF0000, 0xC0ED0000  # MS_MGC_MSK, MS_MGC_VAL: removed by fs/namespace.c path_mount


@dataclass(frozen=True)
class MountCall:
    """The argument positions of a call that changes the mount tree.

    ``source`` and ``target`` are texts, ``*_at`` the directory descriptor that each starts from, if any; ``filesystem``
    is the name of the type, ``flags`` the flags, and ``words`` the table of their names.
    """

    source: int | None = None
    source_at: int | None = None
    target: int | None = None
    target_at: int | None = None
    filesystem: int | None = None
    flags: int | None = None
    words: str = ""


@cache
def _data() -> tuple[dict[str, MountCall], dict[str, dict[str, int]]]:
    rows = load("mounts.yaml")
    return {name: MountCall(**row) for name, row in rows["calls"].items()}, rows["flags"]


def mount_calls() -> dict[str, MountCall]:
    """Return, by syscall name, the positions of its arguments."""
    return _data()[0]


def operation(call: str, flags: int) -> tuple[str, tuple[str, ...]] | None:
    """Return (word of trace.model.Mount.operation, sorted flag names) of a call with these flags; None if it changes no
    mount.

    The order of the tests is that of path_mount (fs/namespace.c).
    """
    row = mount_calls()[call]
    words = _data()[1].get(row.words, {})
    if call != "mount":
        if call == "open_tree" and not flags & words["clone"]:
            return None  # opens a path, as O_PATH does
        return "umount" if call == "umount2" else call, _names(words, flags)
    if flags & _MAGIC_MASK == _MAGIC:
        flags &= ~_MAGIC_MASK
    names = _names(words, flags & ~words["silent"])
    for bits, word in (
        (words["remount"], "remount"),
        (words["bind"], "rbind" if flags & words["rec"] else "bind"),
        (words["shared"] | words["private"] | words["slave"] | words["unbindable"], "propagation"),
        (words["move"], "move"),
    ):
        if flags & bits:
            return word, names
    return "mount", names


def source_is_path(word: str) -> bool:
    """Return whether the source of an operation is a path in the mount tree, which must be resolved, and not a name."""
    return word in {"bind", "rbind", "move", "pivot_root", "move_mount", "open_tree"}


def source_matters(word: str) -> bool:
    """Return whether the kernel uses the source (and the type) of an operation at all (mount(2))."""
    return word not in {"remount", "propagation"}


def _names(words: dict[str, int], flags: int) -> tuple[str, ...]:
    known = sorted(name for name, bit in words.items() if flags & bit == bit)
    rest = flags
    for name in known:
        rest &= ~words[name]
    return (*known, *((hex(rest),) if rest else ()))
