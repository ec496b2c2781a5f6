"""What calls do with sockets (sockets.yaml), names of families and types (constants.yaml), and struct sockaddr."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from profiler.kernel.data import load, load_section

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET = 1, 2, 10, 16, 17  # include/linux/socket.h
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW = 1, 2, 3  # include/linux/net.h
SOCK_TYPE_MASK = 0xF  # include/linux/net.h: the bits of the argument that hold the type
IPPROTO_TCP, IPPROTO_UDP, IPPROTO_IPV6 = 6, 17, 41  # include/uapi/linux/in.h
IPV6_ADDRFORM = 1  # include/uapi/linux/in6.h: the option that makes an IPv4 socket of an IPv6 one (ipv6(7))
ADDRESS_MAX = 128  # sizeof(struct sockaddr_storage), include/uapi/linux/socket.h
MESSAGES_MAX = 1024  # UIO_MAXIOV, include/uapi/linux/uio.h: sendmmsg(2) sends at most so many

Sort = tuple[int, int, int]
"""Family, type and protocol, by the kernel's numbers."""


@dataclass(frozen=True)
class SocketCall:
    """What one call does with a socket; sockets.yaml explains each member."""

    operation: str
    fd: int | None = None
    pair: int | None = None
    address: int | None = None
    length: int | None = None
    message: int | None = None
    count: int | None = None


@cache
def socket_calls() -> Mapping[str, SocketCall]:
    """Return what is known of socket calls, by syscall name."""
    return {name: SocketCall(**row) for name, row in load("sockets.yaml").items()}


@cache
def socketcalls() -> Mapping[int, str]:
    """Return the names of the calls that i386's socketcall(2) makes, by its first argument (SYS_*)."""
    values: dict[str, int] = load_section("constants.yaml", "socketcall_call")["values"]
    return {number: name.removeprefix("SYS_").lower() for name, number in values.items()}


@cache
def _names(table: str) -> Mapping[int, str]:
    values: dict[str, int] = load_section("constants.yaml", table)["values"]
    return {number: name.partition("_")[2].lower() for name, number in values.items()}


def family_name(number: int) -> str:
    """Name an address family, such as ``inet`` for 2; the number as text when it has no name."""
    return _names("address_family").get(number, str(number))


def type_name(number: int) -> str:
    """Name a socket type, such as ``stream`` for 1; the number as text when it has no name."""
    return _names("socket_type").get(number, str(number))


def with_default(sort: Sort) -> Sort:
    """Replace protocol 0 of an internet socket by the one that the kernel takes (inet_create, net/ipv4/af_inet.c)."""
    family, kind, protocol = sort
    if family in (AF_INET, AF_INET6) and protocol == 0:
        protocol = {SOCK_STREAM: IPPROTO_TCP, SOCK_DGRAM: IPPROTO_UDP}.get(kind, 0)
    return family, kind, protocol


def unix_address(data: bytes) -> str:
    """Write sun_path of unix(7): the path or, after a NUL, ``@`` and the abstract name.

    A path that begins with ``@`` is written with ``./`` before it.
    """
    if data[:1] == b"\0":
        return "@" + os.fsdecode(data[1:])
    path = os.fsdecode(data.split(b"\0", 1)[0])
    return f"./{path}" if path.startswith("@") else path


def parse_address(family: int, data: bytes) -> tuple[int | None, str | None]:
    """Read a struct sockaddr given to a socket of this family.

    Gives (port, address): the port of an ip(7) or ipv6(7) address, or the text of a unix(7) address (as
    :func:`unix_address`); None for what it does not have.
    """
    if len(data) < 2:
        return None, None
    said = int.from_bytes(data[:2], "little")
    if {said, family} <= {AF_INET, AF_INET6} and len(data) >= 4:
        return int.from_bytes(data[2:4], "big"), None
    if said == family == AF_UNIX and len(data) > 2:
        return None, unix_address(data[2:])
    return None, None
