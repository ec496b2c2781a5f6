"""Write names and paths for SELinux's Common Intermediate Language (secilc(8)) and for file_contexts(5)."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}", re.ASCII)
"""Names of blocks, types and modules. CIL allows more characters; file names of modules and contexts do not."""
_QUALIFIED = re.compile(rf"{NAME.pattern}(?:\.{NAME.pattern})*", re.ASCII)
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./@%:,~=-]*", re.ASCII)

RESERVED = frozenset(
    {
        "self", "notself", "other", "all", "and", "or", "not", "xor", "eq", "neq", "dom", "domby", "incomp", "range",
        "true", "false", "any", "file", "dir", "char", "block", "socket", "pipe", "symlink", "t1", "t2", "t3", "r1",
        "r2", "r3", "u1", "u2", "u3", "l1", "l2", "h1", "h2", "allow", "deny", "reject", "source", "target", "low",
        "high", "xattr", "task", "trans", "tcp", "udp", "dccp", "sctp", "ipv4", "ipv6", "dontaudit", "auditallow",
        "neverallow", "ioctl", "glblub", "low_high", "object_r", "process", "data",
    }
)  # fmt: skip
"""Words of the language, and names that the files of profgen use themselves."""


class Inexpressible(ValueError):
    """Text that the language cannot express; ``str()`` says why."""


def cil(name: str) -> str:
    """Return the name of a type, class or permission. Raises Inexpressible for what is not one."""
    if not _QUALIFIED.fullmatch(name):
        raise Inexpressible("a name has letters, digits and _")
    return name


def cil_names(names: object) -> str:
    """Return names in a list: ``(getattr open read)``."""
    if not isinstance(names, (list, tuple, set, frozenset)):
        raise Inexpressible("not a list of names")
    return f"({' '.join(sorted(cil(str(name)) for name in names))})"


def cil_path(path: str) -> str:
    """Return the quoted regular expression of file_contexts(5) for a path and all below it.

    A string of the language has no escapes, and the lines of file_contexts are cut at blanks, so a path with other
    characters than those of usual names has no form. Raises Inexpressible.
    """
    if not _PLAIN_PATH.fullmatch(path):
        raise Inexpressible("file_contexts has no form for the name")
    return f'"{path.rstrip("/").replace(".", chr(92) + ".")}(/.*)?"'


FILTERS = {"cil": cil, "cil_names": cil_names, "cil_path": cil_path}
