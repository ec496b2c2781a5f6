"""Recordings of what others start, with a watcher that plays a script."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from unit.watch.test_loop import ID, Heard, Script, Step, session

from profiler.engines.commands import Compose
from profiler.errors import InputError, OutputError, TracerError
from profiler.trace.store import read_trace
from profiler.tracers.base import Options
from profiler.tracers.watcher import Selection
from profiler.watch import recordings
from profiler.watch.metrics import Figures
from profiler.watch.recordings import Request, need_watcher, record, record_group, record_project
from profiler.watch.subjects import Group, Subject

WEB = Subject("web", Selection(containers=(ID,)))


class Screen(Heard):
    """Shows nothing, and notes what it is told."""

    looks = stop = None

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[bool] = []

    def watching(self, waits: bool) -> None:
        self.waits.append(waits)

    @contextlib.contextmanager
    def shown(self, figures: Callable[[], Figures], busy: Callable[[], bool]) -> Iterator[None]:
        yield


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Script]]:
    """Makes each watcher that is opened play the next of some scripts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recordings, "installed", tuple)

    def use(*scripts: list[Step]) -> list[Script]:
        made = [Script(list(steps)) for steps in scripts]
        waiting = iter(made)
        monkeypatch.setattr(recordings, "watcher", lambda: contextlib.nullcontext(next(waiting)))
        return made

    return use


def test_a_container_has_a_file_of_its_name(scripted: Callable[..., list[Script]]) -> None:
    (script,) = scripted([[session()], [session(ended=True)]])
    screen = Screen()
    ended = record(WEB, Request(Options()), screen)
    assert ended.last is not None
    assert ended.last[1] == Path("web.trace.json")
    assert (ended.status, len(ended.traces), ended.figures.ended) == (0, 1, 1)
    assert screen.waits == [True], "it had not started"
    assert script.stopped
    assert read_trace("web.trace.json") == ended.last[0]


def test_nothing_was_recorded(scripted: Callable[..., list[Script]]) -> None:
    scripted([])
    ended = record(WEB, Request(Options(duration=0.01)), Screen())
    assert (ended.last, ended.traces, ended.status) == (None, (), 0)
    assert not Path("web.trace.json").exists()


def test_a_file_that_cannot_be_written_is_noticed_first(scripted: Callable[..., list[Script]]) -> None:
    (script,) = scripted([])
    with pytest.raises(OutputError):
        record(WEB, Request(Options(), Path("none/such/a.json")), Screen())
    assert not script.stopped


@pytest.mark.parametrize(("output", "directory"), [("traces", "traces"), (None, "all.traces")])
def test_many_containers_have_a_directory(
    output: str | None, directory: str, scripted: Callable[..., list[Script]]
) -> None:
    both = [session(1), session(2, subject="cd" * 32)]
    scripted([both, [session(1, ended=True), session(2, ended=True, subject="cd" * 32)]])
    subject = Subject("all", Selection(all_containers=True), many=True)
    ended = record(subject, Request(Options(duration=0.3), output and Path(output)), Screen())
    assert sorted(path.name for path in Path(directory).iterdir()) == [
        f"{ID[:12]}.trace.json",
        f"{'cd' * 6}.trace.json",
    ]
    assert ended.figures.ended == 2


def test_a_project_ends_with_its_client(scripted: Callable[..., list[Script]]) -> None:
    scripted([[session()], [session(ended=True)]])
    command = Compose("docker", ("sh", "-c", "exit 3"), ("sh",))
    subject = Subject("My Shop", Selection(all_containers=True), many=True)
    ended = record_project(command, subject, Request(Options()), Screen())
    assert ended.status == 3
    assert [path.parent.name for path in Path().glob("*/*.trace.json")] == ["My_Shop.traces"]


def test_a_group_that_comes_again_is_followed(scripted: Callable[..., list[Script]], tmp_path: Path) -> None:
    first = {"kind": "cgroup", "subject": "app"}
    again: list[bool] = []

    def where(wait: bool) -> tuple[str, ...]:
        again.append(wait)
        return (str(tmp_path),)

    scripted(
        [[session(1, **first)], [session(1, ended=True, **first)]],
        [[session(2, **first)], [session(2, ended=True, **first)]],
        [],
    )
    request = Request(Options(duration=1.0), snapshot=60.0)
    ended = record_group(Group("app", "app", "unit app", where), request, Screen())
    assert again[0] is False
    assert all(again[1:]), "it is waited for once it ran"
    assert sorted(path.name for path in Path().glob("*.trace.json")) == ["app.2.trace.json", "app.trace.json"]
    assert ended.last is not None


@pytest.mark.parametrize(("tracer", "reason", "error"), [("ptrace", None, InputError), ("auto", "no BTF", TracerError)])
def test_what_cannot_watch(tracer: str, reason: str | None, error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "why_no_watcher", lambda: reason)
    with pytest.raises(error, match="containers and running processes need"):
        need_watcher(tracer)
    monkeypatch.setattr(recordings, "why_no_watcher", lambda: None)
    need_watcher("auto")
    need_watcher("ebpf")
