"""The target ``oci``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from profiler.errors import InputError
from profiler.quoting.text import printable
from profiler.rewriting.json import Unreadable, insert, loads, put
from profiler.targets import contexts
from profiler.targets.base import Existing, File, Launches, OneOf, Output, Request, Setting, Step, Target, written
from profiler.targets.oci.changes import Changes, changes
from profiler.targets.sets import oci_sets

CONFIG = "config.json"

READ_ONLY = Setting(
    "read-only",
    "make the root read-only: yes, no, or auto (yes if recording and mounts show that it works)",
    "WHEN",
    "auto",
    OneOf("auto", "yes", "no"),
)
SELINUX = contexts.setting("selinux-label", "process")


class Oci(Target):
    """runc, crun and whatever else reads the OCI runtime specification."""

    name = "oci"
    summary = "config.json: runc, crun and other OCI runtimes; a fragment, or your own file rewritten"
    says = frozenset({"capabilities", "no_new_privs"})
    settings = (READ_ONLY, SELINUX)
    rewrites = "an OCI config.json"
    launches = Launches(
        engines=frozenset({"runc", "crun"}),
        names=frozenset({"seccomp", "apparmor", "selinux"}),
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
            "selinux": contexts.wanted(request, SELINUX.of(request)),
            "changes": made,
            "seccomp": request.artifacts["seccomp"].data.decode("ascii").strip(),
        }
        merge = Step("use", f"merge {written(CONFIG)} into the container's own config.json, or generate with --into")
        return Output((File(CONFIG, request.template("config.json.j2", **values)),), made.losses, (merge,))


_KINDS: Mapping[tuple[str, ...], type] = {
    ("process",): dict,
    ("process", "user"): dict,
    ("process", "user", "uid"): int,
    ("process", "capabilities"): dict,
    ("process", "noNewPrivileges"): bool,
    ("process", "apparmorProfile"): str,
    ("process", "selinuxLabel"): str,
    ("root",): dict,
    ("root", "readonly"): bool,
    ("mounts",): list,
    ("linux",): dict,
    ("linux", "namespaces"): list,
    ("linux", "devices"): list,
    ("linux", "maskedPaths"): list,
    ("linux", "readonlyPaths"): list,
    ("linux", "resources"): dict,
    ("linux", "resources", "devices"): list,
    ("linux", "resources", "pids"): dict,
    ("linux", "resources", "pids", "limit"): int,
    ("linux", "seccomp"): dict,
}
"""Members that are read or changed, and their types. Null stands for a member that is missing, as Go reads it."""
_MEMBERS = frozenset(key for path in _KINDS for key in path)
_FOLDED = {key.casefold(): key for key in _MEMBERS}
_ITEMS: Mapping[tuple[str, ...], Mapping[str, type] | type] = {
    ("mounts",): {"destination": str},
    ("linux", "namespaces"): {"type": str},
    ("linux", "devices"): {"path": str, "type": str, "major": int, "minor": int},
    ("linux", "maskedPaths"): str,
    ("linux", "readonlyPaths"): str,
}
"""The items of the lists that are read: their type, or the members of objects with their types."""
_UID_MAX = 0xFFFFFFFF
_WORDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a whole number"}


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
    for where, value, kind in _typed(document):
        if value is not None and type(value) is not kind:
            raise InputError(f"{existing.name}: cannot be rewritten: {where} is not {_WORDS[kind]}")
    uid = _member(document, ("process", "user", "uid"))
    if uid is not None and not 0 <= uid <= _UID_MAX:
        raise InputError(f"{existing.name}: cannot be rewritten: process.user.uid is not from 0 to {_UID_MAX}")
    return text, document


def _typed(document: Mapping[str, Any]) -> Iterator[tuple[str, Any, type]]:
    """Yield the name, the value and the type of each member that is read or changed, the outer ones first."""
    for path, kind in _KINDS.items():
        yield ".".join(path), _member(document, path), kind
    for path, items in _ITEMS.items():
        for index, row in enumerate(_member(document, path) or ()):
            where = f"{'.'.join(path)}[{index}]"
            if isinstance(items, type):
                yield where, _MISSING if row is None else row, items
                continue
            yield where, _MISSING if row is None else row, dict
            for key, kind in items.items():
                yield f"{where}.{key}", row.get(key), kind


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
"""What no member is: an item that is null."""


def _member(document: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Return the member that a path leads to, None when there is none or it is null."""
    value: Any = document
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _rewritten(request: Request, text: str, document: Mapping[str, Any], made: Changes) -> str:
    """Return the file's text with the profile in it, and every other byte as it was."""
    uid = _member(document, ("process", "user", "uid"))
    for path, value in _values(request, request.policy.workload.uid if uid is None else uid, made):
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
        length = len(present or ())
        for added, row in enumerate(rows):
            text = insert(text, path, length + added, row)
    return text


def _same(present: object, value: object) -> bool:
    """Return whether the file says the same already: 1 is not true in JSON, though it is in Python."""
    return json.dumps(present, sort_keys=True) == json.dumps(value, sort_keys=True)


def _values(request: Request, uid: int, made: Changes) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the members to set, and their values."""
    yield ("process", "capabilities"), oci_sets(request.policy, uid)
    yield ("process", "noNewPrivileges"), request.policy.no_new_privs
    if "apparmor" in request.artifacts:
        yield ("process", "apparmorProfile"), request.artifacts["apparmor"].called
    if label := contexts.wanted(request, SELINUX.of(request)):
        yield ("process", "selinuxLabel"), label
    if made.read_only is not None:
        yield ("root", "readonly"), made.read_only
    if made.rules:
        yield ("linux", "resources", "devices"), list(made.rules)
    if made.tasks is not None:
        yield ("linux", "resources", "pids", "limit"), made.tasks
    yield ("linux", "seccomp"), json.loads(request.artifacts["seccomp"].data)
