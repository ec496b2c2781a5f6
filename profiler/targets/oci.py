"""config.json for OCI runtimes: a fragment, or a user's file with its seccomp, capability and AppArmor parts set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from profiler.errors import InputError
from profiler.rewriting.json import Unreadable, loads, put
from profiler.targets.base import Existing, File, Launches, Output, Request, Step, Target, written
from profiler.targets.sets import oci_sets

CONFIG = "config.json"


class Oci(Target):
    """runc, crun and whatever else reads the OCI runtime specification."""

    name = "oci"
    summary = "config.json: runc, crun and other OCI runtimes; a fragment, or your own file rewritten"
    says = frozenset({"capabilities", "no_new_privs"})
    rewrites = "an OCI config.json"
    launches = Launches(
        engines=frozenset({"runc", "crun", "ctr"}),
        names=frozenset({"seccomp", "apparmor"}),
        requires=frozenset({"seccomp"}),
    )

    def render(self, request: Request) -> Output:
        """See Target.render. The user in the file that is rewritten decides the capability sets."""
        if request.existing is not None:
            return Output((File(CONFIG, _rewritten(request, request.existing)),))
        policy = request.policy
        apparmor = request.artifacts.get("apparmor")
        values = {
            "sets": oci_sets(policy, policy.workload.uid),
            "no_new_privs": policy.no_new_privs,
            "apparmor": apparmor.called if apparmor else None,
            "seccomp": request.artifacts["seccomp"].data.decode("ascii").strip(),
        }
        merge = Step("use", f"merge {written(CONFIG)} into the container's own config.json, or generate with --into")
        return Output((File(CONFIG, request.template("config.json.j2", **values)),), usage=(merge,))


def _rewritten(request: Request, existing: Existing) -> bytes:
    """Return the user's file with the profile in it, and every other byte as it was."""
    try:
        text, document = loads(existing.data)
    except Unreadable as error:
        raise InputError(f"{existing.name}: cannot be rewritten: {error}") from error
    if "defaultAction" in document or str(document.get("schema", "")).startswith("profgen."):
        raise InputError(
            f"{existing.name}: not an OCI config.json but a seccomp profile or a trace: give the container's own, "
            "or make one with runc spec"
        )
    for key in ("process", "linux"):
        if not isinstance(document.get(key, {}), dict):
            raise InputError(f"{existing.name}: cannot be rewritten: {key} is not an object")
    user = document.get("process", {}).get("user")
    uid = user.get("uid") if isinstance(user, dict) else None
    for path, value in _values(request, uid if isinstance(uid, int) else request.policy.workload.uid):
        text = put(text, path, value)
    return text.encode("utf-8")


def _values(request: Request, uid: int) -> Iterator[tuple[tuple[str, str], Any]]:
    """Yield the members to set, and their values."""
    yield ("process", "capabilities"), oci_sets(request.policy, uid)
    yield ("process", "noNewPrivileges"), request.policy.no_new_privs
    if "apparmor" in request.artifacts:
        yield ("process", "apparmorProfile"), request.artifacts["apparmor"].called
    yield ("linux", "seccomp"), json.loads(request.artifacts["seccomp"].data)
