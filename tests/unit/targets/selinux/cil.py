"""Modules of SELinux policy, read back: as lists, and compiled with what they need around them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_TOKEN = re.compile(r'\s*(?:;[^\n]*|(\()|(\))|"([^"]*)"|([^\s()";]+))')


def read(text: str) -> list[Any]:
    """The lists of a file, nested as they are."""
    stack: list[list[Any]] = [[]]
    at = 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        assert found is not None, text[at : at + 80]
        at = found.end()
        if found[1]:
            stack.append([])
        elif found[2]:
            done = stack.pop()
            stack[-1].append(done)
        elif found[3] is not None or found[4]:
            stack[-1].append(found[3] if found[3] is not None else found[4])
    assert len(stack) == 1
    return stack[0]


def walk(rows: list[Any]) -> Iterator[list[Any]]:
    """Every list in these, without the outermost."""
    for row in rows:
        if isinstance(row, list):
            yield row
            yield from walk(row)


def allowed(text: str) -> Mapping[tuple[str, str], frozenset[str]]:
    """What the module allows ``process``: by target and class."""
    found: dict[tuple[str, str], frozenset[str]] = {}
    for row in walk(read(text)):
        if row[:2] == ["allow", "process"]:
            (kind, rights) = row[3]
            found[row[2], kind] = found.get((row[2], kind), frozenset()) | frozenset(rights)
    return found


OWN = frozenset({"process", "data", "socket", "anything"})
ATTRIBUTES = frozenset(
    {
        "domain", "file_type", "filesystem_type", "device_node", "proc_type", "sysctl_type", "node_type", "ptynode",
        "tmpfile", "pidfile", "mcs_constrained_type", "container_domain",
    }
)  # fmt: skip

CONTAINER = """
(block container
    (type process)
    (roletype system_r process)
    (typeattributeset container_domain (process))
)
"""
"""What a module of the form udica inherits, as far as it is inherited."""


def around(text: str) -> str:
    """The least policy in which the module compiles: the classes, types and attributes that it names."""
    rows = list(walk(read(text)))
    rules = [row for row in rows if row[0] == "allow"]
    classes: dict[str, set[str]] = {"process": {"transition"}, "file": {"getattr"}, "dir": {"getattr"}}
    for row in rules:
        classes.setdefault(row[3][0], set()).update(row[3][1])
    for row in rows:
        if row[0] == "typetransition":
            classes.setdefault(row[3], {"getattr"})
    named = {name for row in rules for name in row[1:3]}
    named |= {row[2] for row in rows if row[0] == "typetransition"}
    attributes = ATTRIBUTES | {row[1] for row in rows if row[0] == "typeattributeset"}
    types = sorted(named - attributes - OWN)
    lines = ["(handleunknown deny)", "(mls true)"]
    lines += [f"(class {kind} ({' '.join(sorted(rights))}))" for kind, rights in sorted(classes.items())]
    lines += [f"(classorder ({' '.join(sorted(classes))}))"]
    lines += ["(sid kernel)", "(sidorder (kernel))", "(user system_u)", "(role system_r)", "(role object_r)"]
    lines += ["(userrole system_u system_r)", "(userrole system_u object_r)", "(sensitivity s0)", "(category c0)"]
    lines += ["(sensitivityorder (s0))", "(categoryorder (c0))", "(sensitivitycategory s0 (c0))"]
    lines += ["(level low (s0))", "(levelrange all (low low))", "(userlevel system_u low)", "(userrange system_u all)"]
    lines += [f"(typeattribute {name})" for name in sorted(attributes - OWN)]
    lines += [f"(type {name})" for name in ("base_t", *types)]
    lines += [f"(typeattributeset {name} (base_t))" for name in sorted(attributes - OWN)]
    lines += [
        "(roletype system_r base_t)",
        "(roletype object_r base_t)",
        "(sidcontext kernel (system_u system_r base_t all))",
    ]
    lines += ["(allow base_t base_t (process (transition)))"]
    return "\n".join([*lines, CONTAINER if "blockinherit" in text else ""])


def compiled(text: str, directory: Path) -> Path:
    """The module compiled with what is around it. AssertionError when secilc(8) refuses it."""
    module, rest, binary = directory / "module.cil", directory / "around.cil", directory / "policy"
    module.write_text(text)
    rest.write_text(around(text))
    words = ["secilc", "-o", binary, "-f", directory / "contexts", rest, module]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + text
    return binary
