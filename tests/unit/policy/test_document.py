"""policy.yaml: what is written reads back, and nothing else is read."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from inputs import examples
from unit.policy.making import call, check, file, rows, touching, trace, unknown, uses
from unit.trace.strategies import traces

from profiler.errors import InputError
from profiler.policy import document
from profiler.policy.derive import derive
from profiler.policy.model import FileRule, Options, Policy, Transition
from profiler.policy.reasons import Reason
from profiler.trace.model import Container, ContainerMount, Exec, Inspection, Mount, Signal, Socket, Syscall

OPTIONS = st.builds(
    Options,
    runtime=st.sampled_from(["any", "none", "runc", "podman"]),
    no_new_privs=st.booleans(),
    equivalents=st.booleans(),
    arguments=st.booleans(),
    drop_failing=st.booleans(),
    generalise=st.booleans(),
    generalise_threshold=st.integers(2, 20),
)


def example() -> Policy:
    return derive(
        trace(
            call("read"),
            call("socket", [(2, 1, 0), (16, 3, 0)]),
            call("mmap", [(5,)]),
            call("umount2", [(2,)]),
            call("access", ok=0, errors={"ENOENT": 1}),
            call("fstat64", abi="i386"),
            unknown(999),
            capabilities=[check("CAP_NET_BIND_SERVICE"), check("CAP_63"), check("CAP_KILL", inferred=True)],
        ),
        Options(),
    )


def whole() -> Policy:
    """A policy with every section."""
    member = {"results": {"ok": 1}, "programs": frozenset({0})}
    times = {"first": 0.0, "last": 1.0}
    return derive(
        touching(
            file("/etc/passwd"),
            *uses("/tmp/x.aB3dE9", "create write remove", own=True),
            file("/proc/7/maps", whose="outside"),
            file("/srv/b", "link", existing="/srv/a"),
            file("memfd:x", "map", state="detached"),
            file("/srv/spool/a", "read"),
            file("/srv/none", "read", "ENOENT", kind="unknown"),
            file("/etc/shadow", "read", "EACCES", kind="unknown"),
            sockets=[
                Socket("unix", "stream", 0, "bind", None, "@a\0{", **member, **times),
                Socket("45", "-1", -1, "create", None, None, **member, **times),
            ],
            signals=[Signal("TERM", "group", **member), Signal("0", "self", **member)],
            inspections=[Inspection("trace", "workload", **member)],
            mounts=[
                Mount("mount", "tmpfs", "/srv/m", "tmpfs", ("nodev",), **member),
                Mount("umount", None, "/srv/m", None, (), **member),
            ],
            execs=[Exec(0, None, 1), Exec(1, 0, 5)],
            syscalls=[call("read"), call("unshare", [(0x10000000,)]), call("io_uring_setup")],
            container=Container(
                "docker", "runc", "ab" * 32, "app", mounts=(ContainerMount("volume", "spool", "/srv/spool", False),)
            ),
        ),
        Options(),
    )


def canonical(policy: Policy) -> str:
    return document.dumps(policy)


@given(rows(), OPTIONS)
@settings(max_examples=examples(60))
def test_reads_back_what_was_written(seen: list[Syscall], options: Options) -> None:
    policy = derive(
        trace(*seen, unknown(999), capabilities=[check("CAP_KILL", inferred=True), check("CAP_63")]), options
    )
    text = document.dumps(policy)
    again = document.loads(text.encode(), "policy.yaml")
    assert document.dumps(again) == text
    assert set(again.syscalls) == set(policy.syscalls)
    assert set(again.refused) == set(policy.refused)
    assert set(again.capabilities) == set(policy.capabilities)
    assert (again.abis, again.no_new_privs, again.runtime, again.workload, again.unknown) == (
        policy.abis,
        policy.no_new_privs,
        policy.runtime,
        policy.workload,
        policy.unknown,
    )


USES = (
    "has_files",
    "variables",
    "files",
    "transitions",
    "sockets",
    "signals",
    "inspections",
    "mounts",
    "user_namespaces",
    "io_uring",
)


def uses_of(policy: Policy) -> list[object]:
    return [getattr(policy, name) for name in USES]


@given(traces(), OPTIONS)
@settings(max_examples=examples(100))
def test_hostile_names_stay_text(recording: object, options: Options) -> None:
    """Traces with file names and arguments of any bytes, unknown numbers and foreign ABIs."""
    try:
        policy = derive(recording, options)  # type: ignore[arg-type]
    except InputError:
        return
    text = document.dumps(policy)
    assert all(line.isprintable() for line in text.split("\n"))
    again = document.loads(text.encode(), "x")
    assert document.dumps(again) == text
    assert uses_of(again) == uses_of(policy)


def test_reads_well() -> None:
    text = document.dumps(example())
    assert "schema: profgen.policy/1\n" in text
    assert "        - {domain: AF_INET, type: SOCK_STREAM, protocol: IPPROTO_TCP}\n" in text
    assert "arguments: [{prot: {without: PROT_WRITE}}, {prot: {without: PROT_EXEC}}]" in text
    assert "    umount2: {arguments: [{flags: {only: MNT_DETACH}}], because: {observed: [app]}}\n" in text
    assert "    read: {because: {observed: [app]}}\n" in text
    assert '    "i386:fstat64": {because: {observed: [app]}}\n' in text or "    i386:fstat64: {" in text
    assert "    access: {because: [{observed: [app]}, {failed: [ENOENT]}]}\n" in text
    assert not re.search(r"20\d\d-\d\d-\d\d", text)
    assert yaml.safe_load(text)["syscalls"]["observed"]["read"] == {"because": {"observed": ["app"]}}
    assert max(map(len, text.splitlines())) <= 118


def test_every_section_reads_back() -> None:
    policy = whole()
    assert all(uses_of(policy))
    text = document.dumps(policy)
    again = document.loads(text.encode(), "policy.yaml")
    assert uses_of(again) == uses_of(policy)
    assert document.dumps(again) == text
    assert [name for name in yaml.safe_load(text) if name in document.SECTIONS_OF_USES] == list(
        document.SECTIONS_OF_USES
    )


def test_uses_read_well() -> None:
    text = document.dumps(whole())
    assert '  "/tmp/x.{random:6}": {access: [write, create, remove], owner: true, programs: [app]}\n' in text
    assert "  /etc/passwd: {access: [read], programs: [app]}\n" in text
    assert (
        "\nexecutions:\n  - {program: /bin/sh, by: /usr/sbin/app}\n  - {program: /usr/sbin/app, start: true}\n" in text
    )
    assert 'addresses: {bind: ["@a\\\\x00\\\\{"]}' in text
    assert "/srv/none" not in text
    assert "/etc/shadow" not in text


def test_programs_by_their_names() -> None:
    """A file that every program uses names none; one name for two programs is written as two paths."""
    execs = [Exec(0, None, 1), Exec(1, 0, 5)]
    policy = derive(touching(file("/a", programs=frozenset({0, 1})), file("/b"), execs=execs), Options())
    text = document.dumps(policy)
    assert "\n  /a: {access: [read]}\n" in text
    assert "\n  /b: {access: [read], programs: [app]}\n" in text
    two = dataclasses.replace(policy, transitions=(*policy.transitions, Transition("/opt/app", "/bin/sh")))
    text = document.dumps(two)
    assert "\n  /b: {access: [read], programs: [/usr/sbin/app]}\n" in text
    for one in (policy, two):
        assert document.loads(document.dumps(one).encode(), "x").files == one.files
    anybody = dataclasses.replace(policy, files=(FileRule("/a", ("read",)),))
    assert "\n  /a: {access: [read], programs: []}\n" in document.dumps(anybody)
    assert document.loads(document.dumps(anybody).encode(), "x").files == anybody.files


def test_entries_of_ones_own_need_no_reason() -> None:
    text = document.dumps(whole())
    text = text.replace("  observed:\n", "  observed:\n    getpgid:\n    accept: {because: asked the team}\n", 1)
    text = text.replace("\nfiles:\n", "\nfiles:\n  /etc/hosts: {access: [read]}\n")
    text = text.replace("\ncapabilities: {}\n", "\ncapabilities:\n  CAP_CHOWN:\n")
    policy = document.loads(text.encode(), "policy.yaml")
    found = {row.name: row.because for row in policy.syscalls if row.section == "observed"}
    assert found["getpgid"] == ()
    assert found["accept"] == (Reason("user", text="asked the team"),)
    assert policy.needed() == ("CAP_CHOWN",)
    assert FileRule("/etc/hosts", ("read",), programs=policy.programs) in policy.files


def test_policies_without_files_have_no_such_sections() -> None:
    text = document.dumps(example())
    policy = document.loads(text.encode(), "policy.yaml")
    assert not policy.has_files
    assert not any(f"\n{name}:" in text for name in document.SECTIONS_OF_USES)
    empty = document.loads((text + "files: {}\n").encode(), "policy.yaml")
    assert empty.has_files
    assert empty.files == ()


LONG = "/srv/" + "/".join(["é\n" * 80] * 16)


@pytest.mark.parametrize(
    "path",
    [LONG, "/srv/" + "x" * 4000, "/srv/? x", "/srv/\udcff: y", "/srv/#", "/", "/srv/{name}", "/srv/- a", "/srv/null"],
)
def test_paths_of_any_length_and_sort(path: str) -> None:
    policy = derive(touching(file(path), file("/srv/b", "link", existing=path)), Options())
    text = document.dumps(policy)
    assert document.loads(text.encode(), "x").files == policy.files


def test_a_large_policy() -> None:
    recording = touching(*[row for n in range(5000) for row in uses(f"/etc/app/{n}", "read write")])
    policy = derive(recording, Options())
    assert document.loads(document.dumps(policy).encode(), "x").files == policy.files


def test_an_edited_policy_is_read_as_meant() -> None:
    text = document.dumps(example()).replace(
        "    read: {",
        "    ioctl:\n      because: user\n      arguments:\n        - {cmd: TCGETS}\n        - {cmd: 0x5413}\n"
        "        - {cmd: {position: 1, mask: 0xff00, value: 0x5600}}\n    read: {",
    )
    policy = document.loads(text.encode(), "policy.yaml")
    assert policy.permits("x86_64", "ioctl", [0, 0x5401, 0, 0, 0, 0])
    assert policy.permits("x86_64", "ioctl", [0, 0x5413, 0, 0, 0, 0])
    assert policy.permits("x86_64", "ioctl", [0, 0x5612, 0, 0, 0, 0])
    assert not policy.permits("x86_64", "ioctl", [0, 0x5412, 0, 0, 0, 0])


BROKEN = [
    ("schema: profgen.policy/1", "schema: profgen.policy/2", "profgen.policy/2"),
    ("    read: {", "    raed: {", "no syscall 'raed'"),
    ("    read: {", "    fstat64: {", "not to this ABI"),
    ("    read: {", "    vax:read: {", "unknown ABI 'vax'"),
    ("abis: [x86_64, i386]", "abis: [x86_64]", "not among the abis"),
    ("abis: [x86_64, i386]", "abis: []", "abis"),
    ("abis: [x86_64, i386]", "abis: [x86_64, z80]", "z80"),
    ("no_new_privs: true", "no_new_privs: maybe", "no_new_privs: must be true or false"),
    ("no_new_privs: true\n", "", "'no_new_privs' is missing"),
    ("no_new_privs: true\n", "no_new_privs: true\nno_new_privs: true\n", "given twice"),
    ("no_new_privs: true\n", "no_new_privs: true\nextra: 1\n", "unknown key 'extra'"),
    ("domain: AF_INET", "domain: AF_INTE", "AF_INTE"),
    ("domain: AF_INET", "domian: AF_INET", "domian"),
    ("domain: AF_INET", "domain: 0x100000002", "bits outside"),
    ("{prot: {without: PROT_WRITE}}", "{prot: {without: 0}}", "allows every value"),
    ("{prot: {without: PROT_WRITE}}", "{prot: {wihtout: PROT_WRITE}}", "syscalls.observed.mmap.arguments.prot"),
    ("{prot: {without: PROT_WRITE}}", "{}", "empty rule"),
    ("CAP_NET_BIND_SERVICE:", "CAP_NET_BIND_SERVCE:", "unknown capability"),
    ("errno: ENOSYS", "errno: ENOSUCH", "unknown error"),
    ("errno: ENOSYS", "errno: ERESTARTSYS", "unknown error"),
    ("because: {observed: [app]}", "because: 5", "because: must be text, or a mapping"),
    ("because: {observed: [app]}", "because: {seen: [app]}", "unknown kind of reason 'seen'"),
    ("because: {observed: [app]}", "because: {user: text}", "unknown kind of reason 'user'"),
    ("because: {observed: [app]}", "because: {observed: app}", "observed must be a list of names"),
    ("because: {observed: [app]}", "because: {observed: [app], failed: []}", "one key"),
    ("because: {observed: [app]}", "because: [{widened: [app]}]", "widened must be text"),
    ("because: {observed: [app]}", "becauze: x", "unknown key 'becauze'"),
    ("\nrefused:\n", "\nrefused:\n  read: {errno: EPERM, because: [x]}\n", "allowed as well"),
    ("    read: {", "    ? [a, b]\n    : 1\n    read: {", "policy.yaml"),
    ("    read: {", "    write: *nowhere\n    read: {", "YAML"),
    ("    read: {", "\tread: {", "YAML"),
]


@pytest.mark.parametrize(("old", "new", "message"), BROKEN)
def test_one_line_that_names_file_and_key(old: str, new: str, message: str) -> None:
    text = document.dumps(example())
    assert old in text
    with pytest.raises(InputError) as caught:
        document.loads(text.replace(old, new, 1).encode(), "policy.yaml")
    assert message in str(caught.value)
    assert "policy.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


BROKEN_USES = [
    ("  /etc/passwd: {", "  etc/passwd: {", "not an absolute path"),
    ("  /etc/passwd: {", "  /etc/../passwd: {", "not a path as the kernel writes it"),
    ("  /etc/passwd: {", "  /etc/passwd/: {", "not a path as the kernel writes it"),
    ("  /etc/passwd: {", "  /etc//passwd: {", "not a path as the kernel writes it"),
    ("  /etc/passwd: {", '  "/etc/{nothing}": {', "no class"),
    ("  /etc/passwd: {", '  "/etc/{": {', "not a pattern"),
    ("  /etc/passwd: {", '  "/etc/\\\\x00": {', "NUL"),
    ("  /etc/passwd: {", '  "/etc/\\ud800": {', "policy.yaml"),
    ("  /etc/passwd: {", "  /etc/a: {access: []}\n  /etc/b: {", "grants nothing"),
    ("  /etc/passwd: {", "  /etc/a: {owner: true}\n  /etc/b: {", "'access' is missing"),
    ("  /etc/passwd: {", "  /etc/a: 5\n  /etc/b: {", "must be a mapping"),
    ("access: [read]", "access: [raed]", "unknown word 'raed'"),
    ("access: [read]", "access: [look]", "unknown word 'look'"),
    ("access: [read]", "access: [read, read]", "twice"),
    ("access: [read]", "access: read", "must be a list"),
    ("owner: true", "owner: maybe", "owner: must be true or false"),
    ("states: [detached]", "states: [detatched]", "unknown word"),
    ("whose: [outside]", "whose: [outsider]", "unknown word"),
    ("programs: [app]", "programs: app", "must be a list"),
    ("existing: [/srv/a]", 'existing: ["/srv/{"]', "not a pattern"),
    (", start: true}", "}", "start: true"),
    ("start: true", "start: false", "only be true"),
    ("start: true", "start: true, by: /bin/sh", "start: true"),
    ("family: unix", "family: UNIX", "cannot be"),
    ("protocol: 0", "protocol: tcp", "protocol: must be a number"),
    ("protocol: 0", "protocol: 99999999999", "out of range"),
    ("operations: [bind]", "operations: [bound]", "unknown word"),
    ("signal: TERM", "signal: sigterm", "cannot be"),
    ("whom: group", "whom: groups", "unknown word"),
    ("operation: trace", "operation: look", "unknown word"),
    ("operation: mount", "operation: ../x", "cannot be"),
    ("flags: [nodev]", "flags: [NO DEV]", "cannot be"),
    ("\nfiles:\n", "\nfiles: 5\nxx:\n", "unknown key 'xx'"),
    ("\nio_uring:", "\nio_uring: 5\nxx:", "unknown key 'xx'"),
    ("\nnamespaces: {user:", "\nnamespaces: {mount:", "unknown key 'mount'"),
    ("\nexecutions:\n", "\nexecutions: 5\nxx:\n", "unknown key 'xx'"),
]


@pytest.mark.parametrize(("old", "new", "message"), BROKEN_USES)
def test_uses_one_line_that_names_file_and_key(old: str, new: str, message: str) -> None:
    text = document.dumps(whole())
    assert old in text
    with pytest.raises(InputError) as caught:
        document.loads(text.replace(old, new, 1).encode(), "policy.yaml")
    assert message in str(caught.value)
    assert "policy.yaml" in str(caught.value)
    assert str(caught.value).isprintable()


def test_uses_need_the_section_of_files() -> None:
    text = document.dumps(example()) + "signals:\n  - {signal: TERM, whom: self}\n"
    with pytest.raises(InputError, match="needs a section `files`"):
        document.loads(text.encode(), "policy.yaml")
    assert document.loads((text + "files: {}\n").encode(), "policy.yaml").signals


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"- a",
        b"x",
        b"\xff\xfe\x00",
        b"\0" * 100,
        b"[" * 100_000,
        b"{" * 5000,
        b"a: &a [*a, *a]",
        b"!!python/object:os.system {}",
        b"5",
    ],
)
def test_junk_is_refused(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        document.loads(data, "junk")
    assert "junk" in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    with pytest.raises(InputError):
        document.loads(data, "junk")


def test_reads_files(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(document.dumps(example()))
    assert document.dumps(document.read_policy(path)) == path.read_text()
    with pytest.raises(InputError, match=r"missing\.yaml"):
        document.read_policy(tmp_path / "missing.yaml")
