"""Coverage: curves and estimates agree with their definitions, and the checklist finds its evidence."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.policy.making import call, file, touching, trace
from unit.trace.strategies import traces

from profiler.review.coverage import _TESTS, CURVE_POINTS, FRACTIONS, Point, average_curve, checklist, coverage
from profiler.trace.merge import merge
from profiler.trace.model import Exec, Signal, Socket, Trace

ZERO = frozenset({0})


def runs_of(*names: tuple[str, ...]) -> list[Trace]:
    return [trace(*map(call, several), start=f"2026-01-01T00:00:0{index}+00:00") for index, several in enumerate(names)]


@given(st.lists(st.frozensets(st.integers(0, 6)), min_size=1, max_size=5))
def test_the_curve_is_the_average_over_all_orders(runs: list[frozenset[int]]) -> None:
    """The curve equals a count over every order of the runs."""
    items = frozenset().union(*runs)
    orders = list(itertools.permutations(runs))
    by_hand = [
        sum(len(frozenset().union(*order[:size])) for order in orders) / len(orders) for size in range(1, len(runs) + 1)
    ]
    curve = average_curve((sum(item in run for run in runs) for item in items), len(runs))
    assert [number for number, _ in curve] == list(range(1, len(runs) + 1))
    assert [items for _, items in curve] == pytest.approx(by_hand)


def test_counts_as_a_file_may_have_them() -> None:
    """Any count of runs that a merged trace may contain gives a curve that ends at all items."""
    for runs in (31, 1000, 1 << 63):
        curve = average_curve([1, 2, runs // 2, runs, 1 << 64], runs)
        assert len(curve) <= CURVE_POINTS + 1
        assert curve[-1][0] == runs
        assert curve[-1][1] == pytest.approx(5)
    assert average_curve([1], 0) == ()


def test_estimates() -> None:
    """read is in all runs, write in two, the others in one each."""
    found = coverage(runs_of(("read", "write", "bind"), ("read", "write"), ("read", "listen", "accept")))
    (kind,) = found.kinds
    assert (kind.name, kind.items, kind.once, kind.twice) == ("syscalls", 5, 3, 1)
    assert kind.next_run(3) == pytest.approx(1.0 * (2 * 3) / (2 * 3 + 2))
    assert kind.unseen(3) == pytest.approx(2 / 3 * 3 * 2 / (2 * 2))
    assert found.saturation == pytest.approx(1 - 3 / 8 * 6 / 8)
    assert found.alone == (1, 0, 2)
    assert found.over_runs[-1] == (3, 5)


def test_the_estimate_comes_true() -> None:
    """For recordings drawn alike, the next one brings about as many items as estimated, averaged over many draws."""
    source = random.Random(1)
    names = ["read", "write", "bind", "listen", "accept", "close", "brk", "mmap", "stat", "open", "dup", "pipe"]
    chances = [0.9, 0.9, 0.7, 0.6, 0.5, 0.4, 0.3, 0.3, 0.2, 0.1, 0.1, 0.05]
    foretold = came = 0.0
    for _ in range(300):
        drawn = [
            tuple(name for name, chance in zip(names, chances, strict=True) if source.random() < chance)
            for _ in range(6)
        ]
        kinds = coverage(runs_of(*drawn[:5])).kinds
        foretold += kinds[0].next_run(5) if kinds else 0
        came += len(set(drawn[5]) - {name for run in drawn[:5] for name in run})
    assert foretold == pytest.approx(came, rel=0.25)


def test_one_recording() -> None:
    found = coverage([trace(call("read", calls=96), call("write", calls=1), call("bind", calls=3))])
    (kind,) = found.kinds
    assert kind.next_use() == 0.01
    assert coverage([trace(call("read", calls=3))]).kinds[0].next_use() is None
    assert found.saturation is None
    assert found.alone == ()
    assert len(found.over_time) == len(FRACTIONS)
    assert found.over_time[-1] == 1.0


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(traces(), min_size=1, max_size=3))
def test_any_traces(several: list[Trace]) -> None:
    """Curves rise, parts are parts, and neither the order of the files nor merging them first changes what is known of
    all."""
    found = coverage(several)
    assert all(0 <= a <= b <= 1 for a, b in itertools.pairwise((0.0, *found.over_time)))
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(items for _, items in found.over_runs))
    assert coverage(several[::-1]).kinds == found.kinds == coverage([merge(several)]).kinds
    for kind in found.kinds:
        assert kind.unseen(found.runs) >= 0
    assert [point.title for point in found.points] == [row["title"] for row in checklist()]


def point(title: str, *recordings: Trace) -> Point:
    (found,) = (point for point in coverage(recordings).points if point.title.startswith(title))
    return found


def socket(operation: str, port: int | None, result: str, family: str = "inet") -> Socket:
    return Socket(family, "dgram", 17, operation, port, None, {result: 1}, ZERO, 0.0, 0.0)


SEEN: dict[str, Any] = {
    "first start": touching(file("/var/lib/app", "make", kind="directory")),
    "second start": trace(call("mkdir", ok=0, errors={"EEXIST": 1})),
    "reload": touching(file("/etc/app.conf", "read", {"ok": 2})),
    "log rotation": touching(signals=[Signal("USR1", "workload", {"ok": 1}, ZERO)]),
    "stop by SIGTERM": trace(call("read")),
    "crash": trace(call("read"), exit_status=139),
    "name resolution": touching(sockets=[socket("connect", 53, "ok")]),
    "failure of name resolution": touching(sockets=[socket("connect", 53, "ECONNREFUSED")]),
    "peers": touching(sockets=[socket("connect", 5432, "ECONNREFUSED")]),
    "IPv6": touching(sockets=[socket("bind", 80, "ok", "inet6")]),
    "TLS": touching(file("/etc/app/server.key", "read", {"ok": 2})),
    "time zone": touching(file("/etc/localtime")),
    "disk full": touching(file("/srv/x", "create", "ENOSPC")),
    "too many open files": trace(call("accept4", ok=0, errors={"EMFILE": 1})),
    "no memory": trace(call("clone", ok=0, errors={"EAGAIN": 1})),
    "permission": touching(file("/srv/x", "read", "EACCES")),
    "upgrade": touching(execs=[Exec(0, 0, 1)]),
    "worker": touching(signals=[Signal("KILL", "workload", {"ok": 1}, ZERO)]),
    "scheduled jobs": trace(call("read"), duration=4000.0),
}


@pytest.mark.parametrize("title", SEEN)
def test_the_checklist(title: str) -> None:
    """Each item of the checklist is seen in a trace that shows it, with its evidence, and missed in one that
    does not."""
    found = point(title, SEEN[title])
    assert found.verdict == "seen"
    assert found.evidence
    bare = trace(call("read"), exit_status=None)
    assert point(title, bare).verdict == "not seen"
    assert point(title, bare).how


def test_every_row_of_the_checklist_has_its_trace() -> None:
    titles = [row["title"] for row in checklist()]
    assert all(any(title.startswith(start) for start in SEEN) for title in titles)
    for row in checklist():
        assert set(row) <= {"title", "how", "seen", "partly", "blind"}
        for test in (*row["seen"], *row.get("partly", ())):
            assert _TESTS.keys() & test.keys(), test


def test_weaker_signs() -> None:
    assert point("log rotation", touching(file("/var/log/app.log", "append", {"ok": 2}))).verdict == "partly"
    assert point("log rotation", touching(file("/var/log/app.log", "append", {"ok": 1}))).verdict == "not seen"
    # Once in each of two recordings is not twice in one.
    once = touching(file("/etc/app.conf", "read", {"ok": 1}))
    assert point("reload", once, once).verdict == "not seen"
    assert point("reload", merge([once, once])).verdict == "not seen"


def test_names_from_strangers() -> None:
    found = point("time zone", touching(file("/usr/share/zoneinfo/\x1b[31m\n")))
    assert found.evidence == ("/usr/share/zoneinfo/\\x1b[31m\\n: read 1 time",)
