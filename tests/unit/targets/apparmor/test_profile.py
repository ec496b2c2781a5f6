"""What the AppArmor profile says of a policy. tests/system/test_apparmor_parser.py asks the real parser whether it
means that."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from unit.targets.policies import BECAUSE, file, policy, transition

from profiler.errors import InputError
from profiler.policy.model import (
    Allowed,
    Capability,
    Condition,
    InspectionRule,
    MountRule,
    Policy,
    Rule,
    SignalRule,
    SocketRule,
    Variable,
)
from profiler.policy.reasons import Reason
from profiler.targets.apparmor import profile as apparmor
from profiler.targets.apparmor import rules
from profiler.targets.apparmor.abstractions import aare, weigh
from profiler.targets.apparmor.rules import FileLine
from profiler.targets.base import Output
from profiler.targets.rendering import render_one
from profiler.trace.model import SOCKET_OPERATIONS


def text(made: Policy, **options: object) -> str:
    return output(made, **options).files[0].data.decode()


def output(made: Policy, **options: object) -> Output:
    return render_one("apparmor", made, {"name": "profgen-app", **options})


def lines(made: Policy, **options: object) -> list[str]:
    """The rules and nothing else."""
    body = text(made, **options).split("{\n", 1)[1].splitlines()
    return [line.strip() for line in body if line.strip() and not line.strip().startswith(("#", "}"))]


def files(*made: object, **fields: object) -> list[str]:
    return [line for line in lines(policy(*made, **fields)) if '"' in line]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("access", "modes"),
    [
        (("read",), "r"),
        (("write",), "w"),
        (("append",), "w"),
        (("append", "create"), "w"),
        (("append", "write"), "w"),
        (("read", "append"), "rw"),
        (("truncate",), "w"),
        (("rename_from",), "rw"),
        (("rename_to",), "w"),
        (("read", "map"), "mr"),
        (("read", "lock"), "rk"),
        (("read", "lock_exclusive"), "rwk"),
        (("execute", "map", "read"), "mrix"),
        (("execute",), "ix"),
        (("mode", "owner"), "w"),
    ],
)
def test_modes(access: tuple[str, ...], modes: str) -> None:
    assert files(file("/f", *access)) == [f'"/f" {modes},']


@pytest.mark.parametrize("access", ["times", "xattr", "chroot", "readlink"])
def test_what_needs_no_right_leaves_no_rule(access: str) -> None:
    assert files(file("/f", access)) == []


def test_one_line_a_path() -> None:
    assert files(file("/f", "read"), file("/f", "write"), file("/f", "execute")) == ['"/f" rwix,']
    both = [file("/f", "read", "truncate", owner=True), file("/f", "write")]
    assert files(*both) == files(*reversed(both)) == ['"/f" w,', 'owner "/f" r,']


def test_what_is_appended_may_be_written_by_another_user() -> None:
    assert files(file("/f", "append", owner=True), file("/g", "write", owner=True)) == ['"/f" w,', 'owner "/g" w,']
    assert files(file("/f", "read", "append", "lock", owner=True)) == ['"/f" w,', 'owner "/f" rk,'], (
        "and no more than written"
    )


def test_programs_of_ones_own() -> None:
    tool = file("/tmp/{random}", "read", "execute", owner=True)
    assert files(tool) == ['owner "/tmp/@{profgen_random}" rix,']
    assert files(tool, file("/tmp/{random}", "execute")) == [
        '"/tmp/@{profgen_random}" ix,',
        'owner "/tmp/@{profgen_random}" r,',
    ]
    first, later = file("/tmp/app", "execute", owner=True), file("/tmp/tool", "read", "execute", owner=True)
    chain = (transition("/tmp/app", None), transition("/tmp/tool", "/tmp/app"))
    assert files(first, later, transitions=chain) == ['"/tmp/app" ix,', 'owner "/tmp/tool" rix,'], (
        "who starts the workload is not known"
    )
    made = policy(first, later, transitions=chain, no_new_privs=False)
    found = [line for line in lines(made, children=True) if "/tmp/tool" in line]
    assert found == ['owner "/tmp/tool" rcx -> tool,', 'owner "/tmp/tool" mr,']


def test_shared_memory_is_the_root_to_apparmor() -> None:
    used = Allowed("observed", "x86_64", "shmat", BECAUSE)
    assert files(syscalls=(used,)) == ['"/" rw,']
    assert "flags=(attach_disconnected)" in text(policy(syscalls=(used,)))
    assert files(syscalls=(replace(used, because=(Reason("failed", ("EINVAL",)),)),)) == []


def test_a_deleted_file_that_gets_a_name_again() -> None:
    unnamed = file("/d/#{digits}", "write", states=("deleted",))
    linked = file("/d/f", "link", existing=(unnamed.pattern,))
    assert "flags=(mediate_deleted)" in text(policy(unnamed, linked))
    assert "mediate_deleted" not in text(policy(unnamed))


def test_a_deleted_file_that_is_executed() -> None:
    """An unnamed file, filled and given to fexecve(3)."""
    assert "flags=(mediate_deleted)" in text(policy(file("/d/#{digits}", "write", "execute", states=("deleted",))))


def test_order_and_directories() -> None:
    found = files(
        file("/b", "list", kinds=("directory",)),
        file("/a b", "read"),
        file("/", "list", kinds=("directory",)),
        file("/a", "make", kinds=("fifo",)),
    )
    assert found == ['"/" r,', '"/a b" r,', '"/a" w,', '"/b/" r,']


def test_links_name_both_ends() -> None:
    assert files(file("/a", "link", existing=("/c", "/b")), file("/a", "write")) == [
        '"/a" w,',
        'link "/a" -> "/b",',
        'link "/a" -> "/c",',
    ]
    assert "/a (the file that it is another name of is not known)" in text(policy(file("/a", "link")))


def test_variables_only_where_they_are_used() -> None:
    made = text(policy(file("/a/{uuid}", "read")))
    assert '"/a/@{profgen_uuid}" r,' in made
    assert re.findall(r"^@\{(\w+)\}=", made, re.MULTILINE) == ["profgen_x4", "profgen_x8", "profgen_uuid"]
    assert "@{profgen" not in text(policy(file("/a/@\\{profgen_uuid\\}", "read")))
    assert '"@{PROC}/@{pid}/task/@{tid}/stat" r,' in lines(policy(file("/proc/{pid}/task/{tid}/stat", "read")))


def test_a_place_too_long_to_be_named() -> None:
    """A comma takes four bytes in a variable, and one in a rule."""
    place = "/" + "," * 5000
    made = policy(file(f"{place}/a", "read"), variables=(Variable("volume_x", (place,), BECAUSE),))
    assert lines(made)[0] == f'"{place}/a" r,'


def test_a_name_cannot_leave_its_line() -> None:
    for name in ('/a" rw,\n /** rw,', "/a\n}\nprofile x {", "/{a,b}*[c]?^", "/@{HOME}", "/\udcff\\"):
        pattern = "".join(
            "\\" + char if char in "{}\\" else f"\\x{ord(char) & 0xFF:02x}" if not char.isprintable() else char
            for char in name
        )
        made = policy(file(pattern, "read"), argv=(name,))
        assert len(files(file(pattern, "read"))) == 1
        assert text(made).isascii()
        assert text(made).count("\n") == text(policy(file("/a", "read"))).count("\n")


def test_left_out_by_name() -> None:
    made = policy(
        file("relative", "read"),
        file("/" + "\\x0a" * 4096, "read"),
        file("/kept", "read"),
        sockets=(SocketRule("77", "stream", 0, ("create",), BECAUSE),),
        signals=(SignalRule("99", "self", BECAUSE),),
        mounts=(
            MountRule("mount", "x", "/m", "a b", (), BECAUSE),
            MountRule("mount", "x", "/m", "tmpfs", ("lazytime",), BECAUSE),
        ),
    )
    losses = output(made).losses
    assert len(losses) == 6
    assert all(loss.effect == "refused" for loss in losses)
    assert {loss.section for loss in losses} == {"files", "sockets", "signals", "mounts"}
    assert ("relative", "it is not a path below the root") in {(loss.item, loss.why) for loss in losses}
    assert '"/kept" r,' in lines(made)
    assert "relative (it is not a path below the root)" in text(made)


def test_network() -> None:
    made = policy(
        sockets=(
            SocketRule("inet", "stream", 6, ("create",), BECAUSE),
            SocketRule("inet", "stream", 0, ("bind",), BECAUSE),
            SocketRule("netlink", "raw", 0, ("create",), BECAUSE),
            SocketRule("packet", "packet", 768, ("create",), BECAUSE),
        )
    )
    assert [line for line in lines(made) if "network" in line] == [
        "network inet stream,",
        "network netlink raw,",
        "network packet packet,",
    ]


def test_unix() -> None:
    addresses = (("bind", ("@{pid}/x", "/run/s", "")), ("connect", ("@y",)))
    made = policy(sockets=(SocketRule("unix", "dgram", 0, SOCKET_OPERATIONS, BECAUSE, addresses=addresses),))
    assert [line for line in lines(made) if line.startswith("unix")] == [
        "unix (create, getattr, getopt, setattr, setopt, shutdown) type=dgram,",
        'unix (connect, receive, send) type=dgram peer=(addr="@y"),',
        'unix (accept, bind, listen, receive, send) type=dgram addr="@@{pid}/x",',
        "unix (accept, bind, listen, receive, send) type=dgram addr=auto,",
        "unix (receive, send) type=dgram addr=none peer=(addr=none),",
    ]


def test_signals() -> None:
    made = policy(
        signals=(
            SignalRule("TERM", "workload", BECAUSE),
            SignalRule("0", "self", BECAUSE),
            SignalRule("RTMIN+5", "group", BECAUSE),
            SignalRule("HUP", "outside", BECAUSE),
        )
    )
    assert [line for line in lines(made) if line.startswith("signal")] == [
        "signal receive peer=unconfined,",
        "signal (send, receive) set=(exists, rtmin+5, term) peer=profgen-app,",
        "signal send set=(hup) peer=unconfined,",
    ]
    assert "signal receive peer=runc," in lines(policy(runtime="any"))


@pytest.mark.parametrize(
    ("name", "word"),
    [("TERM", "term"), ("SIGTERM", "term"), ("TSTP", "stp"), ("POLL", "io"), ("CHLD", "chld"), ("RTMIN", "rtmin+0"),
     ("RTMIN+32", "rtmin+32"), ("RTMIN+33", None), ("0", "exists"), ("EXISTS", "exists"), ("65", None), ("", None)],
)  # fmt: skip
def test_signal_words(name: str, word: str | None) -> None:
    assert rules.signal_word(name) == word


def test_ptrace() -> None:
    def found(**fields: object) -> list[str]:
        return [line for line in lines(policy(*fields.pop("made", ()), **fields)) if line.startswith("ptrace")]  # type: ignore[misc,arg-type]

    assert found(inspections=(InspectionRule("traceme", "workload", BECAUSE),)) == [
        "ptrace (trace, tracedby) peer=profgen-app,"
    ]
    assert found(inspections=(InspectionRule("trace", "outside", BECAUSE),)) == ["ptrace (trace) peer=unconfined,"]
    read = (InspectionRule("read", "outside", BECAUSE),)
    assert found(inspections=read) == ["ptrace (read) peer=unconfined,"]
    used = Allowed("observed", "x86_64", "process_vm_readv", BECAUSE)
    assert found(inspections=read, syscalls=(used,)) == ["ptrace (read, trace) peer=unconfined,"]
    assert found(inspections=read, syscalls=(replace(used, because=(Reason("failed", ("EPERM",)),)),)) == [
        "ptrace (read) peer=unconfined,"
    ]
    environ = file("/proc/{pid}/environ", "read", whose=("self", "workload"))
    assert found(made=(environ,)) == ["ptrace (read, readby) peer=profgen-app,"]
    assert found(made=(file("/proc/{pid}/task/{tid}/mem", "read", whose=("outside",)),)) == [
        "ptrace (trace) peer=unconfined,"
    ]
    assert (
        found(
            made=(
                file("/proc/{pid}/status", "read", whose=("outside",)),
                file("/proc/{pid}/environ", "read", whose=("self",)),
            )
        )
        == []
    )


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (
            ("mount", "tmpfs", "/m", "tmpfs", ("nosuid", "rdonly")),
            'mount fstype=(tmpfs) options=(nosuid, ro) "tmpfs" -> "/m{,/}",',
        ),
        (("mount", "none", "/m", "proc", ()), 'mount fstype=(proc) options=(rw) "none" -> "/m{,/}",'),
        (("bind", "/a", "/m", None, ("bind",)), 'mount options=(bind) "/a{,/}" -> "/m{,/}",'),
        (("bind", "/proc/{pid}/ns/uts", "/m", None, ("bind",)), 'mount options=(bind) "/" -> "/m{,/}",'),
        (("rbind", "/a", "/m", None, ("bind", "rec")), 'mount options=(rbind) "/a{,/}" -> "/m{,/}",'),
        (("move", "/a", "/m", None, ("move",)), 'mount options=(move) "/a{,/}" -> "/m{,/}",'),
        (
            ("remount", None, "/m", None, ("bind", "nodev", "noexec", "nosuid", "rdonly", "remount")),
            'mount options=(nodev, noexec, nosuid, ro, remount, bind) -> "/m{,/}",',
        ),
        (("propagation", None, "/", None, ("private", "rec")), 'mount options=(rprivate) -> "/",'),
        (("umount", None, "/m", None, ("detach",)), 'umount "/m{,/}",'),
        (("pivot_root", "/new", "/new/old", None, ()), 'pivot_root oldroot="/new/old{,/}" "/new{,/}",'),
    ],
)
def test_mounts(rule: tuple[str, str | None, str | None, str | None, tuple[str, ...]], line: str) -> None:
    assert [
        found for found in lines(policy(mounts=(MountRule(*rule, BECAUSE),))) if "mount" in found or "pivot" in found
    ] == [line]


def test_a_remount_may_have_more_flags_that_restrict_it() -> None:
    rule = MountRule("remount", None, "/m", None, ("noatime", "nosuid", "rdonly", "remount"), BECAUSE)
    assert [line for line in lines(policy(mounts=(rule,))) if "mount options" in line] == [
        'mount options=(noatime, nodev, noexec, nosuid, ro, remount) -> "/m{,/}",',
        'mount options=(noatime, nodev, nosuid, ro, remount) -> "/m{,/}",',
        'mount options=(noatime, noexec, nosuid, ro, remount) -> "/m{,/}",',
        'mount options=(noatime, nosuid, ro, remount) -> "/m{,/}",',
    ]


def test_not_mediated() -> None:
    made = policy(
        mounts=(MountRule("fsmount", None, None, None, (), BECAUSE),), user_namespaces=BECAUSE, io_uring=BECAUSE
    )
    assert "# fsmount: not mediated." in text(made)
    assert "userns" not in text(made)
    assert "# User namespaces are made: not mediated under abi 3.0." in text(made)
    newer = text(made, abi="4.0")
    assert "abi <abi/4.0>," in newer
    assert {"userns create,", "io_uring sqpoll,"} <= set(lines(made, abi="4.0"))

    def ring(opcode: int) -> list[str]:
        rule = Rule((Condition("opcode", 1, 0xFFFFFFFF, opcode),))
        called = Allowed("observed", "x86_64", "io_uring_register", BECAUSE, (rule,))
        return [
            line
            for line in lines(policy(io_uring=BECAUSE, syscalls=(called,)), abi="4.0")
            if line.startswith("io_uring")
        ]

    assert (ring(9), ring(2)) == (["io_uring,"], ["io_uring sqpoll,"]), "other credentials have to be registered"


def test_capabilities() -> None:
    made = policy(capabilities=(Capability("CAP_NET_BIND_SERVICE", BECAUSE), Capability("CAP_63", BECAUSE)))
    assert [line for line in lines(made) if "capability" in line] == ["capability net_bind_service,"]


def head(made: Policy, **options: object) -> str:
    return next(line for line in text(made, **options).splitlines() if line.startswith("profile "))


def test_name_attachment_and_flags() -> None:
    assert head(policy()) == "profile profgen-app {"
    assert (
        head(policy(), name="web-1", attach='/a "b"', complain=True)
        == 'profile web-1 "/a \\042b\\042" flags=(complain) {'
    )
    assert head(policy(runtime="any")) == "profile profgen-app flags=(attach_disconnected) {"
    assert head(policy(file("mq", "read", states=("detached",)))) == "profile profgen-app flags=(attach_disconnected) {"
    assert head(policy(file("memfd:x", "map", states=("detached",)))) == "profile profgen-app {"
    assert (
        head(policy(file("memfd:x", "execute", states=("detached",))))
        == "profile profgen-app flags=(attach_disconnected) {"
    )
    assert head(policy(file("/proc/{pid}/ns/mnt", "read"))) == "profile profgen-app flags=(attach_disconnected) {"
    assert files(file("memfd:x", "map", states=("detached",))) == []
    assert files(file("memfd:x", "execute", "map", states=("detached",))) == ['"/" ix,']
    assert files(file("mq", "read", states=("detached",))) == ['"/mq" r,']
    assert files(file("/proc/{pid}/ns/mnt", "readlink")) == []
    assert files(file("/proc/{pid}/ns/mnt", "read")) == ['"/" r,', '"@{PROC}/@{pid}/ns/mnt" r,']


def test_wrong_options() -> None:
    with pytest.raises(InputError, match="write an absolute path"):
        apparmor.ATTACH.parse("nginx")
    with pytest.raises(InputError, match="write an absolute path"):
        apparmor.ATTACH.parse("//nginx")
    with pytest.raises(InputError, match=r"not one of 3\.0, 4\.0"):
        apparmor.ABI.parse("2.0")
    with pytest.raises(InputError, match="--allow-new-privs"):
        text(policy(), children=True)
    with pytest.raises(InputError, match="record again"):
        text(policy(has_files=False))


def test_streams_where_they_are_asked_for() -> None:
    assert '"/dev/null" rw,' not in lines(policy())
    for made in (lines(policy(runtime="any")), lines(policy(no_new_privs=False), children=True)):
        assert '"/dev/null" rw,' in made
        assert '"/dev/pts/[0-9]*" rw,' in made
    assert lines(policy(file("/dev/null", "write"), runtime="any")).count('"/dev/null" rw,') == 1


CHAIN = (
    transition("/usr/sbin/app", None),
    transition("/bin/sh", "/usr/sbin/app"),
    transition("/bin/ls", "/bin/sh"),
    transition("/usr/sbin/app", "/bin/sh"),
    transition("/opt/{name}/tool", "/bin/sh"),
)


def test_what_old_parsers_make_of_a_remount_is_said() -> None:
    def said(operation: str, *flags: str) -> bool:
        return "CVE-2016-1585" in text(policy(mounts=(MountRule(operation, None, "/m", None, flags, BECAUSE),)))

    assert said("remount", "bind", "rdonly", "remount")
    assert said("remount", "remount")
    assert not said("mount", "rdonly")


def test_child_profiles() -> None:
    made = policy(
        file("/etc/app", "read", programs=("/usr/sbin/app",)),
        file("/etc/sh", "read", programs=("/bin/sh",)),
        file("/etc/tool", "read", programs=("/opt/a/tool",)),
        file("/etc/all", "read"),
        file("/bin/sh", "execute", programs=("/usr/sbin/app",)),
        file("/opt/{name}/tool", "execute", "mode", programs=("/bin/ls", "/bin/sh")),
        file("/usr/bin/interpreter", "execute", programs=("/bin/sh",)),
        transitions=CHAIN,
        signals=(SignalRule("TERM", "workload", BECAUSE),),
        no_new_privs=False,
    )
    parts = re.split(r"^  profile (\w+) \{\n", text(made, children=True), flags=re.MULTILINE)
    main, bodies = parts[0], dict(zip(parts[1::2], parts[2::2], strict=True))
    assert set(bodies) == {"sh", "ls"}
    assert '"/etc/app" r,' in main
    assert '"/bin/sh" cx -> sh,' in main
    assert '"/usr/sbin/app" mrix,' in main
    assert "/etc/sh" not in main
    assert '"/bin/ls"' not in main
    assert '"/bin/sh" mr,' in bodies["sh"]
    assert '"/etc/sh" r,' in bodies["sh"]
    assert '"/etc/tool" r,' in bodies["sh"]
    assert '"/bin/ls" px -> profgen-app//ls,' in bodies["sh"]
    assert '"/usr/sbin/app" px -> profgen-app,' in bodies["sh"]
    assert '"/opt/*/tool" wix,' in bodies["sh"]
    assert '"/opt/*/tool" w,' in bodies["ls"], "who executes it the executions say"
    assert '"/usr/bin/interpreter" ix,' in bodies["sh"]
    assert "/etc/sh" not in bodies["ls"]
    assert all('"/etc/all" r,' in body for body in (main, *bodies.values()))
    assert all(
        'signal (send, receive) set=(term) peer="profgen-app{,//?*}",' in body for body in (main, *bodies.values())
    )
    together = text(made)
    assert "cx" not in together
    assert '"/bin/sh" ix,' in together


def test_programs_of_one_name_get_profiles_of_their_own() -> None:
    made = policy(
        transitions=(transition("/a/x", None), transition("/b/sh", "/a/x"), transition("/c/sh", "/a/x")),
        no_new_privs=False,
    )
    found = lines(made, children=True)
    assert {"profile sh {", "profile sh-2 {", '"/b/sh" cx -> sh,', '"/c/sh" cx -> sh-2,'} <= set(found)


def test_abstractions_save_more_than_they_open() -> None:
    tty, console, pts = (FileLine(f'"{path}"', "rw") for path in ("/dev/tty", "/dev/console", "/dev/pts/[0-9]*"))
    assert [verdict.included for verdict in weigh([tty, console])] == [False]
    assert [verdict.included for verdict in weigh([tty, console, pts])] == [True]
    assert weigh([FileLine('"/etc/passwd"', "r")]) == ()
    assert (
        weigh(
            [FileLine('"/dev/tty"', "rwk"), FileLine('"/dev/pts/*"', "r"), FileLine('"/dev/console"', "rw", owner=True)]
        )
        == ()
    )
    made = policy(
        *(file(path, "read", "write") for path in ("/dev/tty", "/dev/console", "/dev/pts/{digits}", "/dev/pts/0"))
    )
    assert "include <abstractions/consoles>" in text(made)
    assert "/dev/tty" not in text(made)
    alone = text(policy(file("/dev/tty", "read")))
    assert "Not included, as it would open more than it saves: consoles." in alone
    assert "include <abs" not in alone


def test_patterns_of_abstractions() -> None:
    regex = aare("/a{,b}/*/**.[ch]?")
    assert all(regex.fullmatch(path) for path in ("/a/x/y.cc", "/ab/x/y/z.h1", "/a/x/.c."))
    assert not any(regex.fullmatch(path) for path in ("/a/x/y.d1", "/ac/x/y.cc", "/a/x/y.c/", "/a/x/y.c"))


def test_usage_names_the_profile() -> None:
    paths = {apparmor.FILE: "/some where/apparmor.profile"}
    container = [step.line(paths) for step in output(policy(runtime="any")).usage]
    assert any("apparmor_parser -r -W '/some where/apparmor.profile'" in line for line in container)
    for part in (
        "--security-opt apparmor=profgen-app",
        "localhostProfile: profgen-app",
        "AppArmorProfile=profgen-app",
        "aa-exec -p profgen-app",
    ):
        assert any(part in line for line in container), part
    alone = [step.line(paths) for step in output(policy(), attach="/usr/sbin/app").usage]
    assert not any("docker" in line for line in alone)
    assert any("/usr/sbin/app runs under it" in line for line in alone)


def test_a_profile_for_a_namespace() -> None:
    """The name says the namespace; names inside the profile are of the namespace already."""
    made = output(policy(runtime="any"), name="app", namespace="tenant")
    text = made.files[0].data.decode()
    assert "\nprofile :tenant:app flags=" in text
    assert made.called == ":tenant:app"
    assert text.count(":tenant:") == text.partition("\nprofile ")[0].count(":tenant:") + 1
    lines = [step.line({apparmor.FILE: "p"}) for step in made.usage]
    for part in ("aa-exec -p :tenant:app", "HOST//&:tenant:app", "apparmor=:tenant:app", "namespaces/tenant"):
        assert any(part in line for line in lines), part


@pytest.mark.parametrize("text", ["", "root", "a b", ":a", "a:b", "a//b", "a&b", "../a", "a\n"])
def test_what_is_not_a_namespace(text: str) -> None:
    with pytest.raises(InputError):
        apparmor.NAMESPACE.parse(text)


def test_same_policy_same_text() -> None:
    made = [
        file("/b", "read"),
        file("/a", "write"),
        file("/c", "link", existing=("/b", "/a")),
        file("/x/{name}", "read", owner=True),
    ]
    sockets = (
        SocketRule("inet", "stream", 6, ("create",), BECAUSE),
        SocketRule("inet6", "dgram", 17, ("create",), BECAUSE),
    )
    signals = (SignalRule("TERM", "self", BECAUSE), SignalRule("HUP", "self", BECAUSE))
    first = text(policy(*made, sockets=sockets, signals=signals))
    assert first == text(policy(*reversed(made), sockets=sockets[::-1], signals=signals[::-1]))


def test_what_is_coarser_than_the_policy_is_a_loss() -> None:
    sockets = (SocketRule("inet", "stream", 6, ("bind",), BECAUSE, ports=(("bind", (80, 443)),)),)
    mounts = (MountRule("remount", None, "/m", None, ("bind", "rdonly"), BECAUSE),)
    losses = output(policy(sockets=sockets, mounts=mounts)).losses
    assert [(loss.section, loss.item, loss.effect) for loss in losses] == [
        ("sockets", "ports 80, 443", "wider"),
        ("mounts", "remount", "wider"),
    ]
    assert "ports" not in text(policy(sockets=sockets)).split("profile ")[0], "the head has what is refused"
