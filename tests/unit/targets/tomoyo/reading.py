"""TOMOYO's policy, checked by tomoyo-checkpolicy(8) and read as the kernel reads it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

CHECKER = "/usr/sbin/tomoyo-checkpolicy"
_WILD = {
    "\\*": "[^/]*", "\\@": "[^/.]*", "\\?": "[^/]", "\\$": "[0-9]+", "\\+": "[0-9]", "\\X": "[0-9A-Fa-f]+",
    "\\x": "[0-9A-Fa-f]", "\\A": "[A-Za-z]+", "\\a": "[A-Za-z]",
}  # fmt: skip


def checked(text: bytes, kind: str) -> None:
    """AssertionError for what the tools do not accept. ``kind``: d for domains, e for exceptions."""
    done = subprocess.run([CHECKER, kind], input=text, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")


def regex(word: str) -> re.Pattern[bytes]:
    """What a word matches, as bytes of names."""
    found = []
    for part in re.findall(r"\\\{.*?\\\}/|\\[0-3][0-7]{2}|\\.|[^\\]", word):
        if part.startswith("\\{"):
            found.append(f"(?:{regex(part[2:-3]).pattern.decode('latin-1')}/)+")
        elif part in _WILD:
            found.append(_WILD[part])
        elif part == "\\\\":
            found.append(re.escape("\\"))
        elif part.startswith("\\"):
            found.append(re.escape(chr(int(part[1:], 8))))
        else:
            found.append(re.escape(part))
    return re.compile("".join(found).encode("latin-1"), re.DOTALL)


@dataclass
class Read:
    """``domains``: name without the namespace to the words of each rule, those of the group included; ``groups``: path
    groups."""

    namespace: str
    domains: dict[str, list[list[str]]] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)

    def words(self, text: str) -> list[str]:
        return self.groups.get(text[1:], []) if text.startswith("@") else [text]

    def allows(self, domain: str, operation: str, *names: str) -> bool:
        """Whether a rule of the domain lets an operation of files happen with these names, as the kernel writes
        them."""
        for rule in self.domains[domain]:
            if rule[:2] == ["file", operation] and all(
                any(regex(word).fullmatch(os.fsencode(name)) for word in self.words(text))
                for text, name in zip(rule[2:], names, strict=False)
            ):
                return True
        return False


def read(files: Mapping[str, bytes]) -> Read:
    exceptions = list(_lines(files["tomoyo.exception.conf"]))
    start = next(line for line in exceptions if line.startswith("<"))
    made = Read(start.partition(" ")[0])
    shared = []
    for line in exceptions:
        words = line.split(" ")
        if words[:2] == [made.namespace, "path_group"]:
            made.groups.setdefault(words[2], []).append(words[3])
        elif words[:3] == [made.namespace, "acl_group", "0"]:
            shared.append(words[3:])
        else:
            assert line == f"acl_group 0 task manual_domain_transition {made.namespace}", line
    current = ""
    for line in _lines(files["tomoyo.domain.conf"]):
        if line.startswith("<"):
            namespace, _, current = line.partition(" ")
            assert namespace == made.namespace
            assert current not in made.domains
            made.domains[current] = []
        elif line == "use_group 0":
            made.domains[current] += shared
        elif line != "use_profile 1":
            made.domains[current].append(line.split(" "))
    return made


def _lines(data: bytes) -> Iterator[str]:
    for line in data.decode("ascii", "surrogateescape").splitlines():
        if line and not line.startswith("#"):
            yield line
