"""docker-run.sh and compose.yaml: the options that make Docker, Podman or nerdctl use the profile."""

from __future__ import annotations

import re
from typing import Any

from profiler.policy.caveats import extent
from profiler.policy.model import Policy
from profiler.policy.posture import posture
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.targets.base import File, Launches, Loss, OneOf, Output, Request, Setting, Step, Target
from profiler.targets.base import written as written_path

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
"""Names that compose takes as they are, also within a variable's default, and that no engine takes for an option."""

READ_ONLY = Setting(
    "read-only",
    "mount the root read-only: yes, no, or auto (yes if the recording shows that it works)",
    "WHEN",
    "auto",
    OneOf("auto", "yes", "no"),
)


class Docker(Target):
    """Docker and the engines with its options."""

    name = "docker"
    summary = "docker-run.sh and compose.yaml: Docker and engines with its options, such as Podman and nerdctl"
    says = frozenset({"capabilities", "no_new_privs"})
    settings = (READ_ONLY,)
    launches = Launches(
        engines=frozenset({"docker", "podman", "nerdctl"}),
        names=frozenset({"seccomp", "apparmor"}),
        requires=frozenset({"seccomp"}),
    )

    def render(self, request: Request) -> Output:
        """See Target.render."""
        policy = request.policy
        apparmor = request.artifacts.get("apparmor")
        capabilities = [name.removeprefix("CAP_") for name in policy.needed()]
        values = {
            "no_new_privs": policy.no_new_privs,
            "apparmor": apparmor.called if apparmor else None,
            "capabilities": capabilities,
            **_recorded(policy, READ_ONLY.of(request)),
        }
        needs = (request.artifacts["seccomp"].called,)
        script = File("docker-run.sh", request.template("docker-run.sh.j2", **values), executable=True, needs=needs)
        service = File("compose.yaml", request.template("compose.yaml.j2", **values), needs=needs)
        why = "Docker gives capabilities to root only; another user has them in programs with file capabilities alone"
        losses = [Loss("capabilities", f"CAP_{name}", why, "refused") for name in capabilities if policy.workload.uid]
        start = Step("use", f"{written_path(script.name)} {shell(printable(policy.workload.image or 'IMAGE'))}")
        return Output((script, service), tuple(losses), (start,))


def _recorded(policy: Policy, read_only: str) -> dict[str, Any]:
    """Return what the templates say about the workload."""
    work, stance = policy.workload, posture(policy)
    # --tmpfs has no way to write a colon.
    kept = [*stance.kept, *(row.path for row in stance.temporary if ":" in row.path)]
    temporary = [row for row in stance.temporary if ":" not in row.path]
    return {
        "argv": " ".join(map(shell, work.argv)),
        "extent": extent(work),
        "uid": work.uid,
        "image": work.image,
        "plain_image": work.image if work.image and _IMAGE.fullmatch(work.image) else None,
        "digest": work.digest,
        "joined": work.joined,
        "sure": stance.sure,
        "engine": work.launch.engine if work.launch.engine in Docker.launches.engines else "docker",
        "command": stance.command,
        "user": stance.user,
        "directory": stance.directory,
        "network": stance.network,
        "ports": [f"{port}:{port}/{protocol}" for port, protocol in stance.ports],
        "volumes": sorted({row.source for row in stance.mounts if row.kind == "volume" and row.source}),
        "mounts": [
            {"row": row, "text": _mount(row.kind, row.destination, row.source, row.read_only)} for row in stance.mounts
        ],
        "elsewhere": stance.elsewhere,
        "temporary": [row.path + (":exec" if row.executed else "") for row in temporary],
        "kept": [_mount("volume", path) for path in kept],
        "kept_paths": kept,
        "read_only": read_only == "yes" or (read_only == "auto" and stance.read_only),
    }


def _mount(kind: str, target: str, source: str = "", read_only: bool = False) -> str:
    """Return the value of ``docker run --mount``: comma-separated values, quoted as in RFC 4180."""
    words = [f"type={kind}", *([f"source={source}"] if source else []), f"target={target}"]
    words += ["readonly"] if read_only else []
    return ",".join('"' + word.replace('"', '""') + '"' if set(word) & set(',"\n\r') else word for word in words)
