"""Read what the target ima writes, as strictly as the kernel and sha256sum do.

Sources: security/integrity/ima/ima_policy.c (ima_parse_add_rule, ima_parse_rule, ima_validate_rule), Linux 6.1;
tests/vm/test_ima.py has the kernel itself read rules.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

ACTIONS = ("measure", "dont_measure", "appraise", "dont_appraise", "audit", "hash", "dont_hash")
FUNCTIONS = (
    "FILE_CHECK", "PATH_CHECK", "MODULE_CHECK", "FIRMWARE_CHECK", "FILE_MMAP", "MMAP_CHECK", "BPRM_CHECK",
    "CREDS_CHECK", "KEXEC_KERNEL_CHECK", "KEXEC_INITRAMFS_CHECK", "POLICY_CHECK", "KEXEC_CMDLINE", "KEY_CHECK",
    "CRITICAL_DATA", "SETXATTR_CHECK",
)  # fmt: skip
IDS = ("uid", "euid", "gid", "egid", "fowner", "fgroup")
TEXTS = ("fsname", "subj_user", "subj_role", "subj_type", "obj_user", "obj_role", "obj_type")
ESCAPES = {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r"}


@dataclass(frozen=True)
class Rule:
    """A rule: its action, its function, and its further words."""

    action: str
    function: str | None
    conditions: tuple[str, ...]
    signed: bool


def rules(data: bytes) -> list[Rule]:
    """The rules of a file that is written to the kernel's interface. AssertionError for what it does not take."""
    found = []
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        assert len(line.encode("utf-8", "surrogateescape")) < 4096
        text = line.strip(" \t")
        if text and not text.startswith("#"):
            found.append(_rule(text))
    return found


def _rule(text: str) -> Rule:
    words = [word for word in re.split(r"[ \t]", text) if word]
    assert words[0] in ACTIONS, text
    function, signed, conditions, seen = None, False, list[str](), set[str]()
    for word in words[1:]:
        name = re.match(r"[a-z_]+", word)
        assert name, text
        assert name[0] not in seen, f"twice: {text}"
        seen.add(name[0])
        value = word[name.end() :]
        if name[0] == "func":
            assert value[1:] in FUNCTIONS, text
            function = value[1:]
        elif name[0] == "appraise_type":
            assert value in ("=imasig", "=imasig|modsig"), text
            assert words[0] == "appraise", text
            signed = True
        elif name[0] in IDS:
            assert re.fullmatch("[=<>][0-9]+", value), text
            assert int(value[1:]) < 2**32, text
            conditions.append(word)
        elif name[0] == "fsuuid":
            assert re.fullmatch("=[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", value), text
            conditions.append(word)
        elif name[0] == "fsmagic":
            assert int(value[1:], 16) < 2**64, text
            conditions.append(word)
        else:
            assert name[0] in TEXTS, text
            assert re.fullmatch("=.+", value), text
            conditions.append(word)
    return Rule(words[0], function, tuple(conditions), signed)


def labelled(script: bytes, place: Path) -> list[bytes]:
    """The files that the script labels, in their order. sha256sum, evmctl and getfattr only print here."""
    written = place / "ima-labels.sh"
    own = b'sha256sum() { :; }\nevmctl() { for last do :; done; printf "%s\\0" "$last" >&3; }\n'
    written.write_bytes(b"exec 3>&1\n" + own + script)
    done = subprocess.run(["sh", str(written)], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(b"\0")[:-1]


def manifest(data: bytes) -> dict[bytes, bytes]:
    """The paths of a list of sha256sum, with their digests; escapes as coreutils 9.1 reads them."""
    found = {}
    for line in data.split(b"\n")[:-1]:
        escaped = line.startswith(b"\\")
        digest, name = re.fullmatch(rb"([0-9a-f]{64})  (.+)", line.removeprefix(b"\\"), re.DOTALL).groups()  # type: ignore[union-attr]
        if escaped:
            name = re.sub(rb"\\.", lambda match: ESCAPES[match[0]], name)
        assert name not in found
        found[name] = digest
    return found
