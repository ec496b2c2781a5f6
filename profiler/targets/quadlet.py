"""NAME.container: a unit of Podman's systemd generator (podman-systemd.unit(5)) with the profile."""

from __future__ import annotations

from profiler.targets.base import File, Launches, Loss, Output, Request, Setting, Step, Target, written, yes_or_no
from profiler.targets.containers import ARTIFACTS, READ_ONLY, losses, values
from profiler.targets.naming import name_of, valid_name

_UNITS = "/etc/containers/systemd"
"""Where the generator looks for units of the system. Files with other suffixes may lie there."""


class Quadlet(Target):
    """Podman's Quadlet."""

    name = "quadlet"
    summary = "NAME.container: a systemd unit for Podman (Quadlet) with the profile"
    says = frozenset({"capabilities", "no_new_privs"})
    named = Setting("name", "the unit's name; default: the image's, or the program's", "NAME", "", valid_name)
    apparmor = Setting("apparmor", "name the AppArmor profile: the machine must have it", "yes|no", False, yes_or_no)
    settings = (READ_ONLY, named, apparmor)
    launches = Launches(frozenset({"podman"}), names=ARTIFACTS, requires=frozenset({"seccomp"}))

    def prefix(self, request: Request) -> str:
        """See Target.prefix: units lie in one directory."""
        return f"{self._unit(request)}."

    def _unit(self, request: Request) -> str:
        return self.named.of(request) or name_of(request.policy.workload)

    def render(self, request: Request) -> Output:
        """See Target.render."""
        name = self._unit(request)
        seccomp = request.artifacts["seccomp"].called
        known = values(request)
        if (known["plain_image"] or "").endswith((".image", ".build")):
            known["plain_image"] = None  # these are other units
        with_apparmor = self.apparmor.of(request)
        text = request.template("quadlet.container.j2", with_apparmor=with_apparmor, **known)
        unit = File(f"{name}.container", text, needs=(seccomp,))
        lost = list(losses(request, ambient=True))
        if known["apparmor"] and not with_apparmor:
            why = (
                "its line is a comment, because Podman does not start a container with it on a machine without "
                "AppArmor; to name it: -O quadlet.apparmor"
            )
            lost.append(Loss("files", f"the AppArmor profile {known['apparmor']} is not used", why))
        undo = f"rm {_UNITS}/{seccomp} {_UNITS}/{unit.name} && systemctl daemon-reload"
        usage = (
            Step("load", f"cp {written(seccomp)} {written(unit.name)} {_UNITS}/"),
            Step("use", f"systemctl daemon-reload && systemctl start {name}"),
            Step("undo", f"systemctl stop {name} && {undo}"),
        )
        return Output((unit,), tuple(lost), usage)
