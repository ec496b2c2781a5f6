"""Which refusals of a traced run are the policy's: those to root, and to others what they were given."""

from __future__ import annotations

import errno
import os

import pytest

from profiler.enforce.traced import _Inference
from profiler.kernel.capabilities import ALL, number_of
from profiler.tracers.ptrace.capabilities import Call
from profiler.tracers.ptrace.threads import Credentials, Threads
from profiler.tracers.recording import Recording
from profiler.tracers.unchecked import Claim, Sets


def refused(
    name: str, uid: int, code: int, *, has: bool = False, claims: tuple[Claim, ...] = (), need: str = "CAP_AUDIT_WRITE"
) -> set[str]:
    """The capabilities that are named for a call that needs one."""
    held = 1 << (number_of(need) or 0) if has else 0
    credentials = Credentials(
        (uid,) * 4, (uid,) * 4, frozenset(), Sets(held, held, 0), 0, ALL, os.readlink("/proc/self/ns/user")
    )
    recording = Recording("x86_64")
    call = Call(name, credentials, (need,), (), tuple((claim, None) for claim in claims))
    _Inference(recording, Threads()).leave(os.getpid(), call, 0, code, 0)
    return {key[0] for key in recording._checks if key[2] == "refused"}


@pytest.mark.parametrize(
    ("name", "uid", "code", "has", "named"),
    [
        ("mount", 0, errno.EPERM, False, True),
        ("mount", 1000, errno.EPERM, False, False),  # the kernel's own answer
        ("mount", 0, 0, False, False),  # something else allowed it
        ("mount", 0, errno.EPERM, True, False),  # something else refused it
        ("sendto", 0, 0, False, True),  # netlink answers in a message
        ("sendto", 0, 0, True, False),
        ("sendto", 1000, 0, False, False),
    ],
)
def test_a_refusal_that_the_policy_caused(name: str, uid: int, code: int, has: bool, named: bool) -> None:
    assert refused(name, uid, code, has=has) == ({"CAP_AUDIT_WRITE"} if named else set())


@pytest.mark.parametrize("code", [0, errno.EACCES])
def test_a_write_that_is_refused_fails(code: int) -> None:
    assert refused("write", 0, code, need="CAP_SYS_RESOURCE") == ({"CAP_SYS_RESOURCE"} if code else set())


def test_another_user_raises_what_root_left_to_it() -> None:
    missing = 1 << (number_of("CAP_NET_ADMIN") or 0)
    assert "CAP_NET_ADMIN" in refused("capset", 1000, errno.EPERM, claims=(Claim(missing, missing),))
