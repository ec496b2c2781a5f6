"""Records of AppArmor of newer kernels and of Ubuntu's. test_reading.py has those of a booted kernel."""

from __future__ import annotations

from typing import Any

import pytest

from profiler.denials.logs import apparmor
from profiler.denials.logs.fields import values_of
from profiler.denials.model import Denial


def denial(text: str) -> Denial:
    found = apparmor.denial(values_of(b'apparmor="DENIED" ' + text.encode(), kmsg=False))
    assert found is not None
    return found


@pytest.mark.parametrize("suffix", ["_mask", ""])
@pytest.mark.parametrize(
    ("text", "members"),
    [
        (
            'operation="connect" class="net" profile="p" pid=7 comm="c" family="unix" sock_type="stream" protocol=0 '
            'requested{}="send receive accept" denied{}="send accept" addr="@my_socket" peer_addr=none peer="q"',
            {"kind": "socket", "family": "unix", "operations": ("accept", "send"), "address": None},
        ),
        (
            'operation="connect" class="net" profile="p" pid=7 comm="c" family="unix" sock_type="dgram" protocol=0 '
            'requested{}="send connect" denied{}="send connect" addr=none peer_addr="@2F612000"',
            {"kind": "socket", "operations": ("connect", "send"), "address": "@/a \0"},
        ),
        (
            'operation="create" class="net" profile="p" pid=7 comm="c" family="inet" sock_type="stream" protocol=0 '
            'requested{}="create" denied{}="create"',
            {"kind": "socket", "family": "inet", "protocol": 6, "operations": ("create",)},
        ),
        (
            'operation="file_perm" class="net" profile="p" pid=7 comm="c" laddr=10.0.0.1 lport=80 faddr=10.0.0.2 '
            'fport=53118 family="inet" sock_type="stream" protocol=6 requested{}="send" denied{}="send"',
            {"kind": "socket", "operations": ("send",), "port": 53118},
        ),
        (
            'operation="userns_create" class="namespace" info="Userns create restricted" error=-13 profile="p" pid=7 '
            'comm="c" requested{}="userns_create" denied{}="userns_create"',
            {"kind": "user_namespace"},
        ),
        (
            'operation="uring_sqpoll" class="io_uring" profile="p" pid=7 comm="c" requested{}="sqpoll" '
            'denied{}="sqpoll"',
            {"kind": "io_uring"},
        ),
        (
            'operation="uring_override" class="io_uring" profile="p" pid=7 comm="c" requested{}="override_creds" '
            'denied{}="override_creds" tcontext="p"',
            {"kind": "io_uring"},
        ),
        (
            'operation="open" profile="p" name="/queue" pid=7 comm="c" requested{}="read create" denied{}="read" '
            'class="posix_mqueue" fsuid=0 ouid=0',
            {"kind": "other", "operation": "open", "info": "POSIX message queue", "path": "/queue"},
        ),
        (
            'operation="open" class="posix_mqueue" info="Failed name lookup - disconnected IPC path" error=-13 '
            'profile="p" pid=1 comm="c" requested{}="read" denied{}="read"',
            {"kind": "other", "info": "Failed name lookup - disconnected IPC path"},
        ),
        (
            'operation="ptrace" class="ptrace" profile="p" pid=7 comm="c" requested{}="read" denied{}="read" peer="q"',
            {"kind": "inspection", "operations": ("read",), "peer": "q"},
        ),
        (
            'operation="signal" class="signal" profile="p" pid=7 comm="c" requested{}="send" denied{}="send" '
            'signal=rtmin+3 peer="q"',
            {"kind": "signal", "signal": "RTMIN+3", "operations": ("send",)},
        ),
        (
            'operation="open" class="file" namespace="root//lxd-a" profile="p" name="/etc/x" pid=7 comm="c" '
            'requested{}="r" denied{}="r" fsuid=0 ouid=0',
            {"kind": "file", "path": "/etc/x", "access": ("read",), "owner": True},
        ),
    ],
)
def test_masks_of_both_names(text: str, members: dict[str, Any], suffix: str) -> None:
    found = denial(text.format(suffix, suffix))
    assert {name: getattr(found, name) for name in members} == members
    assert (found.profile, found.comm, found.refused) == ("p", "c", True)


def test_what_was_refused_counts_not_what_was_requested() -> None:
    text = 'operation="open" class="file" profile="p" name="/etc/x" pid=7 comm="c" requested_mask="wr" denied_mask="w"'
    assert denial(text + " fsuid=0 ouid=0").access == ("write",)
