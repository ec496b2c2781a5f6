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

    def render(self, request: Request) -> Output:
        """See Target.render."""
        name = self.named.of(request) or name_of(request.policy.workload)
        seccomp = request.artifacts["seccomp"].called
        known = values(request)
        if (known["plain_image"] or "").endswith((".image", ".build")):
            known["plain_image"] = None  # these are other units
        with_apparmor = self.apparmor.of(request)
        text = request.template("quadlet.container.j2", unit=name, with_apparmor=with_apparmor, **known)
        unit = File(f"{name}.container", text, needs=(seccomp,))
        lost = list(losses(request.policy, ambient=True))
        if known["apparmor"] and not with_apparmor:
            why = (
                "its line is a comment, because Podman does not start a container with it on a machine without "
                "AppArmor; to name it: -O quadlet.apparmor"
            )
            lost.append(Loss("files", f"the AppArmor profile {known['apparmor']} is not used", why))
        profile = f"{_UNITS}/{name}.seccomp.json"
        usage = (
            Step("load", f"cp {written(seccomp)} {profile} && cp {written(unit.name)} {_UNITS}/"),
            Step("use", f"systemctl daemon-reload && systemctl start {name}"),
            Step("undo", f"systemctl stop {name} && rm {profile} {_UNITS}/{unit.name} && systemctl daemon-reload"),
        )
        return Output((unit,), tuple(lost), usage)
