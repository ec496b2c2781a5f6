"""From a recording to a confinement, and runs under it in the virtual machine."""

from __future__ import annotations

import json
import pickle
import re
import shlex
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from system.harness import run_here
from vm.drive import Drive
from vm.guest import JOB_SECONDS, Denial, Guest, Result, python

from profiler.kernel.capabilities import number_of

ALL_CAPABILITIES = (1 << 64) - 1


@dataclass(frozen=True)
class Confinement:
    """What `profgen generate` made: the profile's text with its name, and the bounding set as a mask."""

    name: str
    text: str
    mask: int

    def named(self, name: str) -> Confinement:
        """The same profile under another name. Names of profiles here are words that occur nowhere else."""
        return Confinement(name, re.sub(rf"\b{re.escape(self.name)}\b", name, self.text), self.mask)


def same(one: Confinement, other: Confinement) -> bool:
    """Whether they differ in nothing but their names."""
    return one.named("NAME").text == other.named("NAME").text and one.mask == other.mask


def generate(trace: Path, name: str, directory: Path, options: Sequence[str] = ()) -> Confinement:
    """The confinement for a trace. AssertionError when it fails."""
    words = [
        "generate",
        str(trace),
        "-o",
        str(directory),
        "-t",
        "apparmor",
        "-t",
        "capabilities",
        "-O",
        f"apparmor.name={name}",
        *options,
    ]
    run_here(*words)
    document = json.loads((directory / "capabilities.json").read_text())
    numbers = [number_of(capability) for capability in document["oci"]["bounding"]]
    return Confinement(
        name, (directory / "apparmor.profile").read_text(), sum(1 << number for number in numbers if number is not None)
    )


@dataclass(frozen=True)
class Run:
    """One confined run: `command` under `confinement`; `before` is shell text run first, unconfined."""

    name: str
    confinement: Confinement
    command: Sequence[str]
    before: str = ""
    mask: int | None = None
    """Capability bounding set; None: the confinement's own."""
    who: Sequence[str] = ()
    """Options of `agent confine` that say who runs it."""
    seconds: int = 300


@dataclass(frozen=True)
class Outcome:
    status: int
    stdout: str
    stderr: str
    denials: list[Denial] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"status {self.status}",
            self.stdout.rstrip(),
            self.stderr.rstrip(),
            *(denial.line for denial in self.denials),
        ]
        return "\n".join(line for line in lines if line)


def load(confinements: Iterable[Confinement], directory: Path) -> str:
    """Write the profiles into a directory both sides see; gives the shell text that loads them."""
    directory.mkdir(parents=True, exist_ok=True)
    for confinement in confinements:
        (directory / confinement.name).write_text(confinement.text, errors="surrogateescape")
    return f"apparmor_parser -r -K {shlex.quote(str(directory))}/* || {{ echo 'profiles do not load' >&2; exit 99; }}\n"


def run(guest: Guest, name: str, runs: Sequence[Run], before: str = "") -> Mapping[str, Outcome]:
    """Load the profiles and do all the runs in one job. Denials are told apart by the profile's name, so each run has
    its own.

    AssertionError when the profiles do not load or the job does not end.
    """
    directory = guest.shared / name
    output = f"/run/{name}"
    script = [load((each.confinement for each in runs), directory / "profiles"), before, f"mkdir {output}\ncd /\n"]
    for each in runs:
        assert re.fullmatch(r"[\w.-]+", each.name), each.name
        mask = each.confinement.mask if each.mask is None else each.mask
        words = [
            guest.agent,
            "confine",
            "-o",
            f"{output}/{each.name}",
            "-t",
            str(each.seconds),
            "-p",
            each.confinement.name,
            "-b",
            f"{mask:x}",
        ]
        script.append(f"{each.before}\n{shlex.join([*words, *each.who, '--', *each.command])}")
    script.append(f"tar -C {output} -cf {shlex.quote(str(directory))}/out.tar . && rm -rf {output}")
    result = guest.run("\n".join(script))
    assert result.status == 0, f"status {result.status}: {result.stdout[-2000:]} {result.stderr[-4000:]}"
    return _outcomes(runs, result, directory / "out.tar")


def _outcomes(runs: Sequence[Run], result: Result, archive: Path) -> Mapping[str, Outcome]:
    texts: dict[str, str] = {}
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            if member.isfile() and (file := tar.extractfile(member)) is not None:
                texts[Path(member.name).name] = file.read().decode(errors="surrogateescape")
    archive.unlink()
    outcomes: dict[str, Outcome] = {}
    for each in runs:
        denials = _of(each.confinement.name, result.denials)
        status = int(texts[f"{each.name}.status"])
        outcomes[each.name] = Outcome(status, texts[f"{each.name}.out"], texts[f"{each.name}.err"], denials)
    return outcomes


def driven(
    guest: Guest,
    name: str,
    drives: Sequence[Drive],
    confinements: Sequence[Confinement],
    places: Sequence[Path],
    seconds: float = JOB_SECONDS,
) -> Mapping[str, tuple[str | None, float, list[Denial]]]:
    """Load the profiles, bring these directories over as they are, and drive the workloads in turn (vm/drive.py), all
    in one job, which may take this long.

    What was wrong (None: nothing), seconds, and denials by each Drive's name. AssertionError when the job did not end
    well.
    """
    shared = guest.shared / name
    shared.mkdir()
    archive = shared / "places.tar"
    subprocess.run(
        ["tar", "-C", "/", "--numeric-owner", "-cf", archive, *(path.relative_to("/") for path in places)],
        check=True,
        timeout=60,
    )
    (shared / "spec").write_bytes(pickle.dumps(list(drives)))
    script = [
        load(confinements, shared / "profiles"),
        f"tar -C / --numeric-owner -xpf {archive}",
        python("-m", "vm.drive", shared / "spec"),
    ]
    result = guest.run("\n".join(script), seconds)
    assert result.status == 0, f"status {result.status}: {result.stdout[-2000:]} {result.stderr[-4000:]}"
    found: dict[str, tuple[str | None, float, list[Denial]]] = {}
    profiles = {each.name: confinement.name for each, confinement in zip(drives, confinements, strict=True)}
    for line in result.stdout.splitlines():
        row = json.loads(line)
        found[row["name"]] = row["error"], row["seconds"], _of(profiles[row["name"]], result.denials)
    return found


def _of(profile: str, denials: Iterable[Denial]) -> list[Denial]:
    """Those of a profile and of its children, whose names begin with its."""
    return [denial for denial in denials if denial.profile == profile or denial.profile.startswith(f"{profile}//")]
