"""A server that is lost in the middle of an append: the log alone knows what became of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import anyio
import pytest

from engine.clock import HandSetClock
from engine.errors import AppendRefused, Fenced, ServerLost
from engine.events import Seen, SessionLapsed
from engine.store.boards import load_board
from engine.store.command import Command, Draft, Moment, just
from engine.store.location import locate
from engine.store.opening import open_writer
from engine.store.protocol import Query
from engine.store.recorder import Recorder, Writer, recording
from projections.board import Board
from tests.between import Between, standing
from tests.servers import Server
from tests.store.test_sharing import once, register_many, registered

LIMIT_S = 20.0


class Two(NamedTuple):
    """Two writers of one log; the way of the first to the server can be cut."""

    first: Recorder
    second: Recorder
    way: Between


@pytest.fixture
async def two(postgres: Server) -> AsyncGenerator[Two, None]:
    url = await postgres.fresh()
    async with AsyncExitStack() as opened:
        way = await opened.enter_async_context(standing(postgres.port))
        found: list[Recorder] = []
        for number, place in enumerate((way.url(url), url)):
            store = await open_writer(locate(place), create=True)
            opened.push_async_callback(store.close)
            writer = Writer(f"host-{number}", "boot", number, "test", "0")
            entering = recording(store, HandSetClock(1_000_000 + number), writer)
            found.append(await opened.enter_async_context(entering))
        yield Two(found[0], found[1], way)


def _look(_board: Board, _moment: Moment) -> Iterator[Draft]:
    yield from ()


async def lost_at_commit(
    two: Two, command: Command, meanwhile: Command | None, *, carried: bool
) -> Any:
    """What ``command`` comes to, when the link is cut in its commit and is back some time later."""
    answers: list[Any] = []

    async def ask() -> None:
        try:
            answers.append(await two.first.submit(command))
        except Exception as error:  # noqa: BLE001
            answers.append(error)

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as group:
            cutting = anyio.Event()

            async def cut() -> None:
                cutting.set()
                await two.way.cut_at(b"COMMIT", carried=carried)
                if meanwhile is not None:
                    await two.second.submit(meanwhile)
                two.way.open()

            group.start_soon(cut)
            await cutting.wait()
            group.start_soon(ask)
    return answers[0]


async def boards_agree(two: Two) -> bool:
    """Whether the first writer's board says what the log says."""
    read = await load_board(two.second.store)
    mine = two.first.board
    pairs = zip(mine.all, read.all, strict=True)
    return mine.head == read.head and all(
        dict(one.rows()) == dict(other.rows()) for one, other in pairs
    )


@pytest.mark.parametrize("meanwhile", [None, registered("other")])
async def test_what_was_committed_is_acknowledged(two: Two, meanwhile: Command | None) -> None:
    await two.first.submit(registered("before"))
    receipt = await lost_at_commit(two, registered("r"), meanwhile, carried=True)
    assert [record.run for record in receipt.records] == ["r"]
    assert not receipt.repeated
    await two.first.submit(registered("after"))
    found = [record.run for record in await two.second.store.records(Query(types=("backlog.*",)))]
    assert found == ["before", "r", *(["other"] if meanwhile else []), "after"]
    assert await boards_agree(two)


@pytest.mark.parametrize("meanwhile", [None, registered("other")])
async def test_what_never_came_there_is_decided_anew(two: Two, meanwhile: Command | None) -> None:
    await two.first.submit(registered("before"))
    receipt = await lost_at_commit(two, registered("r"), meanwhile, carried=False)
    assert [record.run for record in receipt.records] == ["r"]
    found = [record.run for record in await two.second.store.records(Query(types=("backlog.*",)))]
    assert found == ["before", *(["other"] if meanwhile else []), "r"]
    assert await boards_agree(two)


async def test_it_is_decided_by_what_others_have_appended_meanwhile(two: Two) -> None:
    await two.first.submit(registered("before"))
    answer = await lost_at_commit(two, once("r", "mine"), once("r", "theirs"), carried=False)
    assert isinstance(answer, AppendRefused)
    assert await boards_agree(two)


async def test_a_first_word_that_was_lost_is_said_anew_in_an_epoch_of_its_own(two: Two) -> None:
    await lost_at_commit(two, registered("r"), registered("other"), carried=False)
    started = await two.second.store.records(Query(types=("engine.started",)))
    assert [record.command_id for record in started] == ["engine-1", "engine-2"]
    assert (two.second.epoch, two.first.epoch) == (1, 2)


async def test_who_only_looked_goes_on(two: Two) -> None:
    await two.first.submit(registered("before"))
    look = Command("look", "engine", b"look", _look)
    receipt = await lost_at_commit(two, look, registered("other"), carried=False)
    assert receipt.records == ()
    await two.first.submit(registered("after"))
    assert await boards_agree(two)


async def test_who_has_lapsed_meanwhile_is_refused(two: Two) -> None:
    await two.first.submit(registered("before"))
    lapsed = SessionLapsed(
        session_id="s", epoch=two.first.epoch, host="host-0", noticed_by=2, proved=False
    )
    lapse = Command("lapse", "drain/s", b"lapse", just(lapsed))
    answer = await lost_at_commit(two, registered("r"), lapse, carried=False)
    assert isinstance(answer, Fenced)
    types = [record.type for record in await two.second.store.records(Query(types=("backlog.*",)))]
    assert len(types) == 1


async def test_stored_projections_that_never_came_there_are_written_again(two: Two) -> None:
    """The batch that is lost is one that writes them, and its changes must not be lost with it."""
    await two.first.submit(registered("before"))
    await register_many(two.first, "early")
    async with anyio.create_task_group() as group:
        group.start_soon(register_many, two.first, "many")
        await two.way.cut_at(b"COMMIT", carried=False)
        two.way.open()
    await register_many(two.first, "late")
    assert await boards_agree(two)


async def test_who_follows_is_told_that_the_board_was_taken_back(two: Two) -> None:
    told: list[str | Seen] = []
    relearn: Callable[[], None] = lambda: told.append("anew")  # noqa: E731
    await two.first.submit(registered("before"))
    with two.first.followed_by(told.append, relearn):
        await lost_at_commit(two, registered("kept"), None, carried=True)
        assert told == []
        await lost_at_commit(two, registered("lost"), None, carried=False)
    assert told == ["anew"]


async def test_a_writer_that_closes_waits_for_no_server(two: Two) -> None:
    await two.first.submit(registered("before"))
    pending = two.first.enqueue(registered("r"))
    two.first.close()
    with anyio.fail_after(LIMIT_S):
        await two.way.cut_at(b"COMMIT", carried=False)
        with pytest.raises(ServerLost):
            await pending.answer()
