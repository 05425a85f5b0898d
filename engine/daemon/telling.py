"""Telling: the daemon's log lines, each with the position of the log that it speaks of."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from engine.amounts import counted
from engine.events import AnyEvent, Record, event_of
from engine.losses import Losses

READING_S = 5.0
"""Between two words of how far the log was read."""

Words = Callable[[AnyEvent], str | None]


class Reading:
    """Says how far the log was read before work can begin, while that takes time.

    ``more``: told the same, for a service manager that would lose its patience.
    """

    def __init__(
        self,
        logger: Any,
        more: Callable[[str], object],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._more = more
        self._now_s = now_s
        self._due_s = now_s() + READING_S

    def __call__(self, reached: int, end: int) -> None:
        """Say it, if it is time to."""
        if self._now_s() < self._due_s:
            return
        self._due_s = self._now_s() + READING_S
        text = f"Reading the log: {reached} of {counted(end, 'event')}."
        self._logger.info("daemon.reading", pos=reached, text=text, end=end)
        self._more(text)


class Teller:
    """Lines to a structured logger.  ``words`` says an event to a person, None for not at all.

    ``lost``: how many lines the logger could not write so far, each of which it got over.
    """

    def __init__(
        self,
        logger: Any,
        words: Words,
        head: Callable[[], int],
        lost: Callable[[], int] = lambda: 0,
    ) -> None:
        self._logger = logger
        self._words = words
        self._head = head
        self._losses = Losses(lost)

    @property
    def lines_lost(self) -> int:
        """How many lines could not be written so far."""
        return self._losses.lines

    def records(self, records: tuple[Record, ...]) -> None:
        """What was just committed."""
        for record in records:
            text = self._words(event_of(record))
            if text is not None:
                tags = {name: getattr(record, name) for name in ("session", "run", "phase")}
                tags["attempt"] = record.attempt
                known = {name: value for name, value in tags.items() if value is not None}
                self._write(self._logger.info, record.type, record.pos, text, known)

    def noted(self, record: Record, text: str) -> None:
        """Something of the log that a person or program outside has caused."""
        self._write(self._logger.info, record.type, record.pos, text, {})

    def say(self, event: str, text: str, **facts: object) -> None:
        """Something that is no event of the log; ``event`` names it for programs."""
        self._write(self._logger.info, event, self._head(), text, facts)

    def complain(self, event: str, text: str, **facts: object) -> None:
        """Something that a person should see to."""
        self._write(self._logger.error, event, self._head(), text, facts)

    def _write(
        self,
        log: Callable[..., object],
        event: str,
        pos: int,
        text: str,
        facts: Mapping[str, object],
    ) -> None:
        self._losses.around(lambda: log(event, pos=pos, text=text, **facts), self._own_up)

    def _own_up(self, lines: int) -> None:
        text = f"{lines} log lines before this one could not be written."
        self._logger.error("daemon.lines_lost", pos=self._head(), text=text, lines=lines)
