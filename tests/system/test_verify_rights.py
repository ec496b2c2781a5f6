"""`profgen verify` names each right that a run uses and the policy lacks, and is silent about everything else: errors
that the kernel gives by itself, and what was refused when recorded already."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from system.harness import Profgen
from unit.denials.rights import Right, is_named, without_one

from profiler.policy.document import dumps, read_policy
from profiler.policy.model import Policy
from profiler.policy.patterns import matches

pytestmark = pytest.mark.usefixtures("as_root")

PYTHON = ("/usr/bin/python3", "-I", "-S")
ACTS = Path(__file__).with_name("acts.py")
GROUPS = 5
"""Runs over which the rights are spread: in each, every fifth is taken away."""

NEEDED_TO_RUN = {"execve", "exit_group", "rt_sigreturn"}


def made(profgen: Profgen, place: Path, tracer: str, *command: str) -> Path:
    """Record a command, and return its policy."""
    recorded = profgen.record(tracer, command, cwd=place)
    assert recorded.status == 0, recorded.stderr
    result = profgen("generate", "out.json", "-o", "made", "--no-generalise", "--allow-new-privs", cwd=place)
    assert result.returncode == 0, result.stderr
    return place / "made" / "policy.yaml"


def verified(profgen: Profgen, place: Path, policy: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Return the status of a run of acts.py, the report, and what the command printed."""
    words = ("--format", "json", "--report", "r.json", *options, "--", *PYTHON, str(ACTS), "work")
    result = profgen("verify", str(policy), *words, cwd=place)
    report = json.loads((place / "r.json").read_text())
    return result.returncode, report, result.stdout + result.stderr


def interesting(right: Right, place: Path) -> bool:
    """Whether the acts use a right, and not only the interpreter, which might not start without it."""
    kind, what, word = right
    if kind == "file":
        return word != "owned" and what.startswith((f"{place}/work", "/proc/{pid}/maps", "/usr/bin/true"))
    return kind != "syscall" or what not in NEEDED_TO_RUN


def without(policy: Policy, rights: list[Right]) -> tuple[Policy, list[Right]]:
    """Return the policy without these rights, and those that it had: one may go with another."""
    gone = []
    for right in rights:
        less = dict(without_one(policy)).get(right)
        if less is not None:
            policy, gone = less, [*gone, right]
    return policy, gone


def denial(row: dict[str, Any]) -> Any:
    """A row of the report, with the members of a Denial that is_named() looks at."""
    members = ("capability", "name", "path", "family", "type", "signal", "whom", "operation")
    lists = {name: tuple(row.get(name, ())) for name in ("access", "operations")}
    return SimpleNamespace(kind=row["kind"], **{name: row.get(name) for name in members}, **lists)


@pytest.mark.parametrize("tracer", ["ptrace", "ebpf"])
def test_each_right_is_named(tracer: str, profgen: Profgen, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    path = made(profgen, tmp_path, tracer, *PYTHON, str(ACTS), "work")
    policy = read_policy(path)
    status, report, said = verified(profgen, tmp_path, path)
    assert (status, report["denials"]) == (0, []), said
    rights = [right for right, _ in without_one(policy) if interesting(right, tmp_path)]
    kinds = {right[0] for right in rights}
    assert kinds >= {"file", "socket", "signal", "inspection", "mount", "capability", "syscall", "user_namespace"}
    assert len(rights) > 80
    for group in range(GROUPS):
        less, gone = without(policy, rights[group::GROUPS])
        (tmp_path / "less.yaml").write_text(dumps(less))
        status, report, said = verified(profgen, tmp_path, tmp_path / "less.yaml", "--mode", "log")
        assert status == 1, said
        rows = [denial(row) for row in report["denials"]]
        for right in gone:
            named = [row for row in rows if is_named(right, row) and (not row.path or matches(right[1], row.path))]
            assert named, (right, [(row.kind, row.path or row.name, row.access) for row in rows])
        assert {row.kind for row in rows} <= {right[0] for right in gone}, "nothing is named but what was taken away"
        files = [right[1] for right in gone if right[0] == "file"]
        assert all(any(matches(pattern, row.path) for pattern in files) for row in rows if row.path)


SAME = """
import errno, os, signal, socket, tempfile
def fails(code, act, *words):
    try: act(*words)
    except OSError as error: assert error.errno == code, error
    else: raise AssertionError(act)
E = errno
fails(E.EEXIST, os.mkdir, "there")
os.makedirs("there", exist_ok=True)
fails(E.EEXIST, os.open, "lock", os.O_CREAT | os.O_EXCL)
fails(E.ENOTEMPTY, os.rmdir, "full")
fails(E.ENOTDIR, os.rmdir, "lock")
fails(E.ENOENT, os.rename, "no", "where")
fails(E.ENOTEMPTY, os.rename, "there", "full")
fails(E.EISDIR, os.rename, "lock", "there")
fails(E.ENOENT, os.remove, "no")
fails(E.EEXIST, os.link, "lock", "there")
fails(E.EEXIST, os.symlink, "x", "lock")
fails(E.EINVAL, os.readlink, "lock")
fails(E.ENOTDIR, os.open, "lock", os.O_DIRECTORY)
fails(E.ELOOP, os.open, "loop", os.O_RDONLY)
fails(E.ENXIO, os.open, "fifo", os.O_WRONLY | os.O_NONBLOCK)
fails(E.ESRCH, os.kill, 4194000, 0)
fails(E.ECONNREFUSED, socket.create_connection, ("127.0.0.1", 8418))
fails(E.EAFNOSUPPORT, socket.socket, 7, socket.SOCK_STREAM)
with tempfile.TemporaryFile(dir=".") as file: file.write(b"x")
for _ in range(3):  # one name in seventy looks like words
    with tempfile.NamedTemporaryFile(dir=".", prefix="session-") as file: file.write(b"x")
if os.getuid() == 0: fails(E.ETXTBSY, os.open, "/usr/bin/python3", os.O_WRONLY)
if os.getuid():
    for name in ("exe", "root"): fails(E.EACCES, os.readlink, f"/proc/1/{name}")
    fails(E.EACCES, os.listdir, "/proc/1/fd")
    fails(E.EPERM, os.kill, 1, signal.SIGTERM)
    fails(E.EPERM, os.chown, "lock", 0, 0)
    fails(E.EACCES, open, "/etc/shadow")
    fails(E.EPERM, socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)
"""


@pytest.mark.parametrize("user", ["root", "nobody"])
@pytest.mark.parametrize("tracer", ["ptrace", "ebpf"])
def test_the_same_errors_are_not_denials(tracer: str, user: str, profgen: Profgen, nobodys_dir: Path) -> None:
    """What services do at a start that is not the first, and what a user may not do anyway."""
    place = nobodys_dir
    for name in ("there", "full"):
        (place / name).mkdir()
    (place / "full" / "file").write_text("")
    (place / "lock").write_text("")
    (place / "loop").symlink_to("loop")
    os.mkfifo(place / "fifo")
    os.chmod(place / "fifo", 0o666)
    os.chmod(place / "full", 0o777)
    os.chmod(place / "there", 0o777)
    os.chmod(place, 0o777)
    (place / "same.py").write_text(SAME)
    command = [*PYTHON, "same.py"]
    options = ["--user", user] if user != "root" else []
    result = profgen("record", "-q", "--tracer", tracer, "-o", "out.json", *options, "--", *command, cwd=place)
    assert result.returncode == 0, result.stderr
    result = profgen("generate", "out.json", "-o", "made", cwd=place)
    assert result.returncode == 0, result.stderr
    for mode in ("enforce", "log"):
        result = profgen("verify", "made", "--mode", mode, *options, "--", *command, cwd=place)
        assert result.returncode == 0, result.stderr
        assert "nothing was" in result.stderr


def test_a_command_that_fails_by_itself(profgen: Profgen, tmp_path: Path) -> None:
    """Nothing was denied, and the report says what such a run cannot see; the status is the command's."""
    made(profgen, tmp_path, "ptrace", "/usr/bin/sh", "-c", "exit 0")
    result = profgen("verify", "made", "--no-files", "--", "/usr/bin/sh", "-c", "exit 3", cwd=tmp_path)
    assert result.returncode == 3
    assert "the command failed, and no denial that was seen explains it" in result.stderr
    assert "files, sockets, signals and mounts" in result.stderr


def test_a_refusal_that_no_call_reports(profgen: Profgen, tmp_path: Path) -> None:
    """The kernel answers a request to the audit system in a message: the call succeeds, and login goes on to fail."""
    command = ["su", "nobody", "-s", "/bin/sh", "-c", "id -un"]
    path = made(profgen, tmp_path, "ebpf", *command)
    policy = read_policy(path)
    assert "CAP_AUDIT_WRITE" in policy.needed()
    less = dict(without_one(policy))[("capability", "CAP_AUDIT_WRITE", "")]
    path.write_text(dumps(less))
    result = profgen("verify", str(path), "--", *command, cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "capability CAP_AUDIT_WRITE in sendto" in result.stderr
