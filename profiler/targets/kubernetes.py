"""Kubernetes: the security context of a container, in a manifest of yours or in files of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from profiler.errors import InputError
from profiler.policy.caveats import extent
from profiler.policy.posture import posture
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.rewriting.yaml import Path, Unreadable, append, loads, members, put, remove
from profiler.targets import pods
from profiler.targets.base import Existing, File, Launches, OneOf, Output, Request, Setting, Step, Target, written
from profiler.targets.containers import ARTIFACTS, LOOSEN, READ_ONLY
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


class Owner(NamedTuple):
    """The object that has a pod. ``namespace``: None where it is not said."""

    kind: str
    namespace: str | None
    name: str

    @property
    def text(self) -> str:
        """Write it as the setting ``workload`` takes it."""
        return "/".join(word for word in self if word is not None)

    def means(self, other: Owner) -> bool:
        """Return whether the other one fits; without a namespace, those of all namespaces do."""
        return self in (other, other._replace(namespace=None))


def _workload(text: str) -> Owner:
    known = {one.lower(): one for one in KINDS}
    kind, *words = text.split("/")
    if not kind or len(words) not in (1, 2) or not all(words):
        raise InputError(
            f"{printable(text)!r}: write it as KIND/NAME or KIND/NAMESPACE/NAME, such as Deployment/shop/web"
        )
    return Owner(known.get(kind.lower(), kind), words[0] if words[1:] else None, words[-1])


FORM = Setting(
    "form",
    "a pod, a patch for kubectl, a kustomize component, or values for a Helm chart",
    "FORM",
    "pod",
    OneOf("pod", "patch", "kustomize", "helm"),
)
WORKLOAD = Setting[Owner | None](
    "workload",
    "where a manifest has several objects: KIND/NAME or KIND/NAMESPACE/NAME",
    "OBJECT",
    None,
    _workload,
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
    settings = (FORM, pods.CONTAINER, WORKLOAD, pods.SECCOMP, READ_ONLY, pods.USER_NAMESPACE, LOOSEN, SCC)
    rewrites = "a Kubernetes manifest"
    launches = Launches(engines=frozenset({"kubernetes"}), names=ARTIFACTS, requires=frozenset({"seccomp"}))

    def prefix(self, request: Request) -> str:
        """See Target.prefix: each container of a manifest has a profile of its own."""
        if request.existing is None:
            return ""
        return f"{pods.label(_found(request, request.existing).container.name)}."

    def render(self, request: Request) -> Output:
        """See Target.render."""
        return _new(request) if request.existing is None else _rewritten(request, request.existing)


# --- files of their own


def _new(request: Request) -> Output:
    made, losses = pods.confined(request)
    place, work = posture(request.policy), request.policy.workload
    name = pods.name_of(request.policy)
    owner = WORKLOAD.of(request) or Owner("Deployment", None, name)
    kind, form = owner.kind, FORM.of(request)
    if made.host_users is False and form == "pod" and place.network == "host":
        raise InputError(
            "kubernetes: the workload was recorded with the network of the host, which Kubernetes refuses in a pod "
            "with a user namespace of its own; generate without user-namespace=yes"
        )
    container = pods.called(request)
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
        "workload": owner.name,
        "namespace": owner.namespace,
        "kind": kind,
        "version": KINDS.get(kind, ("v1", ()))[0],
        "path": KINDS.get(kind, ("v1", ("spec",)))[1],
        "container": container,
        "scc": SCC.of(request),
        "root": pods.SECCOMP_ROOT,
        "mounts": [
            (pods.volume_name(container, row.destination), row)
            for row in place.mounts
            if row.destination not in dict(made.volumes).values()
        ],
    }
    names = {"pod": ["pod.yaml"], "patch": ["pod-patch.yaml"], "helm": ["values.yaml"]}.get(
        form, ["kustomization.yaml", "pod-patch.yaml"]
    )
    needs = (request.artifacts["seccomp"].file,)
    files = tuple(File(one, request.template(f"{one}.j2", **values), needs=needs) for one in names)
    into = f"-n {shell(owner.namespace)} " if owner.namespace else ""
    use = {
        "pod": f"kubectl apply -f {written('pod.yaml')}",
        "patch": f"kubectl patch {into}{shell(kind.lower())} {shell(owner.name)} --patch-file "
        f"{written('pod-patch.yaml')}",
        "helm": f"helm upgrade --install RELEASE CHART -f {written('values.yaml')}",
        "kustomize": f"add the directory of {written('kustomization.yaml')} to components: in your kustomization.yaml",
    }[form]
    shown = {"name": container, "securityContext": made.context()}
    spec = {"containers": [shown], **({"hostUsers": False} if made.host_users is False else {})}
    if place.network == "host":
        spec["hostNetwork"] = True
    return Output(files, losses, (*_usage(request, made, use), *_notes(made, spec, {})))


def _usage(request: Request, made: Confined, use: str) -> Iterator[Step]:
    path = f"{pods.SECCOMP_ROOT}/{made.seccomp}"
    seccomp, apparmor = request.artifacts["seccomp"], request.artifacts.get("apparmor")
    yield Step("load", f"on each node: install -D -m 644 {written(seccomp.file)} {shell(path)}")
    if apparmor is not None:
        file = written(apparmor.file)
        yield Step("load", f"on each node: apparmor_parser -r -W {file}; without AppArmor the pod is refused")
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
    the object that it belongs to."""

    document: int
    spec: tuple[str | int, ...]
    data: Mapping[str, Any]
    annotations: Mapping[str, Any]
    owner: Owner

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
        return printable(f"{self.pod.owner.text}: {self.name}")


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
            about = _at(value, ("metadata",))
            namespace = about.get("namespace")
            owner = Owner(str(value.get("kind")), None if namespace is None else str(namespace), str(about.get("name")))
            yield _Pod(document, (*at, *path), spec, annotations, owner)
            return


def _at(value: Any, path: Sequence[str]) -> Mapping[str, Any]:
    """Return the mapping at a path, an empty one where there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


class _Found(NamedTuple):
    """The container that is meant, and the text of the manifest."""

    text: str
    container: _Container


def _found(request: Request, existing: Existing) -> _Found:
    """Return the container of the user's manifest that the settings mean. Raises InputError."""
    if FORM.name in request.settings:
        raise InputError(
            f"kubernetes: form={FORM.of(request)} is for files of their own, and {existing.name} keeps the form that "
            "it has; generate without one of the two"
        )
    try:
        text, documents = loads(existing.data)
        return _Found(text, _chosen(request, [one for pod in _pods(documents) for one in pod.containers()]))
    except Unreadable as error:
        raise InputError(f"{existing.name}: cannot be rewritten: {error}") from error
    except InputError as error:
        raise InputError(f"{existing.name}: {error}") from error


def _rewritten(request: Request, existing: Existing) -> Output:
    """Return the user's manifest with the container confined, and every other byte as it was."""
    text, container = _found(request, existing)
    pod = container.pod
    try:
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
    file = File("kubernetes.yaml", text.encode("utf-8"), needs=(request.artifacts["seccomp"].file,))
    use = f"kubectl apply -f {written(file.name)}"
    return Output((file,), losses, (*_usage(request, made, use), *_notes(made, done.data, done.annotations)))


def _chosen(request: Request, found: Sequence[_Container]) -> _Container:
    """Return the one container that the settings name, or that the manifest has."""
    if not found:
        raise InputError("it has no containers: give the manifest of a Deployment, a Pod or the like")
    owner, name = WORKLOAD.of(request), pods.CONTAINER.of(request)
    among = [one for one in found if owner is None or owner.means(one.pod.owner)]
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
        f"{what}: choose with -O kubernetes.container=NAME and -O kubernetes.workload=KIND/NAME (or "
        f"KIND/NAMESPACE/NAME) one of {names}"
    )


def _edited(text: str, container: _Container, made: Confined) -> str:
    """Return the text of the manifest with the members set. Raises Unreadable."""
    pod, context = container.pod, (*container.at, "securityContext")
    for key, value in made.context().items():
        if key == "capabilities":
            dropped = Manifest({}, container.data).capabilities("drop")
            text = _capabilities(text, (*context, key), dropped, made.add, pod.document)
        else:
            text = put(text, (*context, key), value, pod.document)
    for volume, path in made.volumes:
        text = append(text, (*pod.spec, "volumes"), {"name": volume, "emptyDir": {}}, pod.document)
        text = append(text, (*container.at, "volumeMounts"), {"name": volume, "mountPath": path}, pod.document)
    if made.host_users is not None:
        text = put(text, (*pod.spec, "hostUsers"), made.host_users, pod.document)
    for prefix, profile in ((_SECCOMP, made.seccomp), (_APPARMOR, made.apparmor)):
        key = prefix + container.name
        if profile is not None and pod.annotations.get(key, f"localhost/{profile}") != f"localhost/{profile}":
            text = remove(text, (*pod.spec[:-1], "metadata", "annotations", key), pod.document)
    return text


_SECCOMP = "container.seccomp.security.alpha.kubernetes.io/"
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
"""How the older annotations for a container begin; its name follows. An API server refuses a pod, and what has a
template of it, where one differs from the field (kubernetes, pkg/apis/core/validation; for seccomp until 1.26)."""


def _capabilities(text: str, at: Path, drop: Sequence[str], add: Sequence[str], document: int) -> str:
    """Return the text with these capabilities added alone."""
    if "ALL" not in drop:
        text = put(text, (*at, "drop"), ["ALL"], document)
    return members(text, (*at, "add"), add, document)
