"""The head of policy.yaml: comments that tell a reviewer at once what matters, and the digest of a generated file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence

from profiler.policy.layout import WIDTH
from profiler.policy.model import Policy, SocketRule, capability_order
from profiler.quoting.text import printable
from profiler.quoting.yaml import yaml as quoted
from profiler.wording import grouped

TITLE = "# What this workload may do, and why. Review it, edit it, commit it. docs/policy.md describes the form."
_LABELS = ("writes", "executes", "connects to", "listens on", "capabilities", "syscalls", "also allows", "notes")
_DIGEST = "digest"
_LABEL_WIDTH = 14
_OWN = re.compile(rf"# (?:{'|'.join((*_LABELS, _DIGEST))}): .*")
_SEAL = re.compile(rf"^# {_DIGEST}: +sha256:([0-9a-f]{{64}})\n", re.MULTILINE)

WRITING = frozenset(
    {
        "write", "append", "create", "truncate", "make", "remove", "rename_from", "rename_to", "link", "mode", "owner",
        "times", "xattr",
    }
)  # fmt: skip
"""The uses of a file that change it, or the directory that it is in."""


def _plain(text: str) -> str:
    """Return the text as it is where it can only be read as one item of a list, else in quotation marks."""
    return text if re.fullmatch(r"[^\s,;\"#]+", text) and text.isprintable() else quoted(text)


def _line(label: str, items: Sequence[str], separator: str = ", ") -> str:
    """Return one line with as many items as fit."""
    start = f"# {label + ':':<{_LABEL_WIDTH}}"
    for shown in range(len(items), 0, -1):
        rest = len(items) - shown
        line = start + separator.join(items[:shown]) + (f" and {grouped(rest)} more" if rest else "")
        if len(line) <= WIDTH:
            return line
    return start + (grouped(len(items)) if items else "nothing")


def _ends(row: SocketRule, *operations: str) -> Iterator[str]:
    """Yield what a socket rule binds or talks to, in words."""
    sort = f"{row.family} {row.type}"
    ports = sorted({port for word, several in row.ports if word in operations for port in several})
    yield from (f"{sort} {port}" for port in ports)
    yield from (f"{sort} {_plain(place)}" for word, several in row.addresses if word in operations for place in several)
    if not ports and not row.addresses and operations[0] in row.operations:
        yield sort


def _sockets(rows: Iterable[SocketRule], *operations: str) -> list[str]:
    return list(dict.fromkeys(end for row in rows for end in _ends(row, *operations)))


def _files(policy: Policy) -> Iterator[tuple[str, list[str]]]:
    if not policy.has_files:
        yield "writes", ["not known: the recording did not watch files, programs and sockets"]
        return
    rules = sorted(policy.files, key=lambda rule: rule.pattern)
    yield "writes", [_plain(rule.pattern) for rule in rules if WRITING & set(rule.access)]
    yield "executes", [_plain(rule.pattern) for rule in rules if "execute" in rule.access]
    yield "connects to", _sockets(policy.sockets, "connect", "send")
    yield "listens on", _sockets(policy.sockets, "bind")


def _syscalls(policy: Policy) -> list[str]:
    seen = [any(reason.by == "recording" for reason in row.because) for row in policy.entries("observed")]
    several = {
        "seen": sum(seen),
        "added": len(seen) - sum(seen),
        "equivalents and companions": len(policy.entries("equivalent")) + len(policy.entries("companion")),
        "for the runtime": len(policy.entries("base")),
    }
    filtered = sum(bool(row.rules) for row in policy.syscalls)
    last = f"argument filters on {filtered} of {len(policy.syscalls)}"
    return [*(f"{number} {name}" for name, number in several.items() if number or name == "seen"), last]


def _more(policy: Policy) -> list[str]:
    several = {"signals to others": any(row.whom != "self" for row in policy.signals)} | {
        "looking at other processes": bool(policy.inspections),
        "mounts": bool(policy.mounts),
        "user namespaces": bool(policy.user_namespaces),
        "io_uring": bool(policy.io_uring),
        "gaining privileges (no_new_privs is off)": not policy.no_new_privs,
    }
    return [name for name, held in several.items() if held] + [f"{abi} calls" for abi in policy.abis[1:]]


def _notes(policy: Policy) -> list[str]:
    found = ["the recording is incomplete"] if policy.workload.incomplete else []
    if policy.workload.denials_only:
        found.append("made of denials alone")
    if policy.workload.joined:
        found.append(f"joined while it ran: {', '.join(map(_plain, policy.workload.joined))}"[:WIDTH])
    if policy.unknown:
        found.append(f"{len(policy.unknown)} syscall numbers without a name are in no profile")
    return found


def summary(policy: Policy) -> tuple[tuple[str, list[str]], ...]:
    """Return what matters to a reviewer: labels, each with its items. No items means nothing of that kind."""
    capabilities = sorted((row.name for row in policy.capabilities), key=capability_order)
    optional = (("also allows", _more(policy)), ("notes", _notes(policy)))
    return (
        *_files(policy),
        ("capabilities", capabilities),
        ("syscalls", _syscalls(policy)),
        *((label, items) for label, items in optional if items),
    )


def head(policy: Policy) -> str:
    """Return the comments at the top of the policy's text, ten lines at most, without the digest."""
    lines = [_line(label, items, "; " if label == "notes" else ", ") for label, items in summary(policy)]
    return "".join(f"{printable(line)}\n" for line in (TITLE, *lines))


def is_outdated(text: str, expected: str) -> bool:
    """Return whether a policy's text has a head, but not the one that profgen writes for it, which is ``expected``."""
    top = text[: text.index("\nschema:") + 1] if "\nschema:" in text else ""
    found = [line for line in top.splitlines() if is_own(line) and not line.startswith(f"# {_DIGEST}:")]
    return bool(found) and found != expected.splitlines()


def is_own(line: str) -> bool:
    """Whether profgen wrote a comment line at the top of a policy, for this policy or an earlier version of it."""
    return line == TITLE or _OWN.fullmatch(line) is not None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sealed(text: str) -> str:
    """Return the text of a policy with its digest in the head: the mark of a file that nobody edited."""
    at = text.index("\nschema:") + 1
    return f"{text[:at]}# {_DIGEST + ':':<{_LABEL_WIDTH}}sha256:{_digest(text)}\n{text[at:]}"


def is_edited(data: bytes) -> bool:
    """Whether a policy differs in any byte from what ``generate`` wrote, or was never written by it."""
    text = data.decode("utf-8", "replace")
    found = _SEAL.search(text)
    return found is None or _digest(text[: found.start()] + text[found.end() :]) != found[1]
