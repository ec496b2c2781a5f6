"""How a pod confines the container of a workload, for the targets that write pods or rules about them.

Facts: core/v1 of Kubernetes 1.37 (SecurityContext, PodSecurityContext), and its validation: allowPrivilegeEscalation
cannot be false with CAP_SYS_ADMIN, the path of a seccomp profile is below the kubelet's directory ``seccomp`` and has
no ``..``, a mountPath has no colon, hostUsers cannot be false next to hostNetwork, hostPID or hostIPC.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiler.errors import InputError
from profiler.policy import patterns
from profiler.policy.model import Policy
from profiler.policy.posture import Posture, blocked, posture
from profiler.policy.writable import within
from profiler.quoting.text import printable
from profiler.targets.base import Loss, OneOf, Request, Setting
from profiler.targets.containers import LOOSEN, READ_ONLY, moves_lost, permitted
from profiler.wording import UNKNOWN, listed

SECCOMP_ROOT = "/var/lib/kubelet/seccomp"
"""Where the kubelet looks for profiles of the type Localhost."""

NAMESPACED = frozenset(
    {
        "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_OWNER", "KILL", "LEASE", "NET_ADMIN",
        "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
        "SYS_PTRACE",
    }
)  # fmt: skip
"""Capabilities that have their effect in a user namespace too (user_namespaces(7)). The kernel checks what the others
stand for, or much of it, against the initial user namespace."""
_IDMAPPED = frozenset({"configMap", "downwardAPI", "emptyDir", "projected", "secret"})
"""Volumes that can be mounted with other ids on every node that has user namespaces for pods."""
_FIXED = frozenset({"configMap", "downwardAPI", "image", "projected", "secret"})
"""Volumes that are always read-only."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_POD = re.compile(r"[a-z0-9][a-z0-9.-]*/[a-z0-9][a-z0-9.-]*")
_LOCAL = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


def label(text: str) -> str:
    """Parse the name of a container or of an object. Raises InputError."""
    if not _LABEL.fullmatch(text):
        raise InputError(
            f"{printable(text)!r} is not a name in Kubernetes: use lower-case letters, digits and -, 63 at most"
        )
    return text


def _local(text: str) -> str:
    if not _LOCAL.fullmatch(text) or ".." in text.split("/"):
        raise InputError(f"{printable(text)!r} is not a path below {SECCOMP_ROOT}, such as profgen/web.json")
    return text


CONTAINER = Setting[str | None](
    "container", "the container of the workload; default: the recorded one, or the only one", "NAME", None, label
)
SECCOMP = Setting[str | None](
    "seccomp",
    f"the profile on the nodes, below {SECCOMP_ROOT}; default: profgen/NAME.json",
    "PATH",
    None,
    _local,
)
USER_NAMESPACE = Setting(
    "user-namespace",
    "a user namespace for the pod: yes, no, or auto (yes if nothing speaks against it)",
    "WHEN",
    "auto",
    OneOf("auto", "yes", "no"),
)


def name_of(policy: Policy) -> str:
    """Return a name for the workload's container and profile: that of its program, in letters of DNS."""
    argv = [word for word in policy.workload.argv[:1] if word != UNKNOWN and not policy.workload.joined]
    started = [path for row in policy.transitions if row.by is None and (path := patterns.path_of(row.program))]
    for path in (*policy.workload.joined, *argv, *started):
        word = re.sub(r"[^a-z0-9]+", "-", path.rsplit("/", 1)[-1].lower()).strip("-")[:40].strip("-")
        if word:
            return word
    return "workload"


def profile_of(policy: Policy) -> str:
    """Return the path of the seccomp profile on a node: named by namespace, workload and container if the recording
    knows them, because a node may run several containers of one program; else by the program."""
    pod, container = policy.workload.launch.pod, container_of(policy)
    known = pod is not None and container is not None and _POD.fullmatch(pod)
    return f"profgen/{f'{pod}/{container}'.replace('/', '_') if known else name_of(policy)}.json"


def container_of(policy: Policy) -> str | None:
    """Return the name of the container that was recorded, None when it was not one of a pod."""
    name = policy.workload.launch.container
    return name if name is not None and _LABEL.fullmatch(name) else None


def volume_name(container: str, path: str) -> str:
    """Return the name of the volume for a directory of a container. Two containers of a pod never get the same one."""
    word = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-")
    plain = f"profgen-{container}--{word}"
    legible = _LABEL.fullmatch(container) and "--" not in container and _LABEL.fullmatch(plain)
    if legible and f"/{word.replace('-', '/')}" == path:
        return plain
    digest = hashlib.sha256(f"{container}\0{path}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"profgen-{word[:40].strip('-') or 'volume'}-{digest}"


def _volumes(container: str, directories: Sequence[str], taken: Collection[object]) -> Iterator[tuple[str, str]]:
    """Yield the name of a volume for each directory, and the directory. ``taken``: names of other volumes."""
    for path in directories:
        first = name = volume_name(container, path)
        number = 1
        while name in taken:
            number += 1
            name = f"{first[:58]}-{number}"
        yield name, path


def rows(value: Any) -> list[Mapping[str, Any]]:
    """Return the mappings of a list, and an empty one for each item that is something else."""
    return [row if isinstance(row, Mapping) else {} for row in value] if isinstance(value, list) else []


@dataclass(frozen=True)
class Confined:
    """What a pod says about the container. ``seccomp``: the path below the kubelet's directory. ``escalation``:
    allowPrivilegeEscalation, None where it cannot be said. ``user`` and ``group``: None where the image decides.
    ``read_only``: None where the manifest or the default decides. ``volumes``: name and mount path of each emptyDir.
    ``host_users``: None where it is left to the manifest or the cluster."""

    seccomp: str
    apparmor: str | None
    selinux: str | None
    add: tuple[str, ...]
    escalation: bool | None
    user: int | None
    group: int | None
    read_only: bool | None
    volumes: tuple[tuple[str, str], ...]
    host_users: bool | None

    def context(self) -> dict[str, Any]:
        """Return the security context of the container."""
        found: dict[str, Any] = {}
        if self.user is not None:
            found["runAsUser"] = self.user
            if self.group is not None:
                found["runAsGroup"] = self.group
            found["runAsNonRoot"] = True
        if self.escalation is not None:
            found["allowPrivilegeEscalation"] = self.escalation
        found["capabilities"] = {"drop": ["ALL"], **({"add": list(self.add)} if self.add else {})}
        if self.read_only is not None:
            found["readOnlyRootFilesystem"] = self.read_only
        found["seccompProfile"] = {"type": "Localhost", "localhostProfile": self.seccomp}
        if self.apparmor is not None:
            found["appArmorProfile"] = {"type": "Localhost", "localhostProfile": self.apparmor}
        if self.selinux is not None:
            found["seLinuxOptions"] = {"type": self.selinux}
        return found


@dataclass(frozen=True)
class Manifest:
    """What a given manifest says already. ``container`` and ``spec`` are plain data, empty where there is none."""

    spec: Mapping[str, Any]
    container: Mapping[str, Any]

    def said(self, name: str) -> Any:
        """Return a member of the security context that the container has, by itself or from the pod."""
        for owner in (self.container, self.spec):
            context = owner.get("securityContext")
            if isinstance(context, Mapping) and context.get(name) is not None:
                return context[name]
        return None

    def capabilities(self, kind: str) -> list[str]:
        """Return the names in ``add`` or ``drop``, as they are written."""
        given = self.said("capabilities")
        names = given.get(kind) if isinstance(given, Mapping) else None
        return [str(name) for name in names] if isinstance(names, list) else []

    @property
    def mounted(self) -> tuple[str, ...]:
        """Where the container has volumes already."""
        return tuple(self.mounts())

    def mounts(self) -> Mapping[str, bool]:
        """Return where each volume is mounted, and whether it is read-only."""
        fixed = [row.get("name") for row in rows(self.spec.get("volumes")) if not _FIXED.isdisjoint(row)]
        return {
            posixpath.normpath(str(row.get("mountPath"))): row.get("readOnly") is True or row.get("name") in fixed
            for row in rows(self.container.get("volumeMounts"))
        }

    @property
    def alone(self) -> bool:
        """Whether the pod has one container only."""
        kinds = ("initContainers", "containers", "ephemeralContainers")
        return sum(len(rows(self.spec.get(kind))) for kind in kinds) <= 1


NO_MANIFEST = Manifest({}, {})


def called(request: Request) -> str:
    """Return the name of the container where no manifest has one."""
    return CONTAINER.of(request) or container_of(request.policy) or "app"


def confined(request: Request, manifest: Manifest = NO_MANIFEST) -> tuple[Confined, tuple[Loss, ...]]:
    """Return what the pod says, and what of the policy it does not.

    What the manifest forbids stays forbidden, and is a loss, unless ``loosen`` is set.
    Raises InputError for a manifest that contradicts any profile, or the settings.
    """
    policy, place = request.policy, posture(request.policy)
    container = str(manifest.container.get("name")) if manifest.container else called(request)
    losses: list[Loss] = []
    loosen = LOOSEN.of(request)
    if manifest.said("privileged") is True:
        raise InputError(
            "the container is privileged: runtimes give it all rights and load no seccomp profile; remove "
            "privileged: true"
        )
    add = _capabilities(policy, place, manifest, loosen, losses)
    escalation = _escalation(policy, manifest, loosen, add, losses)
    # The user of a recording on a host says nothing about an image. Another user in the manifest is the user's choice.
    user = place.uid if place.sure and place.uid and manifest.said("runAsUser") is None else None
    group = place.gid if user is not None and manifest.said("runAsGroup") is None else None
    read_only, directories = _root(request, place, manifest, loosen, losses)
    if refused := blocked(policy, manifest.mounts()):
        what = listed([printable(pattern) for pattern in refused], 3)
        losses.append(Loss("files", f"writing {what}", "the manifest mounts a volume there read-only", "refused"))
    losses += [
        Loss("devices", device.path, "a pod gets devices from a device plugin alone", "refused")
        for device in place.devices
    ]
    apparmor, selinux = request.artifacts.get("apparmor"), request.artifacts.get("selinux")
    made = Confined(
        seccomp=SECCOMP.of(request) or profile_of(policy),
        apparmor=apparmor.called if apparmor else None,
        selinux=selinux.called if selinux else None,
        add=add,
        escalation=escalation,
        user=user,
        group=group,
        read_only=read_only,
        volumes=tuple(
            _volumes(container, directories, [row.get("name") for row in rows(manifest.spec.get("volumes"))])
        ),
        host_users=_host_users(request, place, manifest, add),
    )
    return made, tuple(losses)


def _capabilities(
    policy: Policy, place: Posture, manifest: Manifest, loosen: bool, losses: list[Loss]
) -> tuple[str, ...]:
    """Return the capabilities to add: those of the policy that the manifest does not drop."""
    option = None if loosen else f"kubernetes.{LOOSEN.name}"
    kept, lost = permitted(policy.needed(), manifest.capabilities("add"), manifest.capabilities("drop"), option)
    losses += lost
    user = manifest.said("runAsUser")
    if (user if isinstance(user, int) else place.uid) or manifest.said("runAsNonRoot") is True:
        why = (
            "Kubernetes gives capabilities to root only; another user has them in programs with file capabilities alone"
        )
        losses += [Loss("capabilities", f"CAP_{name}", why, "refused") for name in kept]
    return tuple(kept)


def _escalation(
    policy: Policy, manifest: Manifest, loosen: bool, add: tuple[str, ...], losses: list[Loss]
) -> bool | None:
    said = manifest.said("allowPrivilegeEscalation")
    if "SYS_ADMIN" in add:
        if said is False and not loosen:
            raise InputError(
                "the manifest sets allowPrivilegeEscalation: false, and the workload needs CAP_SYS_ADMIN: Kubernetes "
                "refuses the two together; remove it, or generate with -O kubernetes.loosen"
            )
        if policy.no_new_privs:
            why = "Kubernetes refuses allowPrivilegeEscalation: false with CAP_SYS_ADMIN"
            losses.append(Loss("no_new_privs", "no_new_privs", why))
        return True if said is False else None
    if policy.no_new_privs:
        return False
    if said is False and not loosen:
        why = "the manifest forbids it (allowPrivilegeEscalation: false); to allow it: -O kubernetes.loosen"
        losses.append(Loss("no_new_privs", "the gain of privileges by a file", why, "refused"))
        return False
    return True if said is False else None


def _root(
    request: Request, place: Posture, manifest: Manifest, loosen: bool, losses: list[Loss]
) -> tuple[bool | None, tuple[str, ...]]:
    """Return whether the root is read-only (None: as it is), and the directories that then need a volume."""
    mounted = manifest.mounted
    kept = [path for path in place.kept if not within(path, mounted)]
    elsewhere = [pattern for pattern in place.elsewhere or () if not within(patterns.start_of(pattern), mounted)]
    when, said = READ_ONLY.of(request), manifest.said("readOnlyRootFilesystem") is True
    told = said and not loosen
    if told and when == "no":
        raise InputError(
            "the manifest sets readOnlyRootFilesystem: true, which contradicts read-only=no; remove it, or generate "
            "with -O kubernetes.loosen"
        )
    known = place.sure and not request.policy.workload.incomplete and place.elsewhere is not None
    would_do = place.read_only or (known and not kept and not elsewhere and not place.apart)
    if not (told or when == "yes" or (when == "auto" and would_do)):
        return False if said else None, ()
    reason = "the manifest mounts the root read-only" if told else "the root is read-only"
    if elsewhere:
        losses.append(Loss("files", f"writing {listed(elsewhere, 3)}", f"{reason}; mount volumes there", "refused"))
    if kept:
        why = f"{reason}, and an emptyDir starts empty; mount volumes there for what is in the image or must last"
        losses.append(Loss("files", f"the content of {listed(kept, 3)}", why, "refused"))
    losses += moves_lost(place)
    wanted = [path for path in (*(row.path for row in place.temporary), *kept) if not within(path, mounted)]
    bad = [path for path in wanted if ":" in path or not _writable_in_yaml(path)]
    losses += [Loss("files", path, "a mountPath cannot hold this name", "refused") for path in map(printable, bad)]
    return True, tuple(dict.fromkeys(path for path in wanted if path not in bad))


def _writable_in_yaml(path: str) -> bool:
    return path.isprintable() and not any("\ud800" <= char <= "\udfff" for char in path)


_OF_HOST = ("hostNetwork", "hostPID", "hostIPC")
"""What a pod with a user namespace of its own cannot have."""


def _host_users(request: Request, place: Posture, manifest: Manifest, add: tuple[str, ...]) -> bool | None:
    """Return False for a user namespace of the pod's own, None where the manifest or the cluster decides."""
    when, said = USER_NAMESPACE.of(request), manifest.spec.get("hostUsers")
    if when == "yes":
        for name in _OF_HOST:
            if manifest.spec.get(name) is True:
                raise InputError(
                    f"the manifest sets {name}: true, which Kubernetes refuses in a pod with a user namespace of its "
                    "own; remove it, or generate without user-namespace=yes"
                )
        return False
    if when == "no" and said is False:
        if not LOOSEN.of(request):
            raise InputError(
                "the manifest sets hostUsers: false, which contradicts user-namespace=no; remove it, or generate with "
                "-O kubernetes.loosen"
            )
        return True
    if when == "no" or said is not None:
        return None
    return None if any(_against_user_namespace(place, manifest, add)) else False


def _against_user_namespace(place: Posture, manifest: Manifest, add: tuple[str, ...]) -> Iterator[bool]:
    spec = manifest.spec
    yield not place.sure
    yield not manifest.alone
    yield place.network == "host" or bool(place.devices or place.device_patterns)
    yield any(spec.get(name) for name in _OF_HOST)
    yield not set(add) <= NAMESPACED
    yield any(set(row) - {"name"} - _IDMAPPED for row in rows(spec.get("volumes")))
    yield bool(place.mounts) and not spec
