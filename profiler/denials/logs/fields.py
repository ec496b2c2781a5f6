"""Take a record apart: names and values, as the audit system writes them.

Sources: kernel/audit.c (audit_log_untrustedstring, audit_log_d_path), security/apparmor/audit.c (audit_pre) and the
``audit_cb`` functions next to it; log_format in auditd.conf(5) for the names that auditd appends.
"""

from __future__ import annotations

import os
import re

QUOTED = rb'"[^"\x00-\x1f\x7f]*"'
"""A value in quotation marks. The kernel writes a value with such a mark or a control character in hexadecimal."""

_NAMED = rb"[A-Z]{2,8}=(?:" + QUOTED + rb'|[^\s"=]*)'
ENRICHED = rb"(?:(?:\x1d|#035|\\x1d|\^\]| )?" + _NAMED + rb"(?: " + _NAMED + rb")*)?\s*\Z"
"""The names that auditd appends, and the end of the record. The byte 0x1d is before them, or what is left of it:
rsyslog writes ``#035``, busybox ``^]``, and a terminal drops it."""

_BARE = rb'[^\s"=\x00-\x1f]*'
_BODY = re.compile(
    rb"((?:[a-z_][\w-]*=(?:"
    + QUOTED
    + rb"|"
    + _BARE
    + rb"?)(?: {1,2}|(?<![A-Z])(?=[\x1d#\\^A-Z])|(?=\s*\Z)))+)"
    + ENRICHED
)
_FIELD = re.compile(rb"([a-z_][\w-]*)=(" + QUOTED + rb"|" + _BARE + rb")(?: |\Z)")

_PATHS = {"exe", "name", "path", "srcname", "target"}
_NAMES = {"addr", "comm", "fstype", "info", "label", "namespace", "peer", "peer_addr", "profile", "tcontext"}
_UNTRUSTED = frozenset(_PATHS | _NAMES)
"""Values that are hexadecimal, without quotation marks, if they hold quotation marks, blanks or bytes that are not
plain text (audit_log_untrustedstring)."""
_HEX = re.compile(rb"(?:[0-9A-F]{2})+\Z")
_ABSTRACT = re.compile(rb'"@((?:[0-9A-F]{2})+)"\Z')
_KMSG_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


def values_of(body: bytes, kmsg: bool) -> dict[str, str]:
    """Return the values of a record by their names. ``kmsg``: the record is from /dev/kmsg.

    The whole text must be names and values: the kernel writes nothing else, and text after a record, such as the rest
    of a line that holds a file's name, shows that it was forged. Raises ValueError.
    """
    inner = body.partition(b" msg='")
    if inner[1]:  # a program of user space, such as the D-Bus daemon: its own text is in apostrophes
        text, end, _ = inner[2].rpartition(b"'")
        body = text if end else inner[2]
    found = _BODY.fullmatch(body)
    if not found:
        raise ValueError("text that is not a field")
    values: dict[str, str] = {}
    for raw_name, raw in _FIELD.findall(found[1]):
        name = raw_name.decode("ascii")
        # The kernel writes each field once; another one after it was written by somebody else.
        values.setdefault(name, value_of(name, raw, kmsg))
    return values


def value_of(name: str, raw: bytes, kmsg: bool) -> str:
    """Return a value as text. Bytes that are not UTF-8 become surrogates."""
    if raw.startswith(b'"'):
        inner = raw[1:-1]
        if kmsg and b"\\" in inner:  # /dev/kmsg escapes backslashes and unprintable bytes (msg_add_ext_text)
            inner = _KMSG_ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), inner)
        if name in ("addr", "peer_addr") and (found := _ABSTRACT.match(raw)):
            inner = _abstract(found[1])
        return os.fsdecode(inner)
    if name in _UNTRUSTED and _HEX.match(raw):
        # The kernel passes on only the text up to a NUL; what follows it is not part of the record.
        return os.fsdecode(bytes.fromhex(raw.decode()).partition(b"\0")[0])
    return os.fsdecode(raw)


def _abstract(text: bytes) -> bytes:
    """Return the name of an abstract socket. The kernel writes it in hexadecimal if it holds a control character
    (audit_unix_addr in security/apparmor/af_unix.c)."""
    name = bytes.fromhex(text.decode())
    return b"@" + (name if any(byte < 0x21 or byte > 0x7E or byte == 0x22 for byte in name) else text)


def known(text: str | None) -> str | None:
    """Return None for what the audit system writes when it does not know a value."""
    return None if text in (None, "", "(null)", "?") else text
