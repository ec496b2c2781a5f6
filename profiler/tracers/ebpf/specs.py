"""What the kernel programs look at in each call: rows of ``struct spec`` (shared.h), made from tables of the kernel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from profiler.kernel.files import AT_REMOVEDIR, O_CLOEXEC, FileUse, file_uses
from profiler.kernel.mounts import MountCall, mount_calls
from profiler.kernel.processes import ProcessCall, process_calls
from profiler.kernel.sockets import SocketCall, socket_calls, socketcalls
from profiler.kernel.syscalls import name_of, number_of
from profiler.tracers.ebpf.shared import constant, names

NONE = constant("NO_ARGUMENT")
"""Stands for a missing argument, in ``struct spec``."""

ROUTES = names("route", "ROUTE_", "TAIL_")
"""Programs of uses.bpf.c by their index in ``tails``; ``open`` is either ``text`` or ``descriptor``."""
FAILURES = constant("ROUTE_FAILURES")
CONDITIONS = names("only", "ONLY_")
TAILS = tuple((f"on_{name}", index) for index, name in enumerate(ROUTES) if name not in ("none", "open"))

SOCKETCALLS = constant("SOCKETCALLS")
"""The calls that i386's socketcall makes have their specs at this number plus their own."""

_OPEN_FLAGS = 0xFFFFFFFF & ~O_CLOEXEC


@dataclass(frozen=True)
class Spec:
    """Where a call's arguments say what it uses: ``struct spec`` of shared.h, by positions."""

    route: str
    only: str = "all"
    failures: bool = False
    fd: int = NONE
    flags: int = NONE
    mode: int = NONE
    optional: int = 0
    plain: int = 0
    follow: int = 0
    """Bit N: a link at the end of text N is followed; bit N + 1: with AT_SYMLINK_FOLLOW."""
    at: tuple[int, ...] = ()
    path: tuple[int, ...] = ()
    flags_mask: int = 0

    def fill(self, row: Any) -> None:
        """Write it into a ``struct spec``."""
        row.route = ROUTES.index(self.route) | (FAILURES if self.failures else 0)
        row.only, row.fd, row.flags, row.mode = CONDITIONS.index(self.only), self.fd, self.flags, self.mode
        row.optional, row.plain, row.follow, row.flags_mask = self.optional, self.plain, self.follow, self.flags_mask
        for index in range(constant("PLACES")):
            row.at[index] = self.at[index] if index < len(self.at) else NONE
            row.path[index] = self.path[index] if index < len(self.path) else NONE


def _positions(*positions: int | None) -> tuple[int, ...]:
    return tuple(NONE if position is None else position for position in positions)


def _file_spec(abi: str, uses: tuple[FileUse, ...]) -> Spec:
    use = uses[0]
    at, path = _positions(*(each.at for each in uses)), _positions(*(each.path for each in uses))
    fd, flags, mode = _positions(use.fd, use.flags, use.mode)
    if use.access == "open":
        opened = Spec("open", flags=flags, flags_mask=_OPEN_FLAGS, at=at, path=path)
        if use.only == "handle":
            return replace(opened, route="descriptor")
        return replace(opened, only="how" if use.only == "how" else "all")
    if use.path is None:
        return Spec("descriptor", only="old_mmap" if use.in_memory == abi else use.only or "all", fd=fd)
    text = Spec("text", fd=fd, flags=flags, flags_mask=0xFFFFFFFF, at=at, path=path, follow=int(use.follow))
    if use.access in ("look", "execute"):
        return replace(text, failures=True, only="execute" if use.access == "execute" else "all")
    if len(uses) == 2:
        # linkat(2) takes an empty first path, and follows a link when its flags say so.
        follow = 2 if use.access == "existing" and use.flags is not None else 0
        return replace(text, only="names", fd=NONE, optional=int(use.fd is not None), follow=follow)
    if use.access == "remove":
        return replace(text, only="names", flags_mask=AT_REMOVEDIR)
    if use.make == "symlink":
        return replace(text, only="symlink", path=(path[0], 0), at=(at[0], NONE), plain=2)
    return replace(text, only="chroot" if use.access == "chroot" else "all", mode=mode)


def _socket_spec(call: SocketCall) -> Spec:
    only = "pair" if call.pair is not None else "messages" if call.count is not None else "all"
    if call.operation == "setoption":
        only = "option"
    (fd,), at, path = _positions(call.fd), _positions(call.message), _positions(call.address, call.length)
    return Spec("socket", only=only, fd=fd, at=at, path=path)


def _process_spec(call: ProcessCall) -> Spec:
    (mode,) = _positions(call.signal if call.request is None else call.request)
    only = "all" if call.request is None else "ptrace"
    return Spec("process", only=only, at=_positions(call.pidfd), path=call.process, mode=mode)


def _mount_spec(call: MountCall) -> Spec:
    # The older calls, which take no descriptors, follow a link at the end of both texts.
    follows = call.source_at is None and call.target_at is None
    return Spec(
        "text",
        only="mount",
        flags=_positions(call.flags)[0],
        flags_mask=0xFFFFFFFF,
        optional=7,
        plain=4,
        follow=3 if follows else 0,
        at=_positions(call.source_at, call.target_at, None),
        path=_positions(call.source, call.target, call.filesystem),
    )


@cache
def specs(abi: str) -> dict[str, Spec]:
    """Return what is looked at in the calls of an ABI, by syscall name."""
    found = {name: _file_spec(abi, uses) for name, uses in file_uses().items()}
    found |= {name: _socket_spec(call) for name, call in socket_calls().items()}
    found |= {name: _process_spec(call) for name, call in process_calls().items()}
    found |= {name: _mount_spec(call) for name, call in mount_calls().items()}
    found["socketcall"] = Spec("socket", only="socketcall")
    found["unshare"] = Spec("names", only="unshare")
    return {name: spec for name, spec in found.items() if number_of(abi, name) is not None}


def rows(abi: str) -> dict[int, Spec]:
    """Return the same by number; the calls that i386's socketcall makes have numbers of their own."""
    found = {number: spec for name, spec in specs(abi).items() if (number := number_of(abi, name)) is not None}
    if "socketcall" in specs(abi):
        found |= {SOCKETCALLS + number: _socket_spec(socket_calls()[name]) for number, name in socketcalls().items()}
    return found


def name_in_specs(abi: str, number: int) -> str:
    """Name the call that a number of :func:`rows` stands for; "" when it has no name."""
    if number > SOCKETCALLS and abi == "i386":
        return socketcalls().get(number - SOCKETCALLS, "")
    return name_of(abi, number) or ""
