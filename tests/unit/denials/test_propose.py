"""From denials to additions: the least, with their evidence; what is dangerous only when asked for."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.denials.logs.lines import read_lines
from unit.policy.making import call, check, file, touching, trace, uses

from profiler.denials import dangers
from profiler.denials.additions import Proposal, because
from profiler.denials.belongs import Skipped, Wanted, split
from profiler.denials.model import Collection, Denial, merged
from profiler.denials.propose import propose
from profiler.kernel.data import load
from profiler.kernel.syscalls import names_of, number_of
from profiler.policy import patterns
from profiler.policy.derive import derive
from profiler.policy.document import dumps, lines_for, loads
from profiler.policy.model import Options, Policy
from profiler.policy.reasons import Reason
from profiler.trace.model import FILE_ACCESSES, Exec

APP = "/usr/sbin/app"
TIME = 1_767_225_600.0


def policy(**options: Any) -> Policy:
    """Of a program with evidence of files."""
    touched = touching(
        *uses(APP, "execute map read"),
        *uses("/etc/app.conf", "read"),
        *uses("/var/lib/app/a.db", "read write create", own=True),
        file("/etc/missing", "read", "ENOENT"),
        execs=[Exec(0, None, 1)],
        syscalls=[call("read"), call("socket", [(2, 1, 0)]), call("clone3", [(0,)])],
        **options,
    )
    return derive(touched, Options(runtime="none", equivalents=False))


def plain() -> Policy:
    """Of a recording that did not watch files."""
    return derive(trace(call("read"), capabilities=[check("CAP_CHOWN")]), Options(runtime="none"))


def refused(name: str, abi: str = "x86_64", **fields: Any) -> Denial:
    defaults: dict[str, Any] = {"comm": "app", "exe": APP, "first": TIME, "last": TIME + 60, "count": 3}
    return Denial(
        "syscall", "seccomp", True, "errno", abi=abi, number=number_of(abi, name), name=name, **{**defaults, **fields}
    )


def armour(kind: str, **fields: Any) -> Denial:
    return Denial(
        kind, "apparmor", True, **{"comm": "app", "profile": "profgen-app", "first": TIME, "last": TIME, **fields}
    )


def opened(path: str, *access: str, **fields: Any) -> Denial:
    return armour(
        "file", **{"operation": "open", "path": path, "access": access, "mask": "x", "owner": False, **fields}
    )


def items(rows: Any) -> list[str]:
    return [row.item for row in rows]


def same_as_read(found: Proposal) -> None:
    """What is proposed can be written, and read again, and means the same."""
    text = dumps(found.policy)
    assert dumps(loads(text.encode(), "policy.yaml")) == text


# --- syscalls


def test_a_syscall_is_added_with_its_evidence() -> None:
    found = propose(policy(), [refused("getpgid")])
    assert items(found.added) == ["getpgid"]
    entry = next(entry for entry in found.policy.syscalls if entry.name == "getpgid")
    assert (entry.section, entry.abi, entry.rules) == ("observed", "x86_64", ())
    assert entry.because == (Reason("denied", ("app",)),)
    assert found.added[0].because == (f"denied 3 times: app ({APP}), 2026-01-01T00:00:00Z..2026-01-01T00:01:00Z",)
    assert (found.refused, found.unanswered) == ((), ())
    before, after = set(policy().syscalls), set(found.policy.syscalls)
    assert after - before == {entry}
    assert before <= after
    same_as_read(found)


def test_what_is_allowed_already_is_not_added() -> None:
    found = propose(policy(), [refused("read")])
    assert found.policy == policy()
    assert [(row.what, row.count) for row in found.unanswered] == [("syscall read", 3)]


def test_what_is_refused_on_purpose_stays() -> None:
    found = propose(policy(), [refused("clone3")])
    assert found.policy == policy()
    assert "on purpose" in found.unanswered[0].why


def test_a_filtered_syscall_without_known_arguments_is_a_decision() -> None:
    found = propose(policy(), [refused("socket")])
    assert found.policy == policy()
    (case,) = found.refused
    assert case.item == "socket"
    assert "any" in case.dangers[0].why
    assert case.choices, "recording again is the other way"
    allowed = propose(policy(), [refused("socket")], ["socket"])
    entry = next(entry for entry in allowed.policy.syscalls if entry.name == "socket")
    assert entry.rules == ()
    assert any("any arguments" in reason.text for reason in entry.because)
    assert entry.because[0].kind == "observed", "the older reasons stay"
    same_as_read(allowed)


def test_known_arguments_widen_by_just_these() -> None:
    packet = (10, 2, 0, 0, 0, 0)
    found = propose(policy(), [refused("socket", arguments=packet)])
    assert items(found.added) == ["socket"]
    assert found.policy.permits("x86_64", "socket", packet)
    assert found.policy.permits("x86_64", "socket", (2, 1, 0, 0, 0, 0))
    assert not found.policy.permits("x86_64", "socket", (16, 3, 0, 0, 0, 0))
    same_as_read(found)
    # what the rules allow already
    assert propose(policy(), [refused("socket", arguments=(2, 1, 6, 0, 0, 0))]).added == ()
    # known to be dangerous
    assert items(propose(policy(), [refused("socket", arguments=(17, 3, 0, 0, 0, 0))]).refused) == ["socket"]


def test_a_new_filtered_syscall_says_that_its_arguments_are_open() -> None:
    found = propose(policy(), [refused("ioctl")])
    (case,) = found.added
    assert any("any arguments" in note for note in case.notes)
    assert any("TIOCSTI" in note or "terminal" in note for note in case.notes)


@pytest.mark.parametrize(
    "name",
    [
        "mount",
        "umount2",
        "pivot_root",
        "move_mount",
        "ptrace",
        "process_vm_writev",
        "bpf",
        "kexec_load",
        "init_module",
        "finit_module",
        "keyctl",
        "add_key",
        "unshare",
        "setns",
        "perf_event_open",
        "io_uring_register",
        "userfaultfd",
        "open_by_handle_at",
        "reboot",
        "iopl",
        "mknodat",
        "chroot",
    ],
)
def test_dangerous_syscalls(name: str) -> None:
    found = propose(policy(), [refused(name)])
    assert found.added == ()
    assert items(found.refused) == [name]
    assert all(danger.why for danger in found.refused[0].dangers)
    assert items(propose(policy(), [refused(name)], [name]).added) == [name]


def test_clone_is_added_for_threads_and_processes() -> None:
    found = propose(plain(), [refused("clone")])
    (case,) = found.added
    assert "without new namespaces" in case.what
    assert found.policy.permits("x86_64", "clone", (0x3D0F00, 0, 0, 0, 0, 0))
    assert not found.policy.permits("x86_64", "clone", (0x10000000, 0, 0, 0, 0, 0))
    again = propose(found.policy, [refused("clone")])
    assert (items(again.added), items(again.refused)) == ([], ["clone"])


def test_calls_of_another_abi() -> None:
    found = propose(policy(), [refused("open", "i386")])
    assert items(found.refused) == ["i386:open"]
    assert {danger.item for danger in found.refused[0].dangers} == {"abi:i386"}
    allowed = propose(policy(), [refused("open", "i386")], ["abi:i386"])
    assert allowed.policy.abis == ("x86_64", "i386")
    same_as_read(allowed)
    # the ABI alone does not open what is dangerous in it
    assert items(propose(policy(), [refused("ptrace", "i386")], ["abi:i386"]).refused) == ["i386:ptrace"]


def test_numbers_without_a_name_and_foreign_machines() -> None:
    found = propose(
        policy(),
        [replace(refused("read"), name=None, number=99999), replace(refused("read"), abi="architecture 80000015")],
    )
    assert found.policy == policy()
    assert len(found.unanswered) == 2


def test_items_nobody_needs_are_said() -> None:
    assert propose(policy(), [refused("ptrace")], ["ptrace", "bpf"]).unused == ("bpf",)


# --- capabilities


def test_capabilities() -> None:
    found = propose(
        plain(), [armour("capability", capability="CAP_NET_BIND_SERVICE"), armour("capability", capability="CAP_CHOWN")]
    )
    assert items(found.added) == ["CAP_NET_BIND_SERVICE"]
    assert found.policy.needed() == ("CAP_CHOWN", "CAP_NET_BIND_SERVICE")
    assert len(found.unanswered) == 1
    same_as_read(found)


@pytest.mark.parametrize(
    "name", ["CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_BPF", "CAP_NET_ADMIN"]
)
def test_dangerous_capabilities(name: str) -> None:
    assert items(propose(plain(), [armour("capability", capability=name)]).refused) == [name]
    assert name in propose(plain(), [armour("capability", capability=name)], [name]).policy.needed()


def test_a_capability_that_the_recording_saw_refused_is_granted() -> None:
    before = derive(trace(call("read"), capabilities=[check("CAP_CHOWN", verdict="refused")]), Options(runtime="none"))
    assert before.capabilities == ()
    found = propose(before, [armour("capability", capability="CAP_CHOWN")])
    assert [row.name for row in found.policy.capabilities] == ["CAP_CHOWN"]


def test_search_before_override_is_no_need() -> None:
    rows = [armour("capability", capability="CAP_DAC_READ_SEARCH"), armour("capability", capability="CAP_DAC_OVERRIDE")]
    found = propose(plain(), rows, ["CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH"])
    assert items(found.added) == ["CAP_DAC_OVERRIDE"]


# --- files


def test_a_file() -> None:
    found = propose(policy(), [opened("/tmp/page", "read", owner=True)])
    (rule,) = set(found.policy.files) - set(policy().files)
    assert (rule.pattern, rule.access, rule.owner, rule.kinds) == (
        "/tmp/page",
        ("read",),
        True,
        ("file",),
    )
    same_as_read(found)


def test_a_rule_that_is_there_is_widened() -> None:
    found = propose(policy(), [opened("/etc/app.conf", "lock"), opened("/var/lib/app/a.db", "remove", owner=True)])
    rules = {rule.pattern: rule for rule in found.policy.files}
    assert rules["/etc/app.conf"].access == ("read", "lock")
    assert len(rules) == len(policy().files)
    assert [row.count for row in found.unanswered] == [1], "w is granted already"


def test_what_was_missing_is_granted() -> None:
    found = propose(policy(), [opened("/etc/missing", "read")])
    (rule,) = [rule for rule in found.policy.files if rule.pattern == "/etc/missing"]
    assert rule.access == ("read",)


def test_owner_is_only_asked_for_when_every_file_was_own() -> None:
    found = propose(policy(), [opened("/srv/page", "read", owner=True)])  # who owns it is the installation's affair
    assert next(rule for rule in found.policy.files if rule.pattern == "/srv/page").owner is False
    found = propose(policy(), [opened("/srv/a", "read", owner=True), opened("/srv/a", "write", owner=False)])
    assert next(rule for rule in found.policy.files if rule.pattern == "/srv/a").owner is False
    found = propose(policy(), [opened("/srv/a", "read", owner=None)])
    assert next(rule for rule in found.policy.files if rule.pattern == "/srv/a").owner is False


def test_directories_processes_and_files_without_a_name() -> None:
    found = propose(
        policy(),
        [
            opened("/srv/d", "list", directory=True),
            opened("/proc/77/status", "read"),
            opened("/tmp/#12", "read", "write"),
        ],
    )
    rules = {rule.pattern: rule for rule in found.policy.files}
    assert rules["/srv/d"].kinds == ("directory",)
    assert rules["/proc/{pid}/status"].access == ("read",)
    assert rules["/tmp/#{digits}"].states == ("deleted",)
    same_as_read(found)


def test_links_name_both_ends() -> None:
    found = propose(policy(), [opened("/srv/b", "link", operation="link", existing="/srv/a{")])
    (rule,) = set(found.policy.files) - set(policy().files)
    assert rule.existing == (patterns.literal("/srv/a{"),)
    assert propose(found.policy, [opened("/srv/b", "link", operation="link", existing="/srv/a{")]).added == ()


@pytest.mark.parametrize(
    ("path", "access"),
    [
        ("/etc/cron.d/x", "write"),
        ("/etc/passwd", "rename_to"),
        ("/proc/sys/kernel/core_pattern", "write"),
        ("/sys/kernel/x", "write"),
        ("/run/docker.sock", "write"),
        ("/var/run/docker.sock", "read"),
        ("/etc/shadow", "read"),
        ("/dev/sda1", "read"),
        ("/usr/bin/app", "write"),
        ("/bin/sh", "execute"),
        ("/usr/bin/python3.11", "execute"),
        ("/usr/bin/bash", "execute"),
        ("/root/.ssh/id", "read"),
    ],
)
def test_dangerous_files(path: str, access: str) -> None:
    found = propose(policy(), [opened(path, access)])
    assert items(found.refused) == [path]
    assert items(propose(policy(), [opened(path, access)], [path]).added) == [path]


def test_a_shell_that_is_executed_anyway_is_no_danger() -> None:
    before = propose(policy(), [opened("/bin/sh", "execute")], ["/bin/sh"]).policy
    assert (
        dangers.of_file("/bin/sh", ["execute"], [rule.pattern for rule in before.files if "execute" in rule.access])
        == []
    )


def test_other_programs_are_executed_with_a_note() -> None:
    (case,) = propose(policy(), [opened("/usr/bin/convert", "execute")]).added
    assert any("never seen" in note for note in case.notes)


@pytest.mark.parametrize(
    "denial",
    [
        opened("x", "create", info="Failed name lookup - disconnected path"),
        opened("/tmp/#5", "link", info="Failed name lookup - deleted entry"),
        opened("relative", "read"),
        opened("/a/../b", "read"),
        opened("/a", mask="z"),
        armour("other", operation="change_onexec"),
        armour("other", operation="dbus_method_call"),
        armour("signal", signal="KILL", operations=("receive",), peer="unconfined"),
    ],
)
def test_what_no_rule_answers_is_said(denial: Denial) -> None:
    found = propose(policy(), [denial])
    assert found.policy == policy()
    assert len(found.unanswered) == 1
    assert (found.added, found.refused) == ((), ())


def test_a_policy_without_files_gets_no_rules_for_them() -> None:
    rows = [
        opened("/srv/a", "read"),
        armour("socket", family="inet", type="stream", protocol=6, operations=("create",)),
    ]
    found = propose(plain(), rows)
    assert found.policy == plain()
    assert all("record again" in row.why for row in found.unanswered)


# --- the rest


def test_sockets() -> None:
    found = propose(
        policy(),
        [
            armour("socket", family="inet", type="stream", protocol=6, operations=("create", "connect"), port=443),
            armour("socket", family="unix", type="stream", protocol=0, operations=("bind",), address="@app"),
            armour("socket", family="packet", type="raw", protocol=768, operations=("create",)),
        ],
    )
    assert [(rule.family, rule.operations, rule.ports, rule.addresses) for rule in found.policy.sockets] == [
        ("inet", ("create", "connect"), (("connect", (443,)),), ()),
        ("unix", ("bind",), (), (("bind", ("@app",)),)),
    ]
    assert items(found.refused) == ["packet/raw/768"]
    same_as_read(found)
    more = propose(found.policy, [armour("socket", family="unix", type="stream", protocol=0, operations=("listen",))])
    assert more.policy.sockets[1].operations == ("bind", "listen")
    assert (
        propose(
            found.policy, [armour("socket", family="inet", type="stream", protocol=6, operations=("listen",))]
        ).added
        == ()
    )


def test_signals_and_inspections() -> None:
    rows = [
        armour("signal", signal="TERM", operations=("send",), peer="profgen-app//child"),
        armour("signal", signal="TERM", operations=("receive",), peer="profgen-app"),
        armour("signal", signal="USR1", operations=("send",), peer="unconfined"),
        armour("inspection", operations=("trace",), peer="profgen-app"),
        armour("inspection", operations=("tracedby",), peer="profgen-app"),
    ]
    found = propose(policy(), rows)
    assert items(found.added) == ["TERM/workload", "USR1/outside"]
    assert items(found.refused) == ["trace/workload"]
    same_as_read(found)
    assert propose(found.policy, rows).added == ()
    allowed = propose(policy(), rows, ["trace/workload"])
    assert [(rule.operation, rule.whom) for rule in allowed.policy.inspections] == [("trace", "workload")]


def test_mounts_and_namespaces() -> None:
    rows = [
        armour(
            "mount", operation="mount", source="tmpfs", target="/mnt", filesystem="tmpfs", flags=("nodev", "nosuid")
        ),
        armour("mount", operation="umount", target="/mnt"),
        armour("user_namespace", operation="userns_create"),
        armour("io_uring", operation="uring_sqpoll"),
    ]
    found = propose(policy(), rows)
    assert found.policy == policy()
    wanted = ["mount:tmpfs:/mnt:nodev,nosuid", "umount:/mnt", "user_namespaces", "io_uring"]
    assert items(found.refused) == wanted
    allowed = propose(policy(), rows, wanted)
    assert items(allowed.added) == wanted
    same_as_read(allowed)
    assert propose(allowed.policy, rows).refused == ()


# --- evidence


def test_reasons() -> None:
    rows = [
        refused("read", count=1, last=TIME),
        replace(refused("read", count=1, comm="b\nc", exe=None, first=None, last=None), refused=False),
        *(refused("read", comm=f"p{number}", count=10) for number in range(4)),
    ]
    found = because(rows)
    assert found[0].startswith("denied 10 times: p0 (")
    assert found[3] == "denied or logged 12 times in 3 more programs"
    assert because(rows[:1]) == (f"denied 1 time: app ({APP}), 2026-01-01T00:00:00Z",)
    assert because(rows[1:2]) == ("logged 1 time: b\\nc",)


def test_repeated_denials_are_one() -> None:
    first = refused("read", events=("1:1",), lines=(1,), pid=1)
    second = refused("read", events=("2:2",), lines=(9,), pid=2, first=TIME - 5, last=TIME + 500, count=2)
    (row,) = merged([first, second])
    assert (row.count, row.first, row.last, row.pid, row.lines) == (5, TIME - 5, TIME + 500, 1, (1, 9))
    assert row.key == second.key
    few = Collection(limit=1)
    few.add(first)
    few.add(refused("write"))
    assert (len(few), few.beyond) == (1, 3)


# --- whose they are


def taken(rows: list[Denial], before: Policy | None = None, **wanted: Any) -> tuple[list[Denial], list[Skipped]]:
    kept, skipped = split(before or policy(), rows, Wanted(**wanted), ("profgen-app", "profgen_app.process"))
    return list(kept), list(skipped)


def test_only_the_policys_programs_and_profile() -> None:
    own, child, foreign = (
        refused("getpgid"),
        replace(opened("/a", "read"), profile="profgen-app//null-/bin/x"),
        refused("getpgid", exe="/opt/chrome"),
    )
    other = replace(opened("/a", "read"), profile="snap.x")
    near = replace(opened("/a", "read"), profile="profgen-apple")
    kept, skipped = taken([own, child, foreign, other, near])
    assert kept == [own, child]
    assert {(row.count, row.whose[0][0]) for row in skipped} == {(3, "/opt/chrome"), (2, "profgen-apple")}


def test_choosing() -> None:
    rows = [
        refused("getpgid"),
        refused("getpgid", exe="/opt/chrome", comm="chrome"),
        replace(opened("/a", "read"), profile="web"),
    ]
    assert taken(rows, any_program=True)[0] == rows[:2]
    assert taken(rows, exes=("/opt/chrome",))[0] == rows[1:2]
    assert taken(rows, comms=("chrome",))[0] == rows[1:2]
    assert taken(rows, profiles=("web",))[0] == [rows[0], rows[2]]


def test_a_policy_that_knows_no_programs_takes_all() -> None:
    rows = [refused("getpgid"), refused("getpgid", exe="/opt/chrome")]
    assert taken(rows, plain())[0] == rows


def test_runtimes_on_their_way_to_the_workload() -> None:
    rows = [refused("getpgid", exe="/", comm="runc:[2:INIT]"), refused("getpgid", exe=APP + " (deleted)")]
    assert taken(rows)[0] == rows


# --- all together

_NAMES = sorted(names_of("x86_64"))
_ANY = st.one_of(
    st.builds(refused, st.sampled_from(_NAMES), arguments=st.none() | st.tuples(*[st.integers(0, (1 << 64) - 1)] * 6)),
    st.builds(
        opened,
        st.text(min_size=1).map(lambda text: "/" + text),
        st.sampled_from([word for word in FILE_ACCESSES if word != "look"]),
        owner=st.sampled_from([True, False, None]),
        directory=st.booleans(),
    ),
    st.builds(
        armour,
        st.sampled_from(
            ["socket", "signal", "mount", "inspection", "capability", "user_namespace", "io_uring", "other"]
        ),
        family=st.sampled_from(["inet", "unix", "packet", "!"]),
        type=st.sampled_from(["stream", "raw"]),
        protocol=st.integers(0, 300),
        operations=st.lists(
            st.sampled_from(["create", "bind", "send", "receive", "trace", "read", "readby"]), unique=True
        ).map(tuple),
        address=st.none() | st.text(alphabet="@/a{ \n\udcff", max_size=5),
        signal=st.sampled_from(["TERM", "0", "RTMIN+3", "x"]),
        peer=st.sampled_from(["profgen-app", "unconfined", None]),
        operation=st.sampled_from(["mount", "umount", "x"]),
        source=st.none() | st.text(max_size=5),
        target=st.none() | st.text(max_size=5),
        capability=st.sampled_from(["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_X"]),
    ),
)


@settings(deadline=None)
@given(st.lists(_ANY, max_size=8))
def test_whatever_is_denied_the_result_is_a_policy_and_a_second_time_adds_nothing(rows: list[Denial]) -> None:
    before = policy()
    first = propose(before, rows)
    wanted = {danger.item for case in first.refused for danger in case.dangers}
    for found in (first, propose(before, rows, wanted)):
        same_as_read(found)
        assert propose(found.policy, rows).added == ()
    assert propose(before, rows, wanted).refused == ()


def test_every_danger_has_words() -> None:
    data = load("dangerous.yaml", dangers.__file__)
    assert data["level"] == "high"
    known = names_of("x86_64") | names_of("i386")
    for row in data["syscalls"]:
        assert set(row["names"]) <= known
        assert row["why"]
    assert set(data["with_warning"]) <= known
    for pattern in data["execute"]["names"]:
        patterns.parse(pattern)


def test_the_real_log_of_a_complaining_profile() -> None:
    """Every operation of a program under an empty complaining profile."""
    from unit.denials.logs.test_reading import DATA

    rows = read_lines((DATA / "apparmor.log").read_bytes().splitlines()).denials
    kept, _ = split(policy(), rows, Wanted(profiles=("p",)), ("profgen-app",))
    found = propose(policy(), kept)
    same_as_read(found)
    assert {case.section for case in found.added} >= {"files", "network", "signals"}
    assert {case.section for case in found.refused} >= {"mounts", "inspections", "capabilities"}


# --- pasting


def pasted(text: str, suggested: list[str]) -> Policy:
    """The policy after a person put the suggested lines into its text: each entry below the key of its section, where
    it replaces the one with the same key."""
    lines, at, rest = text.splitlines(), 0, list(suggested)

    def depth(line: str) -> int:
        return len(line) - len(line.lstrip())

    def block(found: list[str]) -> list[str]:
        """The first line with all that is indented below it."""
        end = next((index for index in range(1, len(found)) if depth(found[index]) <= depth(found[0])), len(found))
        return found[:end]

    while rest:
        if rest[0] in lines and (depth(rest[0]) == 0 or rest[0] == "  observed:"):
            at = lines.index(rest.pop(0)) + 1
            continue
        entry = block(rest)
        del rest[: len(entry)]
        key = re.match(r" *(\"[^\"]*\"|[^- ][^ ]*):(?= |$)", entry[0])
        for index, line in enumerate(lines):
            if key and index >= at and (line == key[0] or line.startswith(f"{key[0]} ")):
                del lines[index : index + len(block(lines[index:]))]
                break
        where = at if depth(entry[0]) else len(lines)
        lines[where:where] = entry
    return loads("".join(f"{line}\n" for line in lines).encode(), "pasted")


@pytest.mark.parametrize(
    "denial",
    [
        refused("getpgid"),
        refused("socket", arguments=(1, 1, 0, 0, 0, 0)),
        refused("fstat64", "i386"),
        armour("capability", capability="CAP_CHOWN"),
        opened("/srv/{page}: x", "read", "write"),
        opened("/etc/app.conf", "lock"),
        armour("socket", family="inet", type="dgram", protocol=17, operations=("create", "send"), port=53),
        armour("signal", signal="TERM", operations=("send",), peer="unconfined"),
        armour("inspection", operations=("read",), peer="unconfined"),
        armour("mount", operation="mount", source="tmpfs", target="/x", filesystem="tmpfs", flags=("nodev",)),
        armour("user_namespace"),
        armour("io_uring"),
    ],
    ids=lambda denial: f"{denial.kind}-{denial.label if denial.kind == 'syscall' else denial.path or ''}",
)
def test_suggested_lines_can_be_pasted(denial: Denial) -> None:
    found = propose(policy(), [denial])
    found = propose(policy(), [denial], {danger.item for row in found.refused for danger in row.dangers})
    assert found.added
    suggested = lines_for(policy(), found.policy)
    assert max(map(len, suggested)) <= 118
    text = dumps(policy())
    if denial.abi == "i386":
        text = text.replace("abis: [x86_64]", "abis: [x86_64, i386]")
        suggested = [line for line in suggested if not line.startswith("abis:")]
    assert dumps(pasted(text, suggested)) == dumps(found.policy)
