"""containerd-run.sh: the options of ``ctr run``.

containerd reads the seccomp profile as plain OCI JSON: it needs both --seccomp and --seccomp-profile, and ignores
Docker's conditions (contrib/seccomp, WithProfile).
"""

from __future__ import annotations

import re

from profiler.kernel.data import load
from profiler.policy.caveats import extent
from profiler.policy.model import Policy
from profiler.policy.posture import Posture, posture
from profiler.quoting.csv import csv
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.targets.base import File, Launches, Loss, Output, Request, Step, Target, written
from profiler.targets.containers import READ_ONLY, WITHOUT_TYPES, is_read_only, moves_lost

SCRIPT = "containerd-run.sh"

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")


class Containerd(Target):
    """containerd through its own client."""

    name = "containerd"
    summary = "containerd-run.sh: containerd, through ctr"
    says = frozenset({"capabilities", "no_new_privs"})
    settings = (READ_ONLY,)
    launches = Launches(engines=frozenset({"ctr"}), names=WITHOUT_TYPES, requires=frozenset({"seccomp"}))

    def render(self, request: Request) -> Output:
        """See Target.render."""
        policy = request.policy
        stance = posture(policy)
        apparmor = request.artifacts.get("apparmor")
        needed = policy.needed()
        given = load("docker_default.yaml")["capabilities"]
        read_only = is_read_only(request, stance)
        image = _reference(policy.workload.image)
        values = {
            "workload": policy.workload,
            "argv": " ".join(map(shell, policy.workload.argv)),
            "extent": extent(policy.workload),
            "stance": stance,
            "image": image,
            "apparmor": apparmor.called if apparmor else None,
            "dropped": [name for name in given if name not in needed],
            "added": [name for name in needed if name not in given],
            "no_new_privs": policy.no_new_privs,
            "read_only": read_only,
            "temporary": [_tmpfs(row.path, row.executed) for row in stance.temporary],
            "mounts": [
                _bind(row.source, row.destination, row.read_only) for row in stance.mounts if row.kind == "bind"
            ],
            "missing": [*stance.kept, *(row.destination for row in stance.mounts if row.kind != "bind")],
        }
        needs = (request.artifacts["seccomp"].called,)
        script = File(SCRIPT, request.template("containerd-run.sh.j2", **values), executable=True, needs=needs)
        start = Step("use", f"{written(SCRIPT)} --rm {shell(image or 'IMAGE')} NAME")
        return Output((script,), (*(moves_lost(stance) if read_only else ()), *_losses(policy, stance)), (start,))


def _losses(policy: Policy, stance: Posture) -> list[Loss]:
    why = "ctr gives capabilities to root only; another user has them in programs with file capabilities alone"
    losses = [Loss("capabilities", name, why, "refused") for name in policy.needed() if policy.workload.uid]
    why = "ctr gives a device with all accesses"
    losses += [Loss("files", printable(row.path), why) for row in stance.devices if row.access != "rwm"]
    why = "the name of the device is not known: add --device"
    losses += [Loss("files", printable(pattern), why, "refused") for pattern in stance.device_patterns]
    return losses


def _reference(image: str | None) -> str | None:
    """Return the name of an image as containerd keeps it: with its registry and a tag. None for one that a script
    cannot hold as it is."""
    if image is None or not _IMAGE.fullmatch(image):
        return None
    host, slash, _ = image.partition("/")
    if not slash:
        image = f"docker.io/library/{image}"
    elif "." not in host and ":" not in host and host != "localhost":
        image = f"docker.io/{image}"
    return image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"


def _tmpfs(path: str, executed: bool) -> str:
    options = ["nosuid", "nodev", *(() if executed else ("noexec",)), "mode=1777"]
    return csv(["type=tmpfs", "src=tmpfs", f"dst={path}", f"options={':'.join(options)}"])


def _bind(source: str, destination: str, read_only: bool) -> str:
    return csv(["type=bind", f"src={source}", f"dst={destination}", f"options=rbind:{'ro' if read_only else 'rw'}"])
