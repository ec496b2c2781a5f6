"""Make a Denial of a record of seccomp.

Source: audit_seccomp and audit_log_task in kernel/auditsc.c: the members, their order, and that ``code`` is the last.
"""

from __future__ import annotations

import re

from profiler.denials.logs.fields import ENRICHED, known, value_of
from profiler.denials.model import Denial
from profiler.kernel.abi import ABIS, abi_of
from profiler.kernel.syscalls import name_of, number_of

ACTIONS = {
    0x80000000: "kill_process", 0x00000000: "kill_thread", 0x00030000: "trap", 0x00050000: "errno",
    0x7FC00000: "user_notif", 0x7FF00000: "trace", 0x7FFC0000: "log", 0x7FFF0000: "allow",
}  # fmt: skip
"""SECCOMP_RET_* of include/uapi/linux/seccomp.h, without their data: a record does not contain the errno."""

REFUSING = frozenset({"kill_process", "kill_thread", "kill", "trap", "errno"})
"""The other actions let the call pass (log, allow) or leave it to a supervisor (user_notif, trace). ``kill`` is what
ausearch -i of audit 3 writes for both kinds."""

_TASK = rb"auid=\S+ uid=\S+ gid=\S+ ses=\S+ (?:subj=(?:\"[^\"]*\"|[^\s\"]+(?: \([a-z]+\))?) )?pid=(?P<pid>\d{1,10}) "
_TEXT = rb'"[^"\x00-\x1f\x7f]*"|[^\s"]+'
_END = rb" compat=[01] ip=0x[0-9a-f]{1,16} code="

RECORD = re.compile(
    _TASK + rb"comm=(?P<comm>" + _TEXT + rb") exe=(?P<exe>" + _TEXT + rb") sig=\d{1,3} arch=(?P<arch>[0-9a-f]{1,8})"
    rb" syscall=(?P<syscall>-?\d{1,10})" + _END + rb"(?P<code>0x[0-9a-f]{1,8})" + ENRICHED
)
"""A whole record as the kernel writes it."""

INTERPRETED = re.compile(
    _TASK
    + rb"comm=(?P<comm>[^\x00-\x1f\"]{1,64}?) exe=(?P<exe>[^\x00-\x1f\"]{1,8192}?) sig=\S{1,16} arch=(?P<arch>\w{1,16})"
    rb" syscall=(?P<syscall>-?\w{1,64})" + _END + rb"(?P<code>[\w-]{1,16})\s*\Z"
)
"""A whole record as ausearch -i writes it: with names for numbers, and names of files without quotation marks."""
_AMBIGUOUS = (b" exe=", b" sig=", b" arch=", b" syscall=")


def match(body: bytes) -> re.Match[bytes] | None:
    """Return the parts of a whole record, None if it is not one."""
    if found := RECORD.match(body):
        return found
    # A file's name could hold the words of other members.
    return INTERPRETED.match(body) if all(body.count(word) == 1 for word in _AMBIGUOUS) else None


def denial(found: re.Match[bytes], kmsg: bool) -> Denial:
    """Return the denial in a record. Raises ValueError for one that names an unknown architecture or call."""
    arch, call = found["arch"].decode(), found["syscall"].decode()
    exact = found.re is RECORD
    if exact:
        number = int(call)
        if not -(1 << 31) <= number < 1 << 32:
            raise ValueError(call)
        try:
            abi, number = abi_of(int(arch, 16), number)
        except KeyError:
            abi = f"architecture {arch}"
        name = name_of(abi, number) if abi in ABIS else None
    else:
        abi = arch
        if abi not in ABIS:
            raise ValueError(abi)
        known_number = int(call) if call.isdigit() else number_of(abi, call)
        if known_number is None:
            raise ValueError(call)
        number, name = known_number, name_of(abi, known_number)
    code = found["code"].decode()
    action = ACTIONS.get(int(code, 16) & 0xFFFF0000, "unknown") if code.startswith("0x") else code.replace("-", "_")
    return Denial(
        kind="syscall",
        by="seccomp",
        refused=action in REFUSING,
        action=action,
        comm=known(value_of("comm" if exact else "", found["comm"], kmsg)),
        exe=known(value_of("exe" if exact else "", found["exe"], kmsg)),
        abi=abi,
        number=number,
        name=name,
    )
