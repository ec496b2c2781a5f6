"""``profgen watch``: look at what runs, without writing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from profiler.cli.options import DURATION, NO_FILES, OutputOptions, WorkloadOptions, output_options
from profiler.cli.record import (
    ALL_CONTAINERS,
    ALLOW_LOSS,
    CGROUP,
    LIMIT,
    PID,
    POD_SELECTOR,
    UNIT,
    WAIT,
    need_all_containers,
)
from profiler.cli.record_options import RecordOptions, SubjectOptions
from profiler.cli.terminal import say_what_takes_long

if TYPE_CHECKING:
    from profiler.engines.pods import Selector


@click.command()
@click.argument("container", nargs=-1)
@PID
@CGROUP
@UNIT
@ALL_CONTAINERS
@POD_SELECTOR
@WAIT
@DURATION
@NO_FILES
@ALLOW_LOSS
@LIMIT
@output_options("Write a trace too; the traces of several containers go to a directory.")
def watch(
    container: tuple[str, ...],
    pid: int | None,
    cgroup: str | None,
    unit: str | None,
    all_containers: bool,
    pods: tuple[Selector, ...],
    wait: bool,
    duration: float | None,
    no_files: bool,
    allow_loss: bool,
    limits: dict[str, int],
    to: OutputOptions,
) -> int:
    """Show what running containers, a unit or processes do, as a full-screen view.

    Nothing is started, stopped or changed, and no trace is written unless -o is given. It ends with q, with Ctrl-C, or
    when what is watched ends.

    \b
      profgen watch web
      profgen watch web db -o traces/
      profgen watch --unit nginx.service
    """
    subject = SubjectOptions(None, container, pid, cgroup, unit, all_containers, pods)
    need_all_containers(subject)
    if len(subject.given) != 1:
        raise click.UsageError("name one or more containers, or give one of --pid, --cgroup, --unit, --all-containers")
    from profiler.cli.record_containers import record_running
    from profiler.cli.record_live import split

    workload = WorkloadOptions((), None, duration, no_files)
    how = RecordOptions("auto", limits, allow_loss, wait, None, False, None, live=True)
    feed = split(subject, workload, to)
    if isinstance(feed, int):
        return feed
    if not to.quiet:
        say_what_takes_long()
    return record_running(subject, workload, how, to, feed, keep=to.path is not None)
