"""Kubernetes: the pod that a container belongs to, as its container runtime was told (annotations of the OCI bundle).

No API server is asked. So the labels of a pod are not known, nor what made it: that is read from the pod's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from profiler.errors import InputError
from profiler.quoting.text import quoted
from profiler.trace.model import Container, ContainerMount, Pod
from profiler.wording import suggestion


@dataclass(frozen=True)
class _Keys:
    """The annotations of one container runtime. ``kind``: its value is ``sandbox`` for the container that only holds
    the namespaces of a pod. ``images``: names of the image, the best first."""

    engine: str
    namespace: str
    pod: str
    uid: str
    container: str
    kind: str
    images: tuple[str, ...]


_RUNTIMES = (
    # containerd, pkg/cri/annotations/annotations.go; the uid since 1.6.11.
    _Keys(
        "containerd",
        "io.kubernetes.cri.sandbox-namespace",
        "io.kubernetes.cri.sandbox-name",
        "io.kubernetes.cri.sandbox-uid",
        "io.kubernetes.cri.container-name",
        "io.kubernetes.cri.container-type",
        ("io.kubernetes.cri.image-name",),
    ),
    # CRI-O, internal/factory/container: the kubelet's labels of the container, and its own.
    _Keys(
        "cri-o",
        "io.kubernetes.pod.namespace",
        "io.kubernetes.pod.name",
        "io.kubernetes.pod.uid",
        "io.kubernetes.container.name",
        "io.kubernetes.cri-o.ContainerType",
        ("io.kubernetes.cri-o.ImageName", "io.kubernetes.cri-o.Image"),
    ),
)
_IMAGE_ID = "io.kubernetes.cri-o.ImageRef"


def _keys(annotations: Mapping[str, str]) -> _Keys | None:
    """Return the annotations of the runtime that made the container; None outside of Kubernetes."""
    return next((keys for keys in _RUNTIMES if {keys.kind, keys.namespace, keys.pod} <= annotations.keys()), None)


def is_pause(annotations: Mapping[str, str]) -> bool:
    """Return whether the container only holds the namespaces of its pod (the pause container)."""
    keys = _keys(annotations)
    return keys is not None and annotations[keys.kind] == "sandbox"


def in_pod(container: Container, annotations: Mapping[str, str]) -> Container:
    """Return the container with what its annotations say of its pod and image; itself outside of Kubernetes."""
    keys = _keys(annotations)
    if keys is None:
        return container
    name = annotations[keys.pod]
    image = next((annotations[key] for key in keys.images if annotations.get(key)), None)
    identity = annotations.get(_IMAGE_ID, "")
    return replace(
        container,
        engine=keys.engine,
        name=annotations.get(keys.container) or None,
        image=image or container.image,
        digest=_digest(image or "") or (f"sha256:{identity}" if _HEX.fullmatch(identity) else None),
        mounts=tuple(sorted(_mounts(container.mounts))),
        pod=Pod(annotations[keys.namespace], name, annotations.get(keys.uid) or None, workload(name)),
    )


_HEX = re.compile(r"[0-9a-f]{64}")


def _digest(image: str) -> str | None:
    digest = image.rpartition("@")[2]
    return digest if digest.startswith("sha256:") and _HEX.fullmatch(digest[7:]) else None


_RANDOM = "[bcdfghjklmnpqrstvwxz24-9]{5}"
"""What the API server appends to ``generateName``: rand.String(5) of k8s.io/apimachinery, pkg/util/rand."""
_HASH = "[bcdf4-9]{6,10}"
"""A ReplicaSet's pod-template-hash: the decimal digits of a 32-bit number in that package's SafeEncodeString."""
_REPLICA = re.compile(
    r"(.+?)-(?:"
    rf"{_HASH}-{_RANDOM}"  # a Deployment's ReplicaSet
    rf"|[0-9]{{8,10}}-{_RANDOM}"  # a CronJob's Job: the time that it was due, in minutes or seconds
    rf"|{_RANDOM}"  # a DaemonSet, a Job, a ReplicaSet
    r"|0|[1-9][0-9]{0,3})",  # a StatefulSet
    re.DOTALL,
)


def workload(pod: str) -> str:
    """Return a pod's name without what is new for each replica: ``web`` for ``web-7c9f8d6b5-x2x7k`` and ``web-0``."""
    found = _REPLICA.fullmatch(pod)
    return found[1] if found else pod


_VOLUME = re.compile(r"/pods/[^/]+/(?:volumes/[^/]+~[^/]+|volume-subpaths)/([^/]+)(?:/|$)")
"""Where the kubelet keeps the volumes of a pod, with the name that the pod's specification gives to each."""
_OF_NODE = frozenset(
    {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/shm", "/dev/termination-log", "/run/.containerenv"}
)
"""Where the kubelet and the runtime mount what every pod gets."""


def _mounts(mounts: tuple[ContainerMount, ...]) -> Iterator[ContainerMount]:
    """Yield the mounts that the pod's specification asks for, with the names that it gives to volumes."""
    for mount in mounts:
        if found := _VOLUME.search(mount.source):
            # Of each pod's own volume with its token, the name has another end.
            name = re.sub(rf"^(kube-api-access)-{_RANDOM}$", r"\1", found[1])
            yield replace(mount, kind="volume", source=name)
        elif mount.destination not in _OF_NODE:
            yield mount


@dataclass(frozen=True)
class Selector:
    """Which containers of pods are meant: a pattern (fnmatch(3)) for each of some keys of :data:`KEYS`."""

    patterns: tuple[tuple[str, str], ...]

    def selects(self, container: Container) -> bool:
        """Return whether all patterns match; never outside of Kubernetes."""
        pod = container.pod
        if pod is None:
            return False
        facts = {
            "namespace": pod.namespace,
            "pod": pod.name,
            "workload": pod.workload,
            "container": container.name,
            "image": container.image,
        }
        return all(fnmatchcase(facts[key] or "", pattern) for key, pattern in self.patterns)


def _has_open_bracket(pattern: str) -> bool:
    """Return whether a set of characters has no end. It would stand for a bracket, which no name has."""
    return "[" in re.sub(r"\[!?+\]?+[^\]]*\]", "", pattern)


KEYS = ("namespace", "pod", "workload", "container", "image")


def selector(text: str) -> Selector:
    """Parse ``namespace=shop,container=web,pod=web-*``. Raises InputError."""
    patterns = []
    for word in text.split(","):
        key, equals, pattern = (part.strip() for part in word.partition("="))
        if key not in KEYS or not equals or not pattern:
            meant = suggestion(key, KEYS) if key not in KEYS else ""
            raise InputError(
                f"--pod-selector takes KEY=PATTERN, separated by commas, not {quoted(word)}{meant}; "
                f"the keys are {', '.join(KEYS)}"
            )
        if _has_open_bracket(pattern):
            raise InputError(
                f"--pod-selector: in the pattern {quoted(pattern)} a [ has no ] after it; a set is written as [a-z]"
            )
        patterns.append((key, pattern))
    return Selector(tuple(patterns))
