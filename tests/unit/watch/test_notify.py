"""The service manager is told once, in the form sd_notify(3) describes; without one nothing happens."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from profiler.watch import notify


@pytest.mark.parametrize("abstract", [False, True])
def test_ready(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"@profgen-test-{tmp_path.name}" if abstract else str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + address[1:] if abstract else address)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify.ready()
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "relative", "/no/such/socket", "/" + "x" * 200])
def test_nobody_to_tell(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify.ready()
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify.ready()
