"""The table of published vulnerabilities is complete and readable, and its rule is applied."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from profiler.kernel import cves as module
from profiler.kernel.arguments import spec_for
from profiler.kernel.cves import Cve, Tests, call, cves, sources, user_namespace, verdicts, ways
from profiler.kernel.libseccomp import installed
from profiler.kernel.multiplexers import doing, multiplexers
from profiler.kernel.syscalls import known_names, names_anywhere, names_of

KERNELCTF = {cve.identifier for cve in cves() if "kernelctf" in cve.sources}


class Rights:
    """Allowed names, each with the arguments that pass: None for any, else a function of the tests."""

    def __init__(self, names: object, capabilities: Sequence[str] = (), abis: Sequence[str] = ("x86_64",)) -> None:
        self.names = names if isinstance(names, dict) else dict.fromkeys(names or ())  # type: ignore[call-overload]
        self.everything = names is None
        self.capabilities = capabilities
        self.abis = abis

    def allows(self, abi: str, name: str, tests: Tests) -> bool:
        assert name in names_of(abi)
        key = name if name in self.names else (abi, name)
        if key not in self.names:
            return self.everything
        accepts = self.names[key]
        return accepts is None or accepts(tests)

    def holds(self, capability: str) -> bool:
        return self.everything or capability in self.capabilities


def blocked(rights: Rights) -> set[str]:
    return {verdict.cve.identifier for verdict in verdicts(rights) if verdict.blocked}


def year(cve: Cve) -> int:
    return int(cve.identifier.split("-")[1])


def test_the_table_holds_what_its_sources_list() -> None:
    counted = {source: sum(source in cve.sources for cve in cves()) for source in sources()}
    assert counted == {"syspart": 36, "confine": 29, "kernelctf": 78, "other": 12}
    assert len({cve.identifier for cve in cves()}) == len(cves())
    assert all(re.fullmatch(r"CVE-\d{4}-\d{4,7}", cve.identifier) and 2008 <= year(cve) <= 2026 for cve in cves())
    assert {year(cve) for cve in cves() if cve.identifier in KERNELCTF} == {2023, 2024, 2025}
    assert all(cve.needs and all(step.calls for step in cve.needs) for cve in cves())
    assert re.fullmatch(r"20\d\d-[01]\d", module.date())


def test_nothing_is_blocked_unconfined_and_everything_with_no_rights() -> None:
    assert not blocked(Rights(None))
    assert len(blocked(Rights([]))) == len(cves())


def test_the_reason_is_the_step_that_is_missing() -> None:
    by_name = {verdict.cve.identifier: verdict for verdict in verdicts(Rights(["socket", "setsockopt", "sendmsg"]))}
    assert by_name["CVE-2024-0582"].reason == "no io_uring_setup"
    assert by_name["CVE-2024-1086"].reason == "neither CAP_NET_ADMIN nor a new user namespace"
    assert by_name["CVE-2023-5345"].missing[0].text == "fsopen"
    assert len(by_name["CVE-2023-5345"].missing) == 3
    assert not by_name["CVE-2023-0461"].blocked
    assert by_name["CVE-2023-0461"].reason == ""


@pytest.mark.parametrize("way", ["unshare", "clone", "clone3"])
def test_a_user_namespace_gives_every_capability(way: str) -> None:
    names = ["socket", "sendmsg"]
    assert "CVE-2024-1086" in blocked(Rights(names))
    assert "CVE-2024-1086" not in blocked(Rights([*names, way]))
    assert "CVE-2024-1086" not in blocked(Rights(names, ["CAP_NET_ADMIN"]))
    assert "CVE-2024-1086" in blocked(Rights(names, ["CAP_NET_RAW"])), "another capability does not do"
    # the flag refused by a filter
    if way != "clone3":
        without = {**dict.fromkeys(names), way: lambda tests: not any(value & 0x10000000 for _, _, value in tests)}
        assert "CVE-2024-1086" in blocked(Rights(without))


def test_arguments_decide() -> None:
    def only(*domains: int):  # type: ignore[no-untyped-def]
        return lambda tests: all(value in domains for position, _, value in tests if position == 0)

    assert "CVE-2024-26824" not in blocked(Rights({"socket": None}))
    assert "CVE-2024-26824" in blocked(Rights({"socket": only(1, 2, 10)}))
    assert "CVE-2024-26824" not in blocked(Rights({"socket": only(2, 38)}))


def test_a_multiplexer_goes_past_the_filter() -> None:
    narrow = {"socket": lambda tests: False}
    assert "CVE-2024-26824" in blocked(Rights({**narrow}, abis=("x86_64", "i386")))
    through = Rights({**narrow, ("i386", "socketcall"): None}, abis=("x86_64", "i386"))
    assert "CVE-2024-26824" not in blocked(through)
    assert ways(through, call("socket(domain=AF_ALG)")) == ("socketcall under i386",)
    # a filter of socketcall's own can tell which call is meant
    only_listen = {**narrow, ("i386", "socketcall"): lambda tests: tests == ((0, 0xFFFFFFFF, 4),)}
    assert "CVE-2024-26824" in blocked(Rights(only_listen, abis=("x86_64", "i386")))
    assert ways(Rights(["io_uring_setup"]), call("setsockopt(level=SOL_TCP, option=TCP_ULP)")) == ("io_uring_setup",)
    assert not ways(Rights(["io_uring_setup"]), call("bpf"))


def test_another_abi_counts() -> None:
    assert "CVE-2014-5207" in blocked(Rights({"read": None}, abis=("x86_64", "i386")))
    assert "CVE-2014-5207" not in blocked(Rights({("i386", "mount"): None}, abis=("x86_64", "i386")))


def test_alternatives_must_all_be_refused() -> None:
    assert "CVE-2008-3527" not in blocked(Rights(["execveat"]))
    assert "CVE-2008-3527" in blocked(Rights(["execve64", "fork"]))
    assert "CVE-2016-0728" not in blocked(Rights(["request_key"]))


def test_the_figures_others_published_for_lists_of_names() -> None:
    """A web server's list of names, with socket, setsockopt, sendmsg and clone, leaves these kernelCTF entries
    reachable."""
    server = Rights(["socket", "socketpair", "setsockopt", "sendmsg", "clone", "write", "read", "openat", "execve"])
    found = blocked(server) & KERNELCTF
    # io_uring 5, bpf 6, perf 2, fsopen 1, splice 1
    assert len(found) == 15
    assert len(blocked(Rights([*server.names, "sendfile"])) & KERNELCTF) == 14, "sendfile splices too"


@pytest.mark.parametrize(
    "text",
    [
        "sockets(domain=AF_ALG)",
        "socket(family=AF_ALG)",
        "socket(domain=AF_NOSUCH)",
        "read(fd=3)",
        "clone3(flags&1)",
        "",
    ],
)
def test_conditions_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        call(text)


def test_conditions_are_read() -> None:
    assert call("bpf").tests == ()
    assert call("socket(domain=AF_NETLINK, protocol=NETLINK_NETFILTER)").tests == (
        (0, 0xFFFFFFFF, 16),
        (2, 0xFFFFFFFF, 12),
    )
    assert call("setsockopt(level=SOL_TCP, option=TCP_ULP)").tests == ((1, 0xFFFFFFFF, 6), (2, 0xFFFFFFFF, 31))
    assert [one.tests for one in user_namespace()] == [
        ((0, 0x10000000, 0x10000000),),
        ((0, 0x10000000, 0x10000000),),
        (),
    ]


def test_multiplexers_do_calls_that_exist() -> None:
    for one in multiplexers():
        assert one.name in known_names()
        assert set(one.does) <= known_names()
        spec = spec_for(one.name)
        assert (spec is not None) == any(one.does.values())
    assert [one.name for one in doing("socket")] == ["socketcall", "io_uring_setup"]
    assert dict(next(one.does for one in multiplexers() if one.name == "socketcall"))["sendto"] == (
        (0, 0xFFFFFFFF, 11),
        (0, 0xFFFFFFFF, 9),
    )


def test_the_installed_library_is_asked() -> None:
    library = installed()
    if library is None:
        pytest.skip("libseccomp is not installed")
    assert re.fullmatch(r"\d+\.\d+\.\d+", library.version)
    assert library.knows("read")
    assert library.knows("socketcall"), "a pseudo number is no unknown name"
    assert not library.knows("rwead")
    assert not library.knows("read\0x")
    assert not library.knows("")


def test_names_of_other_architectures_are_names() -> None:
    assert {"riscv_hwprobe", "s390_pci_mmio_read", "read", "uselib"} <= names_anywhere()
    assert "rwead" not in names_anywhere()
