"""Tell the service manager that recording has begun (sd_notify(3)), for units of Type=notify."""

from __future__ import annotations

import os
import socket


def ready() -> None:
    """Send READY=1 to the socket of NOTIFY_SOCKET, if there is one. A failure is ignored."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        try:
            connection.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            pass
