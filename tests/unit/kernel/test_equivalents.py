"""Equivalents, fallbacks, base sets and errno names: the data is complete."""

from __future__ import annotations

import pytest

from profiler.kernel import errno, fallbacks, runtimes
from profiler.kernel.arguments import spec_for
from profiler.kernel.data import load
from profiler.kernel.equivalents import same_values, stand_ins
from profiler.kernel.syscalls import known_names, number_of

ALWAYS = {"exit", "exit_group", "clock_gettime", "clock_getres", "gettimeofday", "time", "getcpu"}


def test_every_name_is_known() -> None:
    data = load("equivalents.yaml")
    names = {name for row in data["classes"] for name in row["members"]}
    names |= {name for row in data["implied"] for name in (*row["seen"], *row["add"])}
    names |= {name for row in data["always"] for name in row["add"]}
    names |= set(fallbacks.fallbacks())
    # "signal" and such exist on i386; ARM's second name is known through its first.
    assert names - known_names() - {"arm_sync_file_range"} == set()


def test_classes_do_not_overlap_and_have_reasons() -> None:
    rows = load("equivalents.yaml")["classes"]
    members = [name for row in rows for name in row["members"]]
    assert len(set(members)) == len(members)
    assert all(row["reason"] for row in rows)


def test_fallbacks_have_a_source() -> None:
    for name, row in load("fallbacks.yaml").items():
        assert set(row) == {"why", "source"}, name
        assert all(isinstance(text, str) and len(text) > 10 for text in row.values()), name


def test_dangerous_names_have_no_class() -> None:
    for name in ("execve", "execveat", "socket", "socketcall", "clone3", "unshare", "ptrace", "bpf", "openat2"):
        brought = stand_ins("x86_64", [name])
        assert not any(name in origins for origins, _ in brought.values()), name


def test_stand_ins() -> None:
    found = stand_ins("x86_64", ["newfstatat", "rt_sigaction", "futex"])
    assert set(found) == {"stat", "lstat", "fstat", "statx", "rt_sigreturn", "restart_syscall"} | ALWAYS
    assert found["statx"][0] == {"newfstatat"}
    assert found["time"][0] == frozenset()
    assert all(reason for _, reason in found.values())


def test_stand_ins_are_only_what_the_abi_has() -> None:
    found = stand_ins("aarch64", ["openat", "newfstatat", "ppoll", "dup3"])
    assert {"open", "stat", "poll", "dup2", "time"}.isdisjoint(found)
    assert all(number_of("aarch64", name) is not None for name in found)
    assert {"fstatat64", "stat64", "clock_gettime64"} <= set(stand_ins("i386", ["fstat64"]))


def test_nothing_that_was_seen_is_added_again() -> None:
    assert "openat" not in stand_ins("x86_64", ["open", "openat"])


def test_same_values() -> None:
    assert same_values("ioctl", "cmd", 0x5401)[0] == {0x5401, 0x802C542A}
    assert same_values("ioctl", "cmd", 0x5413)[0] == {0x5413}


def test_base_sets_are_whole() -> None:
    for base in runtimes.bases():
        assert set(base.syscalls) <= known_names()
        for name in base.syscalls:
            # A name with filterable arguments says which the runtime uses, or the base would open the filter.
            assert spec_for(name) is None or base.arguments.get(name), (base.id, name)


@pytest.mark.parametrize("nnp", [True, False])
def test_runc_has_what_its_init_was_seen_to_call(nnp: bool) -> None:
    names = {name for base in runtimes.base_for("runc", "1.1.5+ds1", nnp) for name in base.syscalls}
    assert {
        "close",
        "epoll_ctl",
        "execve",
        "exit_group",
        "fstatfs",
        "futex",
        "getdents64",
        "openat",
        "rt_sigreturn",
    } <= names
    assert ({"capset", "setuid", "fchown", "prctl"} <= names) is not nnp


def test_base_for_chooses_by_runtime_version_and_privileges() -> None:
    def ids(*args: object) -> list[str]:
        return [base.id for base in runtimes.base_for(*args)]  # type: ignore[arg-type]

    assert ids("none", None, True) == []
    assert (
        ids("docker", "1.1.5", True) == ids("runc", "1.1.15", True) == ["runc <1.2 no_new_privs", "runc's Go runtime"]
    )
    assert ids("runc", "1.2", True) == ids("runc", "9.9", True) == ["runc >=1.2 no_new_privs", "runc's Go runtime"]
    assert ids("podman", "1.8.1", False) == ["crun <1.9"]
    assert ids("crun", None, True) == ["crun <1.9 no_new_privs", "crun >=1.9 no_new_privs"]
    assert set(ids("any", None, True)) == set(ids("runc", None, True)) | set(ids("crun", None, True))
    with pytest.raises(ValueError, match="unknown runtime"):
        ids("rkt", None, True)
    with pytest.raises(ValueError, match="version"):
        ids("runc", "new", True)


def test_errno_names() -> None:
    assert errno.name_of(38) == errno.name_of(-38) == "ENOSYS"
    assert errno.name_of(512) == "ERESTARTSYS"
    assert errno.name_of(999) == "ERRNO_999"
    assert errno.number_of("EPERM") == 1
    assert errno.number_of("ENOPE") is None
    assert errno.is_restart(-516)
    assert not errno.is_restart(4)
