"""``profgen run``: run a command under its policy, without a container."""

from __future__ import annotations

import click

from profiler.cli.options import USER, WorkloadOptions, source_file, workload_options
from profiler.cli.terminal import say
from profiler.errors import ProfgenError


@click.command("run")
@click.argument("policy", type=source_file, metavar="POLICY|DIR")
@click.option("--strict", is_flag=True, help="Do not run the command if this machine cannot enforce all of the policy.")
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
@workload_options(USER)
def run(policy: str, strict: bool, quiet: bool, workload: WorkloadOptions) -> int:
    """Run COMMAND under POLICY (policy.yaml, or its directory), without a container.

    The process drops capabilities, sets no_new_privs, enforces rules of Landlock and the seccomp filter on itself, and
    executes the command in its own place. What the policy does not allow is refused by the kernel. What this kernel
    cannot enforce is printed once. Input, output, terminal, signals and exit status are the command's.

    \b
      profgen run app.profile -- ./app
      profgen run --strict --user www-data nginx.profile -- nginx -g 'daemon off;'
    """
    import signal
    from pathlib import Path

    from profiler.cli.workload import workload_of
    from profiler.enforce.here import execute, prepared
    from profiler.policy.document import loads
    from profiler.trace.store import read_limited

    if not workload.command:
        raise click.UsageError("no command to run; try: profgen run app.profile -- ./app")
    held = loads(read_limited(Path(policy)), policy)
    mask = frozenset(signal.Signals(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    started = workload_of(workload.command, workload.user, mask)
    made = prepared(held)
    if strict and made.lacks:
        raise ProfgenError(f"not started, because of --strict: {'; '.join(made.lacks)}")
    for text in () if quiet else (*(f"warning: {each}" for each in made.lacks), *made.notes):
        say(text)
    execute(made, started)
