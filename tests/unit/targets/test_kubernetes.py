"""Kubernetes: files of their own, and manifests with a container confined in place."""

from __future__ import annotations

import contextlib
import difflib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import examples
from unit.targets.policies import BECAUSE, file, policies, policy

from profiler.errors import InputError
from profiler.policy.model import Capability, Policy
from profiler.policy.posture import posture
from profiler.rewriting.yaml import loads
from profiler.targets import pods
from profiler.targets.base import Existing, Loss, Output
from profiler.targets.catalogue import find
from profiler.targets.kubernetes import KINDS, WORKLOAD, Owner
from profiler.targets.pod_security import standard
from profiler.targets.rendering import render

WILD = Path(__file__).parents[1] / "rewriting/wild"


def capable(*names: str, image: str | None = "nginx:1", uid: int = 0, user: str | None = None, **fields: Any) -> Policy:
    """A policy of nginx, recorded in a container, that writes to /tmp and /run."""
    made = policy(
        file("/tmp/x", "write", "create"),
        file("/run/app.pid", "write", "create"),
        argv=("/usr/sbin/nginx", "-g", "daemon off; $x"),
        capabilities=tuple(Capability(f"CAP_{name}", BECAUSE) for name in names),
        **fields,
    )
    launch = replace(made.workload.launch, command=made.workload.argv, user=user)
    return replace(made, workload=replace(made.workload, image=image, uid=uid, launch=launch))


def made_of(
    made: Policy, into: str | bytes | None = None, targets: str = "kubernetes", **given: object
) -> tuple[Output, list[Loss]]:
    existing = None if into is None else Existing("deploy.yaml", into if isinstance(into, bytes) else into.encode())
    options = {name.replace("_", "-"): value for name, value in given.items()}
    found = render(made, [find(name) for name in targets.split(",")], {"kubernetes": options}, existing)
    return found.outputs["kubernetes"], [loss for name, loss in found.losses if name == "kubernetes" and loss.item]


def validate(document: dict[str, Any]) -> None:
    """Check a manifest as ``kubernetes-validate --strict`` does."""
    kubernetes_validate.validate(document, "1.37", strict=True)


def valid(document: Any) -> bool:
    """Return whether it is a whole manifest: some of those that are edited are parts of one."""
    unknown = (kubernetes_validate.SchemaNotFoundError, TypeError)
    with contextlib.suppress(jsonschema.ValidationError, kubernetes_validate.ValidationError, *unknown):
        validate(document)
        return True
    return False


def pod_spec(document: dict[str, Any]) -> dict[str, Any]:
    for key in KINDS[document["kind"]][1]:
        document = document[key]
    return document


def notes(output: Output) -> list[str]:
    return [step.text for step in output.usage if step.kind == "note"]


# --- files of their own


@pytest.mark.parametrize(
    ("pod", "container", "path"),
    [
        ("shop/web", "front", "shop_web_front"),
        ("shop/web", "back", "shop_web_back"),
        ("shop/web", None, "nginx"),
        (None, "front", "nginx"),
        ("../../etc", "front", "nginx"),
        ("shop/we b", "front", "nginx"),
        ("shop/web", "../x", "nginx"),
    ],
)
def test_containers_of_one_program_have_profiles_of_their_own(
    pod: str | None, container: str | None, path: str
) -> None:
    made = capable("CHOWN")
    launch = replace(made.workload.launch, engine="kubernetes", pod=pod, container=container)
    output, _ = made_of(replace(made, workload=replace(made.workload, launch=launch)), form="pod")
    context = yaml.safe_load(output.files[0].data)["spec"]["containers"][0]["securityContext"]
    assert context["seccompProfile"]["localhostProfile"] == f"profgen/{path}.json"


def test_pod() -> None:
    output, losses = made_of(capable("CHOWN", "NET_BIND_SERVICE"))
    document = yaml.safe_load(output.files[0].data)
    validate(document)
    assert losses == []
    spec = document["spec"]
    assert spec["hostUsers"] is False
    container = spec["containers"][0]
    assert container["image"] == "nginx:1"
    assert [*container["command"], *container["args"]] == ["/usr/sbin/nginx", "-g", "daemon off; $$x"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "NET_BIND_SERVICE"]},
        "readOnlyRootFilesystem": True,
        "seccompProfile": {"type": "Localhost", "localhostProfile": "profgen/nginx.json"},
    }
    assert {row["mountPath"] for row in container["volumeMounts"]} == {"/tmp", "/run"}
    assert {row["name"] for row in spec["volumes"]} == {row["name"] for row in container["volumeMounts"]}
    assert notes(output)[0] == (
        "Pod Security Standards: meets baseline, not restricted; restricted needs: container app: no capabilities CHOWN"
    )
    assert output.files[0].needs == ("seccomp.json",)
    output, _ = made_of(capable(), POD.format(" {}"), "kubernetes,apparmor")
    assert output.files[0].needs == ("web.seccomp.json",), "each container of a manifest has a profile of its own"
    lines = [
        step.line({"web.seccomp.json": "A", "web.apparmor.profile": "B", "kubernetes.yaml": "C"})
        for step in output.usage
    ]
    assert any("install -D -m 644 A /var/lib" in line for line in lines)
    assert any("apparmor_parser -r -W B;" in line for line in lines)


def test_a_user_other_than_root_meets_restricted() -> None:
    output, losses = made_of(capable(uid=33, user="33:33"), targets="kubernetes,apparmor")
    context = yaml.safe_load(output.files[0].data)["spec"]["containers"][0]["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["runAsNonRoot"]) == (33, 33, True)
    assert context["appArmorProfile"]["localhostProfile"].startswith("profgen-nginx-")
    assert notes(output)[0] == "meets the Pod Security Standard restricted"
    assert losses == []


def test_what_was_recorded_on_a_host_may_not_fit_an_image() -> None:
    output, _ = made_of(capable(image=None, uid=33, user="33:33"))
    text = output.files[0].data.decode()
    spec = yaml.safe_load(text)["spec"]
    assert "hostUsers" not in spec
    assert "runAsUser" not in spec["containers"][0]["securityContext"]
    assert "readOnlyRootFilesystem" not in spec["containers"][0]["securityContext"]
    assert "# Recorded as user 33, outside of a container" in text


@pytest.mark.parametrize("kind", KINDS)
def test_patch(kind: str) -> None:
    output, _ = made_of(
        capable("CHOWN"), form="patch", workload=Owner(kind, None, "web"), container="main", scc="tight"
    )
    document = yaml.safe_load(output.files[0].data)
    assert (document["apiVersion"], document["kind"], document["metadata"]["name"]) == (KINDS[kind][0], kind, "web")
    spec = pod_spec(document)
    assert spec["containers"][0]["name"] == "main"
    assert spec["containers"][0]["securityContext"]["capabilities"]["add"] == ["CHOWN"]
    assert len(spec["volumes"]) == 2
    owner: Any = document
    for key in KINDS[kind][1][:-1]:
        owner = owner[key]
    assert owner["metadata"]["annotations"] == {"openshift.io/required-scc": "tight"}
    # A patch of an object that is complete is complete, and every member of it is known.
    spec["containers"][0]["image"] = "nginx"
    if kind not in ("Pod",):
        whole = document["spec"] if kind != "CronJob" else document["spec"]["jobTemplate"]["spec"]
        document["spec"] |= {"schedule": "* * * * *"} if kind == "CronJob" else {}
        whole |= {} if "Job" in kind else {"selector": {"matchLabels": {"a": "b"}}}
        whole |= {"serviceName": "web"} if kind == "StatefulSet" else {}
        spec["restartPolicy"] = "Never" if "Job" in kind else "Always"
    validate(document)


def test_component() -> None:
    output, _ = made_of(capable(), form="kustomize", workload=Owner("StatefulSet", "shop", "web"))
    component = yaml.safe_load(output.files[0].data)
    assert component["kind"] == "Component"
    assert component["patches"] == [
        {"path": "pod-patch.yaml", "target": {"kind": "StatefulSet", "name": "web", "namespace": "shop"}}
    ]
    assert [made.name for made in output.files] == ["kustomization.yaml", "pod-patch.yaml"]
    assert yaml.safe_load(output.files[1].data)["metadata"] == {"name": "web", "namespace": "shop"}
    output, _ = made_of(capable(), form="patch", workload=WORKLOAD.parse("deployment/shop/web"))
    assert any("kubectl patch -n shop deployment web --patch-file" in step.text for step in output.usage)


def test_values() -> None:
    output, _ = made_of(capable("CHOWN"), form="helm", scc="tight")
    values = yaml.safe_load(output.files[0].data)
    assert values["podAnnotations"] == {"openshift.io/required-scc": "tight"}
    assert values["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}
    assert [row["name"] for row in values["volumes"]] == [row["name"] for row in values["volumeMounts"]]


def test_a_capability_that_rules_out_no_new_privs() -> None:
    output, losses = made_of(capable("SYS_ADMIN"))
    context = yaml.safe_load(output.files[0].data)["spec"]["containers"][0]["securityContext"]
    assert "allowPrivilegeEscalation" not in context
    assert [(loss.section, loss.effect) for loss in losses] == [("no_new_privs", "wider")]
    assert not any("hostUsers" in note for note in notes(output)), "SYS_ADMIN means less in a user namespace"


def test_names() -> None:
    assert pods.volume_name("web", "/var/lib/app") == "profgen-web--var-lib-app"
    odd = [pods.volume_name("web", path) for path in ("/a b", "/a_b", "/a-b", "/A/b", "/é", "/" + "x" * 300)]
    odd += [pods.volume_name(one, "/b") for one in ("a", "a-", "a--b", "x" * 63, "None\n", "")]
    odd += [pods.volume_name("a--b", "/c"), pods.volume_name("a", "/b/c"), pods.volume_name("a-b", "/c")]
    assert len({*odd, pods.volume_name("web", "/a/b")}) == 16
    assert all(len(name) <= 63 and pods.label(name) for name in odd)
    for text in ("Web", "", "a" * 64, "-a", "a.b"):
        with pytest.raises(InputError):
            pods.label(text)


@settings(max_examples=25, deadline=None)
@given(policies(), st.sampled_from(["pod", "patch", "kustomize", "helm"]), st.sampled_from(["auto", "yes", "no"]))
def test_any_policy_gives_a_manifest_with_its_rights_or_losses(made: Policy, form: str, read_only: str) -> None:
    image = "registry/x@sha256:0" if read_only == "auto" else None
    made = replace(made, workload=replace(made.workload, image=image))
    output, losses = made_of(made, form=form, read_only=read_only)
    for one in output.files:
        document = yaml.safe_load(one.data)
        if form == "pod":
            validate(document)
            check_rights(made, document["spec"]["containers"][0], document["spec"].get("volumes", []), losses)
        if one.name == "values.yaml":
            check_rights(made, document, document.get("volumes", []), losses)


def check_rights(made: Policy, container: dict[str, Any], volumes: list[dict[str, Any]], losses: list[Loss]) -> None:
    """The container has the rights of the policy, and what it lacks is a loss."""
    context = container["securityContext"]
    lost = {loss.item for loss in losses}
    needed = {name.removeprefix("CAP_") for name in made.needed()}
    assert context["capabilities"]["drop"] == ["ALL"]
    assert set(context["capabilities"].get("add", [])) == needed
    if made.no_new_privs and "no_new_privs" not in lost:
        assert context["allowPrivilegeEscalation"] is False
    mounted = {row["mountPath"]: row["name"] for row in container.get("volumeMounts", [])}
    assert set(mounted.values()) == {row["name"] for row in volumes}
    if context.get("readOnlyRootFilesystem"):
        place = posture(made)
        for path in (*(row.path for row in place.temporary), *place.kept):
            assert path in mounted or any(pods.printable(path) == item or path in item for item in lost)


# --- manifests of the user's


def lines(before: bytes, after: bytes) -> tuple[list[str], list[str]]:
    found = list(difflib.ndiff(before.decode().splitlines(), after.decode().splitlines()))
    return [row[2:] for row in found if row.startswith("- ")], [row[2:] for row in found if row.startswith("+ ")]


CHOICES = {
    "k8s_several_documents": {"container": "web"},
    "k8s_anchors": {"container": "three"},
    "k8s_init_containers": {"container": "wait"},
    "k8s_flow_lines": {"container": "side"},
    "k8s_kustomization_patch": {"workload": Owner("ReplicaSet", None, "rs")},
}


@pytest.mark.parametrize("path", sorted(WILD.glob("k8s_*.yaml")), ids=lambda path: path.stem)
def test_manifests_of_all_styles(path: Path) -> None:
    before = path.read_bytes()
    output, _ = made_of(capable("CHOWN"), before, loosen=True, **CHOICES.get(path.stem, {}))
    after = output.files[0].data
    again, _ = made_of(capable("CHOWN"), after, loosen=True, **CHOICES.get(path.stem, {}))
    assert again.files[0].data == after
    gone, new = lines(before, after)
    assert len(new) >= len(gone)
    for old, edited in zip(loads(before)[1], loads(after)[1], strict=True):
        if valid(old):
            validate(edited)
    found = [item for document in loads(after)[1] for item in containers(document)]
    chosen = [
        one for one in found if one.get("securityContext", {}).get("seccompProfile", {}).get("type") == "Localhost"
    ]
    assert len(chosen) == 1
    context = chosen[0]["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert {"/tmp", "/run"} <= {row["mountPath"] for row in chosen[0]["volumeMounts"]}
    assert any(note.startswith(("Pod Security Standards: ", "meets")) for note in notes(output))


def containers(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [one for item in value for one in containers(item)]
    if not isinstance(value, dict):
        return []
    own = [one for kind in ("containers", "initContainers") for one in value.get(kind) or [] if isinstance(one, dict)]
    return [*own, *(one for item in value.values() for one in containers(item))]


POD = """apiVersion: v1
kind: Pod
metadata:
  name: web
spec:
  containers:
    - name: web
      image: nginx
      securityContext:{}
"""


def confined(context: str, made: Policy, **given: object) -> tuple[dict[str, Any], list[Loss]]:
    """The pod's spec when the container had this security context."""
    output, losses = made_of(made, POD.format(context and "\n        " + context.replace("\n", "\n        ")), **given)
    document = yaml.safe_load(output.files[0].data)
    validate(document)
    assert notes(output)[0] == standard(document["spec"]).text
    return document["spec"], losses


def test_the_container_that_was_recorded_is_the_one_by_default() -> None:
    made = capable()
    launch = replace(made.workload.launch, engine="kubernetes", pod="shop/web", container="exporter")
    made = replace(made, workload=replace(made.workload, launch=launch))
    output, _ = made_of(made, (WILD / "k8s_several_documents.yaml").read_bytes())
    found = containers(loads(output.files[0].data)[1])
    assert [one["name"] for one in found if "securityContext" in one] == ["exporter"]
    output, _ = made_of(made)
    assert containers(yaml.safe_load(output.files[0].data))[0]["name"] == "exporter"
    output, _ = made_of(made, POD.format(" {}"))
    assert containers(yaml.safe_load(output.files[0].data))[0]["name"] == "web", "the only one"


def test_what_the_manifest_drops_stays_dropped() -> None:
    made = capable("CHOWN", "SETUID", "NET_RAW")
    spec, losses = confined("capabilities: {drop: [ALL], add: [CHOWN, KILL]}", made)
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN"]}
    assert {(loss.item, loss.effect) for loss in losses} == {("CAP_SETUID", "refused"), ("CAP_NET_RAW", "refused")}
    spec, losses = confined("capabilities: {drop: [net_raw]}", made)
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["CHOWN", "SETUID"]}
    assert [loss.item for loss in losses] == ["CAP_NET_RAW"]
    spec, losses = confined("capabilities: {drop: [NET_RAW]}", made, loosen=True)
    assert spec["containers"][0]["securityContext"]["capabilities"]["add"] == ["CHOWN", "SETUID", "NET_RAW"]
    assert losses == []


def test_what_the_policy_does_not_need_goes() -> None:
    spec, losses = confined("capabilities:\n  add:\n    - SYS_ADMIN # all\n    - CAP_KILL", capable())
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert losses == []


def test_a_user_of_the_manifest_stays() -> None:
    spec, losses = confined("runAsUser: 1000", capable("CHOWN", uid=33))
    assert spec["containers"][0]["securityContext"]["runAsUser"] == 1000
    assert [(loss.item, loss.effect) for loss in losses] == [("CAP_CHOWN", "refused")]
    spec, losses = confined("runAsNonRoot: true", capable("CHOWN"))
    assert "runAsUser" not in spec["containers"][0]["securityContext"]
    assert [(loss.item, loss.effect) for loss in losses] == [("CAP_CHOWN", "refused")]


def test_a_root_that_the_manifest_mounts_read_only_stays_so() -> None:
    made = policy(file("/etc/app.conf", "write"), file("/srv/data/x", "write"), file("/tmp/x", "create"))
    spec, losses = confined("readOnlyRootFilesystem: true", made)
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert [row["mountPath"] for row in spec["containers"][0]["volumeMounts"]] == ["/tmp", "/srv/data"]
    assert {loss.item for loss in losses} == {"writing /etc/app.conf", "the content of /srv/data"}
    spec, losses = confined("readOnlyRootFilesystem: false", made)
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is False
    assert losses == []


def test_a_volume_of_the_manifest_is_where_the_workload_writes() -> None:
    made = replace(capable(), files=(*capable().files, file("/data/x", "write")))
    assert "readOnlyRootFilesystem" not in confined("{}", made)[0]["containers"][0]["securityContext"]
    text = POD.format(" {}\n      volumeMounts:\n        - {name: data, mountPath: /data/}") + (
        "  volumes:\n    - name: data\n      persistentVolumeClaim: {claimName: data}\n"
    )
    output, losses = made_of(made, text)
    spec = yaml.safe_load(output.files[0].data)["spec"]
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert [row["mountPath"] for row in spec["containers"][0]["volumeMounts"]] == ["/data/", "/run", "/tmp"]
    assert losses == []
    assert "hostUsers" not in spec, "a claim may be on a file system without mapped ids"


WRITES = """apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      annotations:
        container.apparmor.security.beta.kubernetes.io/one: unconfined
        container.apparmor.security.beta.kubernetes.io/two: runtime/default
        container.seccomp.security.alpha.kubernetes.io/one: runtime/default # as it was
        container.seccomp.security.alpha.kubernetes.io/two: unconfined
        seccomp.security.alpha.kubernetes.io/pod: runtime/default
    spec:
      containers:
        - {name: one, image: nginx}
        - {name: two, image: nginx}
      volumes:
        - name: profgen-two--tmp
          hostPath: {path: /}
"""


def test_each_container_of_a_pod_has_volumes_of_its_own() -> None:
    text = WRITES.encode()
    for name in ("one", "two", "one"):
        text = made_of(capable(), text, container=name)[0].files[0].data
    spec = yaml.safe_load(text)["spec"]["template"]["spec"]
    mounts = [{row["mountPath"]: row["name"] for row in one["volumeMounts"]} for one in spec["containers"]]
    assert mounts == [
        {"/run": "profgen-one--run", "/tmp": "profgen-one--tmp"},
        {"/run": "profgen-two--run", "/tmp": "profgen-two--tmp-2"},
    ]
    assert [row["name"] for row in spec["volumes"]] == [
        "profgen-two--tmp", "profgen-one--run", "profgen-one--tmp", "profgen-two--run", "profgen-two--tmp-2",
    ]  # fmt: skip
    assert all(row["emptyDir"] == {} for row in spec["volumes"][1:])


def test_older_annotations_of_the_container_do_not_contradict_its_fields() -> None:
    def left(targets: str) -> list[str]:
        output, _ = made_of(capable(), WRITES, targets, container="one")
        document = yaml.safe_load(output.files[0].data)
        validate(document)
        return [key.partition(".")[2][:8] + key[-4:] for key in document["spec"]["template"]["metadata"]["annotations"]]

    assert left("kubernetes") == ["apparmor/one", "apparmor/two", "seccomp./two", "security/pod"]
    assert left("kubernetes,apparmor") == ["apparmor/two", "seccomp./two", "security/pod"]


def test_an_older_annotation_that_says_the_same_stays() -> None:
    text = WRITES.replace("one: runtime/default", "one: localhost/profgen/nginx.json")
    assert b"# as it was" in made_of(capable(), text, container="one")[0].files[0].data
    assert b"# as it was" not in made_of(capable(), WRITES, container="one")[0].files[0].data


def test_a_mount_that_is_read_only_where_the_workload_writes() -> None:
    text = POD.format(
        " {}\n      volumeMounts:\n        - {name: data, mountPath: /data/, readOnly: true}\n"
        "        - {name: keys, mountPath: /keys}\n        - {name: sub, mountPath: /data/sub}"
    ) + (
        "  volumes:\n    - {name: data, emptyDir: {}}\n    - {name: sub, emptyDir: {}}\n"
        "    - name: keys\n      secret: {secretName: keys}\n"
    )
    written = [file(path, "write") for path in ("/data/x", "/data/sub/x", "/keys/x")]
    made = replace(capable(), files=(*capable().files, *written, file("/data/y", "read")))
    _, losses = made_of(made, text)
    assert [(loss.item, loss.why, loss.effect) for loss in losses] == [
        ("writing /data/x, /keys/x", "the manifest mounts a volume there read-only", "refused"),
    ]


def test_settings_that_the_manifest_contradicts() -> None:
    host = POD.format(" {}") + "  hostUsers: true\n"
    assert yaml.safe_load(made_of(capable(), host)[0].files[0].data)["spec"]["hostUsers"] is True
    output, _ = made_of(capable(), host, user_namespace="yes")
    assert yaml.safe_load(output.files[0].data)["spec"]["hostUsers"] is False
    own = POD.format(" {readOnlyRootFilesystem: true}") + "  hostUsers: false\n"
    output, _ = made_of(capable(), own, user_namespace="no", read_only="no", loosen=True)
    spec = yaml.safe_load(output.files[0].data)["spec"]
    assert spec["hostUsers"] is True
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is False
    assert "volumes" not in spec


def test_a_root_that_the_workload_must_write_is_loosened() -> None:
    spec, losses = confined("readOnlyRootFilesystem: true", policy(file("/etc/app.conf", "write")), loosen=True)
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is False
    assert losses == []


def test_objects_of_one_name_in_several_namespaces() -> None:
    one = WRITES.replace("{name: web}", "{name: web, namespace: shop}")
    text = f"{one}---\n{one.replace('shop', 'test')}---\n{WRITES}"
    for chosen, index in (("Deployment/test/web", 1), ("deployment/shop/web", 0)):
        output, _ = made_of(capable(), text, workload=WORKLOAD.parse(chosen), container="one")
        found = [containers(document)[0] for document in yaml.safe_load_all(output.files[0].data)]
        assert [number for number, row in enumerate(found) if "securityContext" in row] == [index]
    with pytest.raises(InputError, match=r"Deployment/shop/web: one, Deployment/test/web: one, Deployment/web: one"):
        made_of(capable(), text, workload=WORKLOAD.parse("Deployment/web"), container="one")
    with pytest.raises(InputError, match="no container fits"):
        made_of(capable(), text, workload=WORKLOAD.parse("Deployment/other/web"), container="one")
    for word in ("web", "Deployment/", "/web", "a/b/c/d", "a//b"):
        with pytest.raises(InputError, match="KIND/NAMESPACE/NAME"):
            WORKLOAD.parse(word)


def test_what_gains_privileges() -> None:
    made = capable(no_new_privs=False)
    assert "allowPrivilegeEscalation" not in confined("{}", made)[0]["containers"][0]["securityContext"]
    spec, losses = confined("allowPrivilegeEscalation: false", made)
    assert spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False
    assert [(loss.section, loss.effect) for loss in losses] == [("no_new_privs", "refused")]
    spec, losses = confined("allowPrivilegeEscalation: false", made, loosen=True)
    assert spec["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is True
    assert losses == []


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        (POD.format(" {privileged: true}"), {}, "the container is privileged: runtimes give it all rights"),
        (POD.format(" {allowPrivilegeEscalation: false}"), {"caps": ("SYS_ADMIN",)}, "refuses the two together"),
        (POD.format(" {}"), {"container": "db"}, "no container fits: choose with -O kubernetes.container=NAME"),
        (POD.format(" {}"), {"workload": Owner("Deployment", None, "web")}, "one of Pod/web: web"),
        (POD.format(" {}") + "    - name: side\n", {}, "several containers fit: choose with"),
        ("a: 1\n", {}, "it has no containers: give the manifest of a Deployment"),
        ("image: {{ .Values.x }}\n", {}, "it may be a template ({{ ... }}): render it first"),
        (POD.format(" {readOnlyRootFilesystem: true}"), {"read_only": "no"}, "contradicts read-only=no"),
        (POD.format(" {}") + "  hostUsers: false\n", {"user_namespace": "no"}, "contradicts user-namespace=no"),
        (POD.format(" {}") + "  hostPID: true\n", {"user_namespace": "yes"}, "the manifest sets hostPID: true"),
        (POD.format(" 5"), {}, "there is not a mapping where"),
        (POD.format(" {}") + "    - name: web\n", {"container": "web"}, "several containers fit"),
    ],
)
def test_manifests_that_are_refused(text: str, given: dict[str, Any], message: str) -> None:
    made = capable(*given.pop("caps", ()))
    with pytest.raises(InputError) as raised:
        made_of(made, text, **given)
    assert message in str(raised.value)
    assert str(raised.value).startswith("deploy.yaml: ")


def test_what_no_pod_can_have() -> None:
    with pytest.raises(InputError, match=r"form=helm is for files of their own, and deploy\.yaml keeps the form"):
        made_of(capable(), POD.format(" {}"), form="helm")
    made = capable()
    launch = replace(made.workload.launch, network="host")
    with pytest.raises(InputError, match="recorded with the network of the host"):
        made_of(replace(made, workload=replace(made.workload, launch=launch)), user_namespace="yes")


@settings(max_examples=examples(60), deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["spec", "containers", "template", "metadata", "name", "securityContext", "items", "kind"]),
        st.recursive(
            st.none() | st.booleans() | st.just("web"),
            lambda inner: st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(
                    ["spec", "containers", "name", "securityContext", "capabilities", "add", "drop", "volumes",
                     "volumeMounts", "template", "metadata", "annotations"]
                ),
                inner,
                max_size=4,
            ),
            max_leaves=20,
        ),
        max_size=4,
    )
)  # fmt: skip
def test_no_manifest_breaks_it(document: dict[str, Any]) -> None:
    with contextlib.suppress(InputError):
        made_of(capable("CHOWN"), json.dumps(document))
