"""A server that says nothing more, over connections that nobody has closed: it counts as lost."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio
import pytest

from engine.clock import HandSetClock
from engine.errors import ServerLost
from engine.events import RunRegistered
from engine.store import postgres_connection
from engine.store.command import Command, just
from engine.store.leases import Holder, open_leases
from engine.store.leaving import Leaving
from engine.store.location import Location, locate
from engine.store.opening import open_reader, open_writer
from engine.store.postgres import PostgresStore
from engine.store.postgres_database import MIGRATION_LOCK
from engine.store.recorder import Writer, recording
from tests.between import Between, standing
from tests.servers import Server

LIMIT_S = 10.0
STATEMENTS_KEPT = 100
"""By the driver."""
CLOSES_A_STATEMENT = rb"C\0\0\0.S__asyncpg_stmt"


@pytest.fixture
async def between(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[tuple[Between, Location], None]:
    monkeypatch.setattr(postgres_connection, "ANSWER_S", 0.5)
    url = await postgres.fresh()
    async with standing(postgres.port) as way:
        yield way, locate(url.replace(f":{postgres.port}/", f":{way.port}/"))


def registered(run_id: str) -> Command:
    event = RunRegistered(run_id=run_id, origin="test", state="NEW")
    return Command(f"c-{run_id}", "runs", run_id.encode(), just(event))


async def test_a_writer_whose_connections_are_forgotten_goes_on_over_new_ones(
    between: tuple[Between, Location],
) -> None:
    way, place = between
    store = await open_writer(place, create=True)
    try:
        async with recording(
            store, HandSetClock(), Writer("host", "boot", 1, "test", "0")
        ) as recorder:
            await recorder.submit(registered("before"))
            way.forget()
            with anyio.fail_after(LIMIT_S):
                receipt = await recorder.submit(registered("after"))
                assert (await store.head()).pos == receipt.records[-1].pos
            assert recorder.failed is None
    finally:
        await store.close()


async def test_what_the_driver_waits_for_without_a_limit_has_one(
    between: tuple[Between, Location],
) -> None:
    """It closes statements that it has no room for any more, or that are five minutes old."""
    way, place = between
    store = await open_writer(place, create=True)
    assert isinstance(store, PostgresStore)
    way.forget_at(CLOSES_A_STATEMENT)
    with anyio.fail_after(LIMIT_S):
        for number in range(STATEMENTS_KEPT + 1):
            assert await store.execute(f"SELECT {number}")
    assert way.forgotten
    await store.close()


async def test_whoever_is_told_to_end_does_not_wait_for_it(
    between: tuple[Between, Location],
) -> None:
    way, place = between
    store = await open_writer(place, create=True)
    with anyio.move_on_after(1.0) as told:
        async with recording(
            store, HandSetClock(), Writer("host", "boot", 1, "test", "0")
        ) as recorder:
            way.forget(new_ones=True)
            await recorder.submit(registered("never"))
    assert told.cancelled_caught
    await store.close()


async def test_a_lease_whose_connection_is_forgotten_is_renewed_over_another(
    between: tuple[Between, Location],
) -> None:
    way, place = between
    await (await open_writer(place, create=True)).close()
    leases = await open_leases(place, Leaving())
    assert leases is not None
    try:
        holder = Holder("s", 1, "host boot", 1, None)
        await leases.renew(holder, 15.0)
        way.forget()
        with anyio.fail_after(LIMIT_S):
            with pytest.raises(ServerLost):
                await leases.renew(holder, 15.0)
            await leases.until_back()
            await leases.renew(holder, 15.0)
        assert [lease.renewals for lease in await leases.all()] == [2]
    finally:
        await leases.close()


async def test_who_waits_to_bring_the_tables_up_to_date_is_not_held_by_a_silent_server(
    postgres: Server, between: tuple[Between, Location]
) -> None:
    """What others are at may take long, which is no reason to believe a dead link for as long."""
    way, place = between
    name = place.url.rpartition("/")[2]
    await (await open_writer(locate(postgres.url(name)), create=True)).close()
    other = await postgres.connect(name)
    await other.fetchval("SELECT pg_advisory_lock($1)", MIGRATION_LOCK)

    async def wait() -> None:
        with pytest.raises(ServerLost):
            await open_writer(place, create=False)

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            while not way.forget_who_said(b"advisory_xact_lock"):
                await other.fetchval("SELECT 1")
    await other.close()


async def test_a_server_that_is_silent_keeps_nobody_from_the_one_that_took_over(
    postgres: Server, between: tuple[Between, Location], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is gone answers nothing; that it is not there, nobody says."""
    way, place = between
    monkeypatch.setattr(postgres_connection, "CONNECT_S", 0.5)
    way.forget(new_ones=True)
    assert place.address is not None
    silent = f"127.0.0.1:{way.port}"
    both = f"{silent},127.0.0.1:{postgres.port}"
    url = place.address.reveal().replace(silent, both)
    with anyio.fail_after(LIMIT_S):
        store = await open_writer(locate(f"{url}?target_session_attrs=primary"), create=True)
        assert (await store.head()).pos == 0
    await store.close()
    with pytest.raises(ServerLost, match="gave no answer in time"):
        await open_reader(locate(url.replace(both, f"{silent},{silent}")))


async def test_a_reader_does_not_wait_for_ever(between: tuple[Between, Location]) -> None:
    way, place = between
    await (await open_writer(place, create=True)).close()
    reader = await open_reader(place)
    way.forget()
    with anyio.fail_after(LIMIT_S), pytest.raises(ServerLost):
        await reader.head()
    await reader.close()
