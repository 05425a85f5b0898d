"""Phases as they were registered, read a few at a time: those beside one that starts come next.

Seeds and imports register the phases of a run one behind the other, and picks go on in that order.
A start that finds its phase here waits for no database.
"""

from __future__ import annotations

from engine.events import PhaseRegistered, Record, event_of, event_type
from engine.store.protocol import LogReader, Query

READ_AT_ONCE = 16
KEPT_MAX = 2048
KEPT_BYTES_MAX = 8 * 1024 * 1024

_REGISTERED = event_type(PhaseRegistered)


class ReadAhead:
    """Registrations by their position.  Each is given out once; another attempt reads it again."""

    def __init__(self, store: LogReader) -> None:
        self._store = store
        self._kept: dict[int, Record] = {}
        self._kept_bytes = 0

    async def registered(self, pos: int) -> PhaseRegistered:
        """The registration at ``pos``."""
        if pos not in self._kept:
            await self._read(pos)
        record = self._kept.pop(pos)
        self._kept_bytes -= len(record.data)
        event = event_of(record)
        assert isinstance(event, PhaseRegistered)
        return event

    async def _read(self, pos: int) -> None:
        query = Query(until=pos + READ_AT_ONCE - 1)
        for record in await self._store.records(query, after=pos - 1, limit=READ_AT_ONCE):
            if record.type == _REGISTERED and record.pos not in self._kept:
                self._kept[record.pos] = record
                self._kept_bytes += len(record.data)
        while len(self._kept) > KEPT_MAX or self._kept_bytes > KEPT_BYTES_MAX:
            oldest = next((each for each in self._kept if each != pos), None)
            if oldest is None:
                break
            self._kept_bytes -= len(self._kept.pop(oldest).data)
