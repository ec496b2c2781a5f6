"""Read profiles from elsewhere: seccomp JSON of Docker, Podman and OCI, OCI config.json, SeccompProfile.

profiler/review/seccomp.py reads the rules. Beyond that:

- config.json without linux.seccomp filters nothing. With process but without process.capabilities, a container has no
  capabilities. The rights are the union of the five sets, limited to capabilities that the kernel knows.
- For a SeccompProfile with a base profile, only the content of the file itself counts, with a note.
- Where a file holds several SeccompProfiles, one is chosen by name.
- In how many recordings the operator saw each syscall (the annotation COVERAGE) is the reason that it is allowed. It
  decides nothing, so one that cannot be read is left out with a note.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from profiler import wording
from profiler.errors import InputError
from profiler.kernel.abi import SUB_ABIS
from profiler.kernel.capabilities import number_of as capability_number
from profiler.policy.evidence import COVERAGE, Coverage
from profiler.policy.model import Policy
from profiler.quoting.text import printable
from profiler.review.documents import json_object, marked, objects, yaml_documents
from profiler.review.rights import Manifest, Reason, Rights
from profiler.review.seccomp import DOCKER_DEFAULT, Filter, Machine, Reader, native_of
from profiler.trace.model import Trace

_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


@dataclass(frozen=True)
class Source:
    """A file that was read. ``arch`` is the native ABI that it is for, or None if it names none.

    ``rights(abi, capabilities)`` returns what it allows on a machine of that ABI, in a container that was given these
    capabilities (None: Docker's default). Both matter only to profiles with Docker's conditions.
    """

    name: str
    kind: str
    arch: str | None
    rights: Callable[[str, frozenset[str] | None], Rights]
    policy: Policy | None = None
    trace: Trace | None = None
    """The trace or the policy that was read."""
    outdated: bool = False
    """The head of the policy says something else than its entries."""
    content: bytes = b""
    """The file as it was read, to find lines in; empty for what is not a file of the user."""


def _rights(kind: str, reader: Reader, found: Filter, **members: Any) -> Rights:
    return Rights(
        source=reader.name,
        kind=kind,
        native=reader.machine.abi,
        abis=found.abis,
        default=found.default,
        syscalls=found.syscalls,
        notes=tuple(reader.notes),
        written=found.written,
        problems=tuple(reader.problems),
        **members,
    )


def _seccomp(data: dict[str, Any], name: str, mark: bool) -> Source:
    def rights(abi: str, capabilities: frozenset[str] | None) -> Rights:
        machine = Machine(abi, DOCKER_DEFAULT if capabilities is None else capabilities)
        reader = Reader(name, machine, conditional=True)
        _check_mark(reader, mark)
        return _rights("seccomp", reader, reader.filter(data))

    return Source(name, "seccomp", native_of(data), rights)


def _check_mark(reader: Reader, mark: bool) -> None:
    if mark:
        reader.note(f"{reader.name}: runc, Docker and Podman do not read a file that begins with a byte-order mark")
        what = "the file begins with a byte-order mark (EF BB BF): runc, Docker and Podman do not read it"
        reader.problem("not-started", "", what, "save it as UTF-8 without the mark")


def _capabilities(reader: Reader, process: Mapping[str, Any]) -> frozenset[str]:
    sets = reader.typed(process, "capabilities", dict, "process", {})
    found: set[str] = set()
    for key in _SETS:
        for name in reader.texts(sets, key, "process.capabilities"):
            if capability_number(name) is None:
                reader.note(f"{reader.name}: unknown capability {printable(name)[:40]!r}")
            else:
                found.add(name)
    return frozenset(found)


def _oci(data: dict[str, Any], name: str, mark: bool) -> Source:
    linux = data.get("linux")
    seccomp = linux.get("seccomp") if isinstance(linux, dict) else None

    def rights(abi: str, capabilities: frozenset[str] | None) -> Rights:
        reader = Reader(name, Machine(abi), conditional=False)
        _check_mark(reader, mark)
        if linux is not None and not isinstance(linux, dict):
            reader.fail("linux", "must be an object")
        if seccomp is not None and not isinstance(seccomp, dict):
            reader.fail("linux.seccomp", "must be an object")
        if seccomp:
            found = reader.filter(seccomp, "linux.seccomp.")
        else:
            reader.note(f"{name}: no linux.seccomp, so every syscall is allowed")
            found = Filter("allow", (abi, *SUB_ABIS.get(abi, ())), {})
        process = reader.typed(data, "process", dict, "", None)
        held, no_new_privs = None, None
        if process is not None:
            held = _capabilities(reader, process)
            no_new_privs = reader.typed(process, "noNewPrivileges", bool, "process", False)
        return _rights("oci", reader, found, capabilities=held, no_new_privs=no_new_privs)

    return Source(name, "oci", native_of(seccomp) if isinstance(seccomp, dict) else None, rights)


def _spo(data: dict[str, Any], name: str) -> Source:
    spec = data.get("spec")
    if not isinstance(spec, dict):
        raise InputError(f"{name}: spec: must be a mapping")

    def rights(abi: str, capabilities: frozenset[str] | None) -> Rights:
        reader = Reader(name, Machine(abi), conditional=False)
        base = reader.typed(spec, "baseProfileName", str, "spec", "")
        if base:
            reader.note(
                f"{name}: what its base profile {printable(base)[:80]} allows is not in the file and not compared"
            )
        if reader.typed(spec, "state", str, "spec", "Enabled") == "Disabled":
            reader.note(f"{name}: the profile is disabled, but compared as if it were enabled")
        found = reader.filter(spec, "spec.")
        seen = _coverage(reader, data)
        counts = {} if seen is None else seen.syscalls
        reasons = {
            ("syscall", *call): Reason((f"seen in {counts[call[1]]} of {seen.total} recordings",))
            for call in found.syscalls
            if seen is not None and call[1] in counts
        }
        manifest = Manifest(_full_name(data).rpartition("/")[2], base, seen)
        return _rights("spo", reader, found, reasons=reasons, manifest=manifest)

    return Source(name, "spo", native_of(spec), rights)


RUNS_MAX = 1_000_000
"""The largest number of recordings that an annotation can have."""


def _coverage(reader: Reader, data: Mapping[str, Any]) -> Coverage | None:
    """Return what the annotation says; None without one, or for one that cannot be read."""
    text = annotations_of(data).get(COVERAGE)
    if text is None:
        return None
    try:
        row = json.loads(text)
        total, counts = row["total"], dict(row["syscalls"])
        if row["version"] != "v1" or not all(type(number) is int for number in (total, *counts.values())):
            raise ValueError("unknown form")
        if not (0 < total <= RUNS_MAX and all(0 < number <= total for number in counts.values())):
            raise ValueError("a call was seen in no recording, or in more than there are")
    except (KeyError, RecursionError, TypeError, ValueError):
        reader.note(f"{reader.name}: the annotation {COVERAGE} cannot be read, and is not used")
        return None
    return Coverage(total, counts)


def annotations_of(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations of an object that are texts."""
    metadata = document.get("metadata")
    found = metadata.get("annotations") if isinstance(metadata, dict) else None
    return {key: text for key, text in found.items() if isinstance(text, str)} if isinstance(found, dict) else {}


def from_json(data: bytes, name: str, chosen: str | None = None) -> Source | None:
    """Return the profile in a JSON file; None when it is not one. ``chosen`` as in ``from_yaml``. Raises InputError."""
    document = json_object(data, name)
    if "items" in document or document.get("kind") == "SeccompProfile":
        return _one_of(objects([document]), name, chosen)
    if chosen is not None:
        return None
    if "defaultaction" in document:
        return _seccomp(document, name, marked(data))
    if "ociversion" in document or any(isinstance(document.get(key), dict) for key in ("linux", "process")):
        return _oci(document, name, marked(data))
    return None


def from_yaml(data: bytes, name: str, chosen: str | None = None) -> Source | None:
    """Return the SeccompProfile in a YAML file; None when there is none. ``chosen``: its name, or its namespace and
    name, where there are several. Raises InputError."""
    return _one_of(objects(yaml_documents(data, name)), name, chosen)


def _one_of(documents: Iterable[dict[str, Any]], name: str, chosen: str | None) -> Source | None:
    profiles = [(_full_name(item), item) for item in documents if item.get("kind") == "SeccompProfile"]
    if chosen is None:
        found = profiles
    else:
        found = [(full, item) for full, item in profiles if chosen in (full, full.rpartition("/")[2])]
        if not found and not profiles:
            return None
    known = wording.listed([printable(full or "(no name)")[:80] for full, _ in profiles], 8)
    if chosen is not None and not found:
        raise InputError(f"{name}: has no SeccompProfile {printable(chosen)[:80]!r}: it has {known}")
    if len(found) > 1:
        raise InputError(f"{name}: holds {len(found)} SeccompProfiles ({known}): choose one with FILE#NAME")
    return _spo(found[0][1], name) if found else None


def _full_name(document: Mapping[str, Any]) -> str:
    """Return NAMESPACE/NAME, or NAME."""
    metadata = document.get("metadata")
    parts = [metadata.get(key) for key in ("namespace", "name")] if isinstance(metadata, dict) else []
    return "/".join(part for part in parts if isinstance(part, str) and part)
