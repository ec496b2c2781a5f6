"""The Pod Security Standards against a table of pods (kubernetes.io, Pod Security Standards, 1.34)."""

from __future__ import annotations

from typing import Any

import pytest

from profiler.targets.pod_security import Standard, standard

HARD = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def container(**context: Any) -> dict[str, Any]:
    return {"name": "web", "securityContext": {**HARD, **context}}


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"containers": list(containers) or [container()], **spec}


PLAIN = {"name": "plain"}
WITHOUT_USER = {"name": "web", "securityContext": {key: value for key, value in HARD.items() if key != "runAsNonRoot"}}
WITHOUT_SECCOMP = {key: value for key, value in container().items() if key == "name"} | {
    "securityContext": {key: value for key, value in HARD.items() if key != "seccompProfile"}
}

RESTRICTED: list[dict[str, Any]] = [
    pod(),
    pod(container(seccompProfile={"type": "Localhost", "localhostProfile": "profgen/web.json"})),
    pod(container(capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]})),
    pod(container(runAsUser=1000, readOnlyRootFilesystem=True, appArmorProfile={"type": "Localhost"})),
    pod(WITHOUT_USER, securityContext={"runAsNonRoot": True}),
    pod(WITHOUT_USER, hostUsers=False),
    pod(container(runAsUser=0, runAsNonRoot=False, procMount="Unmasked"), hostUsers=False),
    pod(WITHOUT_SECCOMP, securityContext={"seccompProfile": {"type": "RuntimeDefault"}}),
    pod(securityContext={"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}]}),
    pod(volumes=[{"name": "a", "emptyDir": {}}, {"name": "b", "projected": {}}, {"name": "c", "image": {}}]),
    pod(container(seLinuxOptions={"type": "container_t", "level": "s0:c1"}, procMount="Default")),
    pod(hostNetwork=False, volumes=None, securityContext=None),
]
BASELINE: list[tuple[dict[str, Any], str]] = [
    (pod(PLAIN), "container plain: allowPrivilegeEscalation false"),
    (pod(PLAIN), "container plain: a seccompProfile"),
    (pod(PLAIN), "container plain: runAsNonRoot true"),
    (pod(container(capabilities={"drop": ["NET_RAW"]})), "container web: capabilities.drop ALL"),
    (
        pod(container(capabilities={"drop": ["ALL"], "add": ["CHOWN", "KILL"]})),
        "container web: no capabilities CHOWN, KILL",
    ),
    (pod(container(allowPrivilegeEscalation=True)), "container web: allowPrivilegeEscalation false"),
    (pod(container(runAsNonRoot=False)), "container web: runAsNonRoot true"),
    (pod(container(runAsUser=0)), "container web: runAsUser not 0"),
    (pod(securityContext={"runAsUser": 0}), "pod: runAsUser not 0"),
    (pod(container(), PLAIN), "container plain: capabilities.drop ALL"),
    (pod(initContainers=[PLAIN]), "container plain: a seccompProfile"),
    (pod(volumes=[{"name": "a", "nfs": {}}]), "volume a not a nfs"),
]
PRIVILEGED: list[tuple[dict[str, Any], str]] = [
    (pod(hostNetwork=True), "hostNetwork not true"),
    (pod(hostPID=True), "hostPID not true"),
    (pod(container(privileged=True)), "container web: privileged not true"),
    (pod(container(capabilities={"drop": ["ALL"], "add": ["NET_RAW"]})), "container web: no capabilities NET_RAW"),
    (pod(container(capabilities={"add": ["CAP_CHOWN"]})), "container web: no capabilities CAP_CHOWN"),
    (pod(volumes=[{"name": "a", "hostPath": {"path": "/"}}]), "volume a not a hostPath"),
    (pod({**container(), "ports": [{"containerPort": 80, "hostPort": 80}]}), "container web: no hostPort"),
    (pod(container(appArmorProfile={"type": "Unconfined"})), "container web: appArmorProfile not Unconfined"),
    (pod(container(seccompProfile={"type": "Unconfined"})), "container web: seccompProfile not Unconfined"),
    (pod(securityContext={"seccompProfile": {"type": "Unconfined"}}), "pod: seccompProfile not Unconfined"),
    (pod(container(seLinuxOptions={"type": "web.process"})), "container web: seLinuxOptions with a type of containers"),
    (pod(container(seLinuxOptions={"user": "u"})), "container web: seLinuxOptions with a type of containers"),
    (pod(container(procMount="Unmasked")), "container web: procMount Default"),
    (pod(securityContext={"sysctls": [{"name": "kernel.msgmax"}]}), "no sysctl kernel.msgmax"),
    (pod(container(windowsOptions={"hostProcess": True})), "container web: hostProcess not true"),
    (pod({**container(), "livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}), "container web: no host in probes"),
    (pod({**container(), "lifecycle": {"preStop": {"tcpSocket": {"host": "x"}}}}), "container web: no host in probes"),
    (pod(ephemeralContainers=[container(privileged=True)]), "container web: privileged not true"),
]


@pytest.mark.parametrize("spec", RESTRICTED)
def test_restricted(spec: dict[str, Any]) -> None:
    assert standard(spec) == Standard("restricted")


@pytest.mark.parametrize(("spec", "reason"), BASELINE)
def test_baseline(spec: dict[str, Any], reason: str) -> None:
    found = standard(spec)
    assert found.level == "baseline"
    assert reason in found.against
    assert reason in found.text


@pytest.mark.parametrize(("spec", "reason"), PRIVILEGED)
def test_privileged(spec: dict[str, Any], reason: str) -> None:
    found = standard(spec)
    assert found.level == "privileged"
    assert len(found.against) == 1
    assert found.against[0].startswith(reason)


def test_the_annotation_of_apparmor_counts() -> None:
    key = "container.apparmor.security.beta.kubernetes.io/web"
    assert standard(pod(), {key: "localhost/web"}).level == "restricted"
    assert standard(pod(), {key: "runtime/default", "other": "unconfined"}).level == "restricted"
    assert standard(pod(), {key: "unconfined"}).against == (f"{key} not unconfined",)


@pytest.mark.parametrize("spec", [{}, {"containers": None}, {"containers": ["x", None]}, {"containers": [{"name": 1}]}])
def test_what_is_not_a_pod_does_not_fail(spec: dict[str, Any]) -> None:
    standard(spec)
