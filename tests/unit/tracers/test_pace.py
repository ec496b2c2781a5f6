"""What takes longer is done less often."""

from __future__ import annotations

import pytest

from profiler.tracers import pace
from profiler.tracers.pace import Pace


@pytest.mark.parametrize(
    ("took", "used", "expected"), [(0.0, 0.0, 0.25), (0.01, 0.01, 0.25), (1.0, 1.0, 20.0), (1.0, 0.01, 2.0)]
)
def test_pace(took: float, used: float, expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow reading is repeated late, so that it takes a twentieth of a processor at most."""
    now, worked = [100.0], [5.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(pace.time, "thread_time", lambda: worked[0])
    own = Pace(0.25)
    assert own.due()
    with own.turn():
        now[0] += took
        worked[0] += used
    assert own.next == pytest.approx(100.0 + expected)
    now[0] = own.next - 0.001
    assert not own.due()
    now[0] = own.next
    assert own.due()
