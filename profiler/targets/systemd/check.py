"""A strict reader of the drop-ins that profgen writes. systemd logs what it cannot read, leaves it out, and starts the
service without it; a capability that it does not know it leaves out without a word. So all of that is an error here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from profiler.errors import InputError
from profiler.kernel.arguments import value_of
from profiler.kernel.capabilities import number_of as capability_number
from profiler.kernel.errno import FIRST_INTERNAL
from profiler.kernel.errno import number_of as errno_number
from profiler.kernel.syscalls import names_anywhere
from profiler.kernel.systemd import ARCHITECTURES, NAMESPACES
from profiler.quoting.systemd import has_unit_path
from profiler.quoting.text import printable
from profiler.targets.systemd.options import KEYS

_WORD = re.compile(r"[^\s\"'\\]+")
_PORT = re.compile(r"any|ipv[46]:(tcp|udp)(:[1-9][0-9]{0,4})?")
_PATHS = re.compile(r'\s*(?P<minus>-)?(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s"\'\\]+))(?=\s|\Z)')


def check(data: bytes, name: str) -> None:
    """Raise InputError for a drop-in that systemd would not read as it is meant."""
    section = None
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        if not line.strip() or line.lstrip().startswith(("#", ";")):
            continue
        where = f"{name}, line {number}"
        if line.startswith("["):
            section = line
        elif section != "[Service]":
            raise InputError(f"{where}: it is not in the section [Service]")
        else:
            key, equals, value = line.partition("=")
            reason = "no known key and value" if not equals or key not in KEYS else _wrong(key, value)
            if reason:
                raise InputError(f"{where}: {printable(line)}: {reason}")


def _wrong(key: str, value: str) -> str | None:
    """Return what is wrong with a value, None for nothing."""
    if value != value.strip() or value.endswith("\\") or "\r" in value or "\0" in value:
        return "systemd reads this line otherwise"
    if key in _LISTS:
        if not value:
            return None
        check = _LISTS[key]
        return next((f"systemd would leave out {printable(one)}" for one in value.split() if not check(one)), None)
    if key in _WHOLE:
        return None if _WHOLE[key](value) else "systemd would leave it out"
    return None if value == "yes" else "it is neither yes nor left out"


def paths(value: str) -> list[str] | None:
    """Return the paths of a value of ReadWritePaths=, with the ``-`` in front; None for one that is read
    otherwise."""
    found: list[str] = []
    at = 0
    while value[at:].strip():
        match = _PATHS.match(value, at)
        if match is None:
            return None
        text = match["plain"] if match["quoted"] is None else re.sub(r"\\(.)", r"\1", match["quoted"])
        if re.sub("%%", "", text).count("%"):
            return None
        found.append((match["minus"] or "") + text.replace("%%", "%"))
        at = match.end()
    return found


def _is_paths(value: str) -> bool:
    found = paths(value)
    return found is not None and all(path.removeprefix("-").startswith("/") and has_unit_path(path) for path in found)


def _is_device(value: str) -> bool:
    path, _, letters = value.rpartition(" ")
    found = paths(path)
    plain = found is not None and len(found) == 1 and found[0].startswith("/dev/") and has_unit_path(found[0])
    return not value or (plain and bool(re.fullmatch("r?w?m?", letters)) and bool(letters))


def _is_error(name: str) -> bool:
    number = errno_number(name)
    return number is not None and number < FIRST_INTERNAL


def _is_filter(value: str) -> bool:
    rows = [word.partition(":") for word in value.removeprefix("~").split()]
    return all(name in names_anywhere() and (not colon or _is_error(error)) for name, colon, error in rows)


def _is_family(word: str) -> bool:
    try:
        return word == "none" or value_of("address_family", word) != 0
    except KeyError:
        return False


def _one_of(*words: str) -> Callable[[str], bool]:
    return lambda value: value in words


_LISTS: Mapping[str, Callable[[str], bool]] = {
    "SystemCallArchitectures": _one_of("native", *ARCHITECTURES.values()),
    "CapabilityBoundingSet": lambda word: capability_number(word) is not None,
    "AmbientCapabilities": lambda word: capability_number(word) is not None,
    "RestrictAddressFamilies": _is_family,
    "RestrictNamespaces": _one_of("yes", *NAMESPACES.values()),
    "SocketBindAllow": lambda word: bool(_PORT.fullmatch(word)),
}
_WHOLE: Mapping[str, Callable[[str], bool]] = {
    "SystemCallErrorNumber": _is_error,
    "SystemCallFilter": _is_filter,
    "ReadWritePaths": _is_paths,
    "DeviceAllow": _is_device,
    "ProtectSystem": _one_of("strict", "full", "yes"),
    "ProtectHome": _one_of("tmpfs", "read-only"),
    "ProtectProc": _one_of("invisible"),
    "ProcSubset": _one_of("pid"),
    "UMask": _one_of("0077"),
    "DevicePolicy": _one_of("closed"),
    "SocketBindDeny": _one_of("any"),
    "IPAddressDeny": _one_of("any"),
    "IPAddressAllow": _one_of("", "localhost"),
    "TasksMax": lambda value: value.isascii() and value.isdecimal() and int(value) > 0,
    "AppArmorProfile": lambda value: bool(_WORD.fullmatch(value)),
    "SELinuxContext": lambda value: bool(_WORD.fullmatch(value)),
}
