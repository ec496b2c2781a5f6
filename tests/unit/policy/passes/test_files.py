"""File rules before and without generalisation."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.policy.making import file, touching, trace, uses

from profiler.errors import InputError
from profiler.policy.derive import derive
from profiler.policy.model import FileRule, Options, Policy
from profiler.trace.model import File

LITERAL = Options(runtime="none", generalise=False)


def policy_of(*files: File, options: Options = LITERAL, **more: Any) -> Policy:
    return derive(touching(*files, **more), options)


def rules_of(*files: File, options: Options = LITERAL, **more: Any) -> dict[str, FileRule]:
    """Rules by pattern."""
    found = policy_of(*files, options=options, **more).files
    by_pattern = {rule.pattern: rule for rule in found}
    assert len(by_pattern) == len(found), "a pattern stands twice"
    return by_pattern


def test_without_file_evidence_there_is_none() -> None:
    policy = derive(trace(), Options(runtime="none"))
    assert not policy.has_files
    assert policy.files == ()
    assert policy_of().has_files


def test_one_rule_for_all_uses_of_a_path() -> None:
    rules = rules_of(
        file("/srv/x", "write", {"ok": 2, "EACCES": 1}),
        file("/srv/x", "read", programs=frozenset({0, 1})),
        file("/srv/x", "remove", "EPERM"),
        file("/srv/x", "look", "EACCES"),
    )
    assert rules["/srv/x"] == FileRule("/srv/x", ("read", "write"), programs=("/bin/sh", "/usr/sbin/app"))


def test_what_only_failed_has_no_rule() -> None:
    """It stays in the trace."""
    assert rules_of(file("/srv/x", "write", "EACCES"), file("/srv/y", "look", "ENOENT", kind="unknown")) == {}
    assert set(rules_of(file("/srv/d", "remove", "EISDIR"), file("/srv/e", "write", "EISDIR"))) == {"/srv/d"}


def test_kinds_states_and_links() -> None:
    rules = rules_of(
        file("/srv/b", "link", existing="/srv/a"),
        file("/srv/b", "read", kind="directory", state="deleted"),
        file("/srv/b", "write", "EPERM", kind="unknown"),
    )
    assert rules["/srv/b"].existing == ("/srv/a",)
    assert rules["/srv/b"].kinds == ("file", "directory")
    assert rules["/srv/b"].states == ("linked", "deleted")


def test_process_ids_mean_nothing_in_another_run() -> None:
    rules = rules_of(
        file("/proc/1234/maps", whose="self"),
        file("/proc/4321/maps", whose="outside"),
        file("/proc/77/task/78/comm", "write", whose="workload"),
        file("/proc/77/fd/5", "readlink", whose="self"),
        file("/proc/77/task/78/fd/9", "readlink", whose="self"),
        file("/proc/77", "list", kind="directory", whose="self"),
        file("/proc/9/map_files/1-2", whose="outside"),
        file("/proc/12/nothing", "read", "ENOENT"),
        file("/mnt/proc/55/stat", whose="workload"),
        file("/srv/55/stat"),
        file("/proc/sys/kernel/pid_max"),
        file("/proc/irq/5/spurious"),
    )
    assert set(rules) == {
        "/proc/{pid}/maps",
        "/proc/{pid}/task/{tid}/comm",
        "/proc/{pid}/fd/{digits}",
        "/proc/{pid}/task/{tid}/fd/{digits}",
        "/proc/{pid}",
        "/proc/{pid}/map_files/{name}",
        "/mnt/proc/{pid}/stat",
        "/srv/55/stat",
        "/proc/sys/kernel/pid_max",
        "/proc/irq/5/spurious",
    }
    maps = rules["/proc/{pid}/maps"]
    assert maps.whose == ("self", "outside")


def test_a_pattern_with_a_needed_path_is_needed() -> None:
    rules = rules_of(file("/proc/1/stat", whose="outside"), file("/proc/2/stat", "write", "EACCES", whose="outside"))
    assert rules["/proc/{pid}/stat"].access == ("read",)


def test_other_numbers_of_one_run() -> None:
    rules = rules_of(
        file("/dev/pts/3", "write", kind="char"),
        file("/dev/pts/ptmx", kind="char"),
        file("/tmp/#99", "create", state="deleted"),
        file("/tmp/#98"),
        file("memfd:x{pid}", "map", state="detached"),
    )
    assert set(rules) == {"/dev/pts/{digits}", "/dev/pts/ptmx", "/tmp/#{digits}", "/tmp/#98", "memfd:x\\{pid\\}"}


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/tmp/x", True),
        ("/var/tmp/x", True),
        ("/dev/shm/x", True),
        ("/run/user/1000/x", True),
        ("/home/anna/x", True),
        ("/root/x", True),
        ("/proc/5/maps", True),
        ("/var/lib/app/x", False),
        ("/etc/x", False),
        ("/tmpx/x", False),
        ("/dev/pts/0", False),
    ],
)
def test_owner_where_it_tells_something(path: str, kept: bool) -> None:
    whose = "self" if path.startswith("/proc") else None
    (rule,) = rules_of(file(path, own=True, whose=whose)).values()
    assert rule.owner is kept
    (rule,) = rules_of(file(path, own=True, whose=whose), file(path, "write", own=False, whose=whose)).values()
    assert not rule.owner
    (rule,) = rules_of(
        file(path, own=True, whose=whose), file(path, "write", "EACCES", own=False, whose=whose)
    ).values()
    assert rule.owner is kept, "a refused use tells nothing"


def test_paths_no_kernel_gives_are_put_right_or_refused() -> None:
    assert set(rules_of(file("//srv//a/./b/"), file("/srv/../x"))) == {"/srv/a/b", "/x"}
    with pytest.raises(InputError, match="not absolute"):
        rules_of(file("srv"))
    with pytest.raises(InputError, match="not a path"):
        rules_of(file("/srv/\ud800"))


def test_names_are_patterns() -> None:
    rules = rules_of(file("/srv/{pid}\n\udcff\\"))
    assert set(rules) == {"/srv/\\{pid\\}\\x0a\\xff\\\\"}


ROWS = [
    file("/etc/a"),
    *uses("/etc/b", "read write"),
    file("/proc/1/stat", whose="outside"),
    file("/proc/2/stat", whose="self"),
    *uses("/tmp/x.aB3dE9", "create write remove", own=True),
    *[file(f"/var/lib/x/{name}") for name in "abcdefghijkl"],
    *[file(f"/srv/{a}/{b}") for a in "abcd" for b in "klmnop"],
    file("/srv/x", "link", existing="/etc/b"),
]


@pytest.mark.parametrize("generalise", [True, False])
@given(seed=st.integers(0, 1 << 30))
def test_the_order_of_rows_does_not_matter(generalise: bool, seed: int) -> None:
    options = Options(runtime="none", generalise=generalise)
    mixed = list(ROWS)
    random.Random(seed).shuffle(mixed)
    assert policy_of(*mixed, options=options) == policy_of(*ROWS, options=options)
