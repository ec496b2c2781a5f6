"""docker-run.sh and compose.yaml: the options that make Docker, Podman or nerdctl use the profile."""

from __future__ import annotations

import re
from typing import Any

from profiler.policy.caveats import extent
from profiler.policy.launch import Written, listened, written
from profiler.policy.model import Launch, Policy
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.targets.base import File, Launches, Loss, OneOf, Output, Request, Setting, Step, Target
from profiler.targets.base import written as written_path
from profiler.wording import UNKNOWN

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
    """Return what the templates say about the workload. ``sure``: it was recorded in a container, so what is known
    about it holds in a container."""
    work, launch = policy.workload, policy.workload.launch
    places = written(policy)
    temporary = [*(places.temporary if places else ()), *_tmpfs(launch)]
    # --tmpfs has no way to write a colon.
    kept = [*(places.kept if places else ()), *(path for path, _ in temporary if ":" in path)]
    temporary = [(path, executed) for path, executed in temporary if ":" not in path]
    command = launch.command or (() if work.joined or UNKNOWN in work.argv else work.argv)
    return {
        "argv": " ".join(map(shell, work.argv)),
        "extent": extent(work),
        "uid": work.uid,
        "image": work.image,
        "plain_image": work.image if work.image and _IMAGE.fullmatch(work.image) else None,
        "digest": work.digest,
        "joined": work.joined,
        "sure": work.image is not None,
        "engine": launch.engine if launch.engine in Docker.launches.engines else "docker",
        "command": command,
        "user": launch.user,
        "directory": launch.directory,
        "network": launch.network,
        "ports": [f"{port}:{port}/{protocol}" for port, protocol in listened(policy)],
        "volumes": sorted({row.source for row in launch.mounts if row.kind == "volume" and row.source}),
        "mounts": [
            {"row": row, "text": _mount(row.kind, row.destination, row.source, row.read_only)}
            for row in launch.mounts
            if row.kind != "tmpfs"
        ],
        "elsewhere": None if places is None else places.elsewhere,
        "temporary": [path + (":exec" if executed else "") for path, executed in temporary],
        "kept": [_mount("volume", path) for path in kept],
        "kept_paths": kept,
        "read_only": read_only == "yes" or (read_only == "auto" and _would_do(policy, places)),
    }


def _would_do(policy: Policy, places: Written | None) -> bool:
    """Return whether a root that cannot be written is known to do: it was recorded in a container, with such a root, or
    writing nothing but what may be empty at each start."""
    if places is None or policy.workload.image is None or policy.workload.incomplete:
        return False
    return policy.workload.launch.read_only or not (places.kept or places.elsewhere)


def _tmpfs(launch: Launch) -> list[tuple[str, bool]]:
    return [(row.destination, False) for row in launch.mounts if row.kind == "tmpfs" and not row.read_only]


def _mount(kind: str, target: str, source: str = "", read_only: bool = False) -> str:
    """Return the value of ``docker run --mount``: comma-separated values, quoted as in RFC 4180."""
    words = [f"type={kind}", *([f"source={source}"] if source else []), f"target={target}"]
    words += ["readonly"] if read_only else []
    return ",".join('"' + word.replace('"', '""') + '"' if set(word) & set(',"\n\r') else word for word in words)
