"""Recorded arguments: the data is complete, and rendered values can be parsed again."""

from __future__ import annotations

import fcntl
import socket
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiler.kernel import arguments
from profiler.kernel.data import load
from profiler.kernel.syscalls import known_names

REQUIRED = {
    "socket",
    "socketpair",
    "clone",
    "clone3",
    "unshare",
    "setns",
    "prctl",
    "personality",
    "ioctl",
    "fcntl",
    "fcntl64",
    "setsockopt",
    "keyctl",
    "bpf",
    "mmap",
    "mmap2",
    "mprotect",
    "pkey_mprotect",
    "ptrace",
    "seccomp",
    "arch_prctl",
    "io_uring_register",
    "umount2",
    "memfd_create",
    "syslog",
    "reboot",
    "quotactl",
    "shmctl",
    "semctl",
    "msgctl",
    "socketcall",
    "ipc",
}


def test_every_spec_is_of_a_known_syscall_and_whole() -> None:
    tables = load("constants.yaml")
    for name in arguments.recorded_names():
        assert name in known_names()
        spec = arguments.spec_for(name)
        assert spec is not None
        assert 1 <= len(spec.fields) <= 3
        assert len(set(spec.positions)) == len(spec.fields) == len(spec.masks) == len(spec.compares) == len(spec.tables)
        assert all(0 <= position <= 5 for position in spec.positions)
        assert all(mask > 0 for mask in spec.masks)
        assert all(compare in arguments.COMPARISONS for compare in spec.compares)
        for table in spec.tables:
            assert table is None or table.endswith(":") or table in tables


def test_what_the_design_asks_for_is_recorded() -> None:
    assert arguments.recorded_names() >= REQUIRED


def test_i386_mmap_is_not_recorded_because_it_takes_a_pointer() -> None:
    assert arguments.spec_for("mmap", "i386") is None
    assert arguments.spec_for("mmap", "x86_64") is not None
    assert arguments.spec_for("read") is None


def test_constants_are_those_of_this_system() -> None:
    """Names that Python's own modules took from the C headers have the same numbers here."""
    checked = 0
    for table, module in (
        ("address_family", socket),
        ("socket_type", socket),
        ("fcntl_command", fcntl),
        ("option_tcp", socket),
        ("option_socket", socket),
        ("option_ipv6", socket),
        ("ip_protocol", socket),
        ("ioctl_command", termios),
    ):
        for name, number in load("constants.yaml")[table]["values"].items():
            # The *LK64 commands have numbers of their own on 32-bit ABIs only; this C library hides them.
            if hasattr(module, name) and not name.endswith("LK64") and not name.endswith("LKW64"):
                assert int(getattr(module, name)) == number, name
                checked += 1
    assert checked > 150


def test_names_of_a_table_are_unique_numbers() -> None:
    for table, row in load("constants.yaml").items():
        numbers = list(row["values"].values())
        assert len(set(numbers)) == len(numbers), table
        assert row["kind"] in ("enum", "flags")
        assert row["source"]


@pytest.mark.parametrize(
    ("name", "values", "texts"),
    [
        ("socket", (2, 1, 6), ("AF_INET", "SOCK_STREAM", "IPPROTO_TCP")),
        ("socket", (16, 3, 0), ("AF_NETLINK", "SOCK_RAW", "NETLINK_ROUTE")),
        ("socket", (17, 3, 0x300), ("AF_PACKET", "SOCK_RAW", "0x300")),
        ("setsockopt", (1, 2), ("SOL_SOCKET", "SO_REUSEADDR")),
        ("setsockopt", (6, 31), ("SOL_TCP", "TCP_ULP")),
        ("setsockopt", (999, 31), ("0x3e7", "0x1f")),
        ("unshare", (0x20020000,), ("CLONE_NEWNS|CLONE_NEWPID",)),
        ("unshare", (0x20020001,), ("CLONE_NEWNS|CLONE_NEWPID|1",)),
        ("clone3", (0x200000000,), ("CLONE_INTO_CGROUP",)),
        ("mmap", (0,), ("PROT_NONE",)),
        ("mmap", (5,), ("PROT_READ|PROT_EXEC",)),
        ("personality", (0xFFFFFFFF,), ("PERSONALITY_QUERY",)),
        ("ioctl", (0x5401,), ("TCGETS",)),
        ("prctl", (38,), ("PR_SET_NO_NEW_PRIVS",)),
        ("mount", (0x1021,), ("MS_RDONLY|MS_REMOUNT|MS_BIND",)),
        ("umount2", (3,), ("MNT_FORCE|MNT_DETACH",)),
        ("read", (7,), ("7",)),
    ],
)
def test_render(name: str, values: tuple[int, ...], texts: tuple[str, ...]) -> None:
    spec = arguments.spec_for(name)
    fields = spec.fields if spec is not None else ("unknown",) * len(values)
    assert (
        tuple(arguments.render(name, field, value, values) for field, value in zip(fields, values, strict=True))
        == texts
    )


@given(
    st.sampled_from(sorted(arguments.recorded_names())),
    st.lists(st.integers(0, (1 << 64) - 1) | st.integers(0, 300), min_size=3),
)
def test_parse_undoes_render(name: str, numbers: list[int]) -> None:
    spec = arguments.spec_for(name)
    assert spec is not None
    values = [number & mask for number, mask in zip(numbers, spec.masks, strict=False)]
    for index, field in enumerate(spec.fields):
        text = arguments.render(name, field, values[index], values)
        assert arguments.parse(name, field, text, values[:index]) == values[index]


@pytest.mark.parametrize(("name", "field", "text"), [("mount", "flags", "MNT_FORCE"), ("umount2", "flags", "MS_NODEV")])
def test_names_of_other_fields_are_unknown(name: str, field: str, text: str) -> None:
    with pytest.raises(ValueError, match="unknown name"):
        arguments.parse(name, field, text)


@pytest.mark.parametrize("table", ["mount_flags", "umount_flags", "memfd_flags", "seccomp_flags", "clone_flags"])
def test_flags_have_the_names_of_their_call(table: str) -> None:
    prefixes = {"mount_flags": ("MS_",), "umount_flags": ("MNT_", "UMOUNT_"), "memfd_flags": ("MFD_",)}
    wanted = prefixes.get(table, (table.split("_")[0].upper() + "_",))
    assert all(name.startswith(wanted) for name in load("constants.yaml")[table]["values"])


@pytest.mark.parametrize("text", ["AF_NOSUCH", "AF_INET|NOPE", "", "|", "0x", "-1", "1.5", "1" * 30, "AF_INET;rm"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        arguments.parse("socket", "domain", text)


def test_parse_reads_numbers_and_foreign_names() -> None:
    assert arguments.parse("socket", "domain", 2) == 2
    assert arguments.parse("socket", "domain", "0x2") == 2
    assert arguments.parse("setsockopt", "option", "TCP_ULP", [6]) == 31
    with pytest.raises(ValueError):
        arguments.parse("socket", "domain", 1 << 64)
