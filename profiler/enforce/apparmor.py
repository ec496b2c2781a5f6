"""Enforce a policy as ``direct`` does, but leave files, sockets, signals, other processes and mounts to AppArmor.

The policy's profile is loaded under a unique name for this run, and always removed from the kernel afterwards. What it
refused (with mode log, in complain mode: would have refused) is read from the kernel's log.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from profiler import run
from profiler.denials.check import Held
from profiler.denials.logs.reading import Reader
from profiler.denials.logs.sources import kernel_records
from profiler.denials.model import Denial, merged
from profiler.enforce import traced
from profiler.enforce.base import Options, Outcome, without_files, wrong_machine
from profiler.errors import InputError, ProfgenError
from profiler.policy.model import Policy
from profiler.targets.rendering import render_one
from profiler.tracers.base import Workload
from profiler.tracers.guard import guarded
from profiler.tracers.host import has_capability

SECURITYFS = Path("/sys/kernel/security/apparmor")
AUDITD_LOG = Path("/var/log/audit/audit.log")
PARSER_SECONDS = 120.0
SETTLE_SECONDS = 0.3
"""A thread of the kernel writes its log (kernel/audit.c kauditd_thread): after this time without a record it has
written all."""
SETTLE_MAX_SECONDS = 5.0


class AppArmor:
    """The module describes it."""

    name = "apparmor"

    def unavailable(self, policy: Policy, options: Options) -> str | None:
        """It needs a kernel with AppArmor, the parser, root, and a policy with rules for files."""
        reason = wrong_machine(policy)
        if reason is not None:
            return reason
        reason = without_files(policy, options)
        if reason is not None:
            return reason
        try:
            enabled = Path("/sys/module/apparmor/parameters/enabled").read_text(errors="surrogateescape").strip() == "Y"
        except OSError:
            enabled = False
        if not enabled:
            return "AppArmor is not enabled in this kernel; use --under direct, which compares files with the policy"
        if not has_capability("CAP_MAC_ADMIN"):
            return "loading a profile needs root (CAP_MAC_ADMIN)"
        if _parser() is None:
            return "apparmor_parser is not installed; install it: apt install apparmor"
        return traced.unavailable()

    def run(self, policy: Policy, workload: Workload, options: Options) -> Outcome:
        """See Enforcer.run."""
        reason = self.unavailable(policy, options)
        if reason is not None:
            raise InputError(reason)
        name = f"profgen-verify-{os.getpid()}-{os.urandom(4).hex()}"
        with guarded(lambda: remove(name)):
            _load(policy, name, options.mode == "log")
            log = KernelLog()
            try:
                outcome, executed = traced.run_under(policy, workload, options, name)
                denials, lost = log.read(name)
            finally:
                log.close()
        found = [
            replace(denial, exe=executed.get(denial.pid or 0), refused=options.mode == "enforce")
            for denial in denials
            if denial.kind != "capability" or _new(policy, denial, outcome.denials, options.mode)
        ]
        return replace(
            outcome,
            denials=merged([*outcome.denials, *found]),
            losses={**outcome.losses, **({"kernel log records": lost} if lost else {})},
        )


def _new(policy: Policy, denial: Denial, known: tuple[Denial, ...], mode: str) -> bool:
    """Return whether a capability that AppArmor refused is neither known as a denial nor granted.

    In complain mode AppArmor also logs the checks that decide nothing. A bounding set answers these first.
    """
    return (
        mode == "enforce"
        and denial.capability not in {row.capability for row in known}
        and Held(policy).left(denial) is not None
    )


def _parser() -> str | None:
    return shutil.which("apparmor_parser", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _load(policy: Policy, name: str, complain: bool) -> None:
    """Load the policy's profile. Raises ProfgenError with the parser's message."""
    text = render_one("apparmor", policy, {"name": name, "complain": complain}).files[0].data
    # With --jobs=0 it compiles in its own process: a child would outlive it when it is killed for taking too long.
    command = [_parser() or "apparmor_parser", "--add", "--skip-cache", "--quiet", "--jobs=0"]
    done = run.ask(command, data=text, seconds=PARSER_SECONDS)
    if done.status:
        said = " ".join((done.errors or done.output).decode("utf-8", "replace").split())[:500]
        raise ProfgenError(f"apparmor_parser cannot load the profile: {said}")


def remove(name: str) -> None:
    """Remove a profile and its children from the kernel, if they are there, after waiting for processes under them."""
    with contextlib.suppress(OSError):
        # Its processes are ending; if the profile went first, they would run on unconfined.
        for _ in range(50):
            if not any(_confined(name)):
                break
            time.sleep(0.1)
        (SECURITYFS / ".remove").write_text(name)


def _confined(name: str) -> Iterator[int]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                label = (
                    Path(f"/proc/{entry}/attr/current")
                    .read_text(errors="surrogateescape")
                    .strip("\0\n")
                    .partition(" (")[0]
                )
                if label == name or label.startswith(f"{name}//"):
                    yield int(entry)


@dataclass
class _Tail:
    """A log file, read from an offset on."""

    path: Path
    offset: int


class KernelLog:
    """What the kernel logs from now on: in its own log, and in that of auditd where it takes the records."""

    def __init__(self) -> None:
        self._kmsg = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._kmsg, 0, os.SEEK_END)
        try:
            self._audit: _Tail | None = _Tail(AUDITD_LOG, AUDITD_LOG.stat().st_size)
        except OSError:
            self._audit = None
        self._lost = 0

    def read(self, profile: str) -> tuple[tuple[Denial, ...], int]:
        """Return the denials under the profile and its children, and the number of records that are known to be
        lost."""
        reader = Reader()
        quiet_since = end = time.monotonic()
        while time.monotonic() - quiet_since < SETTLE_SECONDS and time.monotonic() - end < SETTLE_MAX_SECONDS:
            if self._records(reader):
                quiet_since = time.monotonic()
            time.sleep(0.02)
        if self._audit is not None:
            with contextlib.suppress(OSError), open(self._audit.path, "rb") as file:
                file.seek(self._audit.offset)
                for line in file:
                    reader.line(line.rstrip(b"\n"), provable=True)
        reading = reader.reading
        mine = tuple(
            denial
            for denial in reading.denials
            if denial.profile == profile or (denial.profile or "").startswith(f"{profile}//")
        )
        return mine, self._lost + reading.beyond + sum(gap.lost or 1 for gap in reading.gaps)

    def _records(self, reader: Reader) -> int:
        """Read the records so far, and return their number."""
        count = 0
        with contextlib.suppress(OSError):
            for record in kernel_records(self._kmsg):
                if record is None:
                    self._lost += 1
                else:
                    count += 1
                    reader.line(record, provable=True)
        return count

    def close(self) -> None:
        """Close the log."""
        os.close(self._kmsg)
