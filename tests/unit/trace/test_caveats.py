"""What a recording cannot show is said, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from unit.policy.making import call, file, trace

from profiler.trace.caveats import caveats, is_idle
from profiler.trace.merge import merge
from profiler.trace.model import FILES_FEATURE, JOINED_FEATURE, Exec, Syscall, Trace

PLAIN = ("no_group_leader", "no_pid_1", "no_session_leader", "no_terminal", "stderr_pipe", "stdin_null", "stdout_pipe")


def standing(*words: str, without: str = "") -> tuple[str, ...]:
    return tuple(sorted((*(word for word in PLAIN if not word.startswith(without or "-")), *words)))


def recorded(*syscalls: Syscall, words: tuple[str, ...] = PLAIN, **meta: object) -> Trace:
    return trace(call("execve"), *syscalls, standing=words, **meta)


def test_nothing_to_say() -> None:
    assert caveats(recorded(call("read"))) == ()
    assert caveats(trace(call("read"))) == ()


@pytest.mark.parametrize(("stream", "name"), [("stdin", "input"), ("stdout", "output"), ("stderr", "error")])
def test_a_stream_was_a_file(stream: str, name: str) -> None:
    one = recorded(words=standing(f"{stream}_file", without=stream))
    (text,) = caveats(one)
    assert text.startswith(f"standard {name} was a file")
    assert caveats(merge([one, recorded()])) == (), "another recording had a pipe"
    assert caveats(merge([one, trace(call("execve"))])) == (), "another recording was of a container"
    for kind in ("socket", "terminal", "null", "closed", "device"):
        assert caveats(recorded(words=standing(f"{stream}_{kind}", without=stream))) == ()


@pytest.mark.parametrize(
    ("number", "joined", "said"),
    [(0, True, True), (9, True, True), (10, True, False), (1, False, False), (0, False, True)],
)
def test_idle(number: int, joined: bool, said: bool) -> None:
    assert is_idle(joined, number) is said
    names = ["read", "write", "close", "openat", "fstat", "lseek", "poll", "brk", "munmap", "dup"]
    one = trace(*map(call, names[:number]), features=(JOINED_FEATURE,) if joined else ())
    one = replace(one, programs=tuple(replace(row, path="/app", executions=int(not joined)) for row in one.programs))
    assert any("was idle" in text for text in caveats(one)) is said
    assert not any("was idle" in text for text in caveats(replace(one, meta=replace(one.meta, runs=0)))), "denials"


def started(*names: str, by: int | None = None, words: tuple[str, ...] = PLAIN) -> Trace:
    return replace(recorded(*map(call, names), words=words), execs=(Exec(0, by, 1),))


def test_a_session_is_made_by_the_first_process() -> None:
    (text,) = caveats(started("setsid"))
    assert "made a session" in text
    for other in (
        started("setsid", "fork"),
        started("setpgid"),
        started("setsid", by=0),
        started("setsid", words=standing("group_leader")),
        started("setsid", words=()),
    ):
        assert caveats(other) == ()


@pytest.mark.parametrize(
    ("result", "word", "said"),
    [
        ({"ok": 1}, "terminal", "start the container with one"),
        ({"ENXIO": 1}, "no_terminal", "had none"),
        ({"ok": 1}, "no_terminal", ""),
        ({"EACCES": 1}, "terminal", ""),
    ],
)
def test_a_terminal(result: dict[str, int], word: str, said: str) -> None:
    one = recorded(words=standing(word, without="no_terminal"), features=(FILES_FEATURE,))
    texts = caveats(replace(one, files=(replace(file("/dev/tty", kind="char"), results=result),)))
    assert [said in text for text in texts] == ([True] if said else [])
    bash = replace(one.programs[0], path="/usr/bin/bash")
    assert caveats(replace(one, programs=(bash,), files=(replace(file("/dev/tty"), results=result),))) == ()


def test_a_program_that_looks_at_its_capabilities() -> None:
    one = recorded(call("capget"), uid=0)
    (text,) = caveats(one)
    assert text.startswith("app read the capability sets (capget)")
    assert caveats(recorded(call("capget"), call("capset"), uid=0)) == (), "the claim of capset(2) tells"
    assert caveats(recorded(call("capget"), uid=1000)) == ()
