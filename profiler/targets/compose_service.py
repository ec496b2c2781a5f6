"""A service of a user's Compose file: what it says about confinement, compared with what a policy needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from profiler.policy import patterns
from profiler.policy.model import Policy
from profiler.policy.posture import Posture, blocked, posture
from profiler.policy.writable import within
from profiler.quoting.text import printable
from profiler.targets.base import Loss, Request
from profiler.targets.containers import LOOSEN, READ_ONLY, device_losses, moves_lost, permitted, without_root
from profiler.wording import listed

_NOT = frozenset({"false", "no", "n", "off", "f", "0"})
_YES = frozenset({"true", "yes", "y", "on", "t", "1"})
"""Texts that Compose reads as false, and as true."""
_LOOSEN = f"to change it: -O compose.{LOOSEN.name}"
PIDS = (("pids_limit",), ("deploy", "resources", "limits", "pids"))
"""Where a service may limit threads and processes. Compose refuses two different limits."""


@dataclass(frozen=True)
class Service:
    """A service, as plain data; empty where the service is not known."""

    data: Mapping[str, Any] = field(default_factory=dict)

    def texts(self, key: str) -> list[str]:
        """Return the items of a member that are text; a member of Compose may also be one text."""
        value = self.data.get(key)
        return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]

    def at(self, path: tuple[str, ...]) -> Any:
        """Return what is at a path, None where nothing is."""
        value: Any = self.data
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def is_on(self, key: str) -> bool:
        """Return whether a member is true, in any form that Compose reads so."""
        return str(self.data.get(key)).lower() in _YES

    @property
    def privileged(self) -> bool:
        """Whether it is privileged, or may be: a variable decides, or a text."""
        value = self.data.get("privileged")
        return value is not None and str(value).lower() not in _NOT

    @property
    def mounts(self) -> dict[str, bool]:
        """Where it mounts something, and whether that is read-only."""
        found: dict[str, bool] = {}
        for text in self.texts("tmpfs"):
            path, _, options = text.partition(":")
            found[path] = "ro" in options.split(",")
        for row in self.data.get("volumes") or ():
            if isinstance(row, Mapping):
                found[str(row.get("target"))] = row.get("read_only") is True
            elif isinstance(row, str):
                words = row.split(":")
                places = [index for index, word in enumerate(words) if word.startswith("/")]
                if places:
                    found[words[places[-1]]] = any("ro" in word.split(",") for word in words[places[-1] + 1 :])
        return found

    @property
    def devices(self) -> dict[str, str]:
        """The devices in the container, with the accesses to each."""
        found = {}
        for text in self.texts("devices"):
            source, _, rest = text.partition(":")
            target, _, access = rest.partition(":")
            if target and not target.startswith("/"):
                target, access = "", target  # PATH:ACCESS
            found[target or source] = access or "rwm"
        for row in self.data.get("devices") or ():
            if isinstance(row, Mapping):
                found[str(row.get("target") or row.get("source"))] = str(row.get("permissions") or "rwm")
        return found

    @property
    def root(self) -> bool | None:
        """Whether its user is root; None where the file does not say."""
        user = self.data.get("user")
        if user is None or "$" in str(user):
            return None
        return str(user).partition(":")[0] in ("0", "root")

    def options(self, key: str) -> list[str]:
        """Return the security options with this key."""
        return [option for option in self.texts("security_opt") if option_key(option) == key]

    @property
    def forbids_gain(self) -> bool:
        """Whether it sets no_new_privs."""
        words = [re.split("[:=]", option, maxsplit=1)[1:] for option in self.options("no-new-privileges")]
        return any(word != ["false"] for word in words)

    def looser_limits(self, tasks: int) -> list[tuple[str, ...]]:
        """Return where a limit of tasks has to be written: each that is not as low, or the usual place when there is
        none. What a variable decides stays."""
        given = [(path, self.at(path)) for path in PIDS if self.at(path) is not None]
        if not given:
            return [PIDS[0]]
        return [path for path, value in given if "$" not in str(value) and not 0 < _number(value) <= tasks]


def _number(value: Any) -> float:
    """Return a limit; 0 (no limit) for what is not a number. Compose reads text as a number too."""
    try:
        return 0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return 0


def option_key(option: str) -> str:
    """Return what a security option is about, such as seccomp."""
    return re.split("[:=]", option, maxsplit=1)[0]


def confined(request: Request, service: Service, known: Mapping[str, Any]) -> tuple[dict[str, Any], list[Loss]]:
    """Return the values for this service, and what of the policy it does not allow.

    What the file forbids stays forbidden, and is a loss, unless ``loosen`` is set. ``known``: the values for a service
    of its own. ``unlock``: the root is not read-only any more; ``gain``: no_new_privs goes.
    """
    policy, stance, loosen = request.policy, posture(request.policy), LOOSEN.of(request)
    option = None if loosen else f"compose.{LOOSEN.name}"
    names, losses = permitted(policy.needed(), service.texts("cap_add"), service.texts("cap_drop"), option)
    root = service.root
    if not (root if root is not None else policy.workload.uid == 0):
        losses += without_root(f"CAP_{name}" for name in names)
    if "extends" in service.data:
        why = "Compose adds the lists of both; look there for cap_add, devices and security_opt"
        losses.append(Loss("capabilities", "what the service that it extends is given", why))
    if not policy.no_new_privs and service.forbids_gain and not loosen:
        why = f"your file forbids it (no-new-privileges); {_LOOSEN}"
        losses.append(Loss("no_new_privs", "the gain of privileges by a file", why, "refused"))
    losses += device_losses(stance)
    losses += _weaker_devices(service, known["devices"])
    mounts = service.mounts
    losses += _blocked(policy, mounts)
    read_only = _root(request, stance, service, losses)
    here = {
        "capabilities": names,
        "mounts": (),
        "temporary": [row for row in known["temporary"] if not within(row.path, mounts)],
        "kept": [path for path in known["kept"] if not within(path, mounts)],
        "devices": [(path, access) for path, access in known["devices"] if path not in service.devices],
        "limits": service.looser_limits(known["tasks"]) if known["tasks"] else [],
        "read_only": read_only,
        "unlock": service.is_on("read_only") and not read_only,
        "gain": loosen and not policy.no_new_privs and service.forbids_gain,
    }
    return here, losses


def _weaker_devices(service: Service, wanted: list[tuple[str, str]]) -> Iterator[Loss]:
    for path, access in wanted:
        given = service.devices.get(path, access)
        if not set(access) <= set(given):
            yield Loss("files", path, f"your file gives it with {printable(given)} alone: add {access}", "refused")


def _blocked(policy: Policy, mounts: Mapping[str, bool]) -> Iterator[Loss]:
    if found := blocked(policy, mounts):
        yield Loss("files", f"writing {listed(found, 3)}", "your file mounts it read-only", "refused")


def _root(request: Request, stance: Posture, service: Service, losses: list[Loss]) -> bool:
    """Return whether the root is read-only."""
    mounts = service.mounts
    elsewhere = [pattern for pattern in stance.elsewhere or () if not within(patterns.start_of(pattern), mounts)]
    told = service.is_on("read_only") and not LOOSEN.of(request)
    wish = READ_ONLY.of(request)
    known = stance.sure and not request.policy.workload.incomplete and stance.elsewhere is not None
    kept = all(within(path, mounts) for path in stance.kept)
    would_do = stance.read_only or (known and not elsewhere and not stance.apart and kept)
    if told and wish == "no":
        why = f"your file mounts it read-only, against -O compose.{READ_ONLY.name}=no; {_LOOSEN}"
        losses.append(Loss("files", "writing to the root file system", why, "refused"))
    if not (told or wish == "yes" or (wish == "auto" and would_do)):
        return False
    if elsewhere:
        why = f"the root is read-only; mount volumes there{f', or {_LOOSEN}' if told else ''}"
        losses.append(Loss("files", f"writing {listed(elsewhere, 3)}", why, "refused"))
    losses += moves_lost(stance)
    return True
