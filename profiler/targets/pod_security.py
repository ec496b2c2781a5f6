"""The Pod Security Standards: which level a pod meets, and what keeps it from the next one.

The rules are those of Kubernetes 1.34 (kubernetes, staging/src/k8s.io/pod-security-admission/policy): ``restricted``
includes ``baseline``. From 1.34 on, a pod with a user namespace of its own (``hostUsers: false``) may run as root and
may have an unmasked /proc.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from profiler.quoting.text import printable

BASELINE_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip
"""What a container may add at the level baseline (check_capabilities_baseline.go)."""
RESTRICTED_CAPABILITIES = frozenset({"NET_BIND_SERVICE"})
RESTRICTED_VOLUMES = frozenset(
    {
        "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected",
        "secret",
    }
)  # fmt: skip
"""Kinds of volumes at the level restricted (check_restrictedVolumes.go)."""
SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
    }
)  # fmt: skip
_SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"

Level = Literal["privileged", "baseline", "restricted"]


@dataclass(frozen=True)
class Standard:
    """The highest level that a pod meets, and what speaks against the next one, one short text each."""

    level: Level
    against: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One line about it."""
        if self.level == "restricted":
            return "meets the Pod Security Standard restricted"
        following = "baseline" if self.level == "privileged" else "restricted"
        meets = "does not meet baseline" if self.level == "privileged" else "meets baseline, not restricted"
        return f"Pod Security Standards: {meets}; {following} needs: {'; '.join(self.against)}"


def standard(spec: Mapping[str, Any], annotations: Mapping[str, Any] | None = None) -> Standard:
    """Return the level of a pod, from its spec and its annotations."""
    if against := tuple(_against_baseline(spec, annotations or {})):
        return Standard("privileged", against)
    if against := tuple(_against_restricted(spec)):
        return Standard("baseline", against)
    return Standard("restricted")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _rows(value: Any) -> Iterator[Mapping[str, Any]]:
    for row in value if isinstance(value, list) else ():
        yield _mapping(row)


def _contexts(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Yield of each container a name for messages, its own members and its security context."""
    for kind in _CONTAINERS:
        for container in _rows(spec.get(kind)):
            name = f"container {printable(str(container.get('name', '?')))}"
            yield name, container, _mapping(container.get("securityContext"))


def _own_users(spec: Mapping[str, Any]) -> bool:
    return spec.get("hostUsers") is False


def _against_baseline(spec: Mapping[str, Any], annotations: Mapping[str, Any]) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"{name} not true"
    for volume in _rows(spec.get("volumes")):
        if "hostPath" in volume:
            yield f"volume {printable(str(volume.get('name', '?')))} not a hostPath"
    pod = _mapping(spec.get("securityContext"))
    for row in _rows(pod.get("sysctls")):
        if row.get("name") not in SAFE_SYSCTLS:
            yield f"no sysctl {printable(str(row.get('name')))}"
    for key, value in annotations.items():
        if str(key).startswith(_APPARMOR) and not str(value).startswith(("runtime/default", "localhost/")) and value:
            yield f"{printable(str(key))} not {printable(str(value))}"
    yield from _common("pod", pod)
    for name, container, context in _contexts(spec):
        yield from _common(name, context)
        if context.get("privileged"):
            yield f"{name}: privileged not true"
        added = _mapping(context.get("capabilities")).get("add") or []
        if other := sorted({printable(str(one)) for one in added if one not in BASELINE_CAPABILITIES}):
            yield f"{name}: no capabilities {', '.join(other)}"
        if any(port.get("hostPort") for port in _rows(container.get("ports"))):
            yield f"{name}: no hostPort"
        if context.get("procMount") not in (None, "Default") and not _own_users(spec):
            yield f"{name}: procMount Default"
        hooks = _mapping(container.get("lifecycle"))
        probes = [container.get(f"{kind}Probe") for kind in ("liveness", "readiness", "startup")]
        for probe in map(_mapping, (*probes, hooks.get("postStart"), hooks.get("preStop"))):
            if any(_mapping(probe.get(kind)).get("host") for kind in ("httpGet", "tcpSocket")):
                yield f"{name}: no host in probes and lifecycle hooks"
                break


def _common(name: str, context: Mapping[str, Any]) -> Iterator[str]:
    """What the level baseline says of the security context of a pod and of a container alike."""
    if _mapping(context.get("windowsOptions")).get("hostProcess"):
        yield f"{name}: hostProcess not true"
    if _mapping(context.get("appArmorProfile")).get("type") == "Unconfined":
        yield f"{name}: appArmorProfile not Unconfined"
    if _mapping(context.get("seccompProfile")).get("type") == "Unconfined":
        yield f"{name}: seccompProfile not Unconfined"
    selinux = _mapping(context.get("seLinuxOptions"))
    if (selinux.get("type") or "") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{name}: seLinuxOptions with a type of containers, without user and role"


def _against_restricted(spec: Mapping[str, Any]) -> Iterator[str]:
    for volume in _rows(spec.get("volumes")):
        kinds = set(volume) - {"name"}
        if kinds - RESTRICTED_VOLUMES:
            yield f"volume {printable(str(volume.get('name', '?')))} not a {printable(min(kinds - RESTRICTED_VOLUMES))}"
    pod = _mapping(spec.get("securityContext"))
    if not _own_users(spec):
        if pod.get("runAsNonRoot") is False:
            yield "pod: runAsNonRoot true"
        if pod.get("runAsUser") == 0:
            yield "pod: runAsUser not 0"
    pod_seccomp = _mapping(pod.get("seccompProfile")).get("type")
    for name, _, context in _contexts(spec):
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: allowPrivilegeEscalation false"
        capabilities = _mapping(context.get("capabilities"))
        if "ALL" not in (capabilities.get("drop") or []):
            yield f"{name}: capabilities.drop ALL"
        added = capabilities.get("add") or []
        if other := sorted({printable(str(one)) for one in added if one not in RESTRICTED_CAPABILITIES}):
            yield f"{name}: no capabilities {', '.join(other)}"
        if not _own_users(spec):
            if context.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
                yield f"{name}: runAsNonRoot true"
            if context.get("runAsUser") == 0:
                yield f"{name}: runAsUser not 0"
        if _mapping(context.get("seccompProfile")).get("type", pod_seccomp) not in ("RuntimeDefault", "Localhost"):
            yield f"{name}: a seccompProfile"
