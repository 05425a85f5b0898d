"""Times turned into positions: the last one recorded by then."""

from __future__ import annotations

import pytest

from engine.clock import HandSetClock
from engine.errors import LogUnreadable
from engine.events import RunRegistered
from engine.store.command import Command, just
from engine.store.memory import MemoryStore
from engine.store.moments import position_at, recorded_at
from engine.store.protocol import EventStore, Query
from engine.store.recorder import Writer, recording

WRITER = Writer("test", "boot", 1, "test", "0")
GAPS_S = (0, 0, 3, 1, 0, 7, 2, 0, 5)


async def filled(store: EventStore) -> list[int]:
    """Append runs with the given pauses before each; when each event was recorded."""
    clock = HandSetClock()
    async with recording(store, clock, WRITER) as recorder:
        for number, gap_s in enumerate(GAPS_S):
            clock.advance(gap_s)
            event = RunRegistered(run_id=f"r{number}", origin="test", state="NEW")
            await recorder.submit(Command(f"c{number}", f"run/{number}", b"", just(event)))
    return [record.recorded_us for record in await store.records(Query())]


async def test_a_time_means_the_last_position_recorded_by_then(store: EventStore) -> None:
    times = await filled(store)
    assert [await recorded_at(store, pos) for pos in range(1, len(times) + 1)] == times
    for at_us in range(times[0] - 2_000_000, times[-1] + 2_000_000, 500_000):
        assert await position_at(store, at_us) == sum(time <= at_us for time in times)


async def test_an_empty_log_stands_before_the_first_event_at_any_time(store: EventStore) -> None:
    assert [await position_at(store, at_us) for at_us in (-1, 0, 10**30)] == [0, 0, 0]


async def test_a_missing_position_is_an_unreadable_log() -> None:
    store = MemoryStore()
    await filled(store)
    with pytest.raises(LogUnreadable, match="no event at position 99"):
        await recorded_at(store, 99)
