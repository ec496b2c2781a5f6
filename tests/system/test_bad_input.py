"""Bad input: one clear line, the right status, no traceback, and nothing overwritten."""

from __future__ import annotations

import copy
import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from system.harness import Profgen

from profiler.cli.main import run as run_profgen

OLD = b"an older file\n"


@pytest.fixture(scope="session")
def good(profgen: Profgen, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A trace as it is recorded here, with 32-bit calls' worth of variety left to the mutations."""
    directory = tmp_path_factory.mktemp("good")
    recording = profgen.record(
        "ptrace", ["sh", "-c", "ls / | cat > /dev/null; touch f; chown 1 f 2>/dev/null; exit 0"], cwd=directory
    )
    assert recording.status == 0, recording.stderr
    return recording.trace


@pytest.fixture(scope="session")
def good_policy(good: dict[str, Any], profgen: Profgen, tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("policy")
    (directory / "t.json").write_text(json.dumps(good))
    result = profgen("generate", "t.json", "-o", "out", cwd=directory)
    assert result.returncode == 0, result.stderr
    return (directory / "out" / "policy.yaml").read_text()


def one_line(text: str) -> None:
    assert text.startswith("profgen: "), text
    assert text.endswith("\n")
    assert text.count("\n") == 1, f"more than one line: {text!r}"
    assert len(text) < 1000, "a line that nobody reads"
    assert "Traceback" not in text
    assert "internal error" not in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", text), repr(text)


def refused(profgen: Profgen, cwd: Path, *args: Any, status: int = 2, **options: Any) -> str:
    """Run with an older output file and directory in place; they must stay as they were."""
    (cwd / "old.json").write_bytes(OLD)
    (cwd / "old").mkdir(exist_ok=True)
    (cwd / "old" / "seccomp.json").write_bytes(OLD)
    before = sorted(str(path) for path in cwd.rglob("*"))
    result = profgen(*args, cwd=cwd, **options)
    assert result.returncode == status, (result.stdout, result.stderr)
    one_line(result.stderr)
    assert result.stdout == ""
    assert (cwd / "old.json").read_bytes() == OLD
    assert (cwd / "old" / "seccomp.json").read_bytes() == OLD
    assert sorted(str(path) for path in cwd.rglob("*")) == before
    return result.stderr


# The command line


@pytest.mark.parametrize(
    "args",
    [
        ["record"],
        ["record", "--"],
        ["record", "-o", "old.json"],
        ["record", "-o"],
        ["record", "--tracer", "magic", "--", "true"],
        ["record", "--duration", "0", "--", "true"],
        ["record", "--duration", "-1", "--", "true"],
        ["record", "--duration", "soon", "--", "true"],
        ["record", "--no-such-option", "--", "true"],
        ["generate"],
        ["generate", "no-such-trace.json", "-o", "old"],
        ["generate", "old", "-o", "old"],
        ["generate", "/dev/null", "-o", "old"],
        ["no-such-command"],
        ["--no-such-option"],
        ["doctor", "extra"],
    ],
    ids=" ".join,
)
def test_command_line(args: list[str], profgen: Profgen, tmp_path: Path) -> None:
    refused(profgen, tmp_path, *args)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400"])
def test_duration_that_is_no_time(value: str, profgen: Profgen, tmp_path: Path) -> None:
    """Refused, or no limit at all; never a workload that is killed at once, and never a crash."""
    result = profgen(
        "record",
        "--tracer",
        "ptrace",
        "-q",
        "-o",
        "out.json",
        "--duration",
        value,
        "--",
        "sh",
        "-c",
        "exit 3",
        cwd=tmp_path,
    )
    assert result.returncode in (2, 3), result.stderr
    assert "Traceback" not in result.stderr
    assert "internal error" not in result.stderr


def test_no_arguments_shows_help(profgen: Profgen, tmp_path: Path) -> None:
    result = profgen(cwd=tmp_path)
    assert result.returncode == 2
    assert "record" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["-t", "nonsense", "-o", "old"], "nonsense"),
        (["-t", "seccomp", "-t", "", "-o", "old"], "target"),
        (["--runtime", "nonsense", "-o", "old"], "nonsense"),
        (["--runtime", "runc", "--runtime-version", "x.y", "-t", "seccomp"], "x.y"),
        (["-O", "seccomp.action=explode", "-o", "old"], "explode"),
        (["-t", "\x1b[31mred\nline"], "red"),
    ],
)
def test_unknown_choices(args: list[str], word: str, good: dict[str, Any], profgen: Profgen, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(good))
    assert word in refused(profgen, tmp_path, "generate", "t.json", *args)


# Files that are not traces


def _junk() -> Iterator[tuple[str, bytes]]:
    chaos = random.Random(1)
    yield "empty", b""
    yield "blank", b" \n\n"
    yield "junk of 10 MB", chaos.randbytes(10_000_000)
    yield "junk after a brace", b"{" + chaos.randbytes(1_000_000)
    yield "10 MB of braces", b"{" * 10_000_000
    yield "10 MB of brackets", b"[" * 10_000_000
    yield "deep objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    yield "deep lists", b'{"schema":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    yield "10 MB of zeros", b"\0" * 10_000_000
    yield "10 MB string", b'"' + b"x" * 10_000_000 + b'"'
    yield "10 MB number", b'{"schema": ' + b"9" * 10_000_000 + b"}"
    yield "10 MB line of words", b"word " * 2_000_000
    yield "NaN", b'{"schema": NaN}'
    yield "Infinity", b'{"schema": "profgen.trace/1", "meta": -Infinity}'
    yield "utf-16", '{"schema": "profgen.trace/1"}'.encode("utf-16")
    yield "latin-1", b'{"schema": "profgen.trace/1\xe9"}'
    yield "surrogates", b'{"schema": "\\ud800\\udc00\\ud800"}'
    yield "terminal codes", b'{"schema": "\x1b[31mred"}'
    yield "terminal codes, escaped", b'{"schema": "\\u001b[31mred\\nline"}'
    yield "null", b"null"
    yield "list", b"[]"
    yield "number", b"7"
    yield "object", b"{}"
    yield "yaml tags", b"!!python/object/apply:os.system ['touch marker']"
    yield "yaml bomb", b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (97 + n, 97 + n, b",".join([b"*%c" % (96 + n)] * 9)) for n in range(1, 12)
    ) + b"schema: *l\n"  # fmt: skip
    yield "yaml anchors that hold themselves", b"schema: profgen.policy/1\nworkload: &w {argv: *w}\n"
    yield "deep yaml", b"a: " + b"[" * 50_000
    yield "deep yaml mappings", b"? " * 50_000
    yield "other schema", b'{"schema": "somebody.else/1"}'
    yield "future trace", b'{"schema": "profgen.trace/2", "meta": {}}'
    yield "future policy", b"schema: profgen.policy/2\n"
    yield "elf", Path("/bin/true").read_bytes()


@pytest.mark.parametrize(("name", "data"), [pytest.param(*each, id=each[0]) for each in _junk()])
def test_junk(name: str, data: bytes, profgen: Profgen, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_bytes(data)
    line = refused(profgen, tmp_path, "generate", "t.json", "-o", "old", timeout=30)
    assert "t.json" in line, "the line does not name the file"
    if name.startswith("future"):
        assert re.search(r"profgen\.(trace|policy)/2", line), "the line does not name the version"
    assert not (tmp_path / "marker").exists()


def test_truncated(good: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Cut anywhere, it is refused."""
    data = json.dumps(good).encode()
    (tmp_path / "old.json").write_bytes(OLD)
    for length in range(1, len(data), max(1, len(data) // 200)):
        (tmp_path / "t.json").write_bytes(data[:length])
        assert (
            run_profgen(["generate", str(tmp_path / "t.json"), "-t", "seccomp", "-o", str(tmp_path / "old.json")]) == 2
        ), length
        one_line(capfd.readouterr().err)
    assert (tmp_path / "old.json").read_bytes() == OLD


_WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    1 << 70,
    10**400,
    1e308,
    "x",
    "",
    "\x1b[31m",
    "\ud800",
    [],
    [[]],
    {},
    {"": None},
    {"-1": 1},
    {"99": 1},
    ["x", 1],
)


def _places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(node, dict):
        for key in node:
            yield from _places(node[key], (*path, key))
    elif isinstance(node, list):
        for index in {0, len(node) - 1} if node else set():
            yield from _places(node[index], (*path, index))


def _changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(document)
    node = changed
    for step in path[:-1]:
        node = node[step]
    if value is _places:  # stands for: leave it out
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return changed


def _check_no_crash(argv: list[str], capfd: pytest.CaptureFixture[str], what: object) -> None:
    status = run_profgen(argv)
    streams = capfd.readouterr()
    assert status in (0, 2, 125), (what, streams.err)
    assert "internal error" not in streams.err, (what, streams.err)
    assert "Traceback" not in streams.err, what
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", streams.err), (what, streams.err)
    if status:
        assert streams.err.splitlines()[-1].startswith("profgen: "), what
        assert streams.out == "", what


def test_wrong_types_everywhere(good: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Every member of a trace replaced by what it must not be, or left out: refused or harmless, never a crash."""
    chaos = random.Random(2)
    trace = tmp_path / "t.json"
    target = str(tmp_path / "out.json")
    small = copy.deepcopy(good)
    small["syscalls"] = [
        row for row in good["syscalls"] if row["name"] in ("execve", "mmap", "openat", "access", "fchownat", "read")
    ]
    changes = [(place, value) for place in _places(small) for value in (*_WRONG, _places)]
    for place, value in chaos.sample(changes, min(len(changes), 700)):
        trace.write_text(json.dumps(_changed(small, place, value)))
        _check_no_crash(["generate", str(trace), "-t", "seccomp", "-o", target], capfd, (place, value))


def test_wrong_types_read_for_people(good: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    chaos = random.Random(4)
    trace, other = tmp_path / "t.json", tmp_path / "good.json"
    small = copy.deepcopy(good)
    small["syscalls"] = [row for row in good["syscalls"] if row["name"] in ("execve", "mmap", "openat", "read")]
    other.write_text(json.dumps(small))
    changes = [(place, value) for place in _places(small) for value in (*_WRONG, _places)]
    for place, value in chaos.sample(changes, min(len(changes), 80)):
        trace.write_text(json.dumps(_changed(small, place, value)))
        for argv in (["explain", str(trace), "--all"], ["coverage", str(trace), str(other)]):
            _check_no_crash(argv, capfd, (place, value))
        for option in ([], ["--intersect"]):
            _check_no_crash(
                ["merge", str(trace), str(other), "-o", str(tmp_path / "out.json"), *option], capfd, (place, value)
            )


def test_wrong_types_in_a_policy(good_policy: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    chaos = random.Random(3)
    policy = tmp_path / "policy.yaml"
    document = yaml.safe_load(good_policy)
    values = [value for value in (*_WRONG, _places) if value != "\ud800"]
    changes = [(place, value) for place in _places(document) for value in values]
    for place, value in chaos.sample(changes, min(len(changes), 150)):
        policy.write_text(yaml.safe_dump(_changed(document, place, value)))
        words = ["generate", str(policy), "-t", "seccomp", "-t", "docker", "-o", str(tmp_path / "out.d") + "/"]
        _check_no_crash(words, capfd, (place, value))


@pytest.mark.parametrize("where", ["calls", "number", "duration", "runs"])
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
def test_numbers_that_are_none(where: str, number: str, good: dict[str, Any], profgen: Profgen, tmp_path: Path) -> None:
    text = re.sub(rf'"{where}": [0-9.]+', f'"{where}": {number}', json.dumps(good), count=1)
    (tmp_path / "t.json").write_text(text)
    refused(profgen, tmp_path, "generate", "t.json", "-o", "old")


def test_members_twice(good: dict[str, Any], profgen: Profgen, tmp_path: Path) -> None:
    doubled = copy.deepcopy(good)
    doubled["syscalls"].append(doubled["syscalls"][0])
    (tmp_path / "t.json").write_text(json.dumps(doubled))
    refused(profgen, tmp_path, "generate", "t.json", "-o", "old")


def test_one_bad_among_good(good: dict[str, Any], profgen: Profgen, tmp_path: Path) -> None:
    for name in ("a.json", "b.json", "c.json"):
        (tmp_path / name).write_text(json.dumps(good))
    (tmp_path / "b.json").write_text("{}")
    assert "b.json" in refused(profgen, tmp_path, "generate", "a.json", "b.json", "c.json", "-o", "old")


def test_trace_that_lies_about_names(good: dict[str, Any], profgen: Profgen, tmp_path: Path) -> None:
    """A name that is not a syscall's, or that belongs to another number, must not reach a profile."""
    for name in ("no_such_call", "read\nwrite", "", "a" * 5000, "\x1b[31m"):
        lying = copy.deepcopy(good)
        lying["syscalls"][0]["name"] = name
        (tmp_path / "t.json").write_text(json.dumps(lying))
        result = profgen("generate", "t.json", "-t", "seccomp", cwd=tmp_path)
        assert "Traceback" not in result.stderr
        assert "internal error" not in result.stderr
        assert "\x1b" not in result.stderr
        if result.returncode == 0:
            assert name not in {called for rule in json.loads(result.stdout)["syscalls"] for called in rule["names"]}
        else:
            assert result.returncode == 2
            one_line(result.stderr)


@pytest.mark.parametrize("abi", ["mips", "", "x86-64", "\x1b[31m"])
def test_unknown_abi(abi: str, good: dict[str, Any], profgen: Profgen, tmp_path: Path) -> None:
    strange = copy.deepcopy(good)
    strange["syscalls"][0]["abi"] = abi
    (tmp_path / "t.json").write_text(json.dumps(strange))
    refused(profgen, tmp_path, "generate", "t.json", "-o", "old")


# Policies


@pytest.mark.parametrize(
    "name",
    ["no_such_syscall", "READ", "read write", "read\\nwrite", "\\e[31m", "'; touch marker; '", "{{ 7 * 7 }}"],
)
def test_unknown_syscall_in_a_policy(name: str, good_policy: str, profgen: Profgen, tmp_path: Path) -> None:
    text, count = re.subn(
        r"^( +)execve: ", lambda match: f'{match[1]}"{name}": ', good_policy, count=1, flags=re.MULTILINE
    )
    assert count == 1
    (tmp_path / "policy.yaml").write_text(text)
    line = refused(profgen, tmp_path, "generate", "policy.yaml", "-o", "old")
    assert "policy.yaml" in line


@pytest.mark.parametrize("name", ["CAP_NO_SUCH", "chown", "ALL", "\\e[31m", "7"])
def test_unknown_capability_in_a_policy(name: str, good_policy: str, profgen: Profgen, tmp_path: Path) -> None:
    entry = f'  "{name}": {{because: x}}'
    pattern = r"^capabilities:.*\n(?: +.*\n)*"
    text, count = re.subn(pattern, lambda match: f"capabilities:\n{entry}\n", good_policy, count=1, flags=re.MULTILINE)
    assert count == 1
    (tmp_path / "policy.yaml").write_text(text)
    refused(profgen, tmp_path, "generate", "policy.yaml", "-o", "old")


def test_policy_given_twice(good_policy: str, profgen: Profgen, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(good_policy)
    refused(profgen, tmp_path, "generate", "policy.yaml", "policy.yaml", "-o", "old")


def test_doubled_key_in_a_policy(good_policy: str, profgen: Profgen, tmp_path: Path) -> None:
    """YAML's last-one-wins would silently drop a rule that a reviewer read."""
    (tmp_path / "policy.yaml").write_text(good_policy + "\nsyscalls: {}\n")
    refused(profgen, tmp_path, "generate", "policy.yaml", "-o", "old")


# Places to write to, and files to read


def test_unreadable_trace(ordinary: Profgen, good: dict[str, Any], nobodys_dir: Path) -> None:
    trace = nobodys_dir / "t.json"
    trace.write_text(json.dumps(good))
    trace.chmod(0)
    if os.geteuid() == 0:
        os.chown(trace, 0, 0)
    result = ordinary("generate", "t.json", "-t", "seccomp", cwd=nobodys_dir)
    assert result.returncode == 2
    one_line(result.stderr)


def test_fifo_as_a_trace_is_read_or_refused(good: dict[str, Any], profgen: Profgen, tmp_path: Path) -> None:
    """Process substitution, <(...), gives a pipe: it is read like a file."""
    (tmp_path / "t.json").write_text(json.dumps(good))
    shell = Profgen()
    shell.command = ["bash", "-c", 'exec "$@" <(cat t.json) -t seccomp', "bash", *profgen.command]
    result = shell("generate", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["defaultAction"]


@pytest.mark.parametrize("output", ["old.json/x", "t.json/dir/", "missing/dir/file.json"])
def test_output_that_cannot_be(output: str, good: dict[str, Any], profgen: Profgen, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(good))
    refused(profgen, tmp_path, "generate", "t.json", "-t", "seccomp", "-o", output, status=125)
    assert json.loads((tmp_path / "t.json").read_text()) == good


def test_reader_that_goes_away(good: dict[str, Any], profgen: Profgen, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(good))
    shell = Profgen()
    shell.command = ["bash", "-c", 'set -o pipefail; "$@" | head -c 1 >/dev/null; exit 0', "bash", *profgen.command]
    result = shell("generate", "t.json", "-t", "seccomp", "-q", cwd=tmp_path)
    assert result.stderr == ""


def test_bad_oci_config(good: dict[str, Any], profgen: Profgen, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(good))
    for text in (
        "",
        "junk",
        "[]",
        "{}",
        '{"process": 1, "linux": 2}',
        '{"linux": []}',
        "[" * 100_000,
        '{"ociVersion": NaN}',
    ):
        (tmp_path / "config.json").write_text(text)
        result = profgen("generate", "t.json", "-t", "oci", "--into", "config.json", "-o", "out.json", cwd=tmp_path)
        assert "Traceback" not in result.stderr
        assert "internal error" not in result.stderr
        if result.returncode:
            assert result.returncode == 2, (text, result.stderr)
            one_line(result.stderr)
            assert not (tmp_path / "out.json").exists()
        else:
            json.loads((tmp_path / "out.json").read_text())
            (tmp_path / "out.json").unlink()
        assert (tmp_path / "config.json").read_text() == text
