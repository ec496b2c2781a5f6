"""``profgen run``: run a command under its policy, without a container."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from profiler.cli.options import USER, WorkloadOptions, source_file, workload_options
from profiler.cli.terminal import say
from profiler.errors import ProfgenError

if TYPE_CHECKING:
    from profiler.enforce.here import Confinement


@click.command("run")
@click.argument("policy", type=source_file, metavar="POLICY|DIR")
@click.option("--strict", is_flag=True, help="Do not run the command if a part of the policy cannot be enforced.")
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
@workload_options(USER)
def run(policy: str, strict: bool, quiet: bool, workload: WorkloadOptions) -> int:
    """Run COMMAND under POLICY (policy.yaml, or its directory), without a container.

    The process drops capabilities, sets no_new_privs, enforces rules of Landlock and the seccomp filter on itself, and
    executes the command in its own place. What the policy does not allow is refused by the kernel. What cannot be
    enforced is printed once. Input, output, terminal, signals and exit status are the command's.

    \b
      profgen run app.profile -- ./app
      profgen run --strict --user www-data nginx.profile -- nginx -g 'daemon off;'
    """
    import signal

    from profiler.cli.workload import workload_of
    from profiler.enforce.here import execute, prepared

    if not workload.command:
        raise click.UsageError("no command to run; try: profgen run app.profile -- ./app")
    made = prepared(_confinement(policy))
    mask = frozenset(signal.Signals(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    started = workload_of(workload.command, workload.user, mask)
    if strict and made.lacks:
        raise ProfgenError(f"not started, because of --strict: {'; '.join(made.lacks)}")
    for text in () if quiet else (*(f"warning: {each}" for each in made.lacks), *made.notes):
        say(text)
    execute(made, started)


def _confinement(path: str) -> Confinement:
    """Return what enforces a policy, from the last run under it if there was one."""
    from profiler.enforce import here

    with contextlib.suppress(OSError):
        if os.path.isfile(path) and (found := here.known(here.name_for(Path(path).read_bytes()))):
            return found
    from profiler.enforce.confining import confinement
    from profiler.policy.document import loads
    from profiler.trace.store import read_limited

    content = read_limited(path)
    made = confinement(loads(content, path))
    here.keep(here.name_for(content), made)
    return made
