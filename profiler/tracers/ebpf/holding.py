"""Taking hold of what starts, before it is gone: a short container lives for a few milliseconds.

The mount namespace and the root of its first process tell where its paths lead. A process of its own takes them and
sends them to profgen, which may be at other work for longer than that.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from profiler.tracers.ebpf.cgroups import there
from profiler.tracers.ebpf.loader import Programs
from profiler.tracers.ebpf.shared import structure
from profiler.tracers.launch import detach_helper

RING = "starts"
_Start = structure("start")
"""Also what is sent, with 1 in place of the time for a process that has no_new_privs."""
_WAIT_SECONDS = 0.1
"""How long profgen waits for word of a process that it does not find itself. The other one is told of each at the same
time as profgen."""
_READY_SECONDS = 10.0
_BUFFER_BYTES = 1 << 20
_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


@dataclass(frozen=True)
class Held:
    """Descriptors of the mount namespace and the root directory of a process, and whether it has no_new_privs."""

    mounts: int
    root: int
    no_new_privs: bool

    def let_go(self) -> None:
        """Close them."""
        os.close(self.mounts)
        os.close(self.root)


def hold(pid: int, seen: int) -> Held | None:
    """Of a process that was there at ``seen``, on the kernel's monotonic clock in ns; None when it is gone."""
    opened: list[int] = []
    try:
        opened.append(os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
        opened.append(os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        with open(f"/proc/{pid}/status") as file:
            no_new_privs = any(line.split() == ["NoNewPrivs:", "1"] for line in file)
        if there(pid, seen):
            return Held(opened[0], opened[1], no_new_privs)
    except OSError:
        pass
    for descriptor in opened:
        os.close(descriptor)
    return None


class Holder:
    """Holds the first process of each session that begins, as the ring ``starts`` tells of them."""

    def __init__(self, programs: Programs) -> None:
        """Starts the other process, and waits until it is ready. It ends with profgen, however that ends."""
        self._held: dict[tuple[int, int], Held | None] = {}
        """By session and process, until somebody comes for it."""
        self._waived: set[tuple[int, int]] = set()
        """What nobody will come for when word of it arrives."""
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._pid = os.fork()
        if self._pid == 0:
            try:
                _serve(programs, other)
            finally:
                os._exit(0)
        other.close()
        select.select([self._socket], [], [], _READY_SECONDS)
        self._receive()

    def take(self, session: int, pid: int, seen: int) -> Held | None:
        """What is held of a process, from whoever comes first: it belongs to the caller from now on. None when it is
        gone."""
        key = (session, pid)
        self._receive()
        if key not in self._held:
            held = hold(pid, seen)
            until = time.monotonic() + _WAIT_SECONDS
            while held is None and key not in self._held and (left := until - time.monotonic()) > 0:
                if not self._receive(left):
                    break
            if key not in self._held:
                self._waived.add(key)
                return held
        return self._held.pop(key)

    def forget(self, session: int) -> None:
        """Nobody comes for what is held of this session any more."""
        self._receive()
        for key in [key for key in self._held if key[0] == session]:
            if (held := self._held.pop(key)) is not None:
                held.let_go()
        self._waived = {key for key in self._waived if key[0] != session}

    def close(self) -> None:
        """End the other process, and let go of what nobody came for. Safe to call twice."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0
        self._socket.close()
        for held in self._held.values():
            if held is not None:
                held.let_go()
        self._held.clear()

    def _receive(self, timeout: float = 0.0) -> bool:
        """Take what was sent; whether more may come."""
        while select.select([self._socket], [], [], timeout)[0]:
            timeout = 0.0
            data, descriptors, _, _ = socket.recv_fds(self._socket, ctypes.sizeof(_Start), 2, socket.MSG_CMSG_CLOEXEC)
            if len(data) != ctypes.sizeof(_Start):
                return False  # it was killed: profgen goes on by itself
            start = _Start.from_buffer_copy(data)
            session, pid, flags = start.session, start.tgid, start.time
            held = Held(descriptors[0], descriptors[1], bool(flags)) if len(descriptors) == 2 else None
            for descriptor in descriptors if held is None else ():  # profgen may have no more of them
                os.close(descriptor)
            if not session:
                continue  # it is ready
            if (session, pid) in self._waived:
                self._waived.discard((session, pid))
                if held is not None:
                    held.let_go()
            else:
                self._held[session, pid] = held
        return True


def _serve(programs: Programs, to: socket.socket) -> None:
    """What the other process does until it is ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    ring = programs.map_fd(RING)
    detach_helper(ring, to.fileno())
    _go_first()
    starts: deque[Any] = deque()
    programs.open_ring(
        RING, lambda _context, data, size: starts.append(_Start.from_buffer_copy(ctypes.string_at(data, size)))
    )
    poller = select.poll()
    poller.register(ring, select.POLLIN)
    poller.register(to, select.POLLIN)
    to.send(bytes(_Start()))  # ready; no session has the number 0
    while to.fileno() not in dict(poller.poll()):
        programs.consume(RING)
        while starts:
            start = starts.popleft()
            held = hold(start.tgid, start.time)
            start.time = held is not None and held.no_new_privs
            if held is None:
                to.send(bytes(start))
            else:
                socket.send_fds(to, [bytes(start)], [held.mounts, held.root])
                held.let_go()


def _go_first() -> None:
    """Run before others, for some microseconds at a time; as far as may be: a cgroup may lack a real-time share
    (CONFIG_RT_GROUP_SCHED)."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
