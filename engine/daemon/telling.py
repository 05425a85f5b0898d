"""Telling: the daemon's log lines, each with the position of the log that it speaks of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.events import AnyEvent, Record, event_of

Words = Callable[[AnyEvent], str | None]


class Teller:
    """Lines to a structured logger.  ``words`` says an event to a person, None for not at all."""

    def __init__(self, logger: Any, words: Words, head: Callable[[], int]) -> None:
        self._logger = logger
        self._words = words
        self._head = head

    def records(self, records: tuple[Record, ...]) -> None:
        """What was just committed."""
        for record in records:
            text = self._words(event_of(record))
            if text is not None:
                tags = {name: getattr(record, name) for name in ("session", "run", "phase")}
                tags["attempt"] = record.attempt
                known = {name: value for name, value in tags.items() if value is not None}
                self._logger.info(record.type, pos=record.pos, text=text, **known)

    def noted(self, record: Record, text: str) -> None:
        """Something of the log that a person or program outside has caused."""
        self._logger.info(record.type, pos=record.pos, text=text)

    def say(self, event: str, text: str, **facts: object) -> None:
        """Something that is no event of the log; ``event`` names it for programs."""
        self._logger.info(event, pos=self._head(), text=text, **facts)

    def complain(self, event: str, text: str, **facts: object) -> None:
        """Something that a person should see to."""
        self._logger.error(event, pos=self._head(), text=text, **facts)
