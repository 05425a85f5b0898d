"""The time of a log: the clock's, which may be set back, while a log's never goes back.

What waits for a moment goes by it: a provider's pause, a cool-down, a breaker's probe, a day, the
length of a session.  If it stood still until the clock has caught up, a pause of a minute would
last for as long as the clock was wrong; if it went on at the clock's pace, the two would never meet
again.  So it goes on half as fast, as time servers slew a clock instead of setting it.
"""

from __future__ import annotations

from engine.clock import Clock

SLOWER = 2
"""Waits last so many times as long at most, while the clock is behind."""


class LogTime:
    """Never goes back, and meets the clock again once that has caught up."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reached_us = 0
        self._since_s = clock.monotonic_s()

    def now_us(self) -> int:
        """Unix microseconds; the clock's, unless that shows less than what was reached before."""
        now_us, now_s = self._clock.now_us(), self._clock.monotonic_s()
        passed_us = int((now_s - self._since_s) * 1e6)
        slow_us = self._reached_us + passed_us // SLOWER
        if now_us < slow_us:
            return slow_us
        self._reached_us, self._since_s = now_us, now_s
        return now_us

    def reach(self, recorded_us: int) -> None:
        """Something was recorded as of then, by whichever engine's clock."""
        if recorded_us > self.now_us():
            self._reached_us, self._since_s = recorded_us, self._clock.monotonic_s()
