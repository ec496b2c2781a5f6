"""Kubernetes: the security context of a container, in a manifest of yours or in files of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profiler.errors import InputError
from profiler.policy.caveats import extent
from profiler.policy.posture import posture
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.rewriting.yaml import Path, Unreadable, append, loads, put, remove
from profiler.targets import pods
from profiler.targets.base import Existing, File, Launches, OneOf, Output, Request, Setting, Step, Target, written
from profiler.targets.containers import READ_ONLY
from profiler.targets.pod_security import standard
from profiler.targets.pods import Confined, Manifest
from profiler.wording import listed

_TEMPLATE = ("spec", "template", "spec")
KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Pod": ("v1", ("spec",)),
    "Deployment": ("apps/v1", _TEMPLATE),
    "StatefulSet": ("apps/v1", _TEMPLATE),
    "DaemonSet": ("apps/v1", _TEMPLATE),
    "ReplicaSet": ("apps/v1", _TEMPLATE),
    "Job": ("batch/v1", _TEMPLATE),
    "CronJob": ("batch/v1", ("spec", "jobTemplate", *_TEMPLATE)),
}
"""What makes pods: its API version, and where the spec of the pod is."""
_SPECS = (_TEMPLATE, ("spec", "jobTemplate", *_TEMPLATE), ("template", "spec"), ("spec",))
"""Where a pod's spec can be in an object, also of a kind that is not in the list."""


def _workload(text: str) -> tuple[str, str]:
    kind, _, name = text.partition("/")
    known = {one.lower(): one for one in KINDS}
    if not kind or not name:
        raise InputError(f"{printable(text)!r}: write it as KIND/NAME, such as Deployment/web")
    return known.get(kind.lower(), kind), name


FORM = Setting(
    "form",
    "a pod, a patch for kubectl, a kustomize component, or values for a Helm chart",
    "FORM",
    "pod",
    OneOf("pod", "patch", "kustomize", "helm"),
)
WORKLOAD = Setting[tuple[str, str] | None](
    "workload", "the object that has the container; needed where a manifest has several", "KIND/NAME", None, _workload
)
SCC = Setting[str | None](
    "scc",
    "SecurityContextConstraints of OpenShift for the pod (openshift.io/required-scc)",
    "NAME",
    None,
    pods.label,
)


class Kubernetes(Target):
    """Whatever runs pods: Kubernetes and its distributions, and ``podman kube play``."""

    name = "kubernetes"
    summary = "pod.yaml, a patch, a kustomize component or Helm values; or your own manifest rewritten"
    says = frozenset({"capabilities", "no_new_privs"})
    settings = (FORM, pods.CONTAINER, WORKLOAD, pods.SECCOMP, READ_ONLY, pods.USER_NAMESPACE, pods.LOOSEN, SCC)
    rewrites = "a Kubernetes manifest"
    launches = Launches(
        engines=frozenset({"kubernetes"}), names=frozenset({"seccomp", "apparmor"}), requires=frozenset({"seccomp"})
    )

    def render(self, request: Request) -> Output:
        """See Target.render."""
        return _new(request) if request.existing is None else _rewritten(request, request.existing)


# --- files of their own


def _new(request: Request) -> Output:
    made, losses = pods.confined(request)
    place, work = posture(request.policy), request.policy.workload
    name = pods.name_of(request.policy)
    kind, own_name = WORKLOAD.of(request) or ("Deployment", name)
    form = FORM.of(request)
    if form in ("patch", "kustomize") and kind not in KINDS:
        raise InputError(f"kubernetes: {printable(kind)} is not a kind that can be patched: one of {', '.join(KINDS)}")
    values = {
        "made": made,
        "extent": extent(work),
        "argv": " ".join(map(shell, work.argv)),
        "image": work.image,
        "digest": work.digest,
        "sure": place.sure,
        "place": place,
        "uid": place.uid,
        "workload": own_name if WORKLOAD.of(request) else name,
        "kind": kind,
        "version": KINDS.get(kind, ("v1", ()))[0],
        "path": KINDS.get(kind, ("v1", ("spec",)))[1],
        "container": pods.CONTAINER.of(request) or pods.container_of(request.policy) or "app",
        "scc": SCC.of(request),
        "root": pods.SECCOMP_ROOT,
        "mounts": [
            (pods.volume_name(row.destination), row) for row in place.mounts if row.destination not in made.directories
        ],
    }
    names = {"pod": ["pod.yaml"], "patch": ["pod-patch.yaml"], "helm": ["values.yaml"]}.get(
        form, ["kustomization.yaml", "pod-patch.yaml"]
    )
    needs = (request.artifacts["seccomp"].called,)
    files = tuple(File(one, request.template(f"{one}.j2", **values), needs=needs) for one in names)
    use = {
        "pod": f"kubectl apply -f {written('pod.yaml')}",
        "patch": f"kubectl patch {shell(kind.lower())} {shell(own_name)} --patch-file {written('pod-patch.yaml')}",
        "helm": f"helm upgrade --install RELEASE CHART -f {written('values.yaml')}",
        "kustomize": f"add the directory of {written('kustomization.yaml')} to components: in your kustomization.yaml",
    }[form]
    container = {"name": "app", "securityContext": made.context()}
    spec = {"containers": [container], **({"hostUsers": False} if made.host_users is False else {})}
    if place.network == "host":
        spec["hostNetwork"] = True
    return Output(files, losses, (*_usage(made, use), *_notes(made, spec, {})))


def _usage(made: Confined, use: str) -> Iterator[Step]:
    path = f"{pods.SECCOMP_ROOT}/{made.seccomp}"
    yield Step("load", f"on each node: install -D -m 644 {written('seccomp.json')} {shell(path)}")
    if made.apparmor is not None:
        yield Step("load", "on each node: apparmor_parser -r -W apparmor.profile; without AppArmor the pod is refused")
    yield Step("use", use)
    yield Step("undo", f"to undo, on each node: rm {shell(path)}")


def _notes(made: Confined, spec: Mapping[str, Any], annotations: Mapping[str, Any]) -> Iterator[Step]:
    yield Step("note", standard(spec, annotations).text)
    if made.host_users is False:
        yield Step(
            "note",
            "hostUsers: false needs nodes with Kubernetes 1.33, Linux 6.3, and containerd 2.0 or CRI-O 1.25, or later; "
            "without it: -O kubernetes.user-namespace=no",
        )


# --- a manifest of the user's


@dataclass(frozen=True)
class _Pod:
    """A pod in a manifest: the document, where its spec is, the data of the spec and of the annotations next to it, and
    kind and name of what it belongs to."""

    document: int
    spec: tuple[str | int, ...]
    data: Mapping[str, Any]
    annotations: Mapping[str, Any]
    owner: tuple[str, str]

    def containers(self) -> Iterator[_Container]:
        """Yield each container."""
        for kind in ("containers", "initContainers"):
            for index, row in enumerate(pods.rows(self.data.get(kind))):
                yield _Container(self, (*self.spec, kind, index), str(row.get("name")), row)


@dataclass(frozen=True)
class _Container:
    """A container in a manifest, and where it is."""

    pod: _Pod
    at: tuple[str | int, ...]
    name: str
    data: Mapping[str, Any]

    @property
    def text(self) -> str:
        """Name it for a message."""
        return printable(f"{'/'.join(self.pod.owner)}: {self.name}")


def _pods(documents: Sequence[Any]) -> Iterator[_Pod]:
    """Yield every pod of a manifest, also those in lists."""
    for number, document in enumerate(documents):
        yield from _pods_of(document, number, ())


def _pods_of(value: Any, document: int, at: tuple[str | int, ...]) -> Iterator[_Pod]:
    if not isinstance(value, Mapping):
        return
    if isinstance(value.get("items"), list):
        for index, item in enumerate(value["items"]):
            yield from _pods_of(item, document, (*at, "items", index))
        return
    for path in _SPECS:
        spec = _at(value, path)
        if isinstance(spec.get("containers"), list):
            annotations = _at(value, (*path[:-1], "metadata", "annotations"))
            owner = (str(value.get("kind")), str(_at(value, ("metadata",)).get("name")))
            yield _Pod(document, (*at, *path), spec, annotations, owner)
            return


def _at(value: Any, path: Sequence[str]) -> Mapping[str, Any]:
    """Return the mapping at a path, an empty one where there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _rewritten(request: Request, existing: Existing) -> Output:
    """Return the user's manifest with the container confined, and every other byte as it was."""
    try:
        text, documents = loads(existing.data)
        container = _chosen(request, [one for pod in _pods(documents) for one in pod.containers()])
        pod = container.pod
        made, losses = pods.confined(request, Manifest(pod.data, container.data))
        text = _edited(text, container, made)
        if scc := SCC.of(request):
            annotations = (*pod.spec[:-1], "metadata", "annotations", "openshift.io/required-scc")
            text = put(text, annotations, scc, pod.document)
        after = _pods(loads(text.encode("utf-8"))[1])
        done = next(one for one in after if (one.document, one.spec) == (pod.document, pod.spec))
    except Unreadable as error:
        raise InputError(f"{existing.name}: cannot be rewritten: {error}") from error
    except InputError as error:
        raise InputError(f"{existing.name}: {error}") from error
    file = File("kubernetes.yaml", text.encode("utf-8"), needs=(request.artifacts["seccomp"].called,))
    use = f"kubectl apply -f {written(file.name)}"
    return Output((file,), losses, (*_usage(made, use), *_notes(made, done.data, done.annotations)))


def _chosen(request: Request, found: Sequence[_Container]) -> _Container:
    """Return the one container that the settings name, or that the manifest has."""
    if not found:
        raise InputError("it has no containers: give the manifest of a Deployment, a Pod or the like")
    owner, name = WORKLOAD.of(request), pods.CONTAINER.of(request)
    among = [one for one in found if owner in (None, one.pod.owner)]
    recorded = [one for one in among if one.name == pods.container_of(request.policy)]
    if name is not None:
        chosen = [one for one in among if one.name == name]
    else:
        chosen = recorded or [one for one in among if one.at[-2] == "containers"]
    if len(chosen) == 1:
        return chosen[0]
    what = "several containers fit" if chosen else "no container fits"
    names = listed([one.text for one in chosen or found], 8)
    raise InputError(
        f"{what}: choose with -O kubernetes.container=NAME and -O kubernetes.workload=KIND/NAME one of {names}"
    )


def _edited(text: str, container: _Container, made: Confined) -> str:
    """Return the text of the manifest with the members set. Raises Unreadable."""
    pod, context = container.pod, (*container.at, "securityContext")
    for key, value in made.context().items():
        if key == "capabilities":
            given = Manifest({}, container.data).capabilities
            text = _capabilities(text, (*context, key), given("drop"), given("add"), made.add, pod.document)
        else:
            text = put(text, (*context, key), value, pod.document)
    for volume, path in made.volumes:
        if all(row.get("name") != volume for row in pods.rows(pod.data.get("volumes"))):
            text = append(text, (*pod.spec, "volumes"), {"name": volume, "emptyDir": {}}, pod.document)
        text = append(text, (*container.at, "volumeMounts"), {"name": volume, "mountPath": path}, pod.document)
    if made.host_users is False:
        text = put(text, (*pod.spec, "hostUsers"), False, pod.document)
    return text


def _capabilities(
    text: str, at: Path, drop: Sequence[str], given: Sequence[str], add: Sequence[str], document: int
) -> str:
    """Return the text with these capabilities added alone. Lines of those that stay are kept, with their comments."""
    if "ALL" not in drop:
        text = put(text, (*at, "drop"), ["ALL"], document)
    if not add:
        return remove(text, (*at, "add"), document)
    if not set(given) & set(add):
        return put(text, (*at, "add"), list(add), document)
    for index in reversed([index for index, one in enumerate(given) if one not in add or one in given[:index]]):
        text = remove(text, (*at, "add", index), document)
    for one in add:
        text = append(text, (*at, "add"), one, document)
    return text
