"""Open any file that profgen reads: traces, policies, and profiles that others wrote, told apart by their content."""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import replace
from pathlib import Path

from profiler.errors import InputError
from profiler.kernel.abi import native_abi
from profiler.policy import document as policies
from profiler.quoting.text import printable
from profiler.review import foreign
from profiler.review.foreign import Source
from profiler.review.rights import of_policy, of_trace
from profiler.trace import store as traces

_EXPECTED = "expected a trace, a policy.yaml, a seccomp JSON, an OCI config.json or a SeccompProfile"
_POLICY = re.compile(rb"^schema:[ \t]*[\"']?profgen\.policy/", re.MULTILINE)
_TRACE = re.compile(rb"\"schema\"[ \t\r\n]*:[ \t\r\n]*\"profgen\.trace/")
_UTF16 = tuple(
    mark + text
    for mark, text in ((codecs.BOM_UTF16_LE, b"{\0"), (codecs.BOM_UTF16_BE, b"\0{"), (b"", b"{\0"), (b"", b"\0{"))
)
"""How JSON in UTF-16 begins, with and without a byte-order mark."""
_APPARMOR = re.compile(
    rb"^[ \t]*(?:(?:profile|hat)[ \t]+[^\n{]*\{|\^?[\"/@{][^\n]*[ \t]\{[ \t]*$|#?include[ \t]+<|abi[ \t]+<)",
    re.MULTILINE,
)
"""A line that AppArmor profiles have (apparmor.d(5)): the head of a profile, or an include."""


def parts(path: str) -> tuple[str, str | None]:
    """Return a file's path, and the name of the object in it that FILE#NAME means."""
    if "#" not in path or os.path.lexists(path):
        return path, None
    file, _, name = path.rpartition("#")
    return file, name


def open_source(path: str | Path) -> Source:
    """Read a trace, policy.yaml, seccomp JSON of Docker or OCI, OCI config.json or SeccompProfile. FILE#NAME means the
    SeccompProfile of this name, where a file holds several. Raises InputError for anything else."""
    file, chosen = parts(str(path))
    data = traces.read_limited(file)
    return replace(from_bytes(data, str(path), chosen), content=data)


def from_bytes(data: bytes, name: str, chosen: str | None = None) -> Source:
    """Return the file with these bytes; ``name`` is for messages. Raises InputError."""
    is_json = traces.is_trace(data)
    if is_json and chosen is None and _TRACE.search(data):
        trace = traces.loads(data, name)
        return Source(name, "trace", trace.meta.arch, lambda abi, given: of_trace(trace, name), trace=trace)
    if not is_json and chosen is None and _POLICY.search(data):
        policy = policies.loads(data, name)
        outdated = policies.head_is_outdated(data, policy)
        return Source(name, "policy", policy.abis[0], lambda _, __: of_policy(policy, name), policy, outdated=outdated)
    if data.startswith(_UTF16):
        raise InputError(f"{name} is UTF-16, which runtimes do not read: convert it (iconv -f UTF-16 -t UTF-8)")
    try:
        found = (foreign.from_json if is_json else foreign.from_yaml)(data, name, chosen)
    except InputError:
        if not is_json and _APPARMOR.search(data):
            found = None
        else:
            raise
    if found is not None:
        return found
    if not is_json and _APPARMOR.search(data):
        raise InputError(
            f"{name} is an AppArmor profile, which profgen does not read: "
            "use the policy.yaml that it is made from (profgen generate)"
        )
    if chosen is not None:
        raise InputError(f"{name}: {printable(chosen)[:80]!r} can be chosen only in a file with SeccompProfiles")
    raise InputError(f"{name} is not a file that profgen reads: {_EXPECTED}")


def machine(*sources: Source) -> str:
    """Return the native ABI to read files for: the first that a file names, else this machine's. Raises InputError."""
    named = next((source.arch for source in sources if source.arch), None)
    try:
        return named or native_abi()
    except ValueError as error:
        raise InputError(str(error)) from error
