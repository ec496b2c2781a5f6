"""Garbage collection, set aside while many objects are made of which none is part of a cycle: it would take half the
time."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """A context, or a decorator of a function (with parentheses), in which no garbage is collected; then as before."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
