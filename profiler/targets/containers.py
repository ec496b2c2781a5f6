"""What run commands, Compose files and units of container engines say alike."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from profiler.policy.caveats import extent
from profiler.policy.model import Policy
from profiler.policy.posture import Device, Posture, posture
from profiler.quoting.shell import shell
from profiler.targets.base import Loss, OneOf, Request, Setting

ARTIFACTS = frozenset({"seccomp", "apparmor"})
"""What engines name."""

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
"""Names that compose takes as they are, also within a variable's default, and that no engine takes for an option."""

READ_ONLY = Setting(
    "read-only",
    "mount the root read-only: yes, no, or auto (yes if the recording shows that it works)",
    "WHEN",
    "auto",
    OneOf("auto", "yes", "no"),
)


def values(request: Request) -> dict[str, Any]:
    """Return what templates say about the workload and its confinement.

    ``temporary``: directories that become memory, with whether programs in them are executed; ``kept``: those that
    become volumes. ``devices``: those that an engine can give.
    """
    policy = request.policy
    work, stance, read_only = policy.workload, posture(policy), READ_ONLY.of(request)
    apparmor = request.artifacts.get("apparmor")
    return {
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
        "read_only": read_only == "yes" or (read_only == "auto" and stance.read_only),
        "devices": [(row.path, row.access.replace("m", "")) for row in stance.devices if _given(row)],
        "tasks": stance.tasks,
        "unprivileged_port": stance.unprivileged_port,
        "capabilities": [name.removeprefix("CAP_") for name in policy.needed()],
        "no_new_privs": policy.no_new_privs,
        "apparmor": apparmor.called if apparmor else None,
    }


def _given(device: Device) -> bool:
    """Return whether an engine gives the device by its path. One that the workload makes itself is not on the host."""
    return device.path.startswith("/dev/") and "m" not in device.access and ":" not in device.path


def losses(policy: Policy, *, ambient: bool) -> Iterator[Loss]:
    """Yield what an engine's options do not express. ``ambient``: the engine gives added capabilities to users other
    than root too."""
    if policy.workload.uid and not ambient:
        yield from _without_root(policy)
    yield from _devices(posture(policy))


def _without_root(policy: Policy) -> Iterator[Loss]:
    why = "the engine gives capabilities to root only; another user has them in programs with file capabilities alone"
    for name in policy.needed():
        yield Loss("capabilities", name, why, "refused")


def _devices(stance: Posture) -> Iterator[Loss]:
    for pattern in stance.device_patterns:
        yield Loss("files", pattern, "devices are given by their names: add each with --device", "refused")
    for row in stance.devices:
        if not _given(row) and row.access != "m":
            yield Loss("files", row.path, "no option gives a device that is not below /dev of the host", "refused")
