"""Pods: what annotations say of them, whatever strangers put there, and which ones are selected."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.engines import pods
from profiler.errors import InputError
from profiler.trace.model import Container, ContainerMount, Pod

IMAGE_ID = "ab" * 32
UID = "aaaa2b4a-f398-41c0-928b-049e1cc4ec40"
PLAIN = Container(None, None, "1", None)

CONTAINERD = {
    "io.kubernetes.cri.container-name": "nginx",
    "io.kubernetes.cri.container-type": "container",
    "io.kubernetes.cri.image-name": "docker.io/library/nginx:1.27",
    "io.kubernetes.cri.sandbox-id": "cd" * 32,
    "io.kubernetes.cri.sandbox-name": "web-7c9f8d6b5-x2x7k",
    "io.kubernetes.cri.sandbox-namespace": "shop",
    "io.kubernetes.cri.sandbox-uid": UID,
}
"""As containerd 1.6.20 writes them."""

CRI_O = {
    "io.container.manager": "cri-o",
    "io.kubernetes.container.name": "nginx",
    "io.kubernetes.cri-o.ContainerType": "container",
    "io.kubernetes.cri-o.Image": "quay.io/nginx",
    "io.kubernetes.cri-o.ImageName": "quay.io/nginx:1.27",
    "io.kubernetes.cri-o.ImageRef": IMAGE_ID,
    "io.kubernetes.cri-o.Labels": '{"io.kubernetes.container.name":"nginx"}',
    "io.kubernetes.pod.name": "web-7c9f8d6b5-x2x7k",
    "io.kubernetes.pod.namespace": "shop",
    "io.kubernetes.pod.uid": UID,
}
"""As internal/factory/container/container.go of CRI-O writes them."""

POD = Pod("shop", "web-7c9f8d6b5-x2x7k", UID, "web")


def test_containerd() -> None:
    assert pods.in_pod(PLAIN, CONTAINERD) == Container(
        "containerd", None, "1", "nginx", "docker.io/library/nginx:1.27", pod=POD
    )
    by_digest = {**CONTAINERD, "io.kubernetes.cri.image-name": f"nginx@sha256:{IMAGE_ID}"}
    assert pods.in_pod(PLAIN, by_digest).digest == f"sha256:{IMAGE_ID}"
    old = {key: value for key, value in CONTAINERD.items() if not key.endswith("-uid")}
    assert pods.in_pod(PLAIN, old).pod == replace(POD, uid=None)


def test_cri_o() -> None:
    expected = Container("cri-o", None, "1", "nginx", "quay.io/nginx:1.27", f"sha256:{IMAGE_ID}", pod=POD)
    assert pods.in_pod(PLAIN, CRI_O) == expected
    nameless = {**CRI_O, "io.kubernetes.cri-o.ImageName": ""}
    assert pods.in_pod(PLAIN, nameless).image == "quay.io/nginx"


@pytest.mark.parametrize("annotations", [{}, {"io.kubernetes.cri.sandbox-name": "web"}, {"app": "web"}])
def test_no_pod(annotations: dict[str, str]) -> None:
    assert pods.in_pod(PLAIN, annotations) is PLAIN
    assert not pods.is_pause(annotations)
    assert replace(PLAIN, name="db").full_name == "db"


def test_what_only_holds_the_namespaces() -> None:
    assert pods.is_pause({**CONTAINERD, "io.kubernetes.cri.container-type": "sandbox"})
    assert pods.is_pause({**CRI_O, "io.kubernetes.cri-o.ContainerType": "sandbox"})
    assert not pods.is_pause(CONTAINERD)
    assert not pods.is_pause(CRI_O)


@pytest.mark.parametrize(
    ("pod", "workload"),
    [
        ("web-7c9f8d6b5-x2x7k", "web"),
        ("web-7c9f8d6b5-x2x7k-7c9f8d6b5-x2x7k", "web-7c9f8d6b5-x2x7k"),
        ("coredns-5d78c9869d-2zq4x", "coredns"),
        ("web-2-59d6c6b97c-4z5kj", "web-2"),
        ("fluent-bit-x2x7k", "fluent-bit"),
        ("backup-28391234-x2x7k", "backup"),
        ("db-0", "db"),
        ("db-12", "db"),
        ("db-00", "db-00"),
        ("redis", "redis"),
        ("redis-proxy", "redis-proxy"),
        ("kube-apiserver-node1", "kube-apiserver-node1"),
        ("x2x7k", "x2x7k"),
        ("-x2x7k", "-x2x7k"),
        ("", ""),
    ],
)
def test_the_workload_of_a_pod(pod: str, workload: str) -> None:
    assert pods.workload(pod) == workload


@given(st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True))
def test_replicas_have_the_same_workload(name: str) -> None:
    for end in ("-7c9f8d6b5-{}", "-{}"):
        first, second = (pods.workload(name + end.format(random)) for random in ("x2x7k", "4z5kj"))
        assert first == second
        assert name.startswith(first)


def test_mounts() -> None:
    """Volumes have the names of the pod's specification; what every pod gets is not the workload's."""
    place = f"/var/lib/kubelet/pods/{UID}"
    mounts = (
        ContainerMount("bind", f"{place}/volumes/kubernetes.io~empty-dir/cache", "/cache", False),
        ContainerMount("bind", f"{place}/volumes/kubernetes.io~configmap/conf/site.conf", "/etc/hosts", True),
        ContainerMount("bind", f"{place}/volume-subpaths/data/nginx/1", "/data", False),
        ContainerMount("bind", f"{place}/volumes/kubernetes.io~projected/kube-api-access-x2x7k", "/token", True),
        ContainerMount("bind", f"{place}/etc-hosts", "/etc/hosts", False),
        ContainerMount("bind", "/var/lib/containerd/io/sandboxes/1/resolv.conf", "/etc/resolv.conf", False),
        ContainerMount("bind", "/run/containerd/io/sandboxes/1/shm", "/dev/shm", False),
        ContainerMount("bind", f"{place}/containers/nginx/0123", "/dev/termination-log", False),
        ContainerMount("bind", "/srv", "/srv", True),
    )
    assert pods.in_pod(replace(PLAIN, mounts=mounts), CONTAINERD).mounts == (
        ContainerMount("bind", "/srv", "/srv", True),
        ContainerMount("volume", "cache", "/cache", False),
        ContainerMount("volume", "conf", "/etc/hosts", True),
        ContainerMount("volume", "data", "/data", False),
        ContainerMount("volume", "kube-api-access", "/token", True),
    )


def test_the_name_for_people() -> None:
    container = pods.in_pod(PLAIN, CONTAINERD)
    assert container.full_name == "shop/web-7c9f8d6b5-x2x7k/nginx"
    assert replace(container, pod=replace(POD, name=None)).full_name == "shop/web/nginx", "several replicas"
    assert replace(container, name=None, pod=Pod(None, None, None, None)).full_name == "?/?/?"


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("namespace=shop", True),
        ("namespace=shop,container=nginx,pod=web-*", True),
        ("workload=web", True),
        (" workload = w?b , image=*/nginx:* ", True),
        ("namespace=shop,container=web", False),
        ("namespace=Shop", False),
        ("pod=web", False),
    ],
)
def test_selectors(text: str, selected: bool) -> None:
    found = pods.selector(text)
    assert found.selects(pods.in_pod(PLAIN, CONTAINERD)) is selected
    assert not found.selects(replace(PLAIN, name="nginx")), "not in a pod"


@pytest.mark.parametrize("text", ["", "shop", "namespaces=shop", "namespace=", "namespace=shop,", "=x", "app=web"])
def test_no_selector(text: str) -> None:
    with pytest.raises(InputError, match=r"--pod-selector takes KEY=PATTERN.*the keys are namespace, pod, workload"):
        pods.selector(text)


@pytest.mark.parametrize("pattern", ["[", "web-[", "web-[a-z", "[]", "[!]", "[a]["])
def test_a_set_without_an_end_is_no_pattern(pattern: str) -> None:
    with pytest.raises(InputError, match=r"a \[ has no \] after it"):
        pods.selector(f"namespace={pattern}")
    pods.selector("namespace=[a-z]*,pod=[]],container=[!]a]x[0-9]")


def test_a_key_that_is_right_is_not_suggested() -> None:
    with pytest.raises(InputError) as raised:
        pods.selector("namespace")
    assert "did you mean" not in str(raised.value)
    with pytest.raises(InputError, match="did you mean namespace"):
        pods.selector("namespaces=shop")


@given(st.dictionaries(st.sampled_from([*CONTAINERD, *CRI_O]), st.text()))
def test_any_annotations(annotations: dict[str, Any]) -> None:
    found = pods.in_pod(PLAIN, annotations)
    assert found.pod is None or {found.pod.namespace, found.pod.name} <= set(annotations.values())
    pods.is_pause(annotations)
    assert found.pod is None or found.full_name
