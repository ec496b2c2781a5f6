"""policy.yaml: what is written reads back, and nothing else is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.policy.making import call, check, rows, trace, unknown
from unit.trace.strategies import traces

from profiler.errors import InputError
from profiler.policy import store
from profiler.policy.derive import derive
from profiler.policy.model import Options, Policy
from profiler.trace.model import Syscall

OPTIONS = st.builds(
    Options,
    runtime=st.sampled_from(["any", "none", "runc", "podman"]),
    no_new_privs=st.booleans(),
    equivalents=st.booleans(),
    arguments=st.booleans(),
    drop_failing=st.booleans(),
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


def canonical(policy: Policy) -> str:
    return store.dumps(policy)


@given(rows(), OPTIONS)
@settings(max_examples=60)
def test_reads_back_what_was_written(seen: list[Syscall], options: Options) -> None:
    policy = derive(trace(*seen, unknown(999), capabilities=[check("CAP_KILL", inferred=True), check("CAP_63")]), options)
    text = store.dumps(policy)
    again = store.loads(text.encode(), "policy.yaml")
    assert store.dumps(again) == text
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


@given(traces())
@settings(max_examples=60)
def test_hostile_names_stay_text(recording: object) -> None:
    """Traces with file names and arguments of any bytes, unknown numbers and foreign ABIs."""
    try:
        policy = derive(recording, Options())  # type: ignore[arg-type]
    except InputError:
        return
    text = store.dumps(policy)
    assert all(line.isprintable() for line in text.split("\n"))
    assert store.dumps(store.loads(text.encode(), "x")) == text


def test_reads_well() -> None:
    text = store.dumps(example())
    assert "schema: profgen.policy/1\n" in text
    assert "        - {domain: AF_INET, type: SOCK_STREAM, protocol: IPPROTO_TCP}\n" in text
    assert "        - {prot: {without: PROT_WRITE}}\n" in text
    assert "        - {flags: {only: MNT_DETACH}}\n" in text
    assert '      because: ["observed (app: 10 calls)"]\n' in text
    assert "    i386:fstat64:\n" in text
    assert "      failed: [ENOENT]\n" in text
    assert not re.search(r"20\d\d-\d\d-\d\d", text)
    assert yaml.safe_load(text)["syscalls"]["observed"]["read"] == {"because": ["observed (app: 10 calls)"]}


def test_an_edited_policy_is_read_as_meant() -> None:
    text = store.dumps(example()).replace(
        "    read:\n",
        "    ioctl:\n      because: [user]\n      arguments:\n        - {cmd: TCGETS}\n        - {cmd: 0x5413}\n"
        "        - {cmd: {position: 1, mask: 0xff00, value: 0x5600}}\n    read:\n",
    )
    policy = store.loads(text.encode(), "policy.yaml")
    assert policy.permits("x86_64", "ioctl", [0, 0x5401, 0, 0, 0, 0])
    assert policy.permits("x86_64", "ioctl", [0, 0x5413, 0, 0, 0, 0])
    assert policy.permits("x86_64", "ioctl", [0, 0x5612, 0, 0, 0, 0])
    assert not policy.permits("x86_64", "ioctl", [0, 0x5412, 0, 0, 0, 0])


BROKEN = [
    ("schema: profgen.policy/1", "schema: profgen.policy/2", "profgen.policy/2"),
    ("    read:\n", "    raed:\n", "no syscall 'raed'"),
    ("    read:\n", "    fstat64:\n", "not to this ABI"),
    ("    read:\n", "    vax:read:\n", "unknown ABI 'vax'"),
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
    ('      because: ["observed (app: 10 calls)"]\n', "", "'because' is missing"),
    ('because: ["observed (app: 10 calls)"]', "because: 5", "because: must be a list"),
    ("\nrefused:\n", "\nrefused:\n  read: {errno: EPERM, because: [x]}\n", "allowed as well"),
    ("    read:\n", "    ? [a, b]\n    : 1\n    read:\n", "policy.yaml"),
    ("    read:\n", "    read: *nowhere\n", "YAML"),
    ("    read:\n", "\tread:\n", "YAML"),
]


@pytest.mark.parametrize(("old", "new", "message"), BROKEN)
def test_one_line_that_names_file_and_key(old: str, new: str, message: str) -> None:
    text = store.dumps(example())
    assert old in text
    with pytest.raises(InputError) as caught:
        store.loads(text.replace(old, new, 1).encode(), "policy.yaml")
    assert message in str(caught.value)
    assert "policy.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


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
        store.loads(data, "junk")
    assert "junk" in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    with pytest.raises(InputError):
        store.loads(data, "junk")


def test_reads_files(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(store.dumps(example()))
    assert store.dumps(store.read_policy(path)) == path.read_text()
    with pytest.raises(InputError, match=r"missing\.yaml"):
        store.read_policy(tmp_path / "missing.yaml")
