"""Time comes in through a port: the system's clock, or one that a test sets by hand."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for records, monotonic time for durations; neither ever orders events."""

    def now_us(self) -> int:
        """Unix time in microseconds."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        """Unix time in microseconds."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        """Seconds since an unknown start."""
        return time.monotonic()


class HandSetClock:
    """A clock that moves only when told to."""

    def __init__(self, now_us: int = 1_767_225_600_000_000) -> None:
        self._now_us = now_us
        self._passed_s = 0.0

    def now_us(self) -> int:
        """What it was set to."""
        return self._now_us

    def monotonic_s(self) -> float:
        """Seconds since it was made."""
        return self._passed_s

    def set(self, now_us: int) -> None:
        """Set the one on the wall; no time passes."""
        self._now_us = now_us

    def advance(self, seconds: float) -> None:
        """Move both clocks on; less than nothing sets back the one on the wall."""
        self._now_us += round(seconds * 1e6)
        self._passed_s += max(0.0, seconds)


class RealWork:
    """Counts work in threads, during which a virtual clock must not jump."""

    def __init__(self) -> None:
        self.under_way = 0

    def __enter__(self) -> None:
        self.under_way += 1

    def __exit__(self, *_: object) -> None:
        self.under_way -= 1


REAL_WORK = RealWork()
"""Entered around every wait for a thread that matters to a drain."""
