"""config.json for OCI runtimes: a fragment, or a given file with only its seccomp, capability and AppArmor parts
replaced."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from profiler.errors import InputError
from profiler.policy.model import Policy
from profiler.quoting.json import as_json
from profiler.quoting.text import printable
from profiler.targets.apparmor.profile import profile_name
from profiler.targets.base import RenderOptions
from profiler.targets.capabilities import oci_sets
from profiler.targets.seccomp import profile
from profiler.targets.template import render_template


def _parts(policy: Policy, options: RenderOptions, uid: int) -> dict[str, dict[str, Any]]:
    process: dict[str, Any] = {"capabilities": oci_sets(policy, uid), "noNewPrivileges": policy.no_new_privs}
    if options.names_apparmor:
        process["apparmorProfile"] = profile_name(policy, options)
    return {
        "process": process,
        "linux": {"seccomp": profile(policy, options.default_action)},
    }


@dataclass(frozen=True)
class _Member:
    key_start: int
    start: int
    end: int


_BLANK = re.compile(r"[ \t\r\n]*")


class _Invalid(ValueError):
    """Not JSON as the runtimes read it; ``str()`` says what is wrong."""


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Invalid(f"key {printable(twice)!r} is given twice")
    return found


def _no_constant(word: str) -> Any:
    raise _Invalid(f"{word} is no JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant)


def _blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    return match.end() if match else at


def _members(text: str, start: int) -> dict[str, _Member]:
    """The members of the object that starts at ``start`` with where they stand; the text is known to be valid JSON."""
    found: dict[str, _Member] = {}
    at = _blank(text, start + 1)
    while text[at] != "}":
        key, after = _DECODER.raw_decode(text, at)
        value_start = _blank(text, _blank(text, after) + 1)
        _, end = _DECODER.raw_decode(text, value_start)
        found[key] = _Member(at, value_start, end)
        at = _blank(text, end)
        if text[at] == ",":
            at = _blank(text, at + 1)
    return found


def _indent(text: str, at: int) -> str | None:
    """White space before ``at`` on its line, None when something else stands there too."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line if not line.strip() and "\n" in text[:at] else None


def _value_text(value: Any, indent: str | None, step: str, newline: str) -> str:
    if indent is None:
        return as_json(value, indent=None)
    return as_json(value, indent=step).replace("\n", newline + indent)


def _put(text: str, start: int, key: str, value: Any) -> str:
    """``text`` with member ``key`` of the object at ``start`` set to ``value``: replaced, or added as the last
    member."""
    newline = "\r\n" if "\r\n" in text else "\n"
    members = _members(text, start)
    outer = text[text.rfind("\n", 0, start) + 1 :]
    outer = outer[: len(outer) - len(outer.lstrip(" \t"))]
    first = next(iter(members.values()), None)
    indent = _indent(text, first.key_start) if first else (outer + "\t" if "\n" in text else None)
    step = (
        indent[len(outer) :] if indent is not None and indent.startswith(outer) and len(indent) > len(outer) else "\t"
    )
    if key in members:
        member = members[key]
        return text[: member.start] + _value_text(value, indent, step, newline) + text[member.end :]
    entry = f'"{key}": ' + _value_text(value, indent, step, newline)
    if members:
        last = list(members.values())[-1].end
        gap = ", " if indent is None else f",{newline}{indent}"
        return text[:last] + gap + entry + text[last:]
    end = text.index("}", start)
    if indent is None:
        return text[: start + 1] + entry + text[end:]
    return text[: start + 1] + newline + indent + entry + newline + outer + text[end:]


def _rewrite(name: str, data: bytes, parts: Callable[[int | None], dict[str, dict[str, Any]]]) -> bytes:
    try:
        text = data.decode("utf-8")
        root_start = _blank(text, 0)
        document, end = _DECODER.raw_decode(text, root_start)
        if _blank(text, end) != len(text):
            raise _Invalid("something follows the JSON value")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: cannot be rewritten: it is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise InputError(f"{name}: cannot be rewritten: nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{name}: cannot be rewritten: {error}") from error
    if not isinstance(document, dict):
        raise InputError(f"{name}: cannot be rewritten: not a JSON object")
    if "defaultAction" in document or str(document.get("schema", "")).startswith("profgen."):
        raise InputError(
            f"{name}: is no OCI config.json but a seccomp profile or a trace: give the container's own, or see "
            "runc spec"
        )
    for key in ("process", "linux"):
        if key in document and not isinstance(document[key], dict):
            raise InputError(f"{name}: cannot be rewritten: {key} is not an object")
    user = document.get("process", {}).get("user")
    uid = user.get("uid") if isinstance(user, dict) else None
    for key, members in parts(uid if isinstance(uid, int) else None).items():
        if key not in document:
            text = _put(text, root_start, key, members)
            continue
        for inner, value in members.items():
            text = _put(text, _members(text, root_start)[key].start, inner, value)
    return text.encode("utf-8")


def render(policy: Policy, options: RenderOptions) -> dict[str, bytes]:
    """``config.json``. With ``oci_config`` every byte outside the replaced values is kept, and its user decides the
    sets."""
    uid = policy.workload.uid
    if options.oci_config is None:
        return {"config.json": render_template("config.json.j2", fragment=_parts(policy, options, uid))}
    name, data = options.oci_config

    def parts(configured: int | None) -> dict[str, dict[str, Any]]:
        return _parts(policy, options, uid if configured is None else configured)

    return {"config.json": _rewrite(name, data, parts)}
