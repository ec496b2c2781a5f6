"""The list of targets."""

from __future__ import annotations

from profiler.errors import InputError
from profiler.quoting.text import printable
from profiler.targets.apparmor.profile import AppArmor
from profiler.targets.base import Target
from profiler.targets.capabilities import Capabilities
from profiler.targets.compose import Compose
from profiler.targets.containerd import Containerd
from profiler.targets.docker import Docker, Nerdctl, Podman
from profiler.targets.ima.target import Ima
from profiler.targets.kubernetes import Kubernetes
from profiler.targets.launcher import Launcher
from profiler.targets.libvirt import LibvirtLxc
from profiler.targets.lxc.incus import Incus
from profiler.targets.lxc.seccomp import LxcSeccomp
from profiler.targets.lxc.target import Lxc
from profiler.targets.nspawn import Nspawn
from profiler.targets.oci.target import Oci
from profiler.targets.oci_artifact import OciArtifact
from profiler.targets.openshift import Openshift
from profiler.targets.quadlet import Quadlet
from profiler.targets.seccomp import Seccomp
from profiler.targets.selinux.target import SELinux
from profiler.targets.smack.target import Smack
from profiler.targets.spo.target import Spo
from profiler.targets.systemd.target import Systemd
from profiler.targets.tomoyo.target import Tomoyo
from profiler.wording import suggestion

TARGETS: tuple[Target, ...] = (
    Seccomp(),
    Capabilities(),
    AppArmor(),
    Launcher(),
    SELinux(),
    Smack(),
    Ima(),
    Tomoyo(),
    Docker(),
    Compose(),
    Podman(),
    Quadlet(),
    Nerdctl(),
    Containerd(),
    Oci(),
    OciArtifact(),
    Kubernetes(),
    Openshift(),
    Spo(),
    LxcSeccomp(),
    Lxc(),
    Incus(),
    Systemd(),
    Nspawn(),
    LibvirtLxc(),
)

USUAL = frozenset({"seccomp", "capabilities", "apparmor"})
"""The artifacts that are made without ``-t``. A launcher that names one of the others works only on machines that
have its system."""


def find(name: str) -> Target:
    """Return the target of that name. Raises InputError for an unknown one."""
    names = [target.name for target in TARGETS]
    if name in names:
        return TARGETS[names.index(name)]
    raise InputError(f"unknown target {printable(name)!r}{suggestion(name, names)}: one of {', '.join(names)}")


def default(engine: str | None) -> tuple[Target, ...]:
    """Return the usual artifacts, and the launchers for the engine that a recording came from; those for Docker when
    there are none."""

    def launchers(name: str | None) -> list[Target]:
        return [target for target in TARGETS if target.launches and name in target.launches.engines]

    artifacts = [target for target in TARGETS if target.name in USUAL]
    return (*artifacts, *(launchers(engine) or launchers("docker")))
