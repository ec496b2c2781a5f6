"""SELinux, enforcing, in a machine of its own: Debian's policy with the types that were made for four workloads.

With its load nothing is refused to a workload; an intruder with its type, and every capability, gets nothing done; and
what was refused is read back by profgen. Debian's policy knows the first domain of a kernel without an init, kernel_t,
which starts the tests here: it alone is permissive.
"""

from __future__ import annotations

import json
import pickle
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from selinux_policy import unpacked, why_not
from system.harness import Profgen, run_here
from system.lab.fixtures import Recordings
from system.lab.processes import LabError
from system.lab.workloads import Daemon, Nginx, Redis, Workload
from system.lab.workloads import why_not as why_no_workload
from vm import guest as virtual
from vm.drive import Drive
from vm.guest import KERNEL, Guest, Result, python
from vm.labels import labels_of

from profiler.kernel.capabilities import number_of
from profiler.policy.document import read_policy
from profiler.policy.patterns import literal

HERE = Path(__file__).parent


class Scratch(Workload):
    """Makes files where the distribution has no labels for them."""

    name = "scratch"
    batch = True

    @property
    def argv(self) -> tuple[str, ...]:
        return ("/usr/bin/dash", "-euc", _SCRATCH)

    def check(self, stdout: str) -> None:
        if stdout != "one\ndone\n":
            raise LabError(f"its output is wrong: {stdout!r}")


_SCRATCH = """
place=$(mktemp -d /tmp/lab.XXXXXX)
echo one >"$place/first"; mv "$place/first" "$place/second"; ln -s second "$place/link"; mkfifo "$place/pipe"
cat "$place/link"; chmod 600 "$place/second"; rm -r "$place"
mkdir /run/lab-scratch; echo $$ >/run/lab-scratch/pid; rm -r /run/lab-scratch
echo done
"""

INTRUDED: tuple[type[Workload], ...] = (Daemon, Nginx, Redis)
KINDS = (*INTRUDED, Scratch)
"""A shell script, which may execute much, is run only with its own load."""

LAB = """
(typepermissive kernel_t)
(typeattributeset file_type (unlabeled_t))
(allow file_type tmpfs_t (filesystem (associate)))
"""
"""What a machine without an init needs besides: only the files of the workloads have labels, and every file system is
in memory."""


@dataclass(frozen=True)
class Made:
    """What was made for a workload, and how its runs went. ``error``: None when the load succeeded."""

    module: Path
    policy: Path
    error: str | None
    denials: list[str]
    intruder: list[str]
    log: Path
    """The kernel's lines while the intruder ran."""


def _generate(trace: Path, name: str, contexts: Path, directory: Path) -> tuple[Path, int]:
    """Return the module, and the mask of the capabilities."""
    options = ("-t", "selinux,capabilities", "--runtime", "none", "-O", f"selinux.name={name}")
    options += ("-O", f"selinux.contexts={contexts}", "-O", "selinux.from=kernel_t")
    run_here("generate", str(trace), "-o", str(directory), *options)
    held = json.loads((directory / "capabilities.json").read_text())["oci"]["bounding"]
    numbers = [number_of(name) for name in held]
    return directory / f"{name}.cil", sum(1 << number for number in numbers if number is not None)


def _of(name: str, result: Result) -> list[str]:
    """The refusals to a type, as the kernel logged them."""
    context = f"scontext=system_u:system_r:{name}.process:s0 "
    return [line for line in result.kernel if " denied " in line and context in line and "permissive=0" in line]


def _patterns(directory: Path, workload: Workload) -> set[str]:
    """Patterns of the files that a workload uses, and everything in its own directory."""
    policy = read_policy(directory / "policy.yaml")
    return {*(rule.pattern for rule in policy.files), *policy.programs, f"{literal(str(workload.directory))}/{{tree}}"}


@pytest.fixture(scope="module")
def made(profgen: Profgen, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[type[Workload], Made]]:
    """The workloads, recorded on the host while the machine boots, and run in it."""
    if reason := virtual.why_not() or why_not() or next(filter(None, map(why_no_workload, KINDS)), None):
        pytest.skip(reason)
    guest = Guest(KERNEL.replace("apparmor", "selinux"), memory="1500M")
    try:
        guest.start()
        yield _run(guest, profgen, tmp_path_factory.mktemp("selinux"))
    finally:
        guest.close()


def _run(guest: Guest, profgen: Profgen, directory: Path) -> Mapping[type[Workload], Made]:
    recordings = Recordings(profgen, guest.work / "workloads")
    distribution = unpacked(directory / "root")
    with ThreadPoolExecutor() as workers:
        base = workers.submit(distribution.install, [], base=True)
        traces = {kind: recordings.trace(kind, "ptrace") for kind in KINDS}
    assert base.result().returncode == 0, base.result().stderr
    modules, masks = {}, {}
    for kind, trace in traces.items():
        modules[kind], masks[kind] = _generate(trace, f"lab_{kind.name}", distribution.contexts, directory / kind.name)
    lab = directory / "lab.cil"
    lab.write_text(LAB)
    done = distribution.install([lab, *modules.values()])
    assert done.returncode == 0, done.stderr
    entries = {kind: _entry(modules[kind]) for kind in INTRUDED}
    spec = guest.shared / "selinux"
    spec.mkdir()
    (spec / "policy").write_bytes(distribution.binary.read_bytes())
    for kind in KINDS:
        Workload.reset(recordings.workload(kind))
    wanted = set().union(*(_patterns(directory / kind.name, recordings.workload(kind)) for kind in KINDS))
    (spec / "labels").write_text(json.dumps(labels_of(wanted, distribution.contexts)))
    loaded = guest.run(_load(guest, recordings, spec))
    assert loaded.status == 0, f"{loaded.stdout} {loaded.stderr}"
    drives = [
        Drive(kind.name, recordings.workload(kind), _command(guest, recordings.workload(kind), masks[kind]))
        for kind in KINDS
    ]
    (spec / "drives").write_bytes(pickle.dumps(drives))
    driven = guest.run(python("-m", "vm.drive", spec / "drives"))
    assert driven.status == 0, f"{driven.stdout[-2000:]} {driven.stderr[-4000:]}"
    errors = {row["name"]: row["error"] for row in map(json.loads, driven.stdout.splitlines())}
    intruded = guest.run(_intrusions(guest, entries))
    assert intruded.status == 0, f"{intruded.stdout[-2000:]} {intruded.stderr[-4000:]}"
    log = directory / "kernel.log"
    log.write_text("".join(f"{line}\n" for line in intruded.kernel), errors="surrogateescape")
    return {
        kind: Made(
            modules[kind],
            directory / kind.name / "policy.yaml",
            errors[kind.name],
            _of(f"lab_{kind.name}", driven),
            [line.partition(": ")[2] for line in intruded.stdout.splitlines() if line.startswith(f"{kind.name}: ")],
            log,
        )
        for kind in KINDS
    }


def _entry(module: Path) -> str:
    """The type of the program that a workload starts as."""
    (line,) = [line for line in module.read_text().splitlines() if "(file (entrypoint " in line]
    return line.split()[2]


def _load(guest: Guest, recordings: Recordings, spec: Path) -> str:
    """Shell text that brings the workloads' directories over, loads the policy, labels files, and enforces."""
    archive = spec / "places.tar"
    places = [recordings.workload(kind).directory.parent for kind in KINDS]
    words = ["tar", "-C", "/", "--numeric-owner", "-cf", archive, *(path.relative_to("/") for path in places)]
    subprocess.run(words, check=True, timeout=60)
    return "\n".join(
        (
            "set -e",
            f"tar -C / --numeric-owner -xpf {archive}",
            "mount -t selinuxfs selinuxfs /sys/fs/selinux",
            python("-m", "vm.labels", spec / "policy", spec / "labels"),
            "echo 1 >/sys/fs/selinux/enforce",
        )
    )


def _command(guest: Guest, workload: Workload, mask: int) -> tuple[str, ...]:
    job = workload.job
    groups = ",".join(map(str, job.groups))
    who = ("-u", str(job.uid), "-g", str(job.gid), "-G", groups) if job.uid else ()
    context = f"system_u:system_r:lab_{workload.name}.process:s0"
    return (guest.agent, "confine", "-b", f"{mask:x}", *who, "--", "/usr/bin/runcon", context, *job.argv)


def _intrusions(guest: Guest, entries: Mapping[type[Workload], str]) -> str:
    """Shell text that runs the intruder under each type, and once without one."""
    built = guest.shared / "intruder.bin"
    subprocess.run(["cc", "-O1", "-static", "-o", built, HERE / "intruder.c"], check=True, timeout=60)
    text = [f"cp {built} /run/intruder.bin"]
    for kind, entry in entries.items():
        context = f"system_u:system_r:lab_{kind.name}.process:s0"
        text += [
            "echo >/etc/intruder-prey; rm -f /tmp/intruder /run/intruder.sock",
            f"chcon system_u:object_r:{entry}:s0 /run/intruder.bin",
            f"runcon {context} /run/intruder.bin | sed 's/^/{kind.name}: /'",
        ]
    return "\n".join(text)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_clean(kind: type[Workload], made: Mapping[type[Workload], Made]) -> None:
    """The load succeeds, and nothing is refused."""
    one = made[kind]
    assert not one.denials, "\n".join([*one.denials, one.module.read_text()])
    assert one.error is None, one.error


@pytest.mark.parametrize("kind", INTRUDED, ids=lambda kind: kind.name)
def test_intruder(kind: type[Workload], made: Mapping[type[Workload], Made]) -> None:
    """What the workload never did is refused."""
    one = made[kind]
    assert len(one.intruder) > 15, one.intruder
    assert not [line for line in one.intruder if " refused" not in line], "\n".join(one.intruder)


@pytest.mark.parametrize("kind", INTRUDED, ids=lambda kind: kind.name)
def test_refine(kind: type[Workload], made: Mapping[type[Workload], Made], profgen: Profgen, tmp_path: Path) -> None:
    """What was refused to the intruder is read from the kernel's log, under the workload's own type only."""
    one = made[kind]
    words = ("refine", str(one.policy), "--from", str(one.log), "--profile", f"lab_{kind.name}.process")
    said = profgen(*words, cwd=tmp_path).stderr
    for text in ("CAP_SYS_ADMIN", "sockets packet raw", "sockets inet raw", "trace processes: outside"):
        assert text in said, said
    assert "read of 'shadow'" in said
    assert "not understood" not in said
    assert "under profiles, types or namespaces other than" in said
