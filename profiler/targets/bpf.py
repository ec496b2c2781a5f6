"""Make the policy's seccomp filter, a BPF program, with libseccomp from the data of seccomp.json."""

from __future__ import annotations

import errno
import os
import select
import signal
import tempfile
from collections.abc import Callable
from typing import Any

from profiler.confinement import INSTRUCTION_BYTES
from profiler.errors import ProfgenError
from profiler.kernel.abi import native_abi
from profiler.kernel.libseccomp import ACTIONS
from profiler.kernel.syscalls import number_of
from profiler.policy.model import Policy
from profiler.targets.seccomp import profile
from profiler.wording import duration

RET_ALLOW, RET_ERRNO, RET_TRACE = ACTIONS["ALLOW"], ACTIONS["ERRNO"], ACTIONS["TRACE"]

DENIED, CLOSED = 1, 2
"""The tracer's numbers for calls that the policy does not allow; that of allowed calls is 0. CLOSED is for multiplexers
that must be refused by name (profiler.targets.seccomp.closed): libseccomp has no rules with the default action."""

BUILD_SECONDS = 20.0
"""Time limit for libseccomp. It usually takes milliseconds, but 2.5.4 may loop forever when it joins rules that compare
64 bits."""


def enforcing(policy: Policy) -> bytes:
    """Return the filter that answers as the profile does: calls that it does not name fail with EPERM."""
    return _built(policy, RET_ALLOW, RET_ERRNO | errno.EPERM, lambda name, number: RET_ERRNO | number)


def traced(policy: Policy, *, refusing: bool) -> bytes:
    """Return the filter that leaves each call to a tracer, with DENIED for calls that the policy does not allow.

    Calls that the policy refuses by name get the errno that it gives; if ``refusing`` is False they are allowed.
    """
    named = {refusal.name for refusal in policy.refused}

    def answer(name: str, number: int) -> int:
        if name not in named:
            return RET_TRACE | CLOSED
        return RET_ERRNO | number if refusing else RET_TRACE

    return _built(policy, RET_TRACE, RET_TRACE | DENIED, answer)


def _built(policy: Policy, allowed: int, default: int, refused: Callable[[str, int], int]) -> bytes:
    """Build a filter in a process of its own (see BUILD_SECONDS). Raises ProfgenError when libseccomp is missing or
    cannot build it."""
    try:
        import pyseccomp  # noqa: F401  - loaded before the fork
    except (ImportError, OSError, RuntimeError) as error:
        raise ProfgenError("libseccomp.so.2 cannot be loaded; install it: apt install libseccomp2") from error
    with tempfile.TemporaryFile() as file:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                _export(policy, allowed, default, refused, file)
                status = 0
            except BaseException as error:
                file.seek(0)
                file.truncate()
                file.write(f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
                file.flush()
            finally:
                os._exit(status)
        pidfd = os.pidfd_open(pid)
        try:
            if not select.select([pidfd], [], [], BUILD_SECONDS)[0]:
                os.kill(pid, signal.SIGKILL)
        finally:
            os.close(pidfd)
            _, ended = os.waitpid(pid, 0)
        file.seek(0)
        data = file.read()
    if ended == 0 and data and len(data) % INSTRUCTION_BYTES == 0:
        return data
    if os.WIFSIGNALED(ended):
        raise ProfgenError(
            f"libseccomp did not finish the filter within {duration(BUILD_SECONDS)}; try another version of libseccomp"
        )
    raise ProfgenError(
        f"libseccomp cannot make a filter of the policy: {data[:300].decode('utf-8', 'replace') or 'no reason given'}"
    )


def _export(policy: Policy, allowed: int, default: int, refused: Callable[[str, int], int], file: Any) -> None:
    import pyseccomp

    native, *others = policy.abis
    foreign = None if native == native_abi() else getattr(pyseccomp.Arch, _ARCHES[native])
    built = _single(policy, native, foreign, allowed, default, refused)
    for abi in others:
        # A filter for each ABI, joined: in a filter for several, libseccomp accepts only calls that it has a name for.
        built.merge(_single(policy, native, getattr(pyseccomp.Arch, _ARCHES[abi]), allowed, default, refused))
    built.export_bpf(file)


_UNKNOWN = -1
"""__NR_SCMP_ERROR (seccomp.h). Other negative numbers stand for calls that only other ABIs have."""
_ARCHES = {"x86_64": "X86_64", "i386": "X86", "x32": "X32", "aarch64": "AARCH64", "arm": "ARM"}


def _single(
    policy: Policy, native: str, arch: int | None, allowed: int, default: int, refused: Callable[[str, int], int]
) -> Any:
    """Return the filter for one ABI. ``arch``: of libseccomp, None for the machine's own ABI."""
    import pyseccomp

    built = pyseccomp.SyscallFilter(default)
    built.set_attr(pyseccomp.Attr.ACT_BADARCH, default)
    if arch is not None:
        built.add_arch(arch)
        built.remove_arch(pyseccomp.Arch.NATIVE)
    for rule in profile(policy, "errno")["syscalls"]:
        tests = [
            pyseccomp.Arg(test["index"], pyseccomp.MASKED_EQ, test["value"], test["valueTwo"])
            for test in rule.get("args", ())
        ]
        for name in rule["names"]:
            action = allowed if rule["action"] == "SCMP_ACT_ALLOW" else refused(name, rule["errnoRet"])
            if action == default:
                continue
            number: int | None = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
            if number == _UNKNOWN:  # newer than this libseccomp
                number = number_of(native, name) if arch is None else None
            if number is not None:
                built.add_rule(action, number, *tests)
    return built
