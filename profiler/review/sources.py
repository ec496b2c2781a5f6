"""Open any file that profgen reads: traces, policies, and profiles that others wrote, told apart by their content."""

from __future__ import annotations

import re
from pathlib import Path

from profiler.errors import InputError
from profiler.kernel.abi import native_abi
from profiler.policy import document as policies
from profiler.review import foreign
from profiler.review.foreign import Source
from profiler.review.rights import of_policy, of_trace
from profiler.trace import store as traces

_EXPECTED = "expected a trace, a policy.yaml, a seccomp JSON, an OCI config.json or a SeccompProfile"
_POLICY = re.compile(rb"^schema:[ \t]*[\"']?profgen\.policy/", re.MULTILINE)
_TRACE = re.compile(rb"\"schema\"[ \t\r\n]*:[ \t\r\n]*\"profgen\.trace/")


def open_source(path: str | Path) -> Source:
    """Read a trace, policy.yaml, seccomp JSON of Docker or OCI, OCI config.json or SeccompProfile. Raises InputError
    for anything else."""
    return from_bytes(traces.read_limited(path), str(path))


def from_bytes(data: bytes, name: str) -> Source:
    """Return the file with these bytes; ``name`` is for messages. Raises InputError."""
    is_json = traces.is_trace(data)
    if is_json and _TRACE.search(data):
        trace = traces.loads(data, name)
        return Source(name, "trace", trace.meta.arch, lambda abi, given: of_trace(trace, name), trace=trace)
    if not is_json and _POLICY.search(data):
        policy = policies.loads(data, name)
        outdated = policies.head_is_outdated(data, policy)
        return Source(name, "policy", policy.abis[0], lambda _, __: of_policy(policy, name), policy, outdated=outdated)
    found = (foreign.from_json if is_json else foreign.from_yaml)(data, name)
    if found is None:
        raise InputError(f"{name} is not a file that profgen reads: {_EXPECTED}")
    return found


def machine(*sources: Source) -> str:
    """Return the native ABI to read files for: the first that a file names, else this machine's. Raises InputError."""
    named = next((source.arch for source in sources if source.arch), None)
    try:
        return named or native_abi()
    except ValueError as error:
        raise InputError(str(error)) from error
