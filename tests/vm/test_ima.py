"""IMA, in the booted kernel: what was labelled by the script runs under the rules; what is foreign or changed does not.

Each workload runs under an AppArmor profile that allows everything, so that the rules hold for it alone, and what is
refused is refused by IMA. One of them needs signatures. The kernel takes rules once: those of all are loaded together.
"""

from __future__ import annotations

import json
import pickle
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from system.harness import run_here
from system.lab.fixtures import Recordings
from system.lab.workloads import Daemon, Nginx, Workload
from system.lab.workloads import why_not as why_no_workload
from vm.drive import Drive
from vm.enforce import ALL_CAPABILITIES, Confinement, load
from vm.guest import Guest, python

KINDS: tuple[type[Workload], ...] = (Daemon, Nginx)
SIGNED = Nginx
TOOLS = ("evmctl", "keyctl", "openssl", "getfattr", "setfattr")
"""Of the packages ima-evm-utils, keyutils, openssl and attr. The machine sees the host's."""
FREE = "profile {} {{\n  capability, file, network, mount, signal, ptrace, unix, pivot_root, umount,\n}}\n"
KILLED = 128 + 11
"""A program that cannot be mapped is ended by the kernel (load_elf_binary)."""


@dataclass(frozen=True)
class Made:
    """What came of it all: what was wrong with each load (None: nothing), the refusals while they ran, and the statuses
    and refusals of the acts that are to be refused, by name."""

    errors: Mapping[str, str | None]
    refusals: list[str]
    statuses: Mapping[str, int]
    causes: Mapping[str, str]
    script: str


def _profile(kind: type[Workload]) -> str:
    return f"lab-ima-{kind.name}"


def _command(guest: Guest, kind: type[Workload], *words: str) -> list[str]:
    return [guest.agent, "confine", "-p", _profile(kind), "-b", f"{ALL_CAPABILITIES:x}", *words]


def _started(guest: Guest, kind: type[Workload], workload: Workload) -> tuple[str, ...]:
    job = workload.job
    groups = ",".join(map(str, job.groups))
    who = ("-u", str(job.uid), "-g", str(job.gid), "-G", groups) if job.uid else ()
    return tuple(_command(guest, kind, *who, "--", *job.argv))


@pytest.fixture(scope="module")
def made(guest: Guest, recordings: Recordings, tmp_path_factory: pytest.TempPathFactory) -> Made:
    if reason := next(filter(None, map(why_no_workload, KINDS)), None):
        pytest.skip(reason)
    if missing := [name for name in TOOLS if shutil.which(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    shared = guest.shared / "ima"
    shared.mkdir()
    key = shared / "key.pem"
    words = [
        "openssl",
        "req",
        "-x509",
        "-new",
        "-nodes",
        "-newkey",
        "rsa:2048",
        "-sha256",
        "-batch",
        "-subj",
        "/CN=lab",
    ]
    words += ["-addext", "keyUsage=digitalSignature", "-addext", "subjectKeyIdentifier=hash", "-days", "36500"]
    words += ["-outform", "DER", "-out", str(shared / "key.der"), "-keyout", str(key)]
    subprocess.run(words, check=True, timeout=60, capture_output=True)
    for kind in KINDS:
        options = ["-t", "ima", "--runtime", "none", "-O", f"ima.where=subj_role={_profile(kind)}"]
        options += ["-O", "ima.signed=yes"] if kind is SIGNED else []
        run_here("generate", str(recordings.trace(kind, "ptrace")), "-o", str(shared / kind.name), *options)
        Workload.reset(recordings.workload(kind))
    places = [recordings.workload(kind).directory.parent.relative_to("/") for kind in KINDS]
    archive = shared / "places.tar"
    subprocess.run(["tar", "-C", "/", "--numeric-owner", "-cf", archive, *places], check=True, timeout=60)
    free = [Confinement(_profile(kind), FREE.format(_profile(kind)), ALL_CAPABILITIES) for kind in KINDS]
    drives = [
        Drive(f"ima-{kind.name}", recordings.workload(kind), _started(guest, kind, recordings.workload(kind)))
        for kind in KINDS
    ]
    (shared / "drives").write_bytes(pickle.dumps(drives))
    script = [
        "set -e",
        load(free, shared / "profiles"),
        f"tar -C / --numeric-owner -xpf {archive}",
        f"evmctl import {shared}/key.der $(keyctl newring _ima @u)",
        # The hash of what several have in common gives way to a signature, which all take.
        *(f"{shared}/{kind.name}/ima-sign.sh" for kind in KINDS if kind is not SIGNED),
        f"{shared}/{SIGNED.name}/ima-sign.sh {key}",
        f"cat {' '.join(f'{shared}/{kind.name}/ima-policy' for kind in KINDS)} >/sys/kernel/security/ima/policy",
        python("-m", "vm.drive", shared / "drives"),
    ]
    driven = guest.run("\n".join(script))
    assert driven.status == 0, f"{driven.stdout[-2000:]} {driven.stderr[-4000:]} {driven.kernel[-5:]}"
    rows = [json.loads(line) for line in driven.stdout.splitlines() if line.startswith("{")]
    acts = _acts(guest, shared, recordings)
    refused = guest.run("\n".join(acts))
    assert refused.status == 0, f"{refused.stdout[-2000:]} {refused.stderr[-4000:]}"
    told = [line.split(" ") for line in refused.stdout.splitlines()]
    return Made(
        {row["name"].removeprefix("ima-"): row["error"] for row in rows},
        _refusals(driven.kernel),
        {words[1]: int(words[2]) for words in told if words[0] == "status"},
        {
            line.split('name="')[1].split('"')[0]: line.split("cause=")[1].split(" ")[0]
            for line in _refusals(refused.kernel)
        },
        refused.stdout,
    )


def _refusals(lines: list[str]) -> list[str]:
    """The lines in which IMA refused something."""
    return [line for line in lines if "op=appraise_data" in line and " res=0" in line]


def _acts(guest: Guest, shared: Path, recordings: Recordings) -> list[str]:
    """Shell text that does what is to be refused, and the same without the profile: ``status NAME NUMBER``."""
    program = recordings.workload(Daemon).argv[0]

    def act(name: str, kind: type[Workload] | None, *words: str) -> str:
        command = _command(guest, kind, "--", *words) if kind else list(words)
        return f"{shlex.join(command)} >/dev/null 2>&1 && status=0 || status=$?; echo status {name} $status"

    true = "/run/ima-foreign"
    text = [f"cp /usr/bin/true {true}", act("free", None, true)]
    text += [act(f"foreign-{kind.name}", kind, true) for kind in KINDS]
    text += [
        # a hash of its own helps where signatures are not asked for
        "for name in hashed unsigned; do",
        "cp /usr/bin/true /run/ima-$name && evmctl ima_hash -a sha256 /run/ima-$name >/dev/null 2>&1",
        "done",
        act("hashed", Daemon, "/run/ima-hashed"),
        act("unsigned", SIGNED, "/run/ima-unsigned"),
        # a library
        "cp $(readlink -f /lib/x86_64-linux-gnu/libm.so.6) /run/ima-library.so",
        act("free-library", None, "env", "LD_PRELOAD=/run/ima-library.so", "/run/ima-hashed"),
        f"LD_PRELOAD=/run/ima-library.so {act('library', Daemon, '/run/ima-hashed')}",
        # content that changed; first the script, which looks before it labels
        f"echo >>{program}",
        act("sign-changed", None, f"{shared}/{Daemon.name}/ima-sign.sh"),
        act("changed", Daemon, program, "-h"),
        *(act(f"undo-{kind.name}", None, f"{shared}/{kind.name}/ima-sign.sh", "--undo") for kind in KINDS),
        act("left", None, "getfattr", "-n", "security.ima", "/usr/sbin/nginx"),
    ]
    return text


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_clean(kind: type[Workload], made: Made) -> None:
    """The load succeeds, and nothing is refused."""
    assert not made.refusals, "\n".join(made.refusals)
    assert made.errors[kind.name] is None, made.errors[kind.name]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_foreign_program(kind: type[Workload], made: Made) -> None:
    """A program without a hash, which everybody else may run."""
    assert made.statuses["free"] == 0
    assert made.statuses[f"foreign-{kind.name}"] == KILLED
    wanted = {"missing-hash", "IMA-signature-required"}
    assert made.causes["/run/ima-foreign"] in wanted


def test_signatures(made: Made) -> None:
    """Where signatures are asked for, a hash is not enough."""
    assert made.statuses["hashed"] == 0, made.script
    assert made.statuses["unsigned"] == KILLED
    assert made.causes["/run/ima-unsigned"] == "IMA-signature-required"


def test_library(made: Made) -> None:
    assert made.statuses["free-library"] == 0
    assert made.causes["/run/ima-library.so"] == "missing-hash"


def test_changed_file(made: Made) -> None:
    """A program that changed is refused by the kernel, and not labelled again by the script."""
    assert made.statuses["sign-changed"] == 1
    assert made.statuses["changed"] == KILLED
    assert "invalid-hash" in made.causes.values()


def test_undo(made: Made) -> None:
    assert [made.statuses[f"undo-{kind.name}"] for kind in KINDS] == [0, 0]
    assert made.statuses["left"] == 1
