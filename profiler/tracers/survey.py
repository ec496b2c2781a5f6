"""Find out what this machine offers: tracers, capability hooks, libraries and container runtimes, by trying each."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from profiler import run
from profiler.confinement import landlock_abi
from profiler.errors import ProfgenError, ProgramError
from profiler.files import kernel_text
from profiler.tracers.host import host
from profiler.tracers.select import TRACERS, load

RUNTIMES = {
    "runc": "runc",
    "crun": "crun",
    "docker": "docker.io",
    "podman": "podman",
    "ctr": "containerd",
    "lxc-execute": "lxc",
}
"""Command to the Debian package that provides it."""

_VERSION_SECONDS = 10


@dataclass(frozen=True)
class Finding:
    """The result for one item: ``status`` is ok, missing (something would work if fixed) or info.

    ``fix`` is one line to type or do.
    """

    subject: str
    name: str
    status: str
    detail: str
    fix: str | None = None


def survey() -> Iterator[Finding]:
    """Return everything that ``profgen doctor`` shows, in its order."""
    here = host()
    yield Finding("machine", "kernel", "info", f"{here.kernel} on {platform.machine()}")
    yield Finding("machine", "distribution", "info", f"{here.distribution or 'unknown'}, {here.libc or 'libc unknown'}")
    yield Finding("machine", "LSMs", "info", _security_modules())
    abi = landlock_abi()
    known = f"ABI {abi}, for profgen run" if abi else "not in this kernel, or not in lsm= of its command line"
    yield Finding("machine", "Landlock", "info", known)
    # the parts of the tracers come after all tracers
    tried = [finding for name in TRACERS for finding in _tracer(name)]
    yield from sorted(tried, key=lambda finding: finding.subject != "tracer")
    yield _libseccomp()
    for command, package in RUNTIMES.items():
        yield _runtime(command, package)


def works(findings: list[Finding]) -> bool:
    """Return whether at least one tracer can record here."""
    return any(finding.subject == "tracer" and finding.status == "ok" for finding in findings)


def _fix_in(reason: str) -> tuple[str, str | None]:
    """Split ``reason; install it: COMMAND`` into the reason and the command."""
    detail, marker, fix = reason.partition("; install it: ")
    return (detail, fix) if marker else (reason, None)


def _as_root() -> str:
    """Return how to start profgen with the missing rights.

    sudo does not find a profgen in a virtual environment (secure_path, sudoers(5)).
    """
    if os.geteuid() == 0:
        return "in a container, the options in docs/deploy/Containerfile"
    return f"sudo {os.path.abspath(sys.argv[0]) if os.path.basename(sys.argv[0]) == 'profgen' else 'profgen'} ..."


def _tracer(name: str) -> Iterator[Finding]:
    reason = load(name).unavailable()
    if reason is not None:
        detail, fix = _fix_in(reason)
        if fix is None and "needs root" in detail:
            fix = _as_root()
        yield Finding("tracer", name, "missing", detail, fix)
        return
    if name != "ebpf":
        yield Finding("tracer", name, "ok", "works")
        return
    yield from _ebpf()


def _ebpf() -> Iterator[Finding]:
    from profiler.tracers.ebpf.attaching import CAPABILITY_HOOKS, TRACEPOINTS, attach_capability_hook
    from profiler.tracers.ebpf.bcc import import_bcc
    from profiler.tracers.ebpf.checks import SYMBOLS_FIX, SYMBOLS_HIDDEN, symbols_readable
    from profiler.tracers.ebpf.limits import DEFAULT_LIMITS
    from profiler.tracers.ebpf.loader import Programs

    try:
        version = getattr(import_bcc(), "__version__", "unknown")
        programs = Programs(DEFAULT_LIMITS)
    except ProfgenError as error:
        detail, fix = _fix_in(str(error))
        yield Finding("tracer", "ebpf", "missing", detail, fix)
        return
    try:
        for function, tracepoint in TRACEPOINTS.items():
            programs.attach_tracepoint(function, tracepoint)
    except ProfgenError as error:
        yield Finding("tracer", "ebpf", "missing", str(error), "profgen record --tracer ptrace ...")
        programs.close()
        return
    hooks = []
    chosen = None
    for way in CAPABILITY_HOOKS:
        try:
            attach_capability_hook(programs, way)
        except ProfgenError as error:
            hooks.append(Finding("capability hook", way, "info", f"unavailable: {error}"))
        else:
            hooks.append(Finding("capability hook", way, "ok", "works" if chosen else "works; used"))
            chosen = chosen or way
    programs.close()
    if chosen:
        yield Finding("tracer", "ebpf", "ok", f"works (bcc {version})")
    else:
        yield Finding(
            "tracer",
            "ebpf",
            "missing",
            "capability checks are not visible on this kernel",
            "use a kernel of 6.14 or newer, or one with kprobes",
        )
    yield from hooks
    if symbols_readable():
        yield Finding("capability hook", "call chains", "ok", "works")
    else:
        yield Finding("capability hook", "call chains", "missing", SYMBOLS_HIDDEN, SYMBOLS_FIX)


def _libseccomp() -> Finding:
    name = ctypes.util.find_library("seccomp")
    if name is None:
        return Finding(
            "library", "libseccomp", "missing", "not installed; container runtimes use it", "apt install libseccomp2"
        )

    class Version(ctypes.Structure):
        _fields_ = [("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint)]

    library = ctypes.CDLL(name)
    library.seccomp_version.restype = ctypes.POINTER(Version)
    version = library.seccomp_version().contents
    return Finding("library", "libseccomp", "ok", f"{version.major}.{version.minor}.{version.micro}")


def _runtime(command: str, package: str) -> Finding:
    path = shutil.which(command)
    if path is None:
        return Finding("runtime", command, "info", "not installed", f"apt install {package}")
    try:
        done = run.ask([path, "--version"], seconds=_VERSION_SECONDS)
    except ProgramError as error:
        return Finding("runtime", command, "missing", str(error), f"apt install --reinstall {package}")
    version = re.search(r"\d+\.\d+[\w.+~-]*", (done.output + done.errors).decode("utf-8", "replace"))
    detail = f"{version.group() if version else 'version unknown'} ({path})"
    if command == "docker":
        detail += f", {_docker_daemon(path)}"
    return Finding("runtime", command, "ok", detail)


def _docker_daemon(path: str) -> str:
    try:
        done = run.ask([path, "version", "--format", "{{.Server.Version}}"], seconds=_VERSION_SECONDS)
    except ProgramError:
        return "its daemon does not answer"
    version = done.text.strip()
    return f"daemon {version}" if version and not done.status else "no daemon answers"


def _security_modules() -> str:
    try:
        with kernel_text("/sys/kernel/security/lsm") as file:
            return file.read().strip()
    except OSError:
        return "not readable" if os.path.isdir("/sys/kernel/security") else "securityfs is not mounted"
