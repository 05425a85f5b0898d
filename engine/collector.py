"""The garbage collector: set aside while a long log is walked, rare while an engine drains."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

RARELY = (20_000, 10, 10)
"""Objects that may be in circles before the youngest are looked through, and how many such looks go
to one at older ones.  They take some ten megabytes; Python's own limit is 700."""


@contextmanager
def without_collector() -> Generator[None, None, None]:
    """For walks that make no cycles: looking for some takes a fifth of their time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def collecting_rarely() -> Generator[None, None, None]:
    """For an engine at work: most of what it makes is in no cycle, and its projections stay.

    What is loaded is not looked through again, which held up every attempt's words meanwhile, and
    for the longer the more there is in the log.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
