"""Capabilities of netlink messages."""

import pytest

from profiler.kernel.netlink import AUDIT, NETFILTER, PROTOCOLS, ROUTE, XFRM, capability_for


@pytest.mark.parametrize(
    ("protocol", "kind", "capability"),
    [
        (ROUTE, 3, None),  # NLMSG_DONE
        (ROUTE, 16, "CAP_NET_ADMIN"),  # RTM_NEWLINK
        (ROUTE, 18, None),  # RTM_GETLINK
        (ROUTE, 21, "CAP_NET_ADMIN"),  # RTM_DELADDR
        (ROUTE, 22, None),  # RTM_GETADDR
        (XFRM, 18, "CAP_NET_ADMIN"),  # XFRM_MSG_GETSA
        (NETFILTER, 0x0A01, "CAP_NET_ADMIN"),  # NFT_MSG_GETTABLE
        (AUDIT, 1000, "CAP_AUDIT_CONTROL"),  # AUDIT_GET
        (AUDIT, 1005, "CAP_AUDIT_WRITE"),  # AUDIT_USER
        (AUDIT, 1112, "CAP_AUDIT_WRITE"),  # AUDIT_USER_LOGIN
        (AUDIT, 1400, None),  # AUDIT_AVC: only the kernel sends it
    ],
)
def test_capability(protocol: int, kind: int, capability: str | None) -> None:
    assert capability_for(protocol, kind) == capability
    assert protocol in PROTOCOLS
