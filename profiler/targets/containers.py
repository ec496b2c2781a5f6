"""What run commands, Compose files and units of container engines say alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from profiler.policy.caveats import extent
from profiler.policy.posture import Device, Posture, posture
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.targets.base import Loss, OneOf, Request, Setting, yes_or_no

ARTIFACTS = frozenset({"seccomp", "apparmor", "selinux"})
"""What engines name."""
WITHOUT_TYPES = ARTIFACTS - {"selinux"}
"""What engines name that have no option for a type of SELinux."""

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
"""Names that compose takes as they are, also within a variable's default, and that no engine takes for an option."""

READ_ONLY = Setting(
    "read-only",
    "mount the root read-only: yes, no, or auto (yes if the recording shows that it works)",
    "WHEN",
    "auto",
    OneOf("auto", "yes", "no"),
)

LOOSEN = Setting("loosen", "let the policy allow what your file forbids so far", "yes|no", False, yes_or_no)


def values(request: Request) -> dict[str, Any]:
    """Return what templates say about the workload and its confinement.

    ``temporary``: directories that become memory, with whether programs in them are executed; ``kept``: those that
    become volumes. ``devices``: those that an engine can give.
    """
    policy = request.policy
    work, stance = policy.workload, posture(policy)
    apparmor, selinux = request.artifacts.get("apparmor"), request.artifacts.get("selinux")
    return {
        "seccomp": request.artifacts["seccomp"].called,
        "argv": " ".join(map(shell, work.argv)),
        "extent": extent(work),
        "uid": work.uid,
        "image": work.image,
        "plain_image": work.image if work.image and _IMAGE.fullmatch(work.image) else None,
        "digest": work.digest,
        "joined": work.joined,
        "sure": stance.sure,
        "command": stance.command,
        "user": stance.user,
        "directory": stance.directory,
        "network": stance.network,
        "ports": [f"{port}:{port}/{protocol}" for port, protocol in stance.ports],
        "volumes": sorted({row.source for row in stance.mounts if row.kind == "volume" and row.source}),
        "mounts": stance.mounts,
        "elsewhere": stance.elsewhere,
        # --tmpfs has no way to write a colon.
        "temporary": [row for row in stance.temporary if ":" not in row.path],
        "kept": [*stance.kept, *(row.path for row in stance.temporary if ":" in row.path)],
        "dev_written": stance.dev_written,
        "read_only": is_read_only(request, stance),
        "devices": [(row.path, row.access.replace("m", "")) for row in stance.devices if _given(row)],
        "tasks": stance.tasks,
        "unprivileged_port": stance.unprivileged_port,
        "capabilities": list(map(capability, policy.needed())),
        "no_new_privs": policy.no_new_privs,
        "apparmor": apparmor.called if apparmor else None,
        "apparmor_file": apparmor.file if apparmor else None,
        "selinux": selinux.called if selinux else None,
    }


def _given(device: Device) -> bool:
    """Return whether an engine gives the device by its path. One that the workload makes itself is not on the host."""
    return device.path.startswith("/dev/") and "m" not in device.access and ":" not in device.path


def losses(request: Request, *, ambient: bool) -> Iterator[Loss]:
    """Yield what an engine's options do not express. ``ambient``: the engine gives added capabilities to users other
    than root too."""
    policy = request.policy
    stance = posture(policy)
    if policy.workload.uid and not ambient:
        yield from without_root(policy.needed())
    if is_read_only(request, stance):
        yield from moves_lost(stance)
    yield from device_losses(stance)


def is_read_only(request: Request, stance: Posture) -> bool:
    """Return whether the root of a container is made read-only."""
    wish = READ_ONLY.of(request)
    return wish == "yes" or (wish == "auto" and stance.read_only)


def without_root(names: Iterable[str]) -> Iterator[Loss]:
    """Yield the capabilities, as what a user other than root does not get."""
    why = "the engine gives capabilities to root only; another user has them in programs with file capabilities alone"
    for name in names:
        yield Loss("capabilities", name, why, "refused")


def capability(name: str) -> str:
    """Return the name as engines write it, without ``CAP_``."""
    return name.upper().removeprefix("CAP_")


def permitted(
    needed: Iterable[str], add: Iterable[str], drop: Iterable[str], option: str | None
) -> tuple[list[str], list[Loss]]:
    """Return the capabilities of the policy that a user's file does not drop, and a loss for each other one.

    ``add`` and ``drop``: those of the file, in any spelling; ``option``: what would allow them, None where it is given.
    """
    wanted = list(map(capability, needed))
    given, dropped = set(map(capability, add)), set(map(capability, drop))
    forbidden = [name for name in wanted if name in dropped or ("ALL" in dropped and name not in given)]
    if option is None:
        return wanted, []
    why = f"your file drops it; to allow it: -O {option}"
    losses = [Loss("capabilities", f"CAP_{name}", why, "refused") for name in forbidden]
    return [name for name in wanted if name not in forbidden], losses


def moves_lost(stance: Posture) -> Iterator[Loss]:
    """Yield the moves that fail under a root that cannot be written."""
    for source, target in stance.apart:
        what = f"moving files between {printable(source)} and {printable(target)}"
        why = "the root is read-only, and each of the two is a mount of its own (EXDEV): mount one directory for both"
        yield Loss("files", what, why, "refused")


def device_losses(stance: Posture) -> Iterator[Loss]:
    """Yield the devices that no option of an engine gives."""
    for pattern in stance.device_patterns:
        yield Loss("files", pattern, "devices are given by their names: add each with --device", "refused")
    for row in stance.devices:
        if not _given(row) and row.access != "m":
            yield Loss("files", row.path, "no option gives a device that is not below /dev of the host", "refused")
