"""Enforce a policy in a container, under the runtime's own seccomp filter and capability sets.

Nothing in the container is changed to see what is refused. eBPF programs watch it from its entry point on: a call that
seccomp refused has an exit and no entry, and a refused capability check is seen as such. Files, sockets and the rest
are compared with the policy's rules and not refused: that takes AppArmor, which container systems load themselves. With
mode log the container has no filter and every capability, and everything that it does is compared with the policy.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from profiler import run
from profiler.denials.check import Held
from profiler.denials.model import Denial, merged
from profiler.enforce.base import FILES_UNSEEN, Options, Outcome, wrong_machine
from profiler.enforce.calls import filtered, head
from profiler.engines.commands import Option, Run, grammar, options, recognise
from profiler.engines.engine import Creation, Engine, help_of
from profiler.errors import InputError, ProfgenError, ProgramError
from profiler.kernel.capabilities import CAPABILITIES
from profiler.kernel.errno import number_of as errno_number
from profiler.kernel.syscalls import name_of
from profiler.policy.model import Policy
from profiler.targets.base import Existing
from profiler.targets.rendering import render_one
from profiler.targets.seccomp import profile
from profiler.tracers import base
from profiler.tracers.base import Workload
from profiler.tracers.guard import guarded
from profiler.tracers.launch import find_program, shell_status, spawn
from profiler.tracers.recording import Recording
from profiler.tracers.supervisor import Supervisor
from profiler.tracers.watcher import Refused, Selection, Session, Watcher
from profiler.wording import cause

_TICK_SECONDS = 0.1


def unavailable(policy: Policy) -> str | None:
    """Return why containers cannot be watched here, None when they can."""
    from profiler.tracers.ebpf.tracer import EbpfTracer

    reason = EbpfTracer().unavailable()
    return wrong_machine(policy) or (None if reason is None else f"containers are watched with eBPF, and {reason}")


class Oci:
    """Runs a bundle with an OCI runtime (``runc run``), with a private copy of its config.json."""

    def __init__(self, name: str) -> None:
        self.name = name

    def unavailable(self, policy: Policy, options: Options) -> str | None:
        """It needs the runtime, a bundle, and eBPF."""
        if shutil.which(self.name) is None:
            return f"{self.name} is not installed"
        if options.bundle is None:
            return "it needs --bundle DIR, the directory with config.json"
        return unavailable(policy)

    def run(self, policy: Policy, workload: Workload, options: Options) -> Outcome:
        """See Enforcer.run. Without a command it runs the bundle's own."""
        assert options.bundle is not None
        identity = f"profgen-verify-{os.getpid()}-{os.urandom(4).hex()}"
        tool = find_program(self.name, workload.env)
        directory = Path(tempfile.mkdtemp(prefix="profgen-verify-"))

        def clear() -> None:
            with contextlib.suppress(ProgramError):
                run.ask([tool, "delete", "--force", identity])
            shutil.rmtree(directory, ignore_errors=True)

        with guarded(clear):
            config = _config(options.bundle, policy, workload.argv, identity, options.mode)
            (directory / "config.json").write_bytes(config)
            command = (tool, "run", "--bundle", str(directory), identity)
            return _watched(policy, replace(workload, argv=command, path=tool), options, identity)


class Runc(Oci):
    """runc."""

    def __init__(self) -> None:
        super().__init__("runc")


class Crun(Oci):
    """crun."""

    def __init__(self) -> None:
        super().__init__("crun")


def _config(bundle: Path, policy: Policy, argv: Sequence[str], identity: str, mode: str) -> bytes:
    """Return the config.json of this run. Raises InputError when the bundle's cannot be used."""
    path = bundle / "config.json"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {cause(error)}") from error
    if mode == "enforce":
        data = render_one("oci", policy, existing=Existing(str(path), data)).files[0].data
    try:
        config = json.loads(data)
        process, linux = config.setdefault("process", {}), config.setdefault("linux", {})
        if argv:
            process["args"] = list(argv)
        if mode == "log":
            linux.pop("seccomp", None)
            process.pop("apparmorProfile", None)
            user = process.get("user", {}).get("uid", 0)
            everything = _every_capability()
            kept = everything if user else []
            process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), everything)
            process["capabilities"] |= dict.fromkeys(("inheritable", "ambient"), kept)
        root = config.setdefault("root", {"path": "rootfs"})
        root["path"] = os.path.join(os.path.abspath(bundle), root.get("path", "rootfs"))
        linux["cgroupsPath"] = f"/{identity}"  # a unique name, by which the watcher finds it
        for mount in config.get("mounts", ()):
            # The source of a bind mount may be relative to the bundle.
            source = mount.get("source")
            if (
                isinstance(source, str)
                and {"bind", "rbind"} & set(mount.get("options", ()))
                and not source.startswith("/")
            ):
                mount["source"] = os.path.join(os.path.abspath(bundle), source)
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: not a config.json of the OCI runtime specification: {error}") from error
    return json.dumps(config, indent=1).encode()


def _last_capability() -> int:
    """Return the number of this kernel's highest capability (proc_sys_kernel(5))."""
    return int(Path("/proc/sys/kernel/cap_last_cap").read_text(errors="surrogateescape"))


def _every_capability() -> list[str]:
    """Return the capabilities that can be granted: those of the bounding set (proc_pid_status(5))."""
    text = Path("/proc/self/status").read_text(errors="surrogateescape")
    bounding = next((int(line.split()[1], 16) for line in text.splitlines() if line.startswith("CapBnd:")), 0)
    return [name for number, name in enumerate(CAPABILITIES) if bounding >> number & 1]


class Docker:
    """Runs the user's ``docker run`` (or podman's, or nerdctl's): makes the container, watches, starts and removes
    it."""

    name = "docker"

    def unavailable(self, policy: Policy, options: Options) -> str | None:
        """It needs eBPF. Whether the engine answers is seen when the container is made."""
        return unavailable(policy)

    def run(self, policy: Policy, workload: Workload, options: Options) -> Outcome:
        """See Enforcer.run. The workload's command is ``docker run OPTIONS IMAGE COMMAND``."""
        wanted = recognise(workload.argv, lambda words: help_of(tuple(words)))
        if not isinstance(wanted, Run):
            raise InputError(
                "under docker the command is: docker run OPTIONS IMAGE COMMAND... (or podman's, or nerdctl's)"
            )
        if wanted.detached:
            raise InputError("the container must not be detached, because its end is the end of the run: remove -d")
        engine = Engine(wanted.engine, wanted.client)
        directory = Path(tempfile.mkdtemp(prefix="profgen-verify-"))
        name = f"profgen-verify-{os.getpid()}-{os.urandom(4).hex()}"
        made = list(_without_confinement(wanted)) + confinement(policy, directory, options.mode)
        if not any(word == "--name" or word.startswith("--name=") for word in made):
            made += ["--name", name]
        creation = Creation(engine)

        def clear() -> None:
            with contextlib.suppress(OSError, ProfgenError):
                creation.undo()
            shutil.rmtree(directory, ignore_errors=True)

        with guarded(clear):
            identity = creation.make(made, wanted.image_and_command)
            command = engine.start(identity, attached=True, interactive=wanted.interactive)
            return _watched(
                policy,
                replace(workload, argv=tuple(command), path=find_program(command[0], workload.env)),
                options,
                identity,
            )


_CONFINES = frozenset({"--cap-add", "--cap-drop", "--privileged"})


def _without_confinement(wanted: Run) -> Iterator[str]:
    """Return the options without those that the policy decides, and without ``--rm``: profgen removes the container
    itself, after reading everything."""
    known = grammar(help_of((*wanted.client, "create", "--help")))
    given: list[Option] = options(list(wanted.options), known)[0]
    for option in given:
        seccomp = option.name == "--security-opt" and (option.value or "").startswith(("seccomp", "no-new-privileges"))
        if option.name not in _CONFINES and option.name not in ("--rm", "--cidfile") and not seccomp:
            yield from option.words


def confinement(policy: Policy, directory: Path, mode: str) -> list[str]:
    """Return the options of ``docker run`` that apply the policy."""
    if mode == "log":
        # Capabilities that cannot be granted are dropped by name; engines do not know the names of newer ones.
        missing = set(CAPABILITIES[: _last_capability() + 1]) - set(_every_capability())
        dropped = [f"--cap-drop={name.removeprefix('CAP_')}" for name in sorted(missing)]
        return ["--security-opt=seccomp=unconfined", "--cap-add=ALL", *dropped]
    added = [f"--cap-add={name.removeprefix('CAP_')}" for name in policy.needed()]
    path = directory / "seccomp.json"
    path.write_text(json.dumps(profile(policy, "errno")))
    words = ["--cap-drop=ALL", *added, f"--security-opt=seccomp={path}"]
    return [*words, *(["--security-opt=no-new-privileges"] if policy.no_new_privs else [])]


def _watched(policy: Policy, workload: Workload, options: Options, identity: str) -> Outcome:
    """Run a command that starts the container ``identity`` and ends with it."""
    from profiler.tracers.ebpf.watcher import EbpfWatcher

    files = options.files and policy.has_files
    with EbpfWatcher() as watcher:
        watcher.start(Selection(containers=(identity,)), base.Options(files=files, denials=options.mode == "enforce"))
        status = _run(watcher, replace(workload, user=None), options.duration)
        watcher.stop()
        denials: list[Denial] = []
        losses: Counter[str] = Counter()
        warnings: list[str] = []
        sessions = watcher.sessions()
        for session in sessions:
            recording = watcher.snapshot(session)
            denials += _denials(policy, recording, watcher.refused(session), session, options)
            losses.update(recording.losses)
            warnings += recording.warnings
    enforced = options.mode == "enforce"
    means = [
        "syscalls: refused by the runtime's filter, seen by eBPF"
        if enforced
        else "syscalls: no filter; all calls are compared with the policy",
        "capabilities: refused checks seen by eBPF"
        if enforced
        else "capabilities: all are granted; those that were needed are compared with the policy",
        "files, sockets, signals, mounts: seen by eBPF and compared with the policy; not refused"
        if files
        else "files, sockets, signals, mounts: not checked",
    ]
    if not any(session.pid for session in sessions):
        means.append("the container did not execute its command")
    unseen = () if files else (FILES_UNSEEN,)
    return Outcome(status, merged(denials), tuple(means), +losses, unseen, tuple(dict.fromkeys(warnings)))


def _run(watcher: Watcher, workload: Workload, duration: float | None) -> int:
    """Run the client in the foreground to its end while the watcher works; return its status as a shell shows it."""
    with Supervisor(lambda: [child.pid], duration) as supervisor:
        child = spawn(workload)
        pidfd = os.pidfd_open(child.pid)
        try:
            child.release()
            supervisor.start(child.pid)
            while not select.select([pidfd], [], [], 0)[0]:
                watcher.wait(_TICK_SECONDS)
            _, ended = os.waitpid(child.pid, 0)
            supervisor.main_ended()
        finally:
            os.close(pidfd)
        failure = child.exec_failure()
        if failure is not None:
            raise failure
        watcher.wait(0.0)
        return shell_status(ended)


def _denials(
    policy: Policy, recording: Recording, rows: Sequence[Refused], session: Session, options: Options
) -> list[Denial]:
    trace = recording.trace(head(recording))
    held = Held(policy, options.refused)
    began = time.time() - (time.monotonic() - session.began)
    found = list(_refused(policy, rows, recording)) if options.mode == "enforce" else list(held.calls(trace))
    found += held.uses(trace, enforced=options.mode == "enforce")
    return [replace(denial, first=denial.first or began, last=denial.last or time.time()) for denial in found]


def _refused(policy: Policy, rows: Sequence[Refused], recording: Recording) -> Iterator[Denial]:
    """Return the calls that the policy's filter refused, except those that it refuses by name or another filter
    refused."""
    by_name = {row.name: errno_number(row.errno) for row in policy.refused}
    programs = {program.path: program.interpreter or program.path for program in recording.programs}
    known: dict[tuple[object, ...], Denial] = {}
    for row in rows:
        name = name_of(row.abi, row.number)
        if name is not None and (
            by_name.get(name) == errno_number(row.error) or _permitted(policy, row.abi, name, row.arguments)
        ):
            continue
        exe = None if row.path is None else programs.get(row.path, row.path)
        told = None if row.arguments is None else filtered(name, row.abi, row.arguments)
        key = (row.abi, row.number, told, exe, row.comm)
        denial = known.get(key)
        known[key] = (
            replace(denial, count=denial.count + row.count)
            if denial is not None
            else Denial(
                "syscall",
                "seccomp",
                True,
                action="errno",
                comm=row.comm,
                exe=exe,
                abi=row.abi,
                number=row.number,
                name=name,
                arguments=row.arguments,
                errno=row.error,
                count=row.count,
                pid=row.pid or None,
            )
        )
    yield from known.values()


def _permitted(policy: Policy, abi: str, name: str, arguments: Sequence[int] | None) -> bool:
    """Return whether the policy allows a call, so that another filter refused it. With unknown arguments, only a call
    without argument rules counts as allowed."""
    if arguments is not None:
        return policy.permits(abi, name, arguments)
    return any((entry.abi, entry.name) == (abi, name) and not entry.rules for entry in policy.syscalls)
