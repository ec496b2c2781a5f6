"""incus.yaml: a profile of Incus (or LXD) for containers.

Source: internal/server/seccomp/seccomp.go and instance/drivers/driver_lxc.go of Incus 6: ``raw.seccomp`` is the whole
policy, and ``raw.lxc`` is read after Incus's own lines. ``security.syscalls.allow`` would do less: what it does not
name kills the thread.
"""

from __future__ import annotations

from collections.abc import Iterator

from profiler.policy.caveats import extent
from profiler.policy.model import Policy
from profiler.policy.posture import Posture, posture
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.targets.base import File, Launches, Loss, Output, Request, Setting, Step, Target, written
from profiler.targets.lxc.config import Wishes, config, memory
from profiler.targets.naming import name_of, valid_name

FILE = "incus.yaml"
_FORMS = frozenset({"lxc.cap.drop", "lxc.cap.keep", "lxc.no_new_privs"})
"""The keys that have no option of Incus."""

NAME = Setting("name", "the profile's name; default: the image's, or the program's", "NAME", "", valid_name)


class Incus(Target):
    """Incus."""

    name = "incus"
    summary = "incus.yaml: a profile of Incus or LXD for containers"
    says = frozenset({"capabilities", "no_new_privs"})
    settings = (NAME,)
    launches = Launches(
        engines=frozenset({"incus"}), names=frozenset({"lxc-seccomp"}), requires=frozenset({"lxc-seccomp"})
    )

    def render(self, request: Request) -> Output:
        """See Target.render."""
        policy = request.policy
        stance, name = posture(policy), NAME.of(request) or name_of(policy.workload)
        made = config(policy, Wishes(""))
        lines = [row for group in made.groups for row in group.lines if row[0] in _FORMS]
        lines += [memory(stance.shared)] if stance.shared else []
        values = {
            "argv": " ".join(map(shell, policy.workload.argv)),
            "extent": extent(policy.workload),
            "profile": name,
            "tasks": stance.tasks,
            "lines": lines,
            "seccomp": request.artifacts["lxc-seccomp"].data.decode("utf-8").rstrip("\n"),
            "devices": [row for row in stance.devices if _given(row.path)],
        }
        file = File(FILE, request.template("incus.yaml.j2", **values))
        return Output((file,), tuple(_losses(policy, stance)), tuple(_usage(name)))


def _given(path: str) -> bool:
    return path.startswith("/dev/") and path.isprintable()


def _losses(policy: Policy, stance: Posture) -> Iterator[Loss]:
    if policy.workload.uid:
        why = "LXC gives capabilities to root only; another user has them in programs with file capabilities alone"
        yield from (Loss("capabilities", name, why, "refused") for name in policy.needed())
    for path in (*stance.device_patterns, *(row.path for row in stance.devices if not _given(row.path))):
        yield Loss("files", printable(path), "a device of a profile is a node below /dev of the host", "refused")


def _usage(name: str) -> Iterator[Step]:
    yield Step("load", f"incus profile create {name} && incus profile edit {name} < {written(FILE)}")
    yield Step("use", f"incus profile add INSTANCE {name} && incus restart INSTANCE   (LXD: lxc in place of incus)")
    yield Step("undo", f"incus profile remove INSTANCE {name} && incus restart INSTANCE && incus profile delete {name}")
