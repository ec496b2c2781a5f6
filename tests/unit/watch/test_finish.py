"""What a trace says of where it comes from."""

from __future__ import annotations

import datetime
import os
from dataclasses import replace

from profiler.trace.model import Container
from profiler.tracers.base import Workload
from profiler.tracers.host import host
from profiler.tracers.recording import Recording
from profiler.watch.finish import Origin, finish, meta, origin_of

START = datetime.datetime(2026, 1, 2, 3, 4, 5, 678, datetime.UTC)
ORIGIN = Origin(("app",), "/srv", 33, 34, (34, 50))


def test_the_origin_of_a_command() -> None:
    workload = Workload(("app", "-x"), "/bin/app", {}, "/srv", None, frozenset())
    mine = origin_of(workload)
    assert (mine.argv, mine.cwd, mine.uid, mine.gid) == (("app", "-x"), "/srv", os.geteuid(), os.getegid())
    other = origin_of(replace(workload, user=(33, 34, (50,))), no_new_privs=True)
    assert (other.uid, other.gid, other.groups, other.no_new_privs) == (33, 34, (50,), True)


def test_the_head_of_a_trace() -> None:
    head = meta(ORIGIN, "ptrace", "x86_64", START, 1.23456, 3, losses={"b": 0, "a": 2}, last_new=7.0)
    assert (head.argv, head.cwd, head.uid, head.groups) == (("app",), "/srv", 33, (34, 50))
    assert (head.start, head.duration, head.exit_status) == ("2026-01-02T03:04:05+00:00", 1.235, 3)
    assert (head.complete, head.losses) == (False, {"a": 2}), "what was not lost is not listed"
    assert head.last_new == head.duration, "never after the end"
    assert (head.libc, head.distribution) == (host().libc, host().distribution)


def test_the_libraries_of_a_container_are_not_the_hosts() -> None:
    inside = replace(ORIGIN, container=Container("docker", None, "ab" * 32, "web"), watched="container web")
    head = meta(inside, "ebpf", "x86_64", START, 1.0, None, losses={}, last_new=0.5)
    assert (head.libc, head.distribution, head.exit_status, head.complete) == (None, None, None, True)
    assert head.watched == "container web"


def test_no_new_privs_may_be_seen_later() -> None:
    recording = Recording("x86_64")
    recording.no_new_privs = True
    assert finish(recording, "ptrace", ORIGIN, START, 0).meta.no_new_privs
    assert not finish(Recording("x86_64"), "ptrace", ORIGIN, START, 0).meta.no_new_privs
