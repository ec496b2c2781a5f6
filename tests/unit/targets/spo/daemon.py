"""What the operator makes of an AppArmorProfile: the text of the profile, and what its rules mean.

Written anew from crd2armor.go of kubernetes-sigs/security-profiles-operator, commit a2e4c4bd (Apache-2.0): the same
checks and the same rules.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

PATH = re.compile(r"/[a-zA-Z0-9_./*?+@{} -]*")
"""strictPathRegex."""
LISTS = (
    # group, list, letters, letters that a deny rule takes
    ("executable", "allowedExecutables", "xr", ""),
    ("executable", "allowedLibraries", "mr", ""),
    ("filesystem", "readOnlyPaths", "r", "wlk"),
    ("filesystem", "writeOnlyPaths", "wlk", "r"),
    ("filesystem", "readWritePaths", "rwlk", ""),
)
DENIED = (
    ("@{PROC}/*", "w"),
    ("@{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9]*}/**", "w"),
    ("@{PROC}/sys/[^k]**", "w"),
    ("@{PROC}/sys/kernel/{?,??,[^s][^h][^m]**}", "w"),
    *((f"@{{PROC}}/{name}", "rwklx") for name in ("sysrq-trigger", "mem", "kmem", "kcore")),
    ("/sys/firmware/efi/efivars/**", "rwklx"),
)


def rules(abstract: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield (path, letters, letters that are denied). Fails for what the operator refuses."""
    for group, name, letters, denied in LISTS:
        for path in abstract.get(group, {}).get(name, []):
            assert PATH.fullmatch(path), path
            assert group == "filesystem" or not ("/../" in path or path.startswith("/..")), path
            yield path, letters, denied
    yield from ((path, "", letters) for path, letters in DENIED)


def profile(name: str, abstract: dict[str, Any]) -> str:
    """The text that the operator loads, in mode Enforce."""
    lines = [f"profile {name} flags=(enforce,attach_disconnected,mediate_deleted) {{", "#include <abstractions/base>"]
    for path, letters, denied in rules(abstract):
        words = "ixr" if "x" in letters else letters
        lines += [f"  {path} {words},"] * bool(letters) + [f"  deny {path} {denied},"] * bool(denied)
    network = abstract.get("network", {})
    protocols = network.get("allowedProtocols", {})
    lines.append("  network raw," if network.get("allowRaw") else "  deny network raw,")
    lines += [f"  network {word[5:].lower()}," for word in ("allowTcp", "allowUdp") if protocols.get(word)]
    capabilities = abstract.get("capability", {}).get("allowedCapabilities", [])
    lines += [f"  capability {word}," for word in capabilities]
    lines += ["  mount,", "  remount,", "  umount,"] * ("sys_rawio" in capabilities)
    return "\n".join(["#include <tunables/global>", *lines, "}", ""])


_WILD = re.compile(r"@\{[A-Za-z]+\}|\*\*|\*|\?|\[[^]]*\]|\{|,|\}|.", re.DOTALL)
_REGEX = {
    "@{PROC}": "/proc", "@{pid}": "[1-9][0-9]{0,6}", "@{tid}": "[1-9][0-9]{0,6}", "**": "[^\0]*", "*": "[^/\0]*",
    "?": "[^/\0]", "{": "(?:", "}": ")", ",": "|",
}  # fmt: skip


def regex(path: str) -> re.Pattern[str]:
    """What a path in a rule matches: text with one character a byte. A whole name between slashes that is a star
    matches one character at least (convert_aaregex_to_pcre in parser_regex.c)."""
    path = re.sub(r"(?<=/)(\*\*?)(?=/|\Z)", r"?\1", path)
    return re.compile("".join(_REGEX.get(t, t if t[0] == "[" else re.escape(t)) for t in _WILD.findall(path)))


class Rules:
    """The file rules of an AppArmorProfile."""

    def __init__(self, abstract: dict[str, Any]) -> None:
        self._rules = [(regex(path), frozenset(letters), frozenset(less)) for path, letters, less in rules(abstract)]

    def allowed(self, path: str) -> frozenset[str]:
        """The letters that are allowed on a path: a deny rule wins over all others."""
        text = os.fsencode(path).decode("latin-1")
        found = [row for row in self._rules if row[0].fullmatch(text)]
        return frozenset[str]().union(*(row[1] for row in found)) - frozenset[str]().union(*(row[2] for row in found))
