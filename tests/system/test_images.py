"""``profgen record --image`` against strace within the container, and what comes of it; in Docker, under runc and under
crun.

What is typed is what a user types: ``record --image``, ``generate``, the ``docker-run.sh`` that it wrote.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from system import oracle
from system.harness import Profgen, finish, why_no_ebpf
from system.lab import images, runs
from system.lab.fixtures import Recordings
from system.lab.images import IMAGED, Image, ImageEngine, ImageRun
from system.lab.processes import LabError, run
from system.lab.runtimes import Confinement, Job
from system.lab.workloads import Workload
from system.test_minimal import NEEDED
from unit.images.archives import CAPABILITY, attribute
from waiting import eventually

from profiler.kernel.arguments import spec_for
from profiler.kernel.syscalls import name_of, number_of
from profiler.tracers.base import Options
from profiler.tracers.ebpf.watcher import EbpfWatcher
from profiler.tracers.watcher import Selection, Session

pytestmark = [
    pytest.mark.usefixtures("as_root"),
    pytest.mark.skipif(why_no_ebpf() is not None, reason=f"containers need the eBPF tracer: {why_no_ebpf()}"),
]

RUNTIMES = ("runc", "crun")
EVERY = pytest.mark.parametrize("kind", IMAGED, ids=lambda kind: kind.name)
UNFILTERED = "runc"
UNDER_EACH = pytest.mark.parametrize("runtime", RUNTIMES)

NOW_AND_THEN = {"futex", "restart_syscall", "clock_nanosleep", "sched_yield", "madvise", "munmap", "rt_sigreturn"}
"""Calls that come or do not as threads happen to meet; under strace, which slows them, the more. No argument of theirs
is recorded."""

STRACE = (
    "-f",
    "-n",
    "--quiet=attach,exit,path-resolution,thread-execve",
    "-e",
    "raw=!clone3",
    "-X",
    "raw",
    "-e",
    "signal=none",
    "-s",
    "0",
)

Arguments = dict[tuple[str, int], frozenset[tuple[int, ...]] | None]
"""(ABI, number) to the values of the recorded arguments, None where there were too many."""


@dataclass(frozen=True)
class Recorded:
    """One recording of an image. ``strace``: where strace wrote, if it ran within."""

    path: Path
    strace: Path | None = None

    @cached_property
    def trace(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.path.read_bytes())
        return document

    def _program(self, index: int | str) -> str:
        return os.path.basename(self.trace["programs"][int(index)]["path"])

    @cached_property
    def calls(self) -> dict[tuple[str, int], int]:
        """(ABI, number) to how often; strace's own are left out."""
        found = {
            (row["abi"], row["number"]): sum(
                count for index, count in row["programs"].items() if self._program(index) != "strace"
            )
            for row in self.trace["syscalls"]
        }
        return {key: count for key, count in found.items() if count}

    @cached_property
    def arguments(self) -> Arguments:
        """As `calls`."""
        found: Arguments = {}
        for row in self.trace["syscalls"]:
            if row["arguments"] is None or (row["abi"], row["number"]) not in self.calls:
                continue
            values = frozenset(
                tuple(value["value"])
                for value in row["arguments"]["values"]
                if any(self._program(index) != "strace" for index in value["programs"])
            )
            found[row["abi"], row["number"]] = None if row["arguments"]["overflow"] else values
        return found

    @cached_property
    def seen(self) -> Mapping[tuple[str, int], oracle.Seen]:
        """What strace saw."""
        assert self.strace is not None
        return oracle.parse(self.strace.read_text(errors="surrogateescape").splitlines())


def values(seen: Mapping[tuple[str, int], oracle.Seen]) -> Arguments:
    """Of strace's raw arguments those that are recorded, cut to their masks."""
    found: Arguments = {}
    for (abi, number), row in seen.items():
        spec = spec_for(name_of(abi, number) or "", abi)
        if spec is None:
            continue
        positions = (0,) if spec.pointer else spec.positions
        whole = [one for one in row.arguments if len(one) > max(positions)]
        assert whole, f"strace told no arguments of {row.name}"
        cut = {tuple(one[at] & mask for at, mask in zip(positions, spec.masks, strict=True)) for one in whole}
        found[abi, number] = None if len(cut) > 128 else frozenset(cut)
    return found


def without_clone3(
    abi: str, calls: set[tuple[str, int]], arguments: Arguments
) -> tuple[set[tuple[str, int]], Arguments]:
    """What becomes of these where clone3 is answered ENOSYS, as Docker's own filter does: libc takes clone, with the
    same flags."""
    old, new = ((abi, number_of(abi, name)) for name in ("clone", "clone3"))
    flags = arguments.get(new) or frozenset()
    instead = {old: frozenset((value & 0xFFFFFF00,) for (value,) in flags) | (arguments.get(old) or frozenset())}
    rest = {key: value for key, value in arguments.items() if key != new}
    return (calls - {new}) | ({old} if new in calls else set()), {**rest, **instead} if flags else rest


def one_of(kind: type[Workload]) -> str:
    """Of the runtimes, where one will do: the next for each workload."""
    return RUNTIMES[IMAGED.index(kind) % len(RUNTIMES)]


class Images:
    """Each image built once, and recorded once under each runtime, and once more with strace under one of them, when
    first asked for."""

    def __init__(self, engine: ImageEngine, profgen: Profgen, recordings: Recordings, directory: Path) -> None:
        self.engine = engine
        self._profgen = profgen
        self._recordings = recordings
        self._directory = directory
        self._images: dict[type[Workload], Image] = {}
        self._recorded: dict[tuple[type[Workload], str, bool], Recorded] = {}

    def __getitem__(self, kind: type[Workload]) -> Image:
        if kind not in self._images:
            workload = self._recordings.workload(kind)
            self._images[kind] = images.image(self.engine, workload, self._directory / f"{workload.name}.context")
        return self._images[kind]

    def with_strace(self, kind: type[Workload]) -> Recorded:
        """Under the one runtime or the other. strace has nothing to do with them, and slows everything."""
        return self.recorded(kind, one_of(kind), strace=True)

    def recorded(self, kind: type[Workload], runtime: str, strace: bool = False) -> Recorded:
        """With the rights that a ``docker run`` has by itself. With strace without Docker's own filter: strace, unlike
        profgen, is shown calls that a filter refuses; and under one of the runtimes, so that both ways are recorded."""
        if (kind, runtime, strace) not in self._recorded:
            self._recorded[kind, runtime, strace] = self._record(self[kind], runtime, strace)
        return self._recorded[kind, runtime, strace]

    def _record(self, image: Image, runtime: str, strace: bool) -> Recorded:
        directory = self._directory / f"{image.workload.name}.{runtime}{'.strace' if strace else ''}"
        directory.mkdir(exist_ok=True)
        directory.chmod(0o777)
        name = f"profgen-image-{os.getpid()}-{directory.name}"
        path, log = directory / "trace.json", directory / "log"
        words = ["-o", path, "--image", image.tag, "--name", name, f"--runtime={runtime}", *image.options]
        arguments = image.arguments
        if strace:
            # The right to look behind clone3's pointer in a process that has changed its user.
            words += [f"--volume={directory}:{directory}", "--entrypoint=/usr/bin/strace", "--cap-add=SYS_PTRACE"]
            arguments = (*STRACE, "-o", str(log), "--", *image.entrypoint, *arguments)
        if strace or runtime == UNFILTERED:
            words += ["--security-opt=seccomp=unconfined"]
        words += ["--", *arguments]
        workload = image.workload
        workload.reset()
        process = self._profgen.start("record", *words, cwd=directory, env=self.engine.client_environment)
        try:
            if not workload.batch:
                assert eventually(lambda: process.poll() is not None or workload.ready()), "it never answered"
                for _ in range(1 if strace else workload.rounds):
                    workload.load()
                if strace:
                    # strace is the first process of its pid namespace, and so immune to TERM: the signal is for what it
                    # started.
                    first = run([*self.engine._tool("inspect", "--format", "{{.State.Pid}}"), name]).stdout.strip()
                    os.kill(int(Path(f"/proc/{first}/task/{first}/children").read_text().split()[0]), signal.SIGTERM)
                else:
                    process.terminate()
            stdout, said = finish(process)
        finally:
            if process.poll() is None:
                process.terminate()
                _, said = finish(process)
                pytest.fail(said)
        assert process.returncode == 0, said
        workload.check(stdout.decode())
        return Recorded(path, log if strace else None)


@pytest.fixture(scope="module")
def built(profgen: Profgen, public_dir: Path) -> Iterator[Images]:
    if reason := images.why_not():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="profgen-lab-") as state:
        engine = ImageEngine(Path(state))
        directory = public_dir / "images"
        directory.mkdir()
        try:
            # Apart from those of other tests: nginx and Redis are set up otherwise here, under the same names.
            yield Images(engine, profgen, Recordings(profgen, directory / "workloads"), directory)
        finally:
            engine.close()


@UNDER_EACH
@EVERY
def test_same_as_strace(kind: type[Workload], runtime: str, built: Images) -> None:
    """One run that both see, to the last call; another without strace: the same calls, arguments, capabilities.

    And nothing of the runtime.
    """
    image = built[kind]
    both = built.with_strace(kind)
    expected, arguments = {key: replace(row) for key, row in both.seen.items()}, values(both.seen)
    native = both.trace["meta"]["arch"]
    execve = (native, {"x86_64": 59, "aarch64": 221}[native])
    expected[execve].calls -= 1  # strace's child
    assert both.trace["meta"]["complete"]
    assert {name_of(*key): (both.calls.get(key), expected.get(key)) for key in both.calls.keys() | expected.keys()
            if key not in expected or not expected[key].agrees(both.calls.get(key, 0))} == {}  # fmt: skip
    assert both.arguments == {key: value for key, value in arguments.items() if expected[key].calls}

    alone = built.recorded(kind, runtime)
    called = set(both.seen)
    if runtime != UNFILTERED:
        called, arguments = without_clone3(native, called, arguments)
    assert {name_of(*key) for key in alone.calls.keys() ^ called} <= NOW_AND_THEN
    assert alone.arguments == arguments

    trace = alone.trace
    meta, container = trace["meta"], trace["meta"]["container"]
    starts = [trace["programs"][row["program"]]["path"] for row in trace["execs"] if row["by"] is None]
    assert starts == [image.program]
    assert not trace["mounts"], "that is the runtime's work"
    assert (meta["uid"], meta["exit_status"], meta["complete"]) == (image.workload.uid, 0, True)
    assert (container["image"], container["runtime"]) == (image.tag, runtime)
    assert (tuple(container["entrypoint"]), tuple(container["command"])) == (image.entrypoint, image.arguments)
    granted = {
        row["capability"]
        for row in trace["capabilities"]
        if (row["verdict"], row["namespace"], row["decisive"]) == ("granted", "initial", True)
    }
    assert granted == NEEDED[kind.name]


def ended(watcher: EbpfWatcher, containers: Sequence[str]) -> list[Session]:
    """Those of these containers; the machine may have others' too."""
    return [session for session in watcher.sessions() if session.subject in containers and session.ended]


def refused(watcher: EbpfWatcher, containers: Sequence[str], profiles: Sequence[Path]) -> list[str]:
    """What the filters of these containers refused, but for what the profiles name to be answered ENOSYS."""
    rules = [rule for profile in profiles for rule in json.loads(profile.read_text())["syscalls"]]
    absent = {name for rule in rules if rule.get("errnoRet") == errno.ENOSYS for name in rule["names"]}
    return [
        f"{row.path or 'the runtime'}: {name_of(row.abi, row.number)}{row.arguments}: {row.error}"
        for session in ended(watcher, containers)
        for row in watcher.refused(session)
        if row.error != "ENOSYS" or name_of(row.abi, row.number) not in absent
    ]


@UNDER_EACH
@EVERY
def test_runs_clean(kind: type[Workload], runtime: str, built: Images, tmp_path: Path) -> None:
    """Under the docker-run.sh from the recording nothing is refused: with and without no_new_privs, the root
    read-only."""
    image, recorded = built[kind], built.recorded(kind, runtime)
    profiles: list[Path] = []
    ran: list[str] = []
    with EbpfWatcher() as watcher:
        watcher.start(Selection(all_containers=True), Options(files=False, denials=True))
        for no_new_privs in (True, False):
            directory = tmp_path / f"profile-{no_new_privs}"
            confinement = runs.generated(
                recorded.path, directory, runtime, no_new_privs, ["-t", "docker", "-t", "capabilities"]
            )
            assert set(confinement.capabilities["bounding"]) == NEEDED[kind.name]
            script = directory / "docker-run.sh"
            assert ("no-new-privileges" in script.read_text()) is no_new_privs
            started = ImageRun(built.engine, image, runtime, script)
            runs.confined(image.workload, started, Confinement(None, no_new_privs=no_new_privs, read_only=True))
            profiles.append(directory / "seccomp.json")
            ran += started.ran
        assert eventually(lambda: not watcher.wait(0.05) and len(ended(watcher, ran)) == len(profiles))
        assert refused(watcher, ran, profiles) == []


@EVERY
def test_starts_as_recorded(kind: type[Workload], built: Images, tmp_path: Path) -> None:
    """docker-run.sh --as-recorded needs no other words: network, volumes, user, directory and arguments are in it. With
    a root that cannot be written, the places that the workload writes to are memory or volumes."""
    runtime = one_of(kind)
    runs.generated(built.recorded(kind, runtime).path, tmp_path / "profile", runtime, True)
    script = tmp_path / "profile" / "docker-run.sh"
    for read_only in (False, True):
        started = ImageRun(built.engine, built[kind], runtime, script, as_recorded=True)
        runs.confined(built[kind].workload, started, Confinement(None, no_new_privs=True, read_only=read_only))


class ServiceRun(ImageRun):
    """``docker-compose run`` of the service that ``generate`` wrote."""

    def command(self, identity: str, directory: Path, job: Job, confinement: Confinement) -> list[str]:
        """See Runtime. The seccomp profile is looked for in the current directory."""
        assert self.script is not None
        settings = [f"{name}={value}" for name, value in self.engine.client_environment.items()]
        enter = f'cd "{self.script.parent}" && exec "$@"'
        return ["env", *settings, "sh", "-c", enter, "sh", "docker-compose", "run", f"--name={identity}", "app"]


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
@EVERY
def test_the_service_starts_as_recorded(kind: type[Workload], built: Images, tmp_path: Path) -> None:
    """As docker-run.sh does, without another word."""
    directory = tmp_path / "profile"
    runs.generated(built.recorded(kind, "runc").path, directory, "runc", True)
    started = ServiceRun(built.engine, built[kind], "runc", directory / "compose.yaml")
    runs.confined(built[kind].workload, started, Confinement(None, no_new_privs=True))


@EVERY
def test_no_capability_is_spare(kind: type[Workload], built: Images, tmp_path: Path) -> None:
    """strace does not tell of capabilities: each is tried without. That all together suffice is `test_runs_clean`."""
    runtime = one_of(kind)
    full = runs.generated(built.recorded(kind, runtime).path, tmp_path / "profile", runtime, True)
    needed = full.capabilities["bounding"]
    spare = []
    for dropped in needed:
        less = Confinement.with_capabilities(full.seccomp, [name for name in needed if name != dropped])
        try:
            runs.confined(built[kind].workload, ImageRun(built.engine, built[kind], runtime), less)
        except LabError:
            continue
        spare.append(dropped)
    assert spare == []


def test_lint_of_an_image_says_what_happens(built: Images, profgen: Profgen, public_dir: Path) -> None:
    """A setuid program and one with capabilities in a real image: as lint says, so does the engine do."""
    engine, context = built.engine, public_dir / "privileged"
    context.mkdir()
    # COPY would drop both; ADD unpacks them.
    with tarfile.open(context / "opt.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name, mode, headers in (
            ("setuid", 0o4755, {}),
            ("capable", 0o755, {CAPABILITY: attribute(13).decode("utf-8", "surrogateescape")}),
        ):
            member = archive.gettarinfo("/usr/bin/id", f"opt/{name}")
            member.mode, member.pax_headers = mode, headers
            with open("/usr/bin/id", "rb") as program:
                archive.addfile(member, program)
    (context / "Dockerfile").write_text("FROM base\nADD opt.tar /\nUSER nobody\n")
    engine.build(context, "privileged:1")
    for words in (["record", "-o", "id.json", "--", "/usr/bin/id"], ["generate", "id.json", "-o", "id.profile"]):
        done = profgen(*words, cwd=public_dir)
        assert done.returncode == 0, done.stderr
    saved = public_dir / "privileged.tar"
    run(engine._tool("save", "--output", str(saved), "privileged:1"), seconds=60)
    said = []
    for image in ("privileged:1", saved):
        words = ["lint", "id.profile", "--image", str(image), "--fail-on", "never", "--json"]
        done = profgen(*words, cwd=public_dir, env=engine.client_environment)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)["findings"]
        said.append([(row["rule"], row["what"]) for row in found if row["rule"].startswith("privileges")])
    assert said[0] == said[1]
    (rule, what), *others = said[0]
    assert (rule, others) == ("privileges-useless", [])
    assert "/opt/capable (CAP_NET_RAW)" in what
    assert "/opt/setuid (setuid root)" in what

    def runs(program: str) -> Any:
        words = ("run", "--rm", "--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges")
        return run(engine._tool(*words, f"--entrypoint=/opt/{program}", "privileged:1", "-u"), check=False, seconds=60)

    useless = runs("setuid")
    assert (useless.returncode, useless.stdout.strip()) == (0, "65534")
    refused = runs("capable")
    assert refused.returncode != 0
    assert "operation not permitted" in refused.stderr.lower()
