"""compose.yaml: a service of Docker Compose with the profile, in a file of its own, an override file, or the user's."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from profiler.errors import InputError
from profiler.quoting.text import printable
from profiler.rewriting.yaml import Unreadable, append, loads, members, put, remove
from profiler.targets.base import (
    Existing,
    File,
    Launches,
    Output,
    Request,
    Setting,
    Step,
    Target,
    written,
    yes_or_no,
)
from profiler.targets.compose_service import PIDS, Service, confined, option_key
from profiler.targets.containers import ARTIFACTS, LOOSEN, READ_ONLY, capability, losses, values
from profiler.wording import listed

FILE, OVERRIDE = "compose.yaml", "compose.override.yaml"
_NAME = re.compile(r"[A-Za-z0-9._-]+")
"""Names of services (the Compose specification's schema)."""


class Compose(Target):
    """Docker Compose, and whatever else reads the Compose specification."""

    name = "compose"
    summary = "compose.yaml: a Docker Compose service with the profile; a file of its own, or your own file rewritten"
    says = frozenset({"capabilities", "no_new_privs"})
    service = Setting("service", "the service of your file; default: its only one", "NAME", "", str)
    override = Setting("override", "write an override file, and leave your file as it is", "yes|no", False, yes_or_no)
    settings = (READ_ONLY, service, override, LOOSEN)
    rewrites = "a Compose file"
    launches = Launches(frozenset({"docker"}), names=ARTIFACTS, requires=frozenset({"seccomp"}))

    def prefix(self, request: Request) -> str:
        """See Target.prefix: each service of a file has a profile of its own."""
        name = self._user_file(request)[0]
        return f"{name}." if name else ""

    def _user_file(self, request: Request) -> tuple[str, str, Service]:
        """Return the name of the service, empty when it is one of our own, the text of the user's file, and the service
        in it. Raises InputError."""
        name = self.service.of(request)
        if request.existing is None:
            if name and not self.override.of(request):
                raise InputError("-O compose.service names a service of your file: give that file with --into FILE")
            if self.override.of(request) and not name:
                raise InputError("an override needs the name of a service: -O compose.service=NAME, or --into FILE")
            return _valid(name) if name else "", "", Service()
        text, services = _services(request.existing)
        name = _chosen(name, services, request.existing.name)
        service = Service(services[name])
        if service.privileged:
            where = f"{request.existing.name}: the service {printable(name)}"
            raise InputError(f"{where} is privileged: remove that, or no profile limits it")
        return _valid(name), text, service

    def render(self, request: Request) -> Output:
        """See Target.render."""
        name, text, service = self._user_file(request)
        known: dict[str, Any] = {**values(request), "limits": [PIDS[0]], "unlock": False, "gain": False}
        needs = (known["seccomp"],)
        lost = list(losses(request, ambient=False))
        if name:
            here, lost = confined(request, service, known)
            known |= here
        if self.override.of(request):
            known["replaces_capabilities"] = bool(_extra_capabilities(known, service))
            known["kept_options"] = _kept_options(known, service)
            known["user"] = None if "user" in service.data else known["user"]
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


def _valid(name: str) -> str:
    """Return the name of a service. Raises InputError for one that Compose refuses."""
    if not _NAME.fullmatch(name):
        raise InputError(f"{printable(name)!r} is not the name of a service: use letters, digits, '.', '_' and '-'")
    return name


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
    services = [one.get("services") for one in documents if isinstance(one, dict) and "services" in one]
    if services and len(documents) != 1:
        raise InputError(
            f"{existing.name}: it has {len(documents)} documents (---), which Compose joins: put them into one, or "
            "into files of their own"
        )
    if not services or not isinstance(services[0], dict):
        raise InputError(f"{existing.name}: not a Compose file: it has no services")
    return text, {name: service for name, service in services[0].items() if isinstance(service, dict)}


def _chosen(name: str, services: Mapping[str, object], file: str) -> str:
    """Return the name of the service to change. Raises InputError."""
    names = listed([printable(each) for each in services], 8)
    if name and name not in services:
        raise InputError(f"{file} has no service {printable(name)!r}: it has {names or 'none'}")
    if not name and len(services) != 1:
        raise InputError(f"{file} has {len(services)} services: choose one with -O compose.service=NAME: {names}")
    return name or next(iter(services))


def _extra_capabilities(known: Mapping[str, Any], service: Service) -> set[str]:
    """Return the capabilities that the user's file adds and the policy does not."""
    return set(map(capability, service.texts("cap_add"))) - set(known["capabilities"])


def _edited(text: str, at: tuple[str, ...], service: Service, known: Mapping[str, Any]) -> str:
    """Return the text with the service confined. Raises Unreadable.

    What the file has and the policy does not know stays: other security options, mounts, labels. Of capabilities only
    those of the policy stay.
    """
    needed = known["capabilities"]
    dropped = [name for name in service.texts("cap_drop") if capability(name) not in needed]
    every = () if "ALL" in map(capability, dropped) else ("ALL",)
    # A capability that is dropped next to all of them means nothing.
    text = members(text, (*at, "cap_drop"), every or dropped)
    spelled = {capability(name): name for name in service.texts("cap_add")}
    text = members(text, (*at, "cap_add"), [spelled.get(name, name) for name in needed])
    options = service.texts("security_opt")
    for option in _security_options(known):
        text = _with_option(text, (*at, "security_opt"), options, option)
    if known["gain"]:
        text = members(text, (*at, "security_opt"), [*_others(known, service), *_security_options(known)])
    if known["user"] and known["sure"] and "user" not in service.data:
        text = put(text, (*at, "user"), _literal(known["user"]))
    for limit in known["limits"]:
        text = put(text, (*at, *limit), known["tasks"])
    for path, access in known["devices"]:
        text = append(text, (*at, "devices"), _literal(f"{path}:{path}:{access}"))
    if not known["read_only"]:
        return remove(text, (*at, "read_only")) if known["unlock"] else text
    if not service.is_on("read_only"):
        text = put(text, (*at, "read_only"), True)
    if known["temporary"] and isinstance(service.data.get("tmpfs"), str):
        text = put(text, (*at, "tmpfs"), [service.data["tmpfs"]])
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
    yield f"seccomp=./{known['seccomp']}"
    if known["apparmor"]:
        yield _literal(f"apparmor:{known['apparmor']}")
    if known["selinux"]:
        yield f"label=type:{known['selinux']}"
    if known["no_new_privs"]:
        yield "no-new-privileges:true"


def _kept_options(known: Mapping[str, Any], service: Service) -> list[str] | None:
    """Return the security options of the file that an override file repeats, because it replaces the list: where the
    file has another profile. None when the lists may be joined."""
    own = {option_key(option) for option in _security_options(known)} - {"no-new-privileges"}
    same = any(option_key(option) in own for option in service.texts("security_opt"))
    return _others(known, service) if same or known["gain"] else None


def _others(known: Mapping[str, Any], service: Service) -> list[str]:
    """Return the security options of the file that the policy says nothing about."""
    own = {option_key(option) for option in _security_options(known)} | (
        {"no-new-privileges"} if known["gain"] else set()
    )
    return [option for option in service.texts("security_opt") if option_key(option) not in own]


def _with_option(text: str, at: tuple[str, ...], options: Collection[str], option: str) -> str:
    """Return the text with a security option in the place of one with the same key, or at the end."""
    same = [index for index, each in enumerate(options) if option_key(each) == option_key(option)]
    if not same:
        return append(text, at, option)
    if option_key(option) == "no-new-privileges" and list(options)[same[-1]] == option_key(option):
        return text
    return put(text, (*at, same[-1]), option)
