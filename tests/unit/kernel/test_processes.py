"""What calls do to other processes, and the names of signals."""

from __future__ import annotations

import signal

import pytest

from profiler.kernel.processes import ProcessCall, credential_calls, process_calls, signal_name, trace_requests
from profiler.kernel.syscalls import known_names
from profiler.trace.model import INSPECTIONS


@pytest.mark.parametrize(("name", "call"), process_calls().items())
def test_calls_are_whole(name: str, call: ProcessCall) -> None:
    assert name in known_names()
    assert call.operation in {"signal", *INSPECTIONS}
    assert (call.operation == "signal") == (call.signal is not None)
    assert (call.pidfd is None) == bool(call.process)
    positions = [*call.process, call.pidfd, call.signal, call.request]
    assert all(0 <= position <= 5 for position in positions if position is not None)


def test_requests() -> None:
    assert trace_requests() == {0: "traceme", 16: "trace", 0x4206: "trace"}
    assert set(trace_requests().values()) <= set(INSPECTIONS)


def test_credential_calls_exist() -> None:
    assert credential_calls() <= known_names()


def test_signal_names() -> None:
    assert signal_name(signal.SIGTERM) == "TERM"
    assert signal_name(0) == "0"
    assert signal_name(32) == "RTMIN"
    assert signal_name(35) == "RTMIN+3"
    assert signal_name(64) == "RTMIN+32"
    assert signal_name(99) == "99"
    assert signal_name(signal.SIGABRT) == "ABRT"
    assert signal_name(signal.SIGCHLD) == "CHLD"
    assert signal_name(signal.SIGIO) == "IO"
