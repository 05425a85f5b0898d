"""Several writers of one log: each follows what the others append before it decides."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from engine.audit.chain import Chain, Row
from engine.clock import HandSetClock
from engine.errors import AppendRefused
from engine.events import Record, RunRegistered, Seen
from engine.store.boards import load_board
from engine.store.command import Command, Draft, Moment, just
from engine.store.location import Location, locate
from engine.store.memory import MemoryStore
from engine.store.opening import open_writer
from engine.store.protocol import EventStore, Kept, Query
from engine.store.recorder import PROJECTION_EVENTS, Recorder, Writer, recording
from projections.board import FOLDS, Board
from projections.fold import Change, Fold
from projections.run_triage import RUN_TRIAGE
from tests.servers import Server

WRITERS = 3


class Shared:
    """One log, and a way to open it once more."""

    def __init__(self, place: Location | None) -> None:
        self._place = place
        self._memory = MemoryStore(is_shared=True)

    async def open(self) -> EventStore:
        if self._place is None:
            return self._memory
        return await open_writer(self._place, create=True)


@pytest.fixture(params=["memory", "postgres"])
async def log(request: pytest.FixtureRequest) -> Shared:
    if request.param == "memory":
        return Shared(None)
    server: Server = request.getfixturevalue("postgres")
    return Shared(locate(await server.fresh()))


@pytest.fixture
async def writers(log: Shared) -> AsyncGenerator[list[Recorder], None]:
    async with AsyncExitStack() as opened:
        found: list[Recorder] = []
        for number in range(WRITERS):
            store = await log.open()
            opened.push_async_callback(store.close)
            writer = Writer(f"host-{number}", "boot", number, "test", "0")
            entering = recording(store, HandSetClock(1_000_000 + number), writer)
            found.append(await opened.enter_async_context(entering))
        yield found


def registered(run_id: str, command_id: str = "") -> Command:
    event = RunRegistered(run_id=run_id, origin="test", state="NEW")
    return Command(command_id or f"c-{run_id}", "runs", run_id.encode(), just(event))


async def register_many(writer: Recorder, name: str) -> None:
    """Enough for the stored projections to be written."""
    async with anyio.create_task_group() as group:
        for number in range(PROJECTION_EVENTS + 1):
            group.start_soon(writer.submit, registered(f"{name}-{number}"))


def once(run_id: str, command_id: str) -> Command:
    """Register a run unless somebody has."""

    def decide(board: Board, _moment: Moment) -> Iterator[Draft]:
        if board.runs.get(run_id) is not None:
            raise AppendRefused("it is there.", remedy="none.")
        yield Draft(RunRegistered(run_id=run_id, origin="test", state="NEW"))

    return Command(command_id, "runs", run_id.encode(), decide)


async def rows(writer: Recorder) -> list[Record]:
    return await writer.store.records(Query())


async def test_writers_in_turn_make_one_chain(writers: list[Recorder]) -> None:
    for number in range(4 * WRITERS):
        await writers[number % WRITERS].submit(registered(f"r{number}"))
    broken: list[str] = []
    chain = Chain(lambda what, _pos: broken.append(what))
    log = await rows(writers[0])
    for row in log:
        chain.take(Row(*row), {"epoch": row.epoch})
    assert broken == []
    assert [row.type for row in log].count("engine.started") == WRITERS
    assert sorted(writer.epoch for writer in writers) == [1, 2, 3]


async def test_each_decides_by_what_all_have_appended(writers: list[Recorder]) -> None:
    outcomes: list[str] = []

    async def attempt(writer: Recorder, run: str, number: int) -> None:
        try:
            await writer.submit(once(run, f"c-{run}-{number}"))
            outcomes.append(run)
        except AppendRefused:
            pass

    async with anyio.create_task_group() as group:
        for number, writer in enumerate(writers):
            for run in range(20):
                group.start_soon(attempt, writer, f"r{run}", number)
    assert sorted(outcomes) == sorted({f"r{run}" for run in range(20)})


async def test_boards_of_all_come_to_the_same(writers: list[Recorder]) -> None:
    for number, writer in enumerate(writers):
        await writer.submit(registered(f"r{number}"))
    for number, writer in enumerate(writers):
        await writer.submit(registered(f"again{number}"))
    await writers[1].submit(registered("last"))
    fresh = await load_board(writers[0].store)
    assert writers[1].head == fresh.head
    for one, other in zip(writers[1].board.all, fresh.all, strict=True):
        assert dict(one.rows()) == dict(other.rows())


async def test_a_command_is_done_once_whoever_is_asked(writers: list[Recorder]) -> None:
    first = await writers[0].submit(registered("r", "same"))
    second = await writers[1].submit(registered("r", "same"))
    assert (first.repeated, second.repeated) == (False, True)
    assert second.records == first.records


async def test_who_follows_hears_what_others_append_until_it_stops(
    writers: list[Recorder],
) -> None:
    heard: list[Seen] = []
    await writers[0].submit(registered("mine"))
    with writers[0].followed_by(heard.append, relearn=lambda: None):
        await writers[1].submit(registered("theirs"))
        await writers[0].submit(registered("mine too"))
    await writers[1].submit(registered("later"))
    await writers[0].submit(registered("mine, later"))
    runs = [seen.event.run_id for seen in heard if isinstance(seen.event, RunRegistered)]
    assert runs == ["theirs"]


async def test_stored_projections_of_several_writers_hold(writers: list[Recorder]) -> None:
    async with anyio.create_task_group() as group:
        for number in range(WRITERS * PROJECTION_EVENTS):
            group.start_soon(writers[number % WRITERS].submit, registered(f"r{number}"))
    board = await load_board(writers[0].store)
    assert not board.is_rebuilt
    assert len(dict(board.runs.rows())) == WRITERS * PROJECTION_EVENTS


@pytest.mark.parametrize("dropped", [[], [RUN_TRIAGE], list(FOLDS.values())])
async def test_one_who_begins_and_builds_anew_what_is_stored_ends_no_other(
    log: Shared, writers: list[Recorder], dropped: list[Fold[Any]]
) -> None:
    await register_many(writers[0], "first")
    store = await log.open()
    point = (await store.projections())[0].checkpoint
    if not dropped:
        odd = Kept(RUN_TRIAGE.name, RUN_TRIAGE.version, [Change("odd", "{}")], point)
        async with store.transaction() as transaction:
            await transaction.append([], [odd])
    await register_many(writers[0], "second")
    for fold in dropped:
        await store.drop_projection(fold.name, fold.version)
    async with recording(store, HandSetClock(), Writer("new", "boot", 9, "test", "0")) as new:
        assert new.board.is_rebuilt
        await register_many(writers[0], "third")
        await new.submit(registered("new"))
    board = await load_board(store)
    await store.close()
    assert not board.is_rebuilt
    assert dict(board.backlog.rows()) == dict(writers[0].board.backlog.rows())
    assert len(dict(board.runs.rows())) == 3 * (PROJECTION_EVENTS + 1) + 1


async def test_what_other_versions_of_the_program_have_stored_stays(
    log: Shared, writers: list[Recorder]
) -> None:
    await register_many(writers[0], "first")
    store = await log.open()
    point = (await store.projections())[0].checkpoint
    async with store.transaction() as transaction:
        await transaction.append([], [Kept("backlog", 99, [Change("k", "{}")], point)])
    async with recording(store, HandSetClock(), Writer("new", "boot", 9, "test", "0")):
        pass
    assert await store.projection_row("backlog", 99, "k") == "{}"
    await store.close()
