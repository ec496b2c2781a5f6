"""The loop over sessions, driven by a watcher that plays a script: what is written when, where to, and when it is
over."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from profiler.engines.engine import Details
from profiler.trace.model import JOINED_FEATURE, Container, Pod, Trace
from profiler.trace.store import read_trace
from profiler.tracers.base import Options
from profiler.tracers.recording import Recording, Row
from profiler.tracers.supervisor import hold_signals
from profiler.tracers.watcher import Refused, Selection, Session
from profiler.watch import loop
from profiler.watch.identify import Identifier
from profiler.watch.loop import Plan, Watch
from profiler.watch.outputs import Outputs

ID = "ab" * 32
Step = Sequence[Session] | Callable[[], object]


@dataclass
class Script:
    """Each call of ``wait`` is the next step: the sessions there are then, or a function that is called."""

    steps: list[Step]
    calls: int = 0
    forgotten: list[int] = field(default_factory=list)
    stopped: bool = False
    now: tuple[Session, ...] = ()
    were_made: tuple[tuple[str, int], ...] = ()

    def made(self) -> tuple[tuple[str, int], ...]:
        made, self.were_made = self.were_made, ()
        return made

    def start(self, selection: Selection, options: Options) -> None:
        pass

    def sessions(self) -> tuple[Session, ...]:
        return tuple(session for session in self.now if session.number not in self.forgotten)

    def wait(self, timeout: float) -> bool:
        if not self.steps:
            time.sleep(0.01)
            return False
        step = self.steps.pop(0)
        if callable(step):
            step()
        else:
            self.now = tuple(step)
        return True

    def snapshot(self, session: Session) -> Recording:
        self.calls += 1
        recording = Recording("x86_64")
        recording.warn("a server does not answer")
        program = recording.program("/bin/app", None, "app")
        if session.joined:
            recording.features.append(JOINED_FEATURE)
        else:
            recording.executed(program, None)
        recording.rows[program, "x86_64", 39] = Row(calls=self.calls)
        return recording

    def refused(self, session: Session) -> list[Refused]:
        return []

    def lost(self) -> int:
        return 2

    def forget(self, session: Session) -> None:
        assert session.ended, "what goes on cannot be forgotten"
        self.forgotten.append(session.number)

    def fill(self) -> Mapping[str, tuple[int, int]]:
        return {"tasks": (1, 10)}

    def stop(self) -> None:
        self.stopped = True


class Answers(Identifier):
    """What engines would answer."""

    def __init__(self, known: Mapping[str, Details]) -> None:
        super().__init__(("an engine",))  # type: ignore[arg-type]
        self.known = known
        self.asked: list[str] = []

    def want(self, identity: str) -> None:
        self.asked.append(identity)

    def work(self) -> Mapping[str, Details | None]:
        asked, self.asked = self.asked, []
        return {identity: self.known.get(identity) for identity in asked}


@dataclass
class Heard:
    names: list[str] = field(default_factory=list)
    files: list[tuple[str, bool]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)

    def began(self, name: str, joined: bool) -> None:
        self.names.append(name)

    def wrote(self, path: Path, trace: Trace, final: bool) -> None:
        self.files.append((path.name, final))

    def warned(self, name: str, warning: str) -> None:
        self.warnings.append((name, warning))

    def failed(self, reason: str) -> None:
        self.failures.append(reason)


def session(
    number: int = 1, ended: bool = False, kind: str = "container", subject: str = ID, joined: bool = False
) -> Session:
    return Session(number, kind, subject, joined, 0, time.monotonic(), ended)


def details(name: str = "web", status: int | None = None) -> Details:
    return Details(
        Container("docker", "runc", ID, name, "img", command=("/bin/app", "-x"), user="33:44"), 0, status, {}
    )


def run(
    tmp_path: Path, steps: list[Step], known: Mapping[str, Details] | None = None, **plan: Any
) -> tuple[Script, Heard, Watch]:
    script, heard = Script(steps), Heard()
    plan.setdefault("outputs", Outputs(tmp_path / "a.trace.json", None, False))
    asked = Answers(known) if known is not None else Identifier(())
    watch = Watch(script, Plan(**{"selection": Selection(), "options": Options(), **plan}), asked, heard)
    hold_signals()
    watch.run()
    assert script.stopped
    return script, heard, watch


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "ANSWER_SECONDS", 0.2)
    return


def tell(number: signal.Signals) -> Callable[[], object]:
    # To this thread, which holds it: another of the test's process may not, and would end all.
    return lambda: signal.pthread_kill(threading.get_ident(), number)


def test_one_session_to_its_end(tmp_path: Path) -> None:
    script, heard, watch = run(tmp_path, [[], [session()], [session(ended=True)]], {ID: details(status=7)})
    assert heard.names == ["web"]
    assert heard.files == [("a.trace.json", True)]
    assert heard.warnings == [("web", "a server does not answer")]
    assert script.forgotten == [1]
    meta = read_trace(tmp_path / "a.trace.json").meta
    assert (meta.exit_status, meta.argv, meta.uid, meta.gid, meta.groups) == (7, ("/bin/app", "-x"), 33, 44, (44,))
    assert meta.container == details().container
    assert meta.watched is None
    assert watch.traces[0].meta == meta
    assert (watch.figures.begun, watch.figures.ended, watch.figures.written) == (1, 1, 1)


def in_pod(pod: str, name: str = "nginx") -> Details:
    whole = Container("containerd", None, ID, name, command=("/bin/app",), pod=Pod("shop", pod, pod, "web"))
    return Details(whole, 0, None, {})


def test_a_container_of_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bundle says all of it: no engine is asked, not for its exit status either."""
    monkeypatch.setattr(loop.bundle, "find", lambda identity, pid: in_pod("web-x2x7k"))
    steps: list[Step] = [[session()], [session(ended=True)]]
    _, heard, watch = run(tmp_path, steps, {ID: details(status=7)}, outputs=Outputs(None, tmp_path, False))
    assert heard.names == ["shop/web-x2x7k/nginx"]
    assert heard.files == [("shop_web_nginx-abababababab.trace.json", True)]
    assert watch.traces[0].meta.container == in_pod("web-x2x7k").container


def test_a_bundle_that_goes_with_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read when the container is made: once it has started, it may end before anybody can look."""
    monkeypatch.setattr(loop.bundle, "find", lambda identity, pid: in_pod("web-x2x7k") if pid == 7 else None)
    script, heard = Script([[], [session(ended=True)]], were_made=((ID, 7), ("cd" * 32, 8))), Heard()
    plan = Plan(Selection(), Options(), Outputs(None, tmp_path, False))
    hold_signals()
    Watch(script, plan, Identifier(()), heard).run()
    assert heard.names == ["shop/web-x2x7k/nginx"]


def test_replicas_share_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --merge-restarts, the containers of the same name in all pods of a workload; others do not."""
    known = {ID: in_pod("web-x2x7k"), "cd" * 32: in_pod("web-4z5kj"), "ef" * 32: in_pod("web-4z5kj", "log")}
    monkeypatch.setattr(loop.bundle, "find", lambda identity, pid: known[identity])
    every = [session(number, subject=subject) for number, subject in enumerate(known, 1)]
    steps: list[Step] = [every, [replace(row, ended=True) for row in every], tell(signal.SIGTERM)]
    run(tmp_path, steps, outputs=Outputs(None, tmp_path, merge=True), follow=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shop_web_log.trace.json", "shop_web_nginx.trace.json"]
    meta = read_trace(tmp_path / "shop_web_nginx.trace.json").meta
    assert meta.runs == 2
    assert meta.container is not None
    assert (meta.container.name, meta.container.pod) == ("nginx", Pod("shop", None, None, "web"))


def test_a_bundle_where_no_engine_knows_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Details(Container(None, None, ID, None, command=("/bin/app", "-v"), user="1:2"), 0, None, {})
    monkeypatch.setattr(loop.bundle, "find", lambda identity, pid: said)
    for known, expected in (({}, said), ({ID: details()}, details())):
        _, _, watch = run(tmp_path, [[session()], [session(ended=True)]], known)
        assert watch.traces[0].meta.container == expected.container
    made = Container("docker", None, ID, "made")
    _, _, watch = run(tmp_path, [[session()], [session(ended=True)]], {}, container=made)
    assert watch.traces[0].meta.container == made, "its maker knows more"


@pytest.mark.parametrize("by_details", [True, False])
def test_a_container_that_ended_before_it_was_known(by_details: bool, tmp_path: Path) -> None:
    """It may have been one of those that were asked for."""
    steps: list[Step] = [[session(ended=True)], tell(signal.SIGTERM)]
    plan: dict[str, Any] = {"accept": lambda _, details: details is not None, "by_details": by_details, "follow": True}
    _, heard, watch = run(tmp_path, steps, outputs=Outputs(None, tmp_path, False), **plan)
    assert not heard.files
    assert ("unknown" in watch.figures.losses) is by_details
    expected = [(ID, "it ended before profgen could look what it is, and is not recorded")]
    assert heard.warnings == (expected if by_details else [])


def test_told_to_end(tmp_path: Path) -> None:
    _, heard, watch = run(tmp_path, [[session(joined=True)], tell(signal.SIGTERM)], {ID: details()})
    trace = read_trace(tmp_path / "a.trace.json")
    assert trace.meta.exit_status is None
    assert trace.meta.watched == "container web"
    assert trace.joined == ("/bin/app",)
    assert watch.told
    assert heard.files == [("a.trace.json", True)]


def test_a_snapshot_when_told(tmp_path: Path) -> None:
    steps: list[Step] = [
        [session()],
        tell(signal.SIGUSR1),
        [session()],
        tell(signal.SIGUSR2),
        [session()],
        [session(ended=True)],
    ]
    _, heard, _ = run(tmp_path, steps)
    assert heard.files == [("a.trace.json", False), ("a.trace.json", True)]


def test_snapshots_at_intervals_and_restarts(tmp_path: Path) -> None:
    """With an interval nothing but a signal ends it; each run has a file."""
    first, second = session(), session(2)
    steps: list[Step] = [
        [first],
        [first],
        [replace(first, ended=True)],
        [second],
        lambda: time.sleep(0.05),
        [second],
        tell(signal.SIGINT),
    ]
    script, heard, watch = run(tmp_path, steps, {ID: details()}, snapshot=0.01, follow=True)
    assert ("a.trace.json", True) in heard.files
    assert ("a.2.trace.json", False) in heard.files
    assert heard.files[-1] == ("a.2.trace.json", True)
    assert script.forgotten == [1], "the second goes on"
    assert watch.figures.ended == 2
    assert watch.figures.losses == {"sessions": 2}


def test_merged_restarts(tmp_path: Path) -> None:
    first, second = session(), session(2, joined=True)
    steps: list[Step] = [[first], [replace(first, ended=True)], [second], tell(signal.SIGINT)]
    run(tmp_path, steps, {ID: details()}, snapshot=100.0, follow=True, outputs=Outputs(None, tmp_path, True))
    trace = read_trace(tmp_path / "web.trace.json")
    assert trace.meta.runs == 2
    assert trace.joined == (), "the first run saw the start"


@pytest.mark.parametrize("engine", [True, False], ids=["an engine is asked", "no engine"])
def test_merged_restarts_at_once(engine: bool, tmp_path: Path) -> None:
    """The next run begins before the last one's trace is written: none is lost, whichever ends or is written first."""
    first, second, third = session(ended=True), session(2), session(3)
    steps: list[Step] = [
        [first, second],
        tell(signal.SIGUSR1),
        [first, replace(second, ended=True), third],
        [replace(third, ended=True)],
        [session(4)],
        tell(signal.SIGINT),
    ]
    known = {ID: details()} if engine else None
    run(tmp_path, steps, known, snapshot=100.0, follow=True, outputs=Outputs(None, tmp_path, True))
    (path,) = tmp_path.iterdir()
    assert read_trace(path).meta.runs == 4


def test_merged_with_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "web.trace.json").write_text("{}")
    steps: list[Step] = [[session()], [session(ended=True)], tell(signal.SIGINT)]
    _, heard, _ = run(tmp_path, steps, {ID: details()}, follow=True, outputs=Outputs(None, tmp_path, True))
    assert "replaced" in heard.failures[0]
    assert read_trace(tmp_path / "web.trace.json").meta.runs == 1


def test_only_what_is_wanted(tmp_path: Path) -> None:
    other = session(2, subject="cd" * 32)
    script, heard, _ = run(
        tmp_path,
        [[session(), other], [session(), other], [session(), replace(other, ended=True)], [session(ended=True)]],
        {ID: details(), "cd" * 32: details("other")},
        accept=lambda session, known: known is not None and known.container.name == "web",
    )
    assert heard.names == ["web"]
    assert script.forgotten == [2, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.trace.json"]


def test_it_ends_when_all_that_are_awaited_have_ended(tmp_path: Path) -> None:
    first, second = session(), session(2, subject="cd" * 32)
    steps: list[Step] = [[first], [replace(first, ended=True)], [second], [replace(second, ended=True)]]
    names = {ID: details(), "cd" * 32: details("other")}

    def named(name: str) -> loop.Accept:
        return lambda session, known: known is not None and known.container.name == name

    outputs = Outputs(None, tmp_path, False)
    _, heard, watch = run(tmp_path, steps, names, outputs=outputs, awaited=(named("web"), named("other")), follow=True)
    assert heard.names == ["web", "other"]
    assert not watch.told
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "other-cdcdcdcdcdcd.trace.json",
        "web-abababababab.trace.json",
    ]


def test_figures_are_of_what_is_wanted(tmp_path: Path) -> None:
    """Not of a session about which the engine has not answered yet: it may be somebody else's container."""
    outputs = Outputs(None, tmp_path, False)
    plan = Plan(Selection(), Options(), outputs=outputs, accept=lambda _, known: known is not None)
    watch = Watch(Script([]), plan, Answers({}), Heard())
    for number, known in ((1, details()), (2, None)):
        row = watch._begin(session(number))
        row.last = watch.watcher.snapshot(row.session)
        watch._publish()
        assert len(watch.figures.sessions) == number - 1
        watch._answer(row, known)
        watch._publish()
        assert [shown.name for shown in watch.figures.sessions] == ["web"]


def test_a_container_nobody_knows(tmp_path: Path) -> None:
    run(tmp_path, [[session()], [session(ended=True)]], {})
    meta = read_trace(tmp_path / "a.trace.json").meta
    assert meta.container is not None
    assert (meta.container.id, meta.container.name, meta.container.engine) == (ID, None, None)
    assert meta.argv == ("app",), "the program that was executed first"


def test_a_directory_that_is_gone_ends_no_recording(tmp_path: Path) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    steps: list[Step] = [[session()], directory.rmdir, [session(ended=True)], tell(signal.SIGTERM)]
    _, heard, watch = run(tmp_path, steps, {ID: details()}, follow=True, outputs=Outputs(None, directory, False))
    assert heard.files == []
    assert "cannot write" in heard.failures[0]
    assert watch.figures.failed == 1


def test_duration(tmp_path: Path) -> None:
    run(tmp_path, [[session(kind="pid", subject="7")]], options=Options(duration=0.05), watched="pid 7")
    assert read_trace(tmp_path / "a.trace.json").meta.watched == "pid 7"


def test_nothing_began(tmp_path: Path) -> None:
    _, heard, _ = run(tmp_path, [[], tell(signal.SIGINT)])
    assert heard.files == []
    assert list(tmp_path.iterdir()) == []


def test_figures_for_those_who_look(tmp_path: Path) -> None:
    _, _, watch = run(tmp_path, [[session()], [session()], tell(signal.SIGINT)], options=Options(looks=0.1))
    assert watch.figures.stores == {"tasks": (1, 10)}
    assert watch.figures.memory > 1 << 20


def test_an_end_that_is_asked_for(tmp_path: Path) -> None:
    """As if the time were over: the trace is written."""
    stop = threading.Event()
    _, heard, watch = run(tmp_path, [[session()], stop.set], options=Options(stop=stop))
    assert heard.files == [("a.trace.json", True)]
    assert watch.told
