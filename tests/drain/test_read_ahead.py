"""Registrations are read a few at a time, given out once, and few are kept."""

from __future__ import annotations

import pytest

from engine.clock import HandSetClock
from engine.drain import read_ahead
from engine.drain.read_ahead import READ_AT_ONCE, ReadAhead
from engine.events import PhaseRegistered, Record, event_of
from engine.executors.port import Report
from engine.store.memory import MemoryStore
from engine.store.protocol import PAGE_ROWS, Query
from engine.store.recorder import Writer, recording
from engine.triage.policy import Policy
from tests.drain.test_loop import CLOCK, WRITER, Crew, drain_of, endings
from tests.harness.backlogs import register


class Counting(MemoryStore):
    """Counts what is read of it."""

    reads = 0

    async def records(self, query: Query, after: int = 0, limit: int = PAGE_ROWS) -> list[Record]:
        self.reads += 1
        return await super().records(query, after, limit)


@pytest.fixture
async def store() -> Counting:
    """Three runs of ten phases."""
    store = Counting()
    async with recording(store, HandSetClock(), Writer("h", "b", 1, "test", "0")) as recorder:
        await register(recorder, 3, 10)
    return store


async def registered(store: Counting) -> dict[int, PhaseRegistered]:
    events = [(r.pos, event_of(r)) for r in await store.records(Query())]
    store.reads = 0
    return {pos: event for pos, event in events if isinstance(event, PhaseRegistered)}


async def test_every_phase_is_as_it_was_registered_and_few_reads_do(store: Counting) -> None:
    wanted, ahead = await registered(store), ReadAhead(store)
    assert len(wanted) == 30
    assert {pos: await ahead.registered(pos) for pos in wanted} == wanted
    assert store.reads <= 1 + max(wanted) // READ_AT_ONCE


async def test_what_a_drain_starts_next_is_read_ahead(store: Counting) -> None:
    wanted = await registered(store)
    async with recording(store, CLOCK, WRITER) as recorder:
        store.reads = 0
        done = Crew(Report(ended="exited", duration_ms=1, exit_code=0))
        assert await drain_of(recorder, done, Policy(name="t")).run(resume=False)
    assert len(await endings(store)) == len(wanted)
    assert store.reads < len(wanted) / 2


async def test_a_phase_that_starts_again_is_read_again(store: Counting) -> None:
    wanted, ahead = await registered(store), ReadAhead(store)
    (pos, *_) = wanted
    assert await ahead.registered(pos) == await ahead.registered(pos) == wanted[pos]
    assert store.reads == 2


@pytest.mark.parametrize("limit", ["KEPT_MAX", "KEPT_BYTES_MAX"])
async def test_no_more_is_kept_than_may_be(
    store: Counting, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, limit, 1)
    wanted, ahead = await registered(store), ReadAhead(store)
    assert {pos: await ahead.registered(pos) for pos in wanted} == wanted
    assert store.reads == len(wanted)


@pytest.mark.parametrize("limit", ["KEPT_MAX", "KEPT_BYTES_MAX"])
@pytest.mark.parametrize("missing", [0, 1])
async def test_as_much_is_kept_as_may_be(
    store: Counting, limit: str, missing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pos, *_) = await registered(store)
    query = Query(types=("backlog.phase_registered",), until=pos + READ_AT_ONCE - 1)
    together = await store.records(query)
    room = len(together) if limit == "KEPT_MAX" else sum(len(each.data) for each in together)
    monkeypatch.setattr(read_ahead, limit, room - missing)
    store.reads = 0
    ahead = ReadAhead(store)
    for each in together:
        await ahead.registered(each.pos)
    assert (store.reads == 1) is (missing == 0)
