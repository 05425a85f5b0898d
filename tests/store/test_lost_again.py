"""A server that is away in between, is lost again at once, or ends a question for an operator."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

import anyio
import asyncpg
import pytest

from engine.clock import HandSetClock
from engine.errors import ServerLost
from engine.store.leases import Holder, Leases, open_leases
from engine.store.leaving import Leaving
from engine.store.link import PAUSE_S
from engine.store.location import Location, locate
from engine.store.opening import open_writer
from engine.store.postgres_errors import lost, translation
from engine.store.recorder import Writer, recording
from tests.between import Between, standing
from tests.servers import Server
from tests.store.test_sharing import registered

LIMIT_S = 20.0
HOLDER = Holder("s", 1, "host boot", 1, None)


@pytest.fixture
async def between(postgres: Server) -> AsyncGenerator[tuple[Between, Location], None]:
    url = await postgres.fresh()
    await (await open_writer(locate(url), create=True)).close()
    async with standing(postgres.port) as way:
        yield way, locate(way.url(url))


async def test_leases_are_opened_once_the_server_is_back(
    between: tuple[Between, Location],
) -> None:
    """A daemon begins a part of its session whenever it is time for one."""
    way, place = between
    way.shut()
    found: list[Leases] = []

    async def open_them() -> None:
        leases = await open_leases(place, Leaving())
        assert leases is not None
        found.append(leases)

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as group:
            group.start_soon(open_them)
            await way.turned_away()
            assert not found
            way.open()
    await found[0].renew(HOLDER, 15.0)
    assert len(await found[0].all()) == 1
    await found[0].close()


async def test_what_answers_for_a_server_that_is_away_is_waited_out(
    postgres: Server, between: tuple[Between, Location]
) -> None:
    """A gateway, say; it was no mistake in the URL before, so it is none now."""
    way, place = between
    store = await open_writer(place, create=False)
    try:
        async with recording(
            store, HandSetClock(), Writer("host", "boot", 1, "test", "0")
        ) as recorder:
            way.shut(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
            await postgres.end_all_others(place.url.rpartition("/")[2])
            with anyio.fail_after(LIMIT_S):
                async with anyio.create_task_group() as group:
                    group.start_soon(recorder.submit, registered("r"))
                    await way.turned_away()
                    way.open()
            assert recorder.failed is None
    finally:
        await store.close()


async def test_many_who_read_need_one_new_connection(
    postgres: Server, between: tuple[Between, Location]
) -> None:
    """A server that is just back has room for three of each engine, and no more."""
    way, place = between
    store = await open_writer(place, create=False)
    made = way.made
    await postgres.end_all_others(place.url.rpartition("/")[2])
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as group:
            for _ in range(9):
                group.start_soon(store.head)
    assert way.made == made + 1
    await store.close()


async def test_who_leaves_does_not_wait_for_that(between: tuple[Between, Location]) -> None:
    way, place = between
    way.shut()
    leaving = Leaving()
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as group:

            async def leave() -> None:
                await way.turned_away()
                leaving.begin()

            group.start_soon(leave)
            with pytest.raises(ServerLost):
                await open_leases(place, leaving)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_link_that_is_lost_while_hints_are_asked_for_is_made_anew(
    between: tuple[Between, Location], times: int
) -> None:
    way, place = between
    found: list[Leases | None] = []

    async def cut() -> None:
        for _ in range(times):
            await way.cut_at(b"LISTEN", carried=False)
            way.open()

    async def open_them() -> None:
        found.append(await open_leases(place, Leaving()))

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as group:
            group.start_soon(cut)
            group.start_soon(open_them)
    (leases,) = found
    assert leases is not None
    await leases.renew(HOLDER, 15.0)
    await leases.close()


@pytest.fixture
async def read_only(postgres: Server) -> AsyncGenerator[Callable[[], Awaitable[None]], None]:
    """Call it to have the server take no writes until the test is over."""

    async def begin() -> None:
        await postgres.set_read_only(on=True)

    yield begin
    await postgres.set_read_only(on=False)


async def renew_for_ever(leases: Leases) -> None:
    while True:
        await leases.renew(HOLDER, 15.0)


async def test_a_server_that_takes_no_writes_now_is_not_asked_without_a_pause(
    postgres: Server,
    between: tuple[Between, Location],
    read_only: Callable[[], Awaitable[None]],
) -> None:
    """It leaves the connection open, over which it would refuse a thousand renewals a second."""
    _, place = between
    leases = await open_leases(place, Leaving())
    assert leases is not None
    await read_only()
    with anyio.fail_after(LIMIT_S):
        with pytest.raises(ServerLost, match="read-only"):
            await renew_for_ever(leases)
        with anyio.move_on_after(PAUSE_S) as waiting:
            await leases.until_back()
        assert waiting.cancelled_caught
        await postgres.set_read_only(on=False)
        await leases.until_back()
        await leases.renew(HOLDER, 15.0)
    await leases.close()


async def test_an_operator_who_ends_a_question_ends_no_writer(
    postgres: Server, between: tuple[Between, Location]
) -> None:
    _, place = between
    store = await open_writer(place, create=False)
    rival = await open_writer(place, create=False)
    operator = await postgres.connect(place.url.rpartition("/")[2])
    writer = Writer("host", "boot", 1, "test", "0")
    with anyio.fail_after(LIMIT_S):
        async with recording(store, HandSetClock(), writer) as recorder:
            async with rival.transaction() as transaction:
                await transaction.look([], [])
                pending = recorder.enqueue(registered("r"))
                ended = 0
                while not ended:
                    ended = await operator.fetchval(
                        "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                    )
            receipt = await pending.answer()
    assert [record.run for record in receipt.records] == ["r"]
    await operator.close()
    for each in (store, rival):
        await each.close()


def test_a_server_without_a_free_connection_may_have_one_soon() -> None:
    error = asyncpg.TooManyConnectionsError("sorry, too many clients already")
    said = translation(error)
    assert isinstance(said, ServerLost)
    assert "start fewer engines" in said.remedy, "it can be reached"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("unexpected connection_lost() call"),
        asyncpg.InterfaceError(
            "cannot call Transaction.__aexit__(): the underlying connection is closed"
        ),
    ],
)
def test_a_lost_connection_is_told_in_no_words_of_the_drivers_code(error: Exception) -> None:
    assert lost(error).problem.endswith("cannot be reached: the connection was closed.")
