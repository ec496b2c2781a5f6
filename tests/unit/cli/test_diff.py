"""profgen diff as a user calls it, and the two releases of the web service in every format."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from system.lab.workloads import free_port
from unit.cli.running import CHECKOUT, ENVIRONMENT, profgen
from unit.policy.making import call, check, trace
from unit.review.sarif import check_sarif
from unit.review.test_foreign import SPO, profile, rule
from unit.trace.written import write_trace

from profiler.trace.model import Trace

SAMPLE = CHECKOUT / "sample_apps" / "webservice"


@dataclass(frozen=True)
class Files:
    """Traces on disk: ``more`` has getpid that ``base`` has not, ``risky`` has mount, ``equal`` has openat for open."""

    base: Path
    more: Path
    risky: Path
    equal: Path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    def write(name: str, recording: Trace) -> Path:
        path = tmp_path / f"{name}.trace.json"
        write_trace(recording, path)
        return path

    return Files(
        write("base", trace(call("read"), call("openat"))),
        write("more", trace(call("read"), call("openat"), call("getpid"))),
        write(
            "risky", trace(call("read"), call("openat"), call("mount", [(0,)]), capabilities=[check("CAP_SYS_ADMIN")])
        ),
        write("equal", trace(call("read"), call("open"))),
    )


def test_exit_statuses(files: Files) -> None:
    wanted = {
        (files.base, files.base): (0, 0, 0),
        (files.base, files.equal): (0, 0, 0),
        (files.base, files.more): (1, 1, 0),
        (files.more, files.base): (1, 0, 0),
        (files.base, files.risky): (1, 1, 1),
        (files.risky, files.base): (1, 0, 0),
    }
    for (old, new), statuses in wanted.items():
        found = tuple(profgen("diff", old, new, "--fail-on", word).returncode for word in ("any", "widened", "risky"))
        assert found == statuses, (old.name, new.name)
    assert profgen("diff", files.base, files.more).returncode == 1
    assert profgen("diff", files.base, files.equal, "--exact").returncode == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"", "not a file that profgen reads"),
        (b"{", "cannot be read as JSON"),
        (b'{"schema": "profgen.trace/1"}', "not a valid trace"),
    ],
)
def test_trouble(files: Files, tmp_path: Path, content: bytes | None, words: str) -> None:
    bad = tmp_path / "bad"
    if content is not None:
        bad.write_bytes(content)
    for pair in ((bad, files.base), (files.base, bad)):
        done = profgen("diff", *pair)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
        assert words in done.stderr


def test_wrong_use(files: Files) -> None:
    for arguments in (
        (),
        (files.base,),
        (files.base, files.base, "--format", "xml"),
        (files.base, files.base, "--fail-on", "never"),
    ):
        assert profgen("diff", *arguments).returncode == 2


def test_formats(files: Files) -> None:
    text = profgen("diff", files.base, files.risky)
    assert text.stdout.splitlines()[-1] == "2 added; highest risk: critical"
    assert "\x1b" not in text.stdout
    document = json.loads(profgen("diff", files.base, files.risky, "--format", "json").stdout)
    assert [row["name"] for row in document["changes"]] == ["CAP_SYS_ADMIN", "mount"]
    assert profgen("diff", files.base, files.risky, "--format", "markdown").stdout.startswith("### ")
    log = check_sarif(profgen("diff", files.base, files.risky, "--format", "sarif").stdout)
    assert len(log["runs"][0]["results"]) == 2
    for row in log["runs"][0]["results"]:
        place = row["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"].startswith("file:///")
        line = files.risky.read_text().splitlines()[place["region"]["startLine"] - 1]
        assert row["properties"]["name"] in line


def test_colour(files: Files) -> None:
    assert "\x1b[" in profgen("diff", files.base, files.risky, "--color", "always").stdout
    for arguments, wanted in ((["--color", "auto"], True), (["--color", "never"], False)):
        leader, follower = pty.openpty()
        try:
            command = [sys.executable, "-m", "profiler", "diff", str(files.base), str(files.risky), *arguments]
            environment = {key: value for key, value in ENVIRONMENT.items() if key != "NO_COLOR"}
            subprocess.run(command, env=environment, stdout=follower, timeout=60, check=False)
            assert (b"\x1b[" in os.read(leader, 1 << 16)) is wanted
        finally:
            os.close(leader)
            os.close(follower)


def test_a_file_name_of_any_bytes(files: Files, tmp_path: Path) -> None:
    name = os.fsdecode(b"a\xff\x1b[31m\n|`.json")
    shutil.copy(files.risky, tmp_path / name)
    for form in ("text", "json", "markdown", "sarif"):
        done = subprocess.run(
            [sys.executable, "-m", "profiler", "diff", str(files.base), name, "--format", form],
            env=ENVIRONMENT,
            cwd=tmp_path,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert b"\x1b" not in done.stdout
        assert b"\xff" not in done.stdout


def test_profiles_of_others(tmp_path: Path) -> None:
    """Docker's file is read for the machine that the other file is of."""
    docker = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        ],
        "syscalls": [
            rule("read"),
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        ],
    }
    (tmp_path / "docker.json").write_text(json.dumps(docker))
    (tmp_path / "spo.json").write_text(json.dumps(SPO))
    (tmp_path / "arm.json").write_text(
        json.dumps({**profile(rule("read"), rule("renameat")), "architectures": ["SCMP_ARCH_AARCH64"]})
    )
    done = profgen("diff", "docker.json", "arm.json", "--format", "json", cwd=tmp_path)
    document = json.loads(done.stdout)
    assert document["old"]["abis"] == ["aarch64", "arm"]
    assert [(row["change"], row["name"]) for row in document["changes"]] == [("added", "renameat"), ("removed", "arm")]
    assert profgen("diff", "docker.json", "spo.json", cwd=tmp_path).returncode == 1
    done = profgen("diff", "spo.json", "arm.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "different machines" in done.stderr


# The two releases of the web service, recorded for real.


@dataclass(frozen=True)
class Releases:
    directory: Path
    port: int

    def path(self, name: str, form: str) -> Path:
        return self.directory / f"{name}.trace.json" if form == "trace" else self.directory / name / form


@pytest.fixture(scope="module")
def public_dir() -> Iterator[Path]:
    """pytest's own directories are closed to the user that the service runs as."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def releases(public_dir: Path) -> Releases:
    """v1, v1 once more, and v2: recorded at the same place on the same port, with profiles next to it."""
    directory = public_dir
    port = free_port(601, 1024) if os.geteuid() == 0 else free_port(8080, 8200)
    app = directory / "app"
    app.mkdir()
    for name, release in (("v1", "v1"), ("again", "v1"), ("v2", "v2")):
        shutil.copy(SAMPLE / release / "server.py", app / "server.py")
        (directory / "access.log").unlink(missing_ok=True)
        record = [
            sys.executable,
            "-m",
            "profiler",
            "record",
            "-q",
            "--tracer",
            "ptrace",
            "-o",
            str(directory / f"{name}.trace.json"),
            "--",
        ]
        server = [str(app / "server.py"), "--port", str(port), "--log", str(directory / "access.log")]
        load = [str(SAMPLE / "load.py"), "--rare", "--port", str(port), "--", *record, *server]
        done = subprocess.run(load, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        made = profgen("generate", directory / f"{name}.trace.json", "-t", "seccomp,oci", "-o", directory / name)
        assert made.returncode == 0, made.stderr
    return Releases(directory, port)


def told(rows: list[dict[str, Any]]) -> set[tuple[str, str, str, tuple[str, ...]]]:
    """The changes, but for what Python asks of the second release's statistics socket when it ends: its finalizer names
    an unclosed socket (getsockname, getpeername) in some runs and not in others."""
    kept = [row for row in rows if not any("never seen to succeed (ENOTCONN: 1)" in text for text in row["because"])]
    named = [row for row in kept if row["name"] != "getpeername"]
    return {
        (
            row["change"],
            row["subject"],
            row["name"],
            tuple(text.replace("create, name", "create") for text in row["details"]),
        )
        for row in named
    }


FORMATS = ("trace", "policy.yaml", "seccomp.json", "config.json")


@pytest.mark.parametrize("form", FORMATS)
def test_two_recordings_are_equal(releases: Releases, form: str) -> None:
    done = profgen("diff", releases.path("v1", form), releases.path("again", form))
    assert done.returncode == 0, done.stdout
    assert "no difference" in done.stdout


def wanted(releases: Releases, form: str) -> set[tuple[str, str, str, tuple[str, ...]]]:
    """What README.md and the source of the second release say is new in it."""
    datagrams = (
        "domain AF_INET, type SOCK_DGRAM, protocol IPPROTO_IP",
        "domain AF_INET, type SOCK_DGRAM, protocol IPPROTO_UDP",
    )
    found: set[tuple[str, str, str, tuple[str, ...]]] = {
        ("widened", "syscall", "socket", datagrams),
        (
            "widened",
            "syscall",
            "setsockopt",
            ("level SOL_SOCKET, option SO_KEEPALIVE", "level SOL_TCP, option TCP_NODELAY"),
        ),
    }
    root = os.geteuid() == 0
    if root:
        found.add(("added", "syscall", "fchown", ()))
        if form != "seccomp.json":
            found.add(("added", "capability", "CAP_CHOWN", ()))
    if form in ("trace", "policy.yaml"):
        found.add(("added", "network", "inet dgram protocol 17", ("create", "send port 8125")))
        if root:
            found.add(("widened", "path", str(releases.directory / "access.log"), ("owner (own files only)",)))
    return found


def given_up(releases: Releases, form: str) -> set[tuple[str, str, str, tuple[str, ...]]]:
    """As the log is the service's own now, its program wc reads no other user's file any more."""
    if os.geteuid() != 0 or form not in ("trace", "policy.yaml"):
        return set()
    return {("narrowed", "path", str(releases.directory / "access.log"), ("read, append, create",))}


@pytest.mark.parametrize("form", FORMATS)
def test_the_second_release_needs_exactly_this(releases: Releases, form: str) -> None:
    old, new = releases.path("v1", form), releases.path("v2", form)
    done = profgen("diff", old, new, "--format", "json")
    assert done.returncode == 1, done.stderr
    changes = json.loads(done.stdout)["changes"]
    assert told(changes) == wanted(releases, form) | given_up(releases, form)
    if form in ("trace", "policy.yaml"):
        for row in changes:
            assert row["because"] or row["programs"], row
            assert any("server.py" in program for program in row["programs"]), row
    back = json.loads(profgen("diff", new, old, "--format", "json").stdout)["changes"]
    opposite = {"added": "removed", "widened": "narrowed", "narrowed": "widened"}
    assert {(row["change"], row["name"], tuple(row["details"])) for row in back} == {
        (opposite[row["change"]], row["name"], tuple(row["details"])) for row in changes
    }


@pytest.mark.parametrize("form", FORMATS)
def test_a_second_release_in_every_output(releases: Releases, form: str) -> None:
    old, new = releases.path("v1", form), releases.path("v2", form)
    log = check_sarif(profgen("diff", old, new, "--format", "sarif").stdout)
    assert len(told([row["properties"] for row in log["runs"][0]["results"]])) == len(wanted(releases, form))
    lines = new.read_text().splitlines()
    for row in log["runs"][0]["results"]:
        if row["properties"]["subject"] == "syscall":
            assert (
                row["properties"]["name"] in lines[row["locations"][0]["physicalLocation"]["region"]["startLine"] - 1]
            )
    assert "`setsockopt`" in profgen("diff", old, new, "--format", "markdown").stdout
    assert "widened  syscall     setsockopt" in profgen("diff", old, new).stdout


def test_any_format_against_any(releases: Releases) -> None:
    """The profiles of one policy are the same among each other; a trace differs from them by what the runtime needs,
    and by companions."""
    forms = FORMATS[1:]
    for old in forms:
        for new in forms:
            done = profgen("diff", releases.path("v1", old), releases.path("v1", new))
            assert done.returncode == 0, (old, new, done.stdout)
    for form in forms:
        document = json.loads(
            profgen("diff", releases.path("v1", "trace"), releases.path("v1", form), "--format", "json").stdout
        )
        assert {row["change"] for row in document["changes"]} <= {"added", "widened"}
        if form == "policy.yaml":
            added = ("needed by ", "comes by timing: ")
            assert all(any(text.startswith(added) for text in row["because"]) for row in document["changes"])
