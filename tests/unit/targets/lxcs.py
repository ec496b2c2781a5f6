"""LXC's readers of its own files, as strict as LXC's: src/lxc/seccomp.c (5.0.2), confile.c and getmntent(3)."""

from __future__ import annotations

import re
from typing import Any

from profiler.kernel.abi import seccomp_name
from profiler.kernel.syscalls import known_names

_ARGUMENT = re.compile(r"\[([0-5]),(0x[0-9a-f]+|[0-9]+),SCMP_CMP_MASKED_EQ,(0x[0-9a-f]+|[0-9]+)\]")
_RULE = re.compile(r"([a-z0-9_]+) (allow|errno ([1-9][0-9]*))( (?:\[[^\[\] ]*\])+)?")


def seccomp(data: bytes, abis: tuple[str, ...]) -> dict[str, Any]:
    """The policy as a profile in OCI's form. AssertionError for a line that LXC refuses, ignores or reads otherwise."""
    version, kind, *lines = data.decode("utf-8").split("\n")
    assert version == "2"
    default = kind.removeprefix("allowlist ")
    assert default in ("errno 1", "kill")
    errno = default.removeprefix("errno ")
    head: dict[str, Any] = {"defaultAction": "SCMP_ACT_KILL"}
    if errno == "1":
        head = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1}
    rows = []
    for line in lines:
        if line.startswith("#") or not line or line == "[all]":
            continue
        rule = _RULE.fullmatch(line)
        assert rule, line
        assert rule[1] in known_names()
        assert rule[2] != default, f"LXC refuses the file: {line}"
        row: dict[str, Any] = {"names": [rule[1]], "action": "SCMP_ACT_ALLOW"}
        if rule[3]:
            row |= {"action": "SCMP_ACT_ERRNO", "errnoRet": int(rule[3])}
        if rule[4]:
            tests = _ARGUMENT.findall(rule[4])
            assert "".join(f"[{i},{v},SCMP_CMP_MASKED_EQ,{m}]" for i, v, m in tests) == rule[4].strip()
            assert len({index for index, _, _ in tests}) == len(tests), f"two conditions on one argument: {line}"
            row["args"] = [
                {"index": int(i), "value": int(m, 0), "valueTwo": int(v, 0), "op": "SCMP_CMP_MASKED_EQ"}
                for i, v, m in tests
            ]
        rows.append(row)
    assert len({str(row) for row in rows}) == len(rows), "a rule comes twice"
    return {**head, "architectures": [seccomp_name(abi) for abi in abis], "syscalls": rows}


def config(data: bytes) -> list[tuple[str, str]]:
    """The assignments of a configuration."""
    found = []
    for line in re.split(rb"[\r\n\0]+", data):
        text = line.decode("utf-8", "surrogateescape").lstrip(" \t")
        if not text.startswith("lxc."):
            assert not text or text.startswith("#"), "LXC ignores other lines"
            continue
        key, equals, value = text.partition("=")
        assert equals, line
        found.append((key.strip(" \t"), value.strip(" \t")))
    return found


def kept(rows: list[tuple[str, str]]) -> set[str] | None:
    """The capabilities that the container keeps, None for all but the dropped ones."""
    keep: set[str] | None = None
    for key, value in rows:
        if key in ("lxc.cap.keep", "lxc.cap.drop") and not value:
            keep = None
        elif key == "lxc.cap.keep":
            keep = (keep or set()) if value != "none" else set()
            keep |= {f"CAP_{name.upper()}" for name in value.split() if name != "none"}
    return keep


def mounted(rows: list[tuple[str, str]]) -> dict[str, str]:
    """The places of the mounts in the container to their types."""
    found = {}
    for key, value in rows:
        if key == "lxc.mount.entry":
            fields = value.replace("\t", " ").split(" ")
            assert len(fields) == 6, value
            place = re.sub(r"\\(040|011|012|134)", lambda octal: chr(int(octal[1], 8)), fields[1])
            found["/" + place] = fields[2]
    return found
