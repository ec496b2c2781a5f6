"""Garbage collection is suspended, or rare, for a while."""

from __future__ import annotations

import gc

from profiler.trace.collection import no_collection, rare_collection


def test_suspended() -> None:
    assert gc.isenabled()
    with no_collection(), no_collection():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_rare() -> None:
    before = gc.get_threshold()
    with rare_collection():
        assert gc.get_threshold()[0] > before[0]
        assert gc.get_freeze_count()
    assert gc.get_threshold() == before
    assert not gc.get_freeze_count()
