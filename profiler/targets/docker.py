"""docker-run.sh and compose.yaml: the options that make Docker, Podman or nerdctl use the profile."""

from __future__ import annotations

import re
import shlex

from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.targets.base import File, Launches, Output, Request, Step, Target, written

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
"""Names that compose takes as they are, also within a variable's default."""


class Docker(Target):
    """Docker and the engines with its options."""

    name = "docker"
    summary = "docker-run.sh and compose.yaml: Docker and engines with its options, such as Podman and nerdctl"
    says = frozenset({"capabilities", "no_new_privs"})
    launches = Launches(
        engines=frozenset({"docker", "podman", "nerdctl"}),
        names=frozenset({"seccomp", "apparmor"}),
        requires=frozenset({"seccomp"}),
    )

    def render(self, request: Request) -> Output:
        """See Target.render."""
        workload = request.policy.workload
        apparmor = request.artifacts.get("apparmor")
        values = {
            "command": shlex.join(workload.argv),
            "uid": workload.uid,
            "no_new_privs": request.policy.no_new_privs,
            "apparmor": apparmor.called if apparmor else None,
            "image": workload.image,
            "plain_image": workload.image if workload.image and _IMAGE.fullmatch(workload.image) else None,
            "digest": workload.digest,
            "joined": workload.joined,
            "capabilities": [name.removeprefix("CAP_") for name in request.policy.needed()],
        }
        needs = (request.artifacts["seccomp"].called,)
        script = File("docker-run.sh", request.template("docker-run.sh.j2", **values), executable=True, needs=needs)
        service = File("compose.yaml", request.template("compose.yaml.j2", **values), needs=needs)
        start = Step("use", f"{written(script.name)} {shell(printable(workload.image or 'IMAGE'))}")
        return Output((script, service), usage=(start,))
