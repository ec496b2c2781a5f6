"""The policy's seccomp filter as a BPF program, made by libseccomp from the same data as seccomp.json; and confining a
process with it."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import tempfile
from collections.abc import Callable
from typing import Any

from profiler.enforce import rights
from profiler.errors import ProfgenError
from profiler.kernel.abi import SUB_ABIS
from profiler.kernel.capabilities import number_of as number_of_capability
from profiler.kernel.syscalls import number_of
from profiler.policy.model import Policy
from profiler.targets.seccomp import profile

RET_ERRNO = 0x00050000
RET_TRACE = 0x7FF00000
RET_ALLOW = 0x7FFF0000
"""Actions, in whose lower 16 bits an errno or a number for the tracer goes (include/uapi/linux/seccomp.h
SECCOMP_RET_*)."""

DENIED = 1
"""The number for the tracer of calls that the policy does not allow; allowed ones have 0."""

BUILD_SECONDS = 20.0
"""libseccomp 2.5.4 does not always come to an end when it joins rules that compare 64 bits; mostly it takes
milliseconds."""

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
_INSTRUCTION_BYTES = 8


def enforcing(policy: Policy) -> bytes:
    """The filter that answers as the profile does: what it does not name fails with EPERM."""
    return _built(policy, RET_ALLOW, RET_ERRNO | errno.EPERM, lambda number: RET_ERRNO | number)


def traced(policy: Policy, *, refusing: bool) -> bytes:
    """The filter that leaves each call to a tracer, with DENIED where the policy does not allow it.

    What the policy refuses by name is answered as it says, or with ``refusing`` False allowed like the rest.
    """
    return _built(policy, RET_TRACE, RET_TRACE | DENIED, lambda number: RET_ERRNO | number if refusing else RET_TRACE)


def _built(policy: Policy, allowed: int, default: int, refused: Callable[[int], int]) -> bytes:
    """Raises ProfgenError where libseccomp is missing or cannot make it. In a process of its own: see BUILD_SECONDS."""
    try:
        import pyseccomp  # noqa: F401  - here, so that the process below need not
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
    if ended == 0 and data and len(data) % _INSTRUCTION_BYTES == 0:
        return data
    if os.WIFSIGNALED(ended):
        raise ProfgenError(
            f"libseccomp made no filter of the policy within {BUILD_SECONDS:.0f} s; another version of it may"
        )
    raise ProfgenError(
        f"libseccomp makes no filter of the policy: {data[:300].decode('utf-8', 'replace') or 'no reason given'}"
    )


def _export(policy: Policy, allowed: int, default: int, refused: Callable[[int], int], file: Any) -> None:
    import pyseccomp

    native, *others = policy.abis
    built = _single(policy, native, None, allowed, default, refused)
    for abi in others:
        # One for each ABI, joined: in a filter for several, libseccomp takes no number that it has no name for.
        built.merge(_single(policy, native, getattr(pyseccomp.Arch, _ARCHES[abi]), allowed, default, refused))
    built.export_bpf(file)


_UNKNOWN = -1
"""__NR_SCMP_ERROR (seccomp.h). Other negative numbers are of calls that only other ABIs have."""
_ARCHES = {"i386": "X86", "x32": "X32", "arm": "ARM"}


def _single(
    policy: Policy, native: str, arch: int | None, allowed: int, default: int, refused: Callable[[int], int]
) -> Any:
    """The filter for one ABI (``arch``: one that is not the machine's own)."""
    import pyseccomp

    built = pyseccomp.SyscallFilter(default)
    built.set_attr(pyseccomp.Attr.ACT_BADARCH, default)
    if arch is not None:
        built.add_arch(arch)
        built.remove_arch(pyseccomp.Arch.NATIVE)
    for rule in profile(policy, "errno")["syscalls"]:
        action = allowed if rule["action"] == "SCMP_ACT_ALLOW" else refused(rule["errnoRet"])
        if action == default:
            continue
        tests = [
            pyseccomp.Arg(test["index"], pyseccomp.MASKED_EQ, test["value"], test["valueTwo"])
            for test in rule.get("args", ())
        ]
        for name in rule["names"]:
            number: int | None = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
            if number == _UNKNOWN:  # newer than this libseccomp
                number = number_of(native, name) if arch is None else None
            if number is not None:
                built.add_rule(action, number, *tests)
    return built


def known_abis(policy: Policy) -> bool:
    """Whether the policy's ABIs are those of one machine."""
    return set(policy.abis[1:]) <= set(SUB_ABIS.get(policy.abis[0], ()))


class _SockFprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_uint16), ("filter", ctypes.c_void_p)]


_libc = ctypes.CDLL(None, use_errno=True)


class Loader:
    """A program ready to be loaded: all memory is at hand, so that no more is done in between than the call itself."""

    def __init__(self, program: bytes) -> None:
        self._instructions = ctypes.create_string_buffer(program, len(program))
        self._program = _SockFprog(len(program) // _INSTRUCTION_BYTES, ctypes.addressof(self._instructions))
        self._address = ctypes.c_ulong(ctypes.addressof(self._program))

    def load(self) -> None:
        """Into the calling thread (seccomp(2)). Raises OSError: EACCES without no_new_privs and CAP_SYS_ADMIN."""
        if (
            _libc.prctl(
                PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), self._address, ctypes.c_ulong(0), ctypes.c_ulong(0)
            )
            != 0
        ):
            raise OSError(ctypes.get_errno(), "the filter was not taken")


def forbid_new_privileges() -> None:
    """Set no_new_privs (prctl(2)). Raises OSError."""
    if (
        _libc.prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
        != 0
    ):
        raise OSError(ctypes.get_errno(), "no_new_privs")


def confine(policy: Policy, loader: Loader) -> None:
    """The last thing before the execve, after the user has changed: capabilities, no_new_privs, the filter. Raises
    OSError."""
    # Without CAP_SYS_ADMIN a filter may only be loaded together with no_new_privs (seccomp(2)).
    keep = not policy.no_new_privs and bool(rights.permitted() >> (number_of_capability("CAP_SYS_ADMIN") or 0) & 1)
    rights.reduce(policy, keep_until_exec=keep)
    if not keep:
        forbid_new_privileges()
    loader.load()
