"""docker-run.sh, podman-run.sh and nerdctl-run.sh: run commands with the options that confine a container."""

from __future__ import annotations

from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.targets.base import File, Launches, Output, Request, Step, Target, written
from profiler.targets.containers import ARTIFACTS, READ_ONLY, WITHOUT_TYPES, losses, values


class RunCommand(Target):
    """The run command of one engine. ``ambient``: see :func:`profiler.targets.containers.losses`."""

    says = frozenset({"capabilities", "no_new_privs"})
    settings = (READ_ONLY,)
    ambient = False
    names = ARTIFACTS
    """The artifacts that it has options for."""

    def __init__(self) -> None:
        self.file = f"{self.name}-run.sh"
        self.launches = Launches(frozenset({self.name}), names=self.names, requires=frozenset({"seccomp"}))

    def render(self, request: Request) -> Output:
        """See Target.render."""
        text = request.template(f"{self.file}.j2", engine=self.name, file=self.file, **values(request))
        script = File(self.file, text, executable=True, needs=(request.artifacts["seccomp"].called,))
        image = shell(printable(request.policy.workload.image or "IMAGE"))
        start = Step("use", f"{written(script.name)} {image}")
        return Output((script,), tuple(losses(request, ambient=self.ambient)), (start,))


class Docker(RunCommand):
    """Docker."""

    name = "docker"
    summary = "docker-run.sh: docker run with the profile"


class Podman(RunCommand):
    """Podman, which gives added capabilities to every user (it puts them into the ambient set)."""

    name = "podman"
    summary = "podman-run.sh: podman run with the profile"
    ambient = True


class Nerdctl(RunCommand):
    """nerdctl, the client of containerd with Docker's options."""

    name = "nerdctl"
    summary = "nerdctl-run.sh: nerdctl run with the profile"
    names = WITHOUT_TYPES
