"""Runs of a test: when one passes, why it fails, and that they keep out of each other's way."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from unit.enforce.runs import Fake, everything_but, shell

from profiler.denials.model import Denial
from profiler.enforce.base import Enforcer, Options, Outcome
from profiler.enforce.direct import Direct
from profiler.errors import ProfgenError
from profiler.minimise.trial import SLOT, Pool, Result, Test, TestError
from profiler.wording import duration

POLICY = everything_but()


def results(
    test: Test, *, number: int = 1, seconds: float = 60.0, enforcer: Enforcer | None = None, stops: Sequence[int] = (0,)
) -> list[Result]:
    """Run trials at the same time; return their results in the order in which they were started."""
    with Pool[int](enforcer or Direct(), Options(denials=False), test, number) as pool:
        pool.seconds, pool.stops = seconds, frozenset(stops)
        for token in range(number):
            pool.start(token, POLICY)
        assert (pool.free, pool.busy) == (0, list(range(number)))
        found: dict[int, Result] = {}
        while len(found) < number:
            found |= dict(pool.wait())
        assert (pool.free, pool.wait()) == (number, [])
    return [found[token] for token in range(number)]


def result(test: Test, **how: float) -> Result:
    (found,) = results(test, **how)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    ("script", "passed", "status", "why"),
    [
        ("exit 0", True, 0, "status 0"),
        ("echo so; exit 3", False, 3, "status 3: so"),
        ("echo out; echo err >&2; kill -SEGV $$", False, 139, "SIGSEGV: err"),
        ("printf 'a\\n\\n  \\n'; exit 1", False, 1, "status 1: a"),
    ],
)
def test_the_status_of_the_command_decides(script: str, passed: bool, status: int, why: str) -> None:
    found = result(Test(shell(script)))
    assert (found.passed, found.status, found.why) == (passed, status, why)


def test_a_command_that_does_not_end() -> None:
    for seconds in (0.5, 5.0, 50.0):  # a busy machine may not come to the first command in time
        found = result(Test(shell("echo waits; sleep 1000")), seconds=seconds)
        assert (found.passed, found.status) == (False, None)
        if found.said:
            break
    assert found.why == f"it did not end within {duration(seconds)}: waits"


def test_what_is_kept_of_the_output() -> None:
    found = result(Test(shell("yes abc | head -c 200000; echo; echo last")))
    assert found.said.endswith("\nlast\n")
    assert len(found.said) == 4096


def test_before_each_run(tmp_path: Path) -> None:
    before = shell(f"echo x >> {tmp_path}/log")
    assert result(Test(shell(f"test -s {tmp_path}/log"), before=before)).passed
    with pytest.raises(TestError, match="the command of --before ended with status 4") as raised:
        result(Test(shell("exit 0"), before=shell("echo no; exit 4")))
    assert raised.value.said == "no\n"


def test_a_check_at_the_end(tmp_path: Path) -> None:
    made = shell(f"touch {tmp_path}/x")
    assert result(Test(made, check=shell(f"test -e {tmp_path}/x"))).passed
    found = result(Test(made, check=shell("exit 2")))
    assert (found.passed, found.status, found.why) == (False, 0, "the check: status 2")
    skipped = result(Test(shell("exit 5"), check=shell(f"touch {tmp_path}/checked")))
    assert (skipped.passed, skipped.status) == (False, 5)
    assert not (tmp_path / "checked").exists()


SERVICE = "trap 'exit 7' TERM; echo > {0}/up; while :; do sleep 0.02; done"
WAITS = "while ! test -e {0}/up; do sleep 0.02; done; "


def test_a_service_is_ended_after_its_load(tmp_path: Path) -> None:
    test = Test(shell(SERVICE.format(tmp_path)), load=shell(WAITS.format(tmp_path)))
    (found,) = results(test, stops=(0, 7))
    assert (found.passed, found.status, found.why) == (True, 7, "status 7 after SIGTERM")
    (tmp_path / "up").unlink()
    (found,) = results(test)
    assert (found.passed, found.why) == (False, "status 7 after SIGTERM")


def test_a_load_that_fails(tmp_path: Path) -> None:
    load = shell(WAITS.format(tmp_path) + "exit 9")
    found = result(Test(shell(SERVICE.format(tmp_path)), load=load))
    assert (found.passed, found.status, found.why) == (False, None, "the load: status 9")


def test_a_service_that_ends_by_itself() -> None:
    found = result(Test(shell("exit 0"), load=shell("sleep 1000")))
    assert (found.passed, found.status, found.why) == (False, 0, "status 0 before the load ended")


def test_runs_at_the_same_time_have_slots(tmp_path: Path) -> None:
    """Each waits for the other one's file, so they do run at the same time."""
    script = f"touch {tmp_path}/${SLOT}; while ! test -e {tmp_path}/$((1 - {SLOT})); do sleep 0.02; done; echo ${SLOT}"
    found = results(Test(shell(script)), number=2)
    assert [row.passed for row in found] == [True, True]
    assert sorted(row.said for row in found) == ["0\n", "1\n"]


def test_a_use_that_nothing_refused_is_a_failure() -> None:
    denial = Denial("capability", by="x", refused=False, capability="CAP_KILL")
    (found,) = results(Test(shell("")), enforcer=Fake(lambda: Outcome(0, (denial,))))
    assert not found.passed
    assert found.why.startswith("it used what nothing refused: ")


def test_an_enforcer_that_fails_is_a_failure() -> None:
    def work() -> Outcome:
        raise ProfgenError("no room")

    (found,) = results(Test(shell("")), enforcer=Fake(work))
    assert (found.passed, found.status, found.why) == (False, None, "no room")


def test_leaving_ends_what_runs(tmp_path: Path) -> None:
    with Pool[str](Direct(), Options(denials=False), Test(shell(f"echo $$ > {tmp_path}/pid; sleep 1000")), 1) as pool:
        pool.start("x", POLICY)
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert pool.busy == ["x"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
