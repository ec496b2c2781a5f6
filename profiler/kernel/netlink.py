"""Which capability a message to a netlink socket needs, netlink(7)."""

from __future__ import annotations

# include/uapi/linux/netlink.h
ROUTE, XFRM, AUDIT, NETFILTER = 0, 6, 9, 12
# The first kind of message of routes, how many kinds a subject has, and which of those reads:
# include/uapi/linux/rtnetlink.h, include/net/rtnetlink.h (enum rtnl_kinds)
_ROUTE_BASE, _ROUTE_KINDS, _ROUTE_GET = 16, 4, 2
# include/uapi/linux/audit.h; kernel/audit.c, audit_netlink_ok
_AUDIT_RECORDS = frozenset({1005, *range(1100, 1200), *range(2100, 3000)})
_AUDIT_CONTROL = frozenset({1000, 1001, *range(1010, 1020)})

PROTOCOLS = frozenset({ROUTE, XFRM, AUDIT, NETFILTER})
"""The protocols whose messages :func:`capability_for` knows."""

NEEDS = frozenset({"CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_NET_ADMIN"})
"""What it returns. The kernel refuses a message in another message: the call that sends it succeeds."""


def capability_for(protocol: int, kind: int) -> str | None:
    """Return the capability that a message (nlmsg_type) to a socket of one of PROTOCOLS needs; None if it needs none.

    net/core/rtnetlink.c rtnetlink_rcv_msg, net/xfrm/xfrm_user.c xfrm_user_rcv_msg, kernel/audit.c audit_netlink_ok,
    net/netfilter/nfnetlink.c nfnetlink_rcv.
    """
    if protocol == AUDIT:
        if kind in _AUDIT_RECORDS:
            return "CAP_AUDIT_WRITE"
        return "CAP_AUDIT_CONTROL" if kind in _AUDIT_CONTROL else None
    if protocol == ROUTE and (kind < _ROUTE_BASE or (kind - _ROUTE_BASE) % _ROUTE_KINDS == _ROUTE_GET):
        return None
    return "CAP_NET_ADMIN"
