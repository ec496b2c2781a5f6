"""The target tomoyo: domains, rules and names."""

from __future__ import annotations

import os
from typing import Any

import pytest
from unit.targets.policies import file, policy, transition
from unit.targets.tomoyo.reading import CHECKER, Read, checked, read, regex

from profiler.errors import InputError
from profiler.policy.model import MountRule, Policy, SocketRule
from profiler.targets.catalogue import find
from profiler.targets.rendering import render_one
from profiler.targets.tomoyo.names import words

TARGET = find("tomoyo")
START = (transition("/usr/sbin/app", None),)
CHAIN = (*START, transition("/usr/bin/dash", "/usr/sbin/app"), transition("/usr/bin/ls", "/usr/bin/dash"))


def files(given: Policy, **options: str) -> dict[str, bytes]:
    known = {setting.name: setting for setting in TARGET.settings}
    parsed: dict[str, Any] = {name: known[name].parse(text) for name, text in options.items()}
    made = {row.name: row.data for row in render_one("tomoyo", given, {"name": "demo", **parsed}).files}
    if not os.path.exists(CHECKER):
        pytest.skip("not installed: tomoyo-tools")
    checked(made["tomoyo.domain.conf"], "d")
    checked(made["tomoyo.exception.conf"], "e")
    return made


def made(*rules: Any, transitions: Any = START, **fields: Any) -> Read:
    return read(files(policy(*rules, transitions=transitions, **fields)))


def lines(*rules: Any, **fields: Any) -> set[str]:
    """The rules of the first program's domain."""
    return {" ".join(row) for row in made(*rules, **fields).domains["/usr/sbin/app"]}


def losses(*rules: Any, **fields: Any) -> dict[str, str]:
    given = policy(*rules, **{"transitions": START, **fields})
    return {loss.item: loss.effect for loss in render_one("tomoyo", given, {"name": "demo"}).losses}


def test_a_domain_for_each_program_by_the_shortest_chain() -> None:
    loops = (*CHAIN, transition("/usr/bin/dash", "/usr/bin/ls"), transition("/usr/bin/ls", "/usr/sbin/app"))
    found = made(transitions=loops)
    chains = {"", "/usr/sbin/app", "/usr/sbin/app /usr/bin/dash", "/usr/sbin/app /usr/bin/ls"}
    assert set(found.domains) == chains
    (rule,) = (row for row in found.domains["/usr/sbin/app /usr/bin/ls"] if row[1] == "execute")
    assert rule[2:5] == ["@program", "<demo>", "/usr/sbin/app"]
    assert rule[5:] == ["/usr/bin/dash", 'exec.realpath="/usr/bin/dash"']


def test_the_namespace_itself_only_starts_the_workload() -> None:
    found = made(file("/etc/app.conf", "read"))
    assert [" ".join(row) for row in found.domains[""]] == [
        'file execute @program <demo> /usr/sbin/app exec.realpath="/usr/sbin/app"'
    ]


def test_rules_of_one_program_are_in_its_domain() -> None:
    found = made(file("/etc/a", "read", programs=("/usr/bin/ls",)), file("/etc/b", "read"), transitions=CHAIN)
    deep = "/usr/sbin/app /usr/bin/dash /usr/bin/ls"
    assert {name: found.allows(name, "read", "/etc/a") for name in found.domains} == {
        **dict.fromkeys(found.domains, False),
        deep: True,
    }
    assert all(found.allows(name, "read", "/etc/b") for name in found.domains if name)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            file("/v/a b", "read", "write", "create"),
            {"read /v/a\\040b", "write /v/a\\040b", "create /v/a\\040b 0-07777"},
        ),
        (file("/v/log", "append", owner=True), {"append /v/log task.fsuid=path1.uid"}),
        (
            file("/v/d", "list", "make", "remove", kinds=("directory",)),
            {"read /v/d/", "mkdir /v/d/ 0-07777", "rmdir /v/d/"},
        ),
        (file("/v/s", "bind", "remove", kinds=("socket",)), {"mksock /v/s 0-07777", "unlink /v/s"}),
        (file("/v/l", "make", kinds=("symlink",)), {"symlink /v/l"}),
        (file("/v/f", "make", kinds=("fifo",)), {"mkfifo /v/f 0-07777"}),
        (file("/v/n", "link", existing=("/v/o",)), {"link /v/o /v/n"}),
        (file("/v/m", "mode", "owner"), {"chmod /v/m 0-07777", "chown /v/m 0-4294967295", "chgrp /v/m 0-4294967295"}),
        (file("/v/lib.so", "read", "map"), {"read /v/lib.so"}),
        (file("/v/t", "times", "lock", "readlink"), set()),
        (file("/proc/{pid}/stat", "read", whose=("self",)), {"read proc:/self/stat"}),
        (file("/proc/{pid}/stat", "read", whose=("workload",)), {"read proc:/\\$/stat"}),
        (file("/proc/sys/kernel/osrelease", "read"), {"read proc:/sys/kernel/osrelease"}),
        (file("/dev/pts/{digits}", "write", kinds=("char",)), {"write devpts:/\\$"}),
        (file("/memfd:x", "read", states=("detached",)), {"read tmpfs:/memfd:x"}),
    ],
)
def test_files(rule: Any, expected: set[str]) -> None:
    assert lines(rule) == {f"file {text}" for text in expected}


def test_renames_are_of_one_program() -> None:
    rules = (
        file("/v/a", "rename_from", programs=("/usr/bin/dash",)),
        file("/v/b", "rename_to", programs=("/usr/bin/dash",)),
    )
    found = made(*rules, transitions=CHAIN)
    chain = "/usr/sbin/app /usr/bin/dash"
    assert found.allows(chain, "rename", "/v/a", "/v/b")
    assert not found.allows(chain, "rename", "/v/b", "/v/a")
    assert not found.allows("/usr/sbin/app", "rename", "/v/a", "/v/b")


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("/v/{tree}", ("/v/a", "/v/a/b", "/v/a/b/c"), ("/v/", "/w/a")),
        ("/v{tree}", ("/va", "/va/b", "/v/b", "/v/b/c"), ("/v", "/w")),
        ("/v/{name}.x", ("/v/a.x", "/v/é.x"), ("/v/.x", "/v/a/b.x")),
        ("/v/{version}", ("/v/1", "/v/1.2.3.4"), ("/v/1.2.3.4.5", "/v/a")),
        ("/v/{hex:4}", ("/v/0aF1",), ("/v/0aF", "/v/0aFg")),
        ("/v/{uuid}", ("/v/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f",), ("/v/0a1b2c3d",)),
        ("{home}/x", ("/root/x", "/home/me/x"), ("/home/x", "/home/a/b/x")),
    ],
)
def test_patterns(pattern: str, inside: tuple[str, ...], outside: tuple[str, ...]) -> None:
    found, wide = words(pattern, ("file",))
    assert not wide
    for path in inside:
        assert any(regex(word).fullmatch(path.encode()) for word in found), path
    for path in outside:
        assert not any(regex(word).fullmatch(path.encode()) for word in found), path


def test_wider_classes_are_declared() -> None:
    assert losses(file("/v/{random}", "read"))["/v/{random}"] == "wider"
    assert losses(file("/", "read"))["/"] == "refused"
    assert "/v/{version}" not in losses(file("/v/{version}", "read"))


def test_sockets() -> None:
    inet = SocketRule("inet", "stream", 6, ("bind", "listen", "connect"), ports=(("bind", (80,)), ("connect", (443,))))
    unix = SocketRule("unix", "stream", 0, ("connect",), addresses=(("connect", ("/run/x", "@y")),))
    anywhere = "0.0.0.0-255.255.255.255"
    assert lines(sockets=(inet, unix)) == {
        f"network inet stream bind {anywhere} 80",
        f"network inet stream listen {anywhere} 80",
        f"network inet stream connect {anywhere} 443",
        f"network inet stream connect {anywhere} 32768-60999",
        "network unix stream connect /run/x",
        "network unix stream connect /var/run/x",
        "network unix stream connect \\000y",
    }
    assert losses(sockets=(SocketRule("netlink", "raw", 0, ("create",)),))["other sockets"] == "wider"


def test_mounts() -> None:
    rows = (
        MountRule("mount", "none", "/mnt", "tmpfs", ()),
        MountRule("umount", None, "/mnt", None, ()),
        MountRule("bind", "/a", "/b", None, ()),
    )
    found = lines(mounts=rows)
    assert "file mount \\* /mnt/ tmpfs 0x0-0xFFFFFFFF" in found
    assert "file unmount /mnt/" in found
    assert "file mount /a/ /b/ --bind 0x0-0xFFFFFFFF" in found


def test_the_modes() -> None:
    given = policy(transitions=START)
    assert b"1-CONFIG={ mode=enforcing " in files(given)["tomoyo.profile.conf"]
    assert b"1-CONFIG={ mode=permissive " in files(given, permissive="yes")["tomoyo.profile.conf"]


@pytest.mark.parametrize("name", ["kernel", "a b", "a>", "", "a\nb"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        files(policy(), name=name)


def test_a_policy_without_files() -> None:
    with pytest.raises(InputError, match="record again"):
        render_one("tomoyo", policy(has_files=False))
