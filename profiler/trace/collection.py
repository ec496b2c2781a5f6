"""Suspend garbage collection, or make it rare, while many objects without cycles are created."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

_RARELY = 20


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Return a context manager (or decorator, with parentheses) that suspends garbage collection.

    Otherwise it takes half of the time of reading and writing large files.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextlib.contextmanager
def rare_collection() -> Iterator[None]:
    """Return a context manager that makes garbage collection rare, and leaves out what is there already."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_RARELY * thresholds[0], *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
