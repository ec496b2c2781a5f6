"""Rules of Landlock for policies: never less than the policy, and more only where Landlock has no other form.
tests/unit/targets/test_parsed.py holds any policy against its rules, and tests/system/test_run.py asks the kernel."""

from __future__ import annotations

import pytest
from unit.targets.policies import BECAUSE, file, policy

from profiler.kernel.landlock import is_loader
from profiler.policy.landlock import Plan, plan
from profiler.policy.model import Allowed, FileRule, InspectionRule, MountRule, SignalRule, SocketRule


def paths(*rules: FileRule, **fields: object) -> dict[str, str]:
    return {row.pattern: row.rights + ("+" if row.above else "") for row in plan(policy(*rules, **fields)).rules.paths}


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([file("/etc/x", "read")], {"/etc/x": "read_file"}),
        ([file("/etc/x", "read", "mode", "lock", "times")], {"/etc/x": "read_file"}),
        ([file("/etc/x", "mode", "xattr", "readlink")], {}),
        ([file("/bin/x", "execute", "map")], {"/bin/x": "execute read_file"}),
        ([file("/lib/ld-linux.so.{version}", "read", "map")], {"/lib/ld-linux.so.{version}": "execute read_file"}),
        ([file("/{home}/x", "read")], None),
        ([file("{home}/x", "read")], {"{home}/x": "read_file"}),
        ([file("{home}/.cache/{random}", "read")], {"{home}/.cache": "read_file"}),
        ([file("/etc", "read", "list", kinds=("directory",))], {"/etc": "read_dir"}),
        ([file("/d/{name}", "read")], {"/d": "read_file"}),
        ([file("/d/{tree}", "read")], {"/d": "read_file"}),
        ([file("/proc/{pid}/stat", "read", whose=("self",))], {"/proc": "read_file"}),
        ([file("/l/log", "append", "create")], {"/l": "write_file make_reg"}),
        ([file("/dev/null", "write", "create", "truncate", kinds=("char",))], {"/dev/null": "write_file truncate"}),
        ([file("/r/pid", "make", kinds=("fifo",))], {"/r": "make_fifo"}),
        ([file("/r/s", "bind", kinds=("socket",))], {"/r": "make_sock"}),
        ([file("/r/s", "remove", kinds=("directory",))], {"/r": "remove_dir"}),
        ([file("/r/#12", "read", states=("deleted",))], {"/r": "read_file"}),
        ([file("/memfd:x", "read", states=("detached",))], {}),
        ([file("pipe:[1]", "read")], {}),
    ],
)
def test_rules(rules: list[FileRule], expected: dict[str, str] | None) -> None:
    if expected is not None:
        assert paths(*rules) == expected


def test_a_directory_that_is_made_has_its_rights_from_above_until_then() -> None:
    assert paths(
        file("/run/app", "make", kinds=("directory",)), file("/run/app/pid", "write", "create")
    ) == {"/run": "make_dir", "/run/app": "write_file make_reg+"}  # fmt: skip


def test_a_directory_that_is_replaced_has_a_rule_above() -> None:
    made = paths(
        file("/run/app", "make", "remove", kinds=("directory",)), file("/run/app/pid", "write", "create")
    )  # fmt: skip
    assert made == {"/run": "write_file remove_dir make_dir make_reg"}


def test_renames() -> None:
    """In one directory a rename takes nothing more. Elsewhere the first directory gets the rights of the second."""
    assert paths(file("/d/a", "write", "create", "rename_from"), file("/d/b", "rename_to")) == {
        "/d": "write_file remove_file make_reg"
    }
    assert paths(
        file("/d/a", "write", "create", "rename_from"), file("/e/b", "rename_to"), file("/e/c", "read")
    ) == {
        "/d": "write_file remove_file make_reg refer",
        "/e": "remove_file make_reg refer",
        "/e/c": "read_file",
    }  # fmt: skip
    assert paths(file("/d/a", "rename_from"), file("/e/b", "read", "rename_to")) == {
        "/d": "read_file remove_file refer",
        "/e": "read_file remove_file make_reg refer",
    }


def test_links() -> None:
    assert paths(file("/d/b", "link", existing=("/d/a",))) == {"/d": "make_reg"}
    assert paths(file("/e/b", "link", "read", existing=("/d/a",))) == {
        "/d": "read_file refer",
        "/e": "read_file make_reg refer",
    }
    assert plan(policy(file("/e/b", "link"))).unlinked == ("/e/b",)


def test_devices_that_are_opened_take_requests_if_the_policy_has_them() -> None:
    tty = file("/dev/tty", "read", kinds=("char",))
    ioctl = Allowed("observed", "x86_64", "ioctl")
    assert paths(tty, syscalls=(ioctl,)) == {"/dev/tty": "read_file ioctl_dev"}
    assert paths(file("/etc/x", "read"), syscalls=(ioctl,)) == {"/etc/x": "read_file"}


def test_who_opens_the_multiplexer_opens_its_terminals() -> None:
    """They are made later, and ioctl(2) opens them without a trace."""
    ioctl = Allowed("observed", "x86_64", "ioctl")
    ptmx = file("/dev/ptmx", "read", "write", kinds=("char",))
    given = "write_file read_file ioctl_dev"
    assert paths(ptmx, syscalls=(ioctl,)) == {"/dev/ptmx": given, "/dev/pts": given}
    assert dict(plan(policy(ptmx)).wider) == {"/dev/pts": ("write_file", "read_file")}
    assert paths(file("/dev/pts/ptmx", "read", kinds=("char",))) == {
        "/dev/pts": "read_file",
        "/dev/pts/ptmx": "read_file",
    }
    assert paths(file("/dev/xptmx", "read", kinds=("char",))) == {"/dev/xptmx": "read_file"}


def test_what_is_appended_to_can_be_overwritten() -> None:
    made = plan(policy(file("/l/a", "append"), file("/l/b", "append", "write"), file("/l/{name}", "append", "create")))
    assert made.overwritten == ("/l/a", "/l/{name}")


def test_ports() -> None:
    def found(*rules: SocketRule) -> list[tuple[str, int, int]]:
        return [tuple(row) for row in plan(policy(sockets=rules)).rules.ports]

    def socket(**fields: object) -> SocketRule:
        return SocketRule(
            **{"family": "inet", "type": "stream", "protocol": 6, "operations": ("create",)} | fields  # type: ignore[arg-type]
        )

    clients = ("connect_tcp", 32768, 60999)
    assert found(socket()) == []
    assert found(socket(operations=("bind",), ports=(("bind", (0, 80)),))) == [("bind_tcp", 0, 0), ("bind_tcp", 80, 80)]
    assert found(socket(operations=("connect",))) == [clients]
    assert found(socket(operations=("connect",), ports=(("connect", (443,)),))) == [("connect_tcp", 443, 443), clients]
    assert found(socket(type="dgram", operations=("connect",), ports=(("connect", (53,)),))) == []
    assert found(socket(protocol=132, operations=("connect",))) == []


def scopes(made: Plan) -> set[str]:
    return {right.name for right in made.rules.scopes}


def test_scopes() -> None:
    def unix(operation: str, *addresses: str) -> SocketRule:
        table = ((operation, addresses),) if addresses else ()
        return SocketRule("unix", "stream", 0, (operation,), addresses=table)

    assert scopes(plan(policy())) == {"signal", "abstract_unix_socket"}
    for whom, kept in (("self", True), ("workload", True), ("outside", False), ("group", False)):
        assert ("signal" in scopes(plan(policy(signals=(SignalRule("TERM", whom),))))) is kept
    for rule, kept in (
        (unix("bind", "@x"), True),
        (unix("connect", "/run/x"), True),
        (unix("connect", "@x"), False),
        (unix("send", "/run/x", "@{hex:5}"), False),
        (unix("connect"), False),
    ):
        assert ("abstract_unix_socket" in scopes(plan(policy(sockets=(rule,))))) is kept


def test_what_landlock_would_break_is_left_out() -> None:
    without = plan(policy(has_files=False))
    assert not without.rules.network
    assert without.unlimited() == [
        "Landlock does not limit files: the policy has no rules for files, sockets and signals"
    ]
    mounts = plan(policy(file("/x", "read"), mounts=(MountRule("mount", None, "/m", "tmpfs", (), BECAUSE),)))
    assert (mounts.rules.files, mounts.rules.paths) == ((), ())
    assert mounts.rules.network
    assert {section for section, _ in mounts.unused} == {"files"}
    watched = plan(policy(file("/x", "read"), inspections=(InspectionRule("read", "outside", BECAUSE),)))
    assert not watched.rules.network
    assert not watched.rules.scopes
    (said,) = watched.unlimited()
    assert said.startswith("Landlock does not limit files, sockets, signals: the policy allows to inspect")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ld-linux-x86-64.so.2", True),
        ("ld-linux-x86-64.so.{version}", True),
        ("ld-musl-x86_64.so.1", True),
        ("ld-2.31.so", True),
        ("ld64.so.2", True),
        ("ld.so.cache", False),
        ("libdl.so.2", False),
        ("ld", False),
    ],
)
def test_loaders(name: str, expected: bool) -> None:
    assert is_loader(name) is expected
