"""What calls do to the mount tree (mounts.yaml)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from profiler.kernel.data import load

_MAGIC_MASK, _MAGIC = 0xFFFF0000, 0xC0ED0000  # MS_MGC_MSK, MS_MGC_VAL: removed by fs/namespace.c path_mount


@dataclass(frozen=True)
class MountCall:
    """Positions of a call's arguments.

    ``source`` and ``target`` are texts, each with the position of the directory descriptor that it starts from, if any.
    ``filesystem`` is the name of the type. ``words`` is the table with the names of ``flags``.
    """

    source: int | None = None
    source_at: int | None = None
    target: int | None = None
    target_at: int | None = None
    filesystem: int | None = None
    flags: int | None = None
    words: str = ""


@dataclass(frozen=True)
class MountUse:
    """What one call does to the mount tree: a word of Mount.operation (trace/model.py) and the names of its flags."""

    operation: str
    flags: tuple[str, ...]

    @property
    def has_source(self) -> bool:
        """Whether the kernel looks at the source (mount(2))."""
        return self.operation not in ("remount", "propagation")

    @property
    def source_is_path(self) -> bool:
        """Whether the source is a path of the mount tree, to be resolved. That of a new file system is only a name."""
        return self.has_source and self.operation != "mount"

    @property
    def has_filesystem(self) -> bool:
        """Whether the kernel looks at the type of the file system."""
        return self.operation in ("mount", "fsopen")

    @property
    def follows_source(self) -> bool:
        """Whether a symbolic link at the end of the source is followed."""
        return self._follows("f_symlinks")

    @property
    def follows_target(self) -> bool:
        """Whether a symbolic link at the end of the target is followed."""
        return self._follows("t_symlinks")

    def _follows(self, told: str) -> bool:
        if self.operation == "move_mount":  # follows only when a flag says so
            return told in self.flags
        return not {"symlink_nofollow", "nofollow"} & set(self.flags)


@cache
def _data() -> tuple[dict[str, MountCall], dict[str, dict[str, int]]]:
    rows = load("mounts.yaml")
    return {name: MountCall(**row) for name, row in rows["calls"].items()}, rows["flags"]


@cache
def restricting_flags() -> frozenset[str]:
    """Return the flags that only restrict a mount further."""
    return frozenset(load("mounts.yaml")["restricting"])


def mount_calls() -> dict[str, MountCall]:
    """Return the positions of the arguments of each call, by syscall name."""
    return _data()[0]


@dataclass(frozen=True)
class FileSystems:
    """``seen_at``: the type of a file system whose files the kernel makes, and where the same names can be seen.
    ``empty``: types that hold only what was made in them. ``local``: types without a server. ``still``: types with a
    server that need not be asked for what the kernel has cached; a subtype such as fuse.sshfs counts as its type."""

    seen_at: Mapping[str, str]
    empty: frozenset[str]
    local: frozenset[str]
    still: frozenset[str]


@cache
def file_systems() -> FileSystems:
    """Return what is known of types of file systems."""
    row = load("mounts.yaml")["file_systems"]
    return FileSystems(row["seen_at"], *(frozenset(row[name]) for name in ("empty", "local", "still")))


def mount_use(call: str, flags: int) -> MountUse | None:
    """Return what a call with these flags does; None when it changes no mount. Flags without a name are one
    hexadecimal number among the names.

    The order of the checks is path_mount's (fs/namespace.c).
    """
    row = mount_calls()[call]
    flags &= 0xFFFFFFFF  # an int; of the long of mount(2), the kernel looks at no more
    words = _data()[1].get(row.words, {})
    if call != "mount":
        if call == "open_tree" and not flags & words["clone"]:
            return None  # opens, as O_PATH does
        return MountUse("umount" if call == "umount2" else call, _names(words, flags))
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
            return MountUse(word, names)
    return MountUse("mount", names)


def _names(words: dict[str, int], flags: int) -> tuple[str, ...]:
    known = sorted(name for name, bit in words.items() if flags & bit == bit)
    rest = flags
    for name in known:
        rest &= ~words[name]
    return (*known, *((hex(rest),) if rest else ()))
