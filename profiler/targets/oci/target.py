"""The target ``oci``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from profiler.errors import InputError
from profiler.quoting.text import printable
from profiler.rewriting.json import Unreadable, insert, loads, put
from profiler.targets.base import Existing, File, Launches, OneOf, Output, Request, Setting, Step, Target, written
from profiler.targets.oci.changes import Changes, changes
from profiler.targets.sets import oci_sets

CONFIG = "config.json"

_LABEL = re.compile(r"[\w.-]+:[\w.-]+:[\w.-]+(:[\w.,:-]+)?", re.ASCII)


def _label(text: str) -> str:
    if not _LABEL.fullmatch(text):
        raise InputError("write it as USER:ROLE:TYPE or USER:ROLE:TYPE:LEVEL, such as system_u:system_r:container_t:s0")
    return text


READ_ONLY = Setting(
    "read-only",
    "make the root read-only: yes, no, or auto (yes if recording and mounts show that it works)",
    "WHEN",
    "auto",
    OneOf("auto", "yes", "no"),
)
SELINUX = Setting("selinux-label", "the SELinux context of the process; default: the file's own", "LABEL", "", _label)


class Oci(Target):
    """runc, crun and whatever else reads the OCI runtime specification."""

    name = "oci"
    summary = "config.json: runc, crun and other OCI runtimes; a fragment, or your own file rewritten"
    says = frozenset({"capabilities", "no_new_privs"})
    settings = (READ_ONLY, SELINUX)
    rewrites = "an OCI config.json"
    launches = Launches(
        engines=frozenset({"runc", "crun"}),
        names=frozenset({"seccomp", "apparmor"}),
        requires=frozenset({"seccomp"}),
    )

    def render(self, request: Request) -> Output:
        """See Target.render. The user in the file that is rewritten decides the capability sets."""
        if request.existing is not None:
            text, document = _read(request.existing)
            made = changes(request.policy, READ_ONLY.of(request), document)
            data = _rewritten(request, text, document, made).encode("utf-8")
            return Output((File(CONFIG, data),), made.losses)
        policy = request.policy
        made = changes(policy, READ_ONLY.of(request), {})
        apparmor = request.artifacts.get("apparmor")
        values = {
            "sets": oci_sets(policy, policy.workload.uid),
            "no_new_privs": policy.no_new_privs,
            "apparmor": apparmor.called if apparmor else None,
            "selinux": SELINUX.of(request),
            "changes": made,
            "seccomp": request.artifacts["seccomp"].data.decode("ascii").strip(),
        }
        merge = Step("use", f"merge {written(CONFIG)} into the container's own config.json, or generate with --into")
        return Output((File(CONFIG, request.template("config.json.j2", **values)),), made.losses, (merge,))


_KINDS: Mapping[tuple[str, ...], type] = {
    ("process",): dict,
    ("process", "user"): dict,
    ("root",): dict,
    ("mounts",): list,
    ("linux",): dict,
    ("linux", "devices"): list,
    ("linux", "maskedPaths"): list,
    ("linux", "readonlyPaths"): list,
    ("linux", "resources"): dict,
    ("linux", "resources", "pids"): dict,
}
"""Members that are read or added to, and their types."""
_MEMBERS = frozenset(
    {
        *(key for path in _KINDS for key in path), "capabilities", "noNewPrivileges", "apparmorProfile", "selinuxLabel",
        "readonly", "seccomp", "limit", "uid",
    }
)  # fmt: skip
_FOLDED = {key.casefold(): key for key in _MEMBERS}
_OBJECTS = (("mounts",), ("linux", "devices"))
"""Arrays of objects."""


def _read(existing: Existing) -> tuple[str, dict[str, Any]]:
    """Return the text and the content of the file. Raises InputError for what is not a config.json."""
    try:
        text, document = loads(existing.data)
    except Unreadable as error:
        raise InputError(f"{existing.name}: cannot be rewritten: {error}") from error
    if "defaultAction" in document or str(document.get("schema", "")).startswith("profgen."):
        raise InputError(
            f"{existing.name}: not an OCI config.json but a seccomp profile or a trace: give the container's own, "
            "or make one with runc spec"
        )
    _refuse_other_cases(document, existing.name)
    for path, kind in _KINDS.items():
        value = _member(document, path)
        if value is not _MISSING and not isinstance(value, kind):
            what = "an object" if kind is dict else "a list"
            raise InputError(f"{existing.name}: cannot be rewritten: {'.'.join(path)} is not {what}")
    for path in _OBJECTS:
        rows = _member(document, path)
        if rows is not _MISSING and not all(isinstance(row, dict) for row in rows):
            raise InputError(f"{existing.name}: cannot be rewritten: {'.'.join(path)} holds something but objects")
    return text, document


def _refuse_other_cases(document: Mapping[str, Any], name: str) -> None:
    """Raise InputError for a member that differs from a known one by case alone: Go's runtimes read it as that one, and
    the last of the two holds (encoding/json)."""
    for path in ((), *_KINDS):
        value = _member(document, path)
        for key in value if isinstance(value, dict) else ():
            if key not in _MEMBERS and key.casefold() in _FOLDED:
                where = ".".join((*path, printable(key)))
                raise InputError(
                    f"{name}: cannot be rewritten: runc reads {where} as {_FOLDED[key.casefold()]}: rename it"
                )


_MISSING = object()


def _member(document: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Return the member that a path leads to, _MISSING when there is none."""
    value: Any = document
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return _MISSING
        value = value[key]
    return value


def _rewritten(request: Request, text: str, document: Mapping[str, Any], made: Changes) -> str:
    """Return the file's text with the profile in it, and every other byte as it was."""
    uid = _member(document, ("process", "user", "uid"))
    for path, value in _values(request, uid if isinstance(uid, int) else request.policy.workload.uid, made):
        if not _same(_member(document, path), value):
            text = put(text, path, value)
    for added, mount in enumerate(made.mounts):
        text = insert(text, ("mounts",), mount.index + added, mount.value)
    for path, rows in (
        (("linux", "devices"), made.nodes),
        (("linux", "maskedPaths"), made.masked),
        (("linux", "readonlyPaths"), made.read_only_paths),
    ):
        present = _member(document, path)
        length = 0 if present is _MISSING else len(present)
        for added, row in enumerate(rows):
            text = insert(text, path, length + added, row)
    return text


def _same(present: object, value: object) -> bool:
    """Return whether the file says the same already: 1 is not true in JSON, though it is in Python."""
    return present is not _MISSING and json.dumps(present, sort_keys=True) == json.dumps(value, sort_keys=True)


def _values(request: Request, uid: int, made: Changes) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the members to set, and their values."""
    yield ("process", "capabilities"), oci_sets(request.policy, uid)
    yield ("process", "noNewPrivileges"), request.policy.no_new_privs
    if "apparmor" in request.artifacts:
        yield ("process", "apparmorProfile"), request.artifacts["apparmor"].called
    if label := SELINUX.of(request):
        yield ("process", "selinuxLabel"), label
    if made.read_only is not None:
        yield ("root", "readonly"), made.read_only
    if made.rules:
        yield ("linux", "resources", "devices"), list(made.rules)
    if made.tasks is not None:
        yield ("linux", "resources", "pids", "limit"), made.tasks
    yield ("linux", "seccomp"), json.loads(request.artifacts["seccomp"].data)
