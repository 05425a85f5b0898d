"""Stored projections of a log on a server, dropped and built anew while others are at work."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio
import pytest

from engine.audit.stored import differences
from engine.clock import HandSetClock
from engine.events import RunRegistered
from engine.store.boards import load_board
from engine.store.command import Command, just
from engine.store.location import Location, locate
from engine.store.opening import open_quick, open_writer
from engine.store.protocol import EventStore
from engine.store.reading import table_of
from engine.store.recorder import PROJECTION_EVENTS, Recorder, Writer, recording
from projections.board import FOLDS
from projections.run_triage import RUN_TRIAGE
from tests.servers import Server

TABLE = f"runoff.{table_of(RUN_TRIAGE.name, RUN_TRIAGE.version)}"


@pytest.fixture
async def place(postgres: Server) -> Location:
    return locate(await postgres.fresh())


@pytest.fixture
async def log(place: Location) -> AsyncGenerator[EventStore, None]:
    """A log of some runs, with all of its projections."""
    store = await open_writer(place, create=True)
    async with recording(store, HandSetClock(1), Writer("h", "boot", 1, "test", "0")) as recorder:
        await register_many(recorder, "first")
    yield store
    await store.close()


async def register_many(recorder: Recorder, name: str) -> None:
    """Enough for the stored projections to be written."""
    async with anyio.create_task_group() as group:
        for number in range(PROJECTION_EVENTS + 1):
            event = RunRegistered(run_id=f"{name}-{number}", origin="test", state="NEW")
            command = Command(f"c-{event.run_id}", "runs", b"", just(event))
            group.start_soon(recorder.submit, command)


async def drop_all(log: EventStore) -> None:
    for fold in FOLDS.values():
        await log.drop_projection(fold.name, fold.version)


async def build_anew(log: EventStore) -> None:
    """As who finds none stored does."""
    async with recording(log, HandSetClock(1), Writer("h", "boot", 2, "test", "0")):
        pass


async def test_a_reader_goes_on_to_see_what_was_stored_at_its_moment(
    place: Location, log: EventStore
) -> None:
    between, behind = await open_quick(place), await open_quick(place)
    for reader in (between, behind):
        await reader.head()
    await drop_all(log)
    assert not (await load_board(between)).is_rebuilt
    await between.close()
    await build_anew(log)
    assert not (await load_board(behind)).is_rebuilt
    await behind.close()


async def test_an_engine_that_goes_on_meanwhile_stores_nothing_false(
    place: Location, log: EventStore
) -> None:
    other = await open_writer(place, create=False)
    async with recording(other, HandSetClock(1), Writer("h", "boot", 3, "test", "0")) as recorder:
        await drop_all(log)
        await register_many(recorder, "second")
        assert await differences(log) == []
        await build_anew(log)
        await register_many(recorder, "third")
    await other.close()
    assert await differences(log) == []


@pytest.mark.parametrize(
    "damage",
    [
        f"DROP TABLE {TABLE}",
        f"ALTER TABLE {TABLE} DROP COLUMN data",
        f"ALTER TABLE {TABLE} DROP CONSTRAINT projection_run_triage_v3_pkey",
        f"ALTER TABLE {TABLE} ALTER COLUMN data TYPE integer USING 1",
        f"UPDATE {TABLE} SET data = '{{}}'",
    ],
)
async def test_a_table_that_was_altered_is_made_anew(
    postgres: Server, place: Location, log: EventStore, damage: str
) -> None:
    connection = await postgres.connect(place.name.rpartition("-")[2])
    await connection.execute(damage)
    await connection.close()
    await drop_all(log)
    await build_anew(log)
    assert await differences(log) == []
    assert len(await log.projections()) == len(FOLDS)
