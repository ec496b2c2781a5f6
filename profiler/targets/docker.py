"""docker-run.sh and compose.yaml: the options that make Docker (and Podman) use the profile. seccomp.json stands beside
them."""

from __future__ import annotations

import re
import shlex

from profiler.policy.model import Policy
from profiler.targets import seccomp
from profiler.targets.apparmor.profile import profile_name
from profiler.targets.base import RenderOptions
from profiler.targets.template import render_template

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
"""Names that compose takes as they stand, within a variable's default too."""


def render(policy: Policy, options: RenderOptions) -> dict[str, bytes]:
    """``docker-run.sh``, ``compose.yaml`` and the ``seccomp.json`` they name. The AppArmor profile is named when it is
    rendered too."""
    values = {
        "command": shlex.join(policy.workload.argv),
        "uid": policy.workload.uid,
        "no_new_privs": policy.no_new_privs,
        "apparmor": profile_name(policy, options) if options.names_apparmor else None,
        "image": policy.workload.image,
        "plain_image": policy.workload.image
        if policy.workload.image and _IMAGE.fullmatch(policy.workload.image)
        else None,
        "digest": policy.workload.digest,
        "joined": policy.workload.joined,
        "capabilities": [name.removeprefix("CAP_") for name in policy.needed()],
    }
    return {
        "docker-run.sh": render_template("docker-run.sh.j2", **values),
        "compose.yaml": render_template("compose.yaml.j2", **values),
        **seccomp.render(policy, options),
    }
