"""TOMOYO, enforcing, in the machine: the policies that were made for three workloads.

With its load nothing is refused to a workload; an intruder in its domain, with every capability, gets nothing done that
TOMOYO looks at; and what was refused is read back by profgen.
"""

from __future__ import annotations

import json
import pickle
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from system.harness import Profgen, run_here
from system.lab.fixtures import Recordings
from system.lab.workloads import Daemon, Nginx, Redis, Workload
from system.lab.workloads import why_not as why_no_workload
from vm.drive import Drive
from vm.guest import Guest, python

HERE = Path(__file__).parent
KINDS: tuple[type[Workload], ...] = (Daemon, Nginx, Redis)

UNSEEN = {"raw_socket", "packet_socket", "trace_init", "signal_init", "host_name", "load_module"}
"""Acts of the intruder that TOMOYO does not look at: kinds of sockets, processes, capabilities."""

START = """
cat >/run/tomoyo-load <<'END'
#!/bin/sh
tomoyo-loadpolicy -p <{lab}/profile
tomoyo-loadpolicy -e <{lab}/exceptions
tomoyo-loadpolicy -d <{lab}/domains
echo /usr/sbin/tomoyo-loadpolicy >/sys/kernel/security/tomoyo/manager
END
chmod 755 /run/tomoyo-load
cp /usr/bin/true /run/tomoyo-start
/run/tomoyo-start
"""
"""Starts TOMOYO (tests/vm/guest.py), as tomoyo-init(8) does where /sbin/init is the trigger."""
PROFILE = """PROFILE_VERSION=20150505
0-PREFERENCE={ max_audit_log=1024 max_learning_entry=2048 }
0-CONFIG={ mode=disabled grant_log=no reject_log=no }
"""
EXCEPTIONS = "keep_domain any from <kernel>\n"
DOMAINS = "<kernel>\nuse_profile 0\nuse_group 0\n"

OVERLAY = ("9p:/", "9p:/\\{\\*\\}/", "tmpfs:/\\{\\*\\}/")
"""The machine's root is an overlay: the kernel asks again for a directory below, by its name there."""


@dataclass(frozen=True)
class Made:
    """What was made for a workload, and how its runs went. ``error``: None when the load succeeded."""

    directory: Path
    error: str | None
    refused: str
    intruder: list[str]
    log: Path
    """TOMOYO's log while the intruder ran."""


@pytest.fixture(scope="module")
def made(
    guest: Guest, recordings: Recordings, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[type[Workload], Made]:
    """The workloads, recorded on the host and run in the machine."""
    if reason := next(filter(None, map(why_no_workload, KINDS)), None):
        pytest.skip(reason)
    if not Path("/usr/sbin/tomoyo-loadpolicy").exists():
        pytest.skip("not installed: tomoyo-tools")
    directory, lab = tmp_path_factory.mktemp("tomoyo"), guest.shared / "tomoyo"
    lab.mkdir()
    for name, text in (("profile", PROFILE), ("exceptions", EXCEPTIONS), ("domains", DOMAINS)):
        (lab / name).write_text(text)
    subprocess.run(["cc", "-O1", "-static", "-o", lab / "intruder.bin", HERE / "intruder.c"], check=True, timeout=60)
    script = ["set -e", START.format(lab=lab), f"cp {lab}/intruder.bin /run/intruder.bin"]
    for kind in KINDS:
        trace = recordings.trace(kind, "ptrace")
        options = ("-t", "tomoyo", "--runtime", "none", "-O", f"tomoyo.name={_name(kind)}")
        run_here("generate", str(trace), "-o", str(directory / kind.name), *options)
        script += _load(kind, directory / kind.name, lab)
    places = [recordings.workload(kind).directory.parent for kind in KINDS]
    for kind in KINDS:
        Workload.reset(recordings.workload(kind))
    words = [
        "tar",
        "-C",
        "/",
        "--numeric-owner",
        "-cf",
        lab / "places.tar",
        *(path.relative_to("/") for path in places),
    ]
    subprocess.run(words, check=True, timeout=60)
    drives = [
        Drive(f"tomoyo-{kind.name}", recordings.workload(kind), _command(guest, recordings, kind)) for kind in KINDS
    ]
    (lab / "drives").write_bytes(pickle.dumps(drives))
    script += [f"tar -C / --numeric-owner -xpf {lab}/places.tar", python("-m", "vm.drive", lab / "drives")]
    driven = guest.run("\n".join(script))
    assert driven.status == 0, f"{driven.stdout[-2000:]} {driven.stderr[-4000:]}"
    errors = {row["name"]: row["error"] for row in map(json.loads, driven.stdout.splitlines())}
    refused = guest.run("cat /sys/kernel/security/tomoyo/audit")
    intruded = guest.run("\n".join(map(_intrusion, KINDS)))
    log = directory / "audit.log"
    audit = guest.run("cat /sys/kernel/security/tomoyo/audit")
    log.write_text(audit.stdout, errors="surrogateescape")
    return {
        kind: Made(
            directory / kind.name,
            errors[f"tomoyo-{kind.name}"],
            refused.stdout,
            [line.partition(": ")[2] for line in intruded.stdout.splitlines() if line.startswith(f"{kind.name}: ")],
            log,
        )
        for kind in KINDS
    }


def _name(kind: type[Workload]) -> str:
    return f"lab_{kind.name}"


def _first(directory: Path) -> str:
    """The domain that the workload starts in."""
    lines = (directory / "tomoyo.domain.conf").read_text().splitlines()
    return next(line for line in lines if line.startswith("<") and " " in line)


def _load(kind: type[Workload], directory: Path, lab: Path) -> list[str]:
    """Shell text that loads a policy, and what the machine needs besides."""
    place = lab / kind.name
    place.mkdir()
    for path in directory.glob("tomoyo.*"):
        (place / path.name).write_bytes(path.read_bytes())
    name, first = f"<{_name(kind)}>", _first(directory)
    (place / "overlay").write_text("".join(f"{name} acl_group 0 file read {word}\n" for word in OVERLAY))
    (place / "intruder").write_text(f'{name}\nfile execute @program {first} exec.realpath="/run/intruder.bin"\n')
    loads = (
        ("p", "tomoyo.profile.conf"),
        ("e", "tomoyo.exception.conf"),
        ("e", "overlay"),
        ("d", "tomoyo.domain.conf"),
    )
    return [f"tomoyo-loadpolicy -{letter} <{place}/{file}" for letter, file in (*loads, ("d", "intruder"))]


def _entered(kind: type[Workload], *words: str) -> tuple[str, ...]:
    """The command that starts a program in the workload's namespace."""
    enter = f'echo "<{_name(kind)}>" >/sys/kernel/security/tomoyo/self_domain && exec "$@"'
    return ("/bin/sh", "-c", enter, "sh", *words)


def _command(guest: Guest, recordings: Recordings, kind: type[Workload]) -> tuple[str, ...]:
    job = recordings.workload(kind).job
    groups = ",".join(map(str, job.groups))
    who = ("-u", str(job.uid), "-g", str(job.gid), "-G", groups) if job.uid else ()
    return (guest.agent, "confine", *who, "--", *_entered(kind, *job.argv))


def _intrusion(kind: type[Workload]) -> str:
    before = "echo >/etc/intruder-prey; rm -f /tmp/intruder /run/intruder.sock"
    return f"{before}\n{shlex.join(_entered(kind, '/run/intruder.bin'))} | sed 's/^/{kind.name}: /'"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_clean(kind: type[Workload], made: Mapping[type[Workload], Made]) -> None:
    """The load succeeds, and nothing is refused."""
    one = made[kind]
    records = one.refused.split("#\n")
    assert f"<{_name(kind)}>" not in one.refused, "\n".join(row for row in records if f"<{_name(kind)}>" in row)[:6000]
    assert one.error is None, one.error


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_intruder(kind: type[Workload], made: Mapping[type[Workload], Made]) -> None:
    """What the workload never did is refused, but for what TOMOYO does not look at."""
    one = made[kind]
    assert len(one.intruder) > 15, one.intruder
    done = {line.split()[0] for line in one.intruder if " refused" not in line}
    assert done <= UNSEEN, "\n".join(one.intruder)
    assert len(one.intruder) - len(done) > 10, "\n".join(one.intruder)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_refine(kind: type[Workload], made: Mapping[type[Workload], Made], profgen: Profgen, tmp_path: Path) -> None:
    """What was refused to the intruder is read from TOMOYO's log, under the workload's own namespace only."""
    one = made[kind]
    words = ("refine", str(one.directory / "policy.yaml"), "--from", str(one.log), "--profile", _name(kind))
    done = profgen(*words, cwd=tmp_path)
    for text in ("/etc/shadow", "/etc/intruder", "/usr/bin/bash", "/root", "/run/intruder.sock", "/proc/kcore"):
        assert text in done.stdout + done.stderr, done.stdout + done.stderr
    assert "not understood" not in done.stderr
    assert "under profiles, types or namespaces other than" in done.stderr
