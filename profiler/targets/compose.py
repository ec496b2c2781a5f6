"""compose.yaml: a service of Docker Compose with the profile, in a file of its own, an override file, or the user's."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from profiler.errors import InputError
from profiler.policy.posture import within
from profiler.quoting.text import printable
from profiler.rewriting.yaml import Unreadable, append, loads, put, remove
from profiler.targets.base import (
    Existing,
    File,
    Launches,
    Loss,
    Output,
    Request,
    Setting,
    Step,
    Target,
    written,
    yes_or_no,
)
from profiler.targets.containers import ARTIFACTS, READ_ONLY, losses, values
from profiler.wording import listed

FILE, OVERRIDE = "compose.yaml", "compose.override.yaml"
_NOT = frozenset({"false", "no", "n", "off", "f", "0"})
"""Texts that Compose reads as false."""


class Compose(Target):
    """Docker Compose, and whatever else reads the Compose specification."""

    name = "compose"
    summary = "compose.yaml: a Docker Compose service with the profile; a file of its own, or your own file rewritten"
    says = frozenset({"capabilities", "no_new_privs"})
    service = Setting("service", "the service of your file; default: its only one", "NAME", "", str)
    override = Setting("override", "write an override file, and leave your file as it is", "yes|no", False, yes_or_no)
    settings = (READ_ONLY, service, override)
    rewrites = "a Compose file"
    launches = Launches(frozenset({"docker"}), names=ARTIFACTS, requires=frozenset({"seccomp"}))

    def render(self, request: Request) -> Output:
        """See Target.render."""
        known = values(request)
        needs = (request.artifacts["seccomp"].called,)
        lost = list(losses(request.policy, ambient=False))
        name, service, text = self.service.of(request), {}, ""
        if request.existing is not None:
            text, services = _services(request.existing)
            name = _chosen(name, services, request.existing.name)
            service = services[name]
            _refuse_privileged(service, name, request.existing.name)
            lost += _extended(service)
            known |= _without_what_is_there(known, service)
        if self.override.of(request):
            if not name:
                raise InputError("an override needs the name of a service: -O compose.service=NAME, or --into FILE")
            known["replaces_capabilities"] = bool(_extra_capabilities(known, service))
            known["kept_options"] = _kept_options(known, service)
            known["user"] = None if "user" in service else known["user"]
            made = request.template(f"{OVERRIDE}.j2", service=name, **known)
            file = File(_beside(request.existing), made, needs=needs)
            start = Step("use", f"docker compose -f {written(file.name)} up, with the file that it overrides before it")
        elif request.existing is None:
            made = request.template(f"{FILE}.j2", replaces_capabilities=False, kept_options=None, **known)
            file = File(FILE, made, needs=needs)
            start = Step("use", f"docker compose -f {written(file.name)} up")
        else:
            try:
                edited = _edited(text, ("services", name), service, known)
            except Unreadable as error:
                raise InputError(f"{request.existing.name}: cannot be rewritten: {error}") from error
            file = File(_name(request.existing), edited.encode("utf-8"), needs=needs)
            start = Step("use", f"docker compose -f {written(file.name)} up {name}")
        return Output((file,), tuple(lost), (start,))


def _beside(existing: Existing | None) -> str:
    """Return the name of the override file that Compose reads by itself, next to the user's file."""
    given = PurePath(_name(existing) if existing is not None else FILE)
    return f"{given.stem}.override{given.suffix}"


def _name(existing: Existing) -> str:
    """Return the file's name; standard input has none of its own."""
    given = PurePath(existing.name)
    return given.name if given.suffix in (".yaml", ".yml", ".json") else FILE


# --- the user's file


def _services(existing: Existing) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the text of a Compose file, and its services that are mappings. Raises InputError."""
    try:
        text, documents = loads(existing.data)
    except Unreadable as error:
        raise InputError(f"{existing.name}: cannot be rewritten: {error}") from error
    services = documents[0].get("services") if documents and isinstance(documents[0], dict) else None
    if not isinstance(services, dict) or len(documents) != 1:
        raise InputError(f"{existing.name}: not a Compose file: it has no services")
    return text, {name: service for name, service in services.items() if isinstance(service, dict)}


def _chosen(name: str, services: Mapping[str, object], file: str) -> str:
    """Return the name of the service to change. Raises InputError."""
    names = listed([printable(each) for each in services], 8)
    if name and name not in services:
        raise InputError(f"{file} has no service {printable(name)!r}: it has {names or 'none'}")
    if not name and len(services) != 1:
        raise InputError(f"{file} has {len(services)} services: choose one with -O compose.service=NAME: {names}")
    return name or next(iter(services))


def _refuse_privileged(service: Mapping[str, Any], name: str, file: str) -> None:
    """Raise InputError for a service that is privileged, or may be: a variable decides, or a text."""
    value = service.get("privileged", False)
    if value is not None and str(value).lower() not in _NOT:
        raise InputError(f"{file}: the service {printable(name)} is privileged: remove that, or no profile limits it")


def _extended(service: Mapping[str, Any]) -> Iterator[Loss]:
    if "extends" in service:
        why = "Compose adds the lists of both; look there for cap_add, devices and security_opt"
        yield Loss("capabilities", "what the service that it extends is given", why)


def _texts(value: object) -> list[str]:
    """Return the items of a list that are text; a member of Compose may also be one text."""
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]


def _capability(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def _extra_capabilities(known: Mapping[str, Any], service: Mapping[str, Any]) -> set[str]:
    """Return the capabilities that the user's file adds and the policy does not."""
    return {_capability(name) for name in _texts(service.get("cap_add"))} - set(known["capabilities"])


def _targets(service: Mapping[str, Any]) -> set[str]:
    """Return where the service mounts something already."""
    found = {text.partition(":")[0] for text in _texts(service.get("tmpfs"))}
    for row in service.get("volumes") or ():
        if isinstance(row, dict):
            found.add(str(row.get("target")))
        elif isinstance(row, str):
            words = [word for word in row.split(":") if word.startswith("/")]
            found |= set(words[-1:])
    return found


def _without_what_is_there(known: Mapping[str, Any], service: Mapping[str, Any]) -> dict[str, Any]:
    """Return the places, devices and limits that the service does not have yet."""
    mounted = _targets(service)
    devices = {text.partition(":")[0] for text in _texts(service.get("devices"))}
    limit = service.get("pids_limit")
    limit = int(limit) if isinstance(limit, str) and limit.isascii() and limit.isdecimal() else limit
    # What a variable decides stays.
    lower = isinstance(limit, str) or (
        isinstance(limit, int) and known["tasks"] is not None and 0 < limit <= known["tasks"]
    )
    return {
        "mounts": (),
        "temporary": [row for row in known["temporary"] if not within(row.path, mounted)],
        "kept": [path for path in known["kept"] if not within(path, mounted)],
        "devices": [(path, access) for path, access in known["devices"] if path not in devices],
        "tasks": None if lower or _has_deploy_limit(service) else known["tasks"],
        "read_only": known["read_only"] or service.get("read_only") is True,
    }


def _has_deploy_limit(service: Mapping[str, Any]) -> bool:
    """Return whether the limit of tasks is in the service's deploy section: Compose refuses two different ones."""
    value: object = service
    for key in ("deploy", "resources", "limits", "pids"):
        value = value.get(key) if isinstance(value, dict) else None
    return value is not None


def _edited(text: str, at: tuple[str, ...], service: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Return the text with the service confined. Raises Unreadable.

    What the file has and the policy does not know stays: other security options, mounts, labels. Of capabilities only
    those of the policy stay.
    """
    if "ALL" not in map(_capability, _texts(service.get("cap_drop"))):
        text = put(text, (*at, "cap_drop"), ["ALL"])
    if not known["capabilities"]:
        text = remove(text, (*at, "cap_add"))
    elif {_capability(name) for name in _texts(service.get("cap_add"))} != set(known["capabilities"]):
        text = put(text, (*at, "cap_add"), known["capabilities"])
    options = _texts(service.get("security_opt"))
    for option in _security_options(known):
        text = _with_option(text, (*at, "security_opt"), options, option)
    if known["user"] and known["sure"] and "user" not in service:
        text = put(text, (*at, "user"), _literal(known["user"]))
    if known["tasks"]:
        text = put(text, (*at, "pids_limit"), known["tasks"])
    for path, access in known["devices"]:
        text = append(text, (*at, "devices"), _literal(f"{path}:{path}:{access}"))
    if not known["read_only"]:
        return text
    text = put(text, (*at, "read_only"), True)
    if known["temporary"] and isinstance(service.get("tmpfs"), str):
        text = put(text, (*at, "tmpfs"), [service["tmpfs"]])
    for row in known["temporary"]:
        flags = "exec" if row.executed else "noexec"
        text = append(text, (*at, "tmpfs"), _literal(f"{row.path}:rw,nosuid,nodev,{flags}"))
    for path in known["kept"]:
        text = append(text, (*at, "volumes"), {"type": "volume", "target": _literal(path)})
    return text


def _literal(text: str) -> str:
    """Return text for a Compose file, in which ``$`` starts a variable."""
    return text.replace("$", "$$")


def _security_options(known: Mapping[str, Any]) -> Iterator[str]:
    yield "seccomp=./seccomp.json"
    if known["apparmor"]:
        yield _literal(f"apparmor:{known['apparmor']}")
    if known["no_new_privs"]:
        yield "no-new-privileges:true"


def _kept_options(known: Mapping[str, Any], service: Mapping[str, Any]) -> list[str] | None:
    """Return the security options of the file that an override file repeats, because it replaces the list: where the
    file has another profile. None when the lists may be joined."""
    given, own = _texts(service.get("security_opt")), {_key(option) for option in _security_options(known)}
    if not {_key(option) for option in given} & (own - {"no-new-privileges"}):
        return None
    return [option for option in given if _key(option) not in own]


def _with_option(text: str, at: tuple[str, ...], options: Collection[str], option: str) -> str:
    """Return the text with a security option in the place of one with the same key, or at the end."""
    same = [index for index, each in enumerate(options) if _key(each) == _key(option)]
    if not same:
        return append(text, at, option)
    if _key(option) == "no-new-privileges" and list(options)[same[-1]] == _key(option):
        return text
    return put(text, (*at, same[-1]), option)


def _key(option: str) -> str:
    return re.split("[:=]", option, maxsplit=1)[0]
