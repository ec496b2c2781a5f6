"""``profgen verify``: run a command under its policy, and name what was refused."""

from __future__ import annotations

import dataclasses
import datetime
import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from profiler.cli.options import output_format, source_file
from profiler.errors import FAILED, ProfgenError
from profiler.quoting.text import printable
from profiler.wording import counted

if TYPE_CHECKING:
    from profiler.denials.additions import Addition, Proposal
    from profiler.denials.model import Denial
    from profiler.enforce.base import Outcome
    from profiler.policy.model import Policy
    from profiler.trace.model import Meta
    from profiler.tracers.base import Workload

DENIED_STATUS = 1
UNDER = ("direct", "apparmor", "runc", "crun", "docker")
WITH_BUNDLE = ("runc", "crun")


@click.command("verify")
@click.argument("policy", type=source_file, metavar="POLICY|DIR")
@click.option(
    "--under", type=click.Choice(UNDER), default="direct", show_default=True, help="What confines the command."
)
@click.option(
    "--mode",
    type=click.Choice(["enforce", "log"]),
    default="enforce",
    show_default=True,
    help="log: refuse nothing, report everything.",
)
@click.option(
    "-o", "--output", metavar="FILE", help="Write the denials as a trace, to generate from with the recording."
)
@output_format(help="Of the report. Default: text.")
@click.option("--report", metavar="FILE", help="Write the report there.  [default: standard error]")
@click.option(
    "--bundle", metavar="DIR", help="Under runc and crun: the OCI bundle; COMMAND takes the place of its own."
)
@click.option(
    "--user",
    metavar="USER",
    help="Run the command as this user (name or uid); under sudo the default is who called it.",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Ask the command to end after so long.",
)
@click.option("--no-files", is_flag=True, help="Hold the command to syscalls and capabilities only.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but denials and errors.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def verify(
    policy: str,
    under: str,
    mode: str,
    output: str | None,
    form: str,
    report: str | None,
    bundle: str | None,
    user: str | None,
    duration: float | None,
    no_files: bool,
    quiet: bool,
    command: tuple[str, ...],
) -> int:
    """Run COMMAND under POLICY (policy.yaml, or the directory that holds it) and name every denial.

    The command keeps its input, output, terminal and signals. For each denial: what was refused, to which process, and
    the lines of policy.yaml that would allow it. Nothing is written to the policy.

    The exit status is 0 when nothing was denied and the command ended with 0, 1 when something was denied, else the
    command's own.

    \b
      profgen verify app.profile -- ./app
      profgen verify app.profile --mode log -o denials.trace.json -- ./app
      profgen verify app.profile --under runc --bundle DIR
      profgen verify app.profile --under docker -- docker run --rm IMAGE
      profgen generate app.trace.json denials.trace.json -o app.profile
    """
    from profiler.cli.workload import in_bundle, workload_of
    from profiler.denials.as_trace import trace_of
    from profiler.enforce.base import Options, load
    from profiler.files import RESERVE_BYTES, PendingFile, write_atomic
    from profiler.policy.document import read_policy
    from profiler.trace.store import dumps
    from profiler.tracers.supervisor import signals_held

    if duration is not None and not math.isfinite(duration):
        raise click.UsageError("--duration wants a number of seconds")
    if not command and under not in WITH_BUNDLE:
        raise click.UsageError("no command to run; try: profgen verify app.profile -- ./app")
    if user is not None and under not in ("direct", "apparmor"):
        raise click.UsageError(f"under {under} the container says who runs the command")
    if bundle is not None and under not in WITH_BUNDLE:
        raise click.UsageError(f"--bundle is for {' and '.join(WITH_BUNDLE)}")
    path = Path(policy)
    held = read_policy(path)
    enforcer = load(under)
    options = Options(mode, files=not no_files, duration=duration, bundle=None if bundle is None else Path(bundle))
    reason = enforcer.unavailable(held, options)
    if reason is not None:
        raise ProfgenError(f"cannot verify under {under}: {reason}")
    pending = None if output is None else PendingFile(Path(output), reserve=RESERVE_BYTES)
    try:
        with signals_held() as mask:
            workload = in_bundle(command, mask) if under in WITH_BUNDLE else workload_of(command, user, mask)
            began, start = time.time(), datetime.datetime.now(datetime.UTC)
            outcome = enforcer.run(held, workload, options)
            took = time.time() - began
            if pending is not None:
                meta = _meta(workload, outcome, start.isoformat(timespec="seconds"), took, held)
                pending.commit(
                    dumps(trace_of(outcome.denials, meta, refused=mode == "enforce", began=began)).encode("ascii")
                )
    finally:
        if pending is not None:
            pending.discard()
    # It was asked to end, and has no handler: that is no failure of its own.
    asked = duration is not None and took >= duration and outcome.status == 128 + signal.SIGTERM
    found = _Report(held, outcome, under, mode, asked)
    text = found.json() if form == "json" else "".join(f"{line}\n" for line in found.text(path, output, quiet))
    if report is not None:
        write_atomic(Path(report), text.encode("utf-8", "backslashreplace"))
    else:
        sys.stderr.write(text)
    if outcome.denials:
        return DENIED_STATUS
    return FAILED if outcome.losses else 0 if asked else outcome.status


def _meta(workload: Workload, outcome: Outcome, start: str, took: float, policy: Policy) -> Meta:
    """Of the trace of denials."""
    from profiler import __version__
    from profiler.kernel.abi import native_abi
    from profiler.trace.model import Meta
    from profiler.tracers.host import host

    here = host()
    uid, gid, groups = workload.user or (os.geteuid(), os.getegid(), tuple(sorted(os.getgroups())))
    return Meta(
        tool=f"profgen {__version__}",
        tracer="verify",
        features=(),
        kernel=here.kernel,
        arch=native_abi(),
        distribution=here.distribution,
        libc=here.libc,
        argv=workload.argv,
        cwd=workload.cwd,
        uid=uid,
        gid=gid,
        groups=groups,
        no_new_privs=policy.no_new_privs,
        start=start,
        duration=round(took, 3),
        exit_status=outcome.status,
        complete=not outcome.losses,
        losses=dict(outcome.losses),
        last_new=round(took, 3),
    )


class _Report:
    """What is said of a run."""

    def __init__(self, policy: Policy, outcome: Outcome, under: str, mode: str, asked: bool = False) -> None:
        from profiler.denials.propose import propose

        self.policy, self.outcome, self.under, self.mode = policy, outcome, under, mode
        self.asked = asked
        everything = propose(policy, outcome.denials)
        items = {danger.item for addition in everything.refused for danger in addition.dangers}
        self.proposal: Proposal = propose(policy, outcome.denials, items)

    def lines(self, addition: Addition) -> list[str]:
        """Of policy.yaml, that would allow what an addition is for."""
        from profiler.denials.propose import propose
        from profiler.denials.rewrite import lines_for

        alone = propose(self.policy, addition.denials, {danger.item for danger in addition.dangers})
        return lines_for(self.policy, alone.policy)

    def text(self, path: Path, output: str | None, quiet: bool) -> Iterator[str]:
        """Lines for people."""

        def said(line: str) -> str:
            return f"profgen: {printable(line)}"

        outcome = self.outcome
        refused = sum(denial.count for denial in outcome.denials if denial.refused)
        passed = sum(denial.count for denial in outcome.denials if not denial.refused)
        if refused:
            yield said(
                f"{counted(refused, 'use')} refused"
                + (f", {passed} more not allowed by the policy and let pass:" if passed else ":")
            )
        elif passed:
            yield said(f"{counted(passed, 'use')} not allowed by the policy, and let pass:")
        mixed = bool(refused and passed)
        for addition in self.proposal.added:
            for denial in _alike(addition.denials):
                yield said(f"  {told(denial)}{' (let pass)' if mixed and not denial.refused else ''}")
            lines = self.lines(addition)
            if lines:
                yield said(f"    allowed by, in {path}:")
                yield from (said(f"      {line}") for line in lines)
            yield from (said(f"    note: {note}") for note in addition.notes)
            yield from (said(f"    danger: {danger.why}") for danger in addition.dangers)
        for row in self.proposal.unanswered:
            yield said(f"  {row.what}, {counted(row.count, 'time')}: {row.why}")
        if not outcome.denials and not quiet:
            yield said(f"nothing was {'refused' if self.mode == 'enforce' else 'outside the policy'}")
        for name, count in outcome.losses.items():
            yield said(f"there may be more: lost {count} {name} (docs/tracers.md)")
        if outcome.status or not quiet:
            yield said(
                f"the command ended with status {outcome.status}"
                + (": SIGTERM, as --duration asked" if self.asked else "")
            )
        if not quiet:
            yield from (said(f"{self.under}: {means}") for means in outcome.means)
        if output is not None and not quiet:
            yield said(f"wrote {output}")
            if outcome.denials:
                yield said(f"next: profgen generate RECORDING {shlex.quote(output)} -o {shlex.quote(str(path.parent))}")

    def json(self) -> str:
        """The same for programs."""
        from profiler.cli.proposals import denial_data
        from profiler.quoting.json import as_json

        answers: dict[Denial, Addition] = {
            denial: addition for addition in self.proposal.added for denial in addition.denials
        }

        def row(denial: Denial) -> dict[str, Any]:
            addition = answers.get(denial)
            allowed = None
            if addition is not None:
                dangers = [danger.why for danger in addition.dangers]
                allowed = {
                    "section": addition.section,
                    "item": addition.item,
                    "lines": self.lines(addition),
                    "dangers": dangers,
                }
            return denial_data(denial) | {"allowed_by": allowed}

        outcome = self.outcome
        data = {
            "under": self.under,
            "mode": self.mode,
            "status": outcome.status,
            "denials": [row(denial) for denial in outcome.denials],
            "means": list(outcome.means),
            "losses": dict(outcome.losses),
        }
        return as_json(data) + "\n"


def _alike(denials: Iterable[Denial]) -> list[Denial]:
    """Those of which the same is told, as one: they differ in what tells people nothing, such as registers without a
    meaning."""
    found: dict[tuple[str, bool], Denial] = {}
    for denial in denials:
        key = (told(dataclasses.replace(denial, count=1)), denial.refused)
        before = found.get(key)
        found[key] = denial if before is None else dataclasses.replace(before, count=before.count + denial.count)
    return list(found.values())


def told(denial: Denial) -> str:
    """One denial in one line: what, how often, and whose."""
    words = [_what(denial)]
    if denial.kind == "syscall" and denial.refused and denial.errno:
        words.append(f"= {denial.errno}")
    who = denial.comm or "?"
    if denial.exe:
        who += f" ({denial.exe})"
    if denial.pid is not None:
        who += f", pid {denial.pid}"
    often = "" if denial.count == 1 else f", {denial.count} times"
    return f"{' '.join(words)}{often}: {who}"


def _what(denial: Denial) -> str:
    if denial.kind == "syscall":
        return f"syscall {_call(denial)}"
    if denial.kind == "capability":
        return f"capability {denial.capability}" + (f" in {denial.name}" if denial.name else "")
    if denial.kind == "file":
        return f"file {denial.path}: {', '.join(denial.access) or denial.mask}"
    if denial.kind == "socket":
        place = denial.address if denial.address else f"port {denial.port}" if denial.port is not None else ""
        return (
            f"socket {denial.family} {denial.type} {denial.protocol}: {', '.join(denial.operations)} {place}".rstrip()
        )
    if denial.kind == "signal":
        return f"signal {denial.signal} to {denial.whom or denial.peer or '?'}"
    if denial.kind == "inspection":
        return f"{', '.join(denial.operations)} of a process: {denial.whom or denial.peer or '?'}"
    if denial.kind == "mount":
        parts: Sequence[str | None] = (
            denial.operation,
            ",".join(denial.flags),
            denial.source,
            denial.target and f"-> {denial.target}",
        )
        return " ".join(part for part in parts if part)
    return " ".join(part for part in (denial.kind, denial.operation, denial.info) if part)


def _call(denial: Denial) -> str:
    """``socket(domain=AF_INET, type=SOCK_STREAM, protocol=0)``: with the arguments that policies speak of, as they name
    them."""
    from profiler.kernel.abi import native_abi
    from profiler.kernel.arguments import render, spec_for

    name = denial.name or f"number {denial.number}"
    if denial.abi != native_abi():
        name = f"{denial.abi}:{name}"
    if denial.arguments is None:
        return name
    spec = spec_for(denial.name, denial.abi) if denial.name is not None else None
    if spec is None or spec.pointer:
        return name
    values = [denial.arguments[at] & mask for at, mask in zip(spec.positions, spec.masks, strict=True)]
    shown = (
        f"{field}={render(denial.name or '', field, value, values)}"
        for field, value in zip(spec.fields, values, strict=True)
    )
    return f"{name}({', '.join(shown)})"
