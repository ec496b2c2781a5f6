"""Holding the first process of a session before it is gone: a short container lives for a few milliseconds.

Its mount namespace and its root tell where its paths lead, and its command line and ids what was recorded. A separate
process takes them and sends them to profgen, which may be busy for longer than the container lives.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import time
from collections import deque
from dataclasses import astuple, dataclass
from typing import Any

from profiler.run import end_with_parent
from profiler.tracers.ebpf.cgroups import there
from profiler.tracers.ebpf.loader import Programs
from profiler.tracers.ebpf.shared import structure
from profiler.tracers.launch import detach_helper
from profiler.tracers.process import Process, look

RING = "starts"
_Start = structure("start")
"""Also the message to profgen; with a process that is held come four descriptors."""
_WAIT_SECONDS = 0.1
"""How long profgen waits for the other process, when it cannot open a process itself. The kernel tells both at the same
time."""
_READY_SECONDS = 10.0
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Held:
    """Descriptors of a process's mount namespace, root directory and mountinfo, and what the process was."""

    mounts: int
    root: int
    mountinfo: int
    process: Process

    @property
    def descriptors(self) -> list[int]:
        """All of them."""
        return [self.mounts, self.root, self.mountinfo]

    def let_go(self) -> None:
        """Close them."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def hold(pid: int, seen: int) -> Held | None:
    """Hold a process that was there at ``seen``, on the kernel's monotonic clock in ns. None when it is gone."""
    opened: list[int] = []
    try:
        opened.append(os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC))
        opened.append(os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        opened.append(os.open(f"/proc/{pid}/mountinfo", os.O_RDONLY | os.O_CLOEXEC))
        process = look(pid)
        if process is not None and there(pid, seen):
            return Held(opened[0], opened[1], opened[2], process)
    except OSError:
        pass
    for descriptor in opened:
        os.close(descriptor)
    return None


class Holder:
    """Holds the first process of each session that begins, from the ring ``starts``."""

    def __init__(self, programs: Programs) -> None:
        """Start the other process, and wait until it is ready. It ends with profgen, however that ends."""
        self._held: dict[tuple[int, int], Held | None] = {}
        """By session and process, until `take` or `forget`."""
        self._waived: set[tuple[int, int]] = set()
        """Sessions and processes that profgen has held itself: the message is discarded when it arrives."""
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
        """Return what is held of a process, by profgen itself or by the other process; the caller closes it.

        None when the process is gone.
        """
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
        """Close what is held of this session."""
        self._receive()
        for key in [key for key in self._held if key[0] == session]:
            if (held := self._held.pop(key)) is not None:
                held.let_go()
        self._waived = {key for key in self._waived if key[0] != session}

    def close(self) -> None:
        """End the other process, and close everything that is still held. Safe to call twice."""
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
        """Receive what was sent. Returns whether more may come."""
        while select.select([self._socket], [], [], timeout)[0]:
            timeout = 0.0
            data, descriptors, _, _ = socket.recv_fds(self._socket, ctypes.sizeof(_Start), 4, socket.MSG_CMSG_CLOEXEC)
            if len(data) != ctypes.sizeof(_Start):
                return False  # it was killed: profgen goes on alone
            start = _Start.from_buffer_copy(data)
            session, pid = start.session, start.tgid
            held = None
            if len(descriptors) == 4:
                held = Held(descriptors[0], descriptors[1], descriptors[2], _unpacked(descriptors.pop()))
            for descriptor in descriptors if held is None else ():  # profgen may have reached its limit
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
    """Run the other process until it is killed."""
    end_with_parent()
    ring = programs.map_fd(RING)
    detach_helper(ring, to.fileno())
    _go_first()
    starts: deque[Any] = deque()
    programs.open_ring(RING, lambda data, size: starts.append(_Start.from_buffer_copy(ctypes.string_at(data, size))))
    poller = select.poll()
    poller.register(ring, select.POLLIN)
    poller.register(to, select.POLLIN)
    to.send(bytes(_Start()))  # ready; no session has the number 0
    while to.fileno() not in dict(poller.poll()):
        programs.consume(RING)
        while starts:
            start = starts.popleft()
            held = hold(start.tgid, start.time)
            if held is None:
                to.send(bytes(start))
            else:
                packed = _packed(held.process)
                socket.send_fds(to, [bytes(start)], [*held.descriptors, packed])
                os.close(packed)
                held.let_go()


def _packed(process: Process) -> int:
    """Return a descriptor of a file in memory with this process: it may be too long for a message."""
    file = os.memfd_create("process")
    os.write(file, json.dumps(astuple(process)).encode("ascii"))
    return file


def _unpacked(descriptor: int) -> Process:
    """Read a process from such a file, and close it."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        argv, cwd, uid, gid, groups, no_new_privs = json.load(file)
    return Process(tuple(argv), cwd, uid, gid, tuple(groups), no_new_privs)


def _go_first() -> None:
    """Run before other processes, for some microseconds at a time. A cgroup may lack a real-time share, which is not an
    error (CONFIG_RT_GROUP_SCHED)."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
