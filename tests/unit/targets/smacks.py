"""Read what the target smack writes, as strictly as the kernel does.

Sources: Documentation/admin-guide/LSM/Smack.rst; security/smack/smackfs.c (smk_write_rules_list, smk_parse_long_rule,
smk_perm_from_str) and smack_access.c (smk_parse_smack, smk_access), Linux 6.1.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

LETTERS = "rwxatlb"
Rules = Mapping[tuple[str, str], frozenset[str]]


def label(text: str) -> str:
    """A label. AssertionError for what smk_parse_smack does not take, or shortens."""
    assert text, "empty"
    assert not text.startswith("-"), text
    assert all("!" <= char <= "~" and char not in "/\\'\"" for char in text), text
    assert len(text) < 256, text
    return text


def rules(data: bytes) -> Rules:
    """The rules of a file for load2. Every line is a rule: the kernel knows no comments."""
    found: dict[tuple[str, str], frozenset[str]] = {}
    lines = data.decode("ascii").split("\n")
    assert lines.pop() == ""
    for line in lines:
        subject, thing, access = line.split()
        assert access == "-" or (set(access) <= set(LETTERS) and len(set(access)) == len(access)), line
        key = (label(subject), label(thing))
        assert key not in found, f"a later rule replaces the first: {line}"
        found[key] = frozenset(access) - {"-"}
    return found


def allows(rules: Rules, subject: str, thing: str, access: str) -> bool:
    """Whether the access is granted (smk_access): built-in labels first, then rules; w implies l."""
    wanted = set(access)
    if subject == "*":
        return False
    if "@" in (subject, thing) or thing == "*" or subject == thing:
        return True
    if wanted <= {"r", "x"} and (thing == "_" or subject == "^"):
        return True
    held = rules.get((subject, thing), frozenset())
    return wanted <= held | ({"l"} if "w" in held else set())


def labelled(script: bytes, place: Path, *words: str) -> dict[bytes, bytes]:
    """Run the script with its real find, and a setfattr that only notes what it would do: path to label."""
    (place / "labels.sh").write_bytes(script)
    done = place / "labelled"
    done.write_bytes(b"")
    tool = place / "bin" / "setfattr"
    if not tool.exists():
        from executables import write_program

        tool.parent.mkdir(exist_ok=True)
        write_program(tool, '#!/bin/sh\nfor last do :; done\nprintf "%s\\0%s\\0" "$last" "$5" >>"$NOTES"\n')
    environment = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}", "NOTES": str(done)}
    run = subprocess.run(
        ["sh", str(place / "labels.sh"), *words], env=environment, capture_output=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, b""), run.stderr
    parts = done.read_bytes().split(b"\0")
    return dict(zip(parts[0:-1:2], parts[1::2], strict=True))
