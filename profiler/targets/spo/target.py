"""spo.yaml: objects of the Security Profiles Operator, which loads profiles on the nodes of a Kubernetes cluster.

Sources: the CRDs and the daemon of release 1.0.0 (deploy/base-crds, internal/pkg/daemon).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from profiler.errors import InputError
from profiler.policy.caveats import extent
from profiler.policy.evidence import COVERAGE, annotation
from profiler.policy.model import Workload
from profiler.quoting.shell import shell
from profiler.quoting.text import printable
from profiler.targets.base import File, Launches, Loss, OneOf, Output, Request, Setting, Step, Target, written
from profiler.targets.spo.abstract import abstract
from profiler.wording import UNKNOWN, listed

FILE = "spo.yaml"
INT64_MAX = (1 << 63) - 1
"""The largest value that the operator's form holds; the arguments of a syscall are unsigned."""
EPERM = 1
"""The error that a runtime answers with when a profile names none."""

VERSIONS = {
    "v1": {"seccomp": "v1", "apparmor": "v1", "binding": "v1"},
    "v1beta1": {"seccomp": "v1beta1", "apparmor": "v1alpha1", "binding": "v1alpha1"},
}
"""The word of the setting, and the version of each kind that was served together with it."""

NAME_MAX = 240
"""13 characters fewer than Kubernetes allows: a ProfileBinding has the name and a word."""
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
"""A DNS subdomain (RFC 1123), which the name of an object is."""


def _valid_name(text: str) -> str:
    if not _NAME.fullmatch(text) or len(text) > NAME_MAX:
        raise InputError(
            f"{printable(text)!r} is not a name for an object: use lower-case letters, digits, - and ., {NAME_MAX} "
            "characters at most, and begin and end with a letter or a digit (RFC 1123)"
        )
    return text


def _image(text: str) -> str:
    if not text.isprintable() or not text or " " in text:
        raise InputError(f"{printable(text)!r} is not the name of an image")
    return text


NAME: Setting[str | None] = Setting(
    "name", "the name of the objects; default: that of the image or the program", "NAME", None, _valid_name
)
API = Setting("api", f"the version of the operator's API: {', '.join(VERSIONS)}", "VERSION", "v1", OneOf(*VERSIONS))
IMAGE: Setting[str | None] = Setting(
    "image", "the image that the profiles are bound to; default: the one of the recording", "IMAGE", None, _image
)


class Spo(Target):
    """The Security Profiles Operator."""

    name = "spo"
    summary = "spo.yaml: the Security Profiles Operator for Kubernetes; SeccompProfile, AppArmorProfile, ProfileBinding"
    says = frozenset({"capabilities", "files", "transitions", "sockets", "signals", "inspections", "mounts"})
    settings = (NAME, API, IMAGE)
    launches = Launches(engines=frozenset(), names=frozenset({"seccomp"}), requires=frozenset({"seccomp"}))
    counts = True

    def render(self, request: Request) -> Output:
        """See Target.render. Without evidence of files there is no AppArmorProfile."""
        policy = request.policy
        name = NAME.of(request) or object_name(policy.workload)
        image = IMAGE.of(request) or policy.workload.image
        seccomp, losses = _seccomp(json.loads(request.artifacts["seccomp"].data))
        paths = abstract(policy) if policy.has_files else None
        values = {
            "argv": " ".join(map(shell, policy.workload.argv)),
            "extent": extent(policy.workload),
            "object": name,
            "version": VERSIONS[API.of(request)],
            "image": image,
            "bound": [] if image is None else ["SeccompProfile", *(["AppArmorProfile"] if paths else [])],
            "annotation": COVERAGE,
            "coverage": None if request.coverage is None else annotation(request.coverage, _names(seccomp)),
            "seccomp": seccomp,
            "apparmor": paths,
        }
        file = File(FILE, request.template("spo.yaml.j2", **values))
        losses += paths.losses if paths else (_no_apparmor(),)
        if policy.has_files:
            why = "not written: SELinux knows files by their types, and a policy by their paths"
            losses += (Loss("files", "SelinuxProfile", why),)
        return Output((file,), losses, tuple(_usage(name, image, bool(paths))))


def object_name(workload: Workload) -> str:
    """Return a name that stays the same when the policy changes: of the image, else of the program."""
    argv = [word for word in workload.argv[:1] if word != UNKNOWN and not workload.joined]
    image = (workload.image or "").partition("@")[0].rpartition("/")[2].partition(":")[0]
    for text in (image, *(path.rpartition("/")[2] for path in (*workload.joined, *argv))):
        word = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-")
        if word:
            return word
    return "workload"


def _no_apparmor() -> Loss:
    return Loss("capabilities", "capabilities", "only an AppArmorProfile limits them, which needs a recording of files")


def _seccomp(profile: dict[str, Any]) -> tuple[dict[str, Any], tuple[Loss, ...]]:
    """Return the profile as the spec of a SeccompProfile, and what it cannot say.

    There is no defaultErrnoRet, and the numbers are signed. Raises InputError for what has no form, which only a
    user's template makes.
    """
    losses: tuple[Loss, ...] = ()
    if profile.get("defaultErrnoRet", EPERM) != EPERM:
        why = f"there is no defaultErrnoRet: the answer is error {EPERM}"
        losses += (Loss("refused", "calls that no rule names", why, "refused"),)
    narrowed: set[str] = set()
    rows = []
    for rule in profile.get("syscalls", []):
        args = []
        for row in rule.get("args", []):
            large = max(row["value"], row.get("valueTwo", 0)) > INT64_MAX
            if large and row["op"] != "SCMP_CMP_MASKED_EQ":
                raise InputError(f"a SeccompProfile cannot hold {max(row['value'], row.get('valueTwo', 0))}")
            narrowed |= set(rule["names"]) if large else set()
            args.append({**row, "value": row["value"] & INT64_MAX, "valueTwo": row.get("valueTwo", 0) & INT64_MAX})
        rows.append({"errnoRet": 0, **rule, "args": args})
    if narrowed:
        why = "the highest bit of an argument is not compared: the operator's numbers are signed"
        losses += (Loss("arguments", listed(sorted(narrowed), 8), why),)
    return {**profile, "syscalls": rows}, losses


def _names(seccomp: dict[str, Any]) -> set[str]:
    return {name for rule in seccomp["syscalls"] for name in rule["names"]}


def _usage(name: str, image: str | None, apparmor: bool) -> Iterator[Step]:
    file = written(FILE)
    yield Step("load", f"load it:     kubectl apply -n NAMESPACE -f {file}   (the operator must be installed)")
    yield Step("load", f"             kubectl wait --for=condition=ready seccompprofile {name}")
    if image:
        yield Step("use", "use it:      kubectl label namespace NAMESPACE spo.x-k8s.io/enable-binding=   (new pods)")
    else:
        yield Step("use", "bind it:     generate with -O spo.image=IMAGE, or name it in each container:")
    seccomp = f"seccompProfile: {{type: Localhost, localhostProfile: operator/{name}.json}}"
    both = f"{seccomp}, appArmorProfile: {{type: Localhost, localhostProfile: {name}}}" if apparmor else seccomp
    yield Step("use", f"{'or:' if image else '':<13}securityContext: {{{both}}}")
    yield Step("undo", f"remove it:   kubectl delete -n NAMESPACE -f {file}   (after the pods that use it)")
