"""What a database sets for other programs changes nothing of a log in it."""

from __future__ import annotations

from typing import NamedTuple

import anyio
import pytest

from engine.clock import SystemClock
from engine.errors import ServerLost, StorageFailed, WrongDatabase
from engine.events import RunRegistered
from engine.store.command import Command, just
from engine.store.leases import Holder, open_leases
from engine.store.leaving import Leaving
from engine.store.location import Location, locate
from engine.store.opening import open_reader, open_writer
from engine.store.postgres import PostgresReader
from engine.store.protocol import EventStore
from engine.store.recorder import Writer, recording
from tests.servers import Server
from tests.store.test_postgres_log import append, row


class Setting(NamedTuple):
    name: str
    value: str
    ours: str


SETTINGS = [
    Setting("default_transaction_isolation", "serializable", "read committed"),
    Setting("default_transaction_isolation", "repeatable read", "read committed"),
    Setting("default_transaction_deferrable", "on", "off"),
    Setting("statement_timeout", "17ms", "0"),
    Setting("lock_timeout", "17ms", "0"),
    Setting("idle_session_timeout", "17s", "0"),
    Setting("search_path", "pg_catalog", "runoff"),
]
WRITERS = [Setting("synchronous_commit", "off", "on")]
READERS = [
    Setting("idle_in_transaction_session_timeout", "17ms", "0"),
    Setting("default_transaction_read_only", "off", "on"),
]


async def set_for(postgres: Server, *settings: Setting) -> Location:
    """A database of its own, with ``settings`` for whoever connects to it."""
    url = await postgres.fresh()
    name = url.rpartition("/")[2]
    connection = await postgres.connect("postgres")
    try:
        for each in settings:
            await connection.execute(f"ALTER DATABASE {name} SET {each.name} = '{each.value}'")
    finally:
        await connection.close()
    return locate(url)


async def alter(postgres: Server, place: Location, what: str) -> None:
    name = place.url.rpartition("/")[2]
    connection = await postgres.connect("postgres")
    try:
        await connection.execute(f"ALTER DATABASE {name} {what}")
    finally:
        await connection.close()


async def shown(reader: PostgresReader, name: str) -> str:
    return str((await reader.execute(f"SHOW {name}"))[0][0])


@pytest.mark.parametrize("setting", SETTINGS + READERS, ids=lambda each: each.name)
async def test_a_reader_has_its_own(postgres: Server, setting: Setting) -> None:
    place = await set_for(postgres, setting)
    await (await open_writer(place, create=True)).close()
    reader = await open_reader(place)
    assert isinstance(reader, PostgresReader)
    assert await shown(reader, setting.name) == setting.ours
    await reader.close()


@pytest.mark.parametrize("setting", SETTINGS + WRITERS, ids=lambda each: each.name)
async def test_a_writer_has_its_own(postgres: Server, setting: Setting) -> None:
    place = await set_for(postgres, setting)
    log = await open_writer(place, create=True)
    async with log.transaction() as transaction:
        asked = vars(transaction)["_link"].driver
        assert await asked.fetchval(f"SHOW {setting.name}") == setting.ours
    await log.close()


async def test_writers_take_turns_however_transactions_begin_there(postgres: Server) -> None:
    """Who waits for the head of another sees what that one has committed, and goes on behind it."""
    place = await set_for(postgres, SETTINGS[0])
    first, second = [await open_writer(place, create=True) for _ in range(2)]
    await append(first, row(1))
    waits = anyio.Event()

    async def follow(store: EventStore) -> None:
        async with store.transaction() as transaction:
            waits.set()
            found = await transaction.look([], ["s"])
            await transaction.append([row(found.versions["s"] + 1)])

    async with anyio.create_task_group() as group, first.transaction() as transaction:
        await transaction.look([], ["s"])
        group.start_soon(follow, second)
        await waits.wait()
        await second.head()  # which gives the other question its time to get there
        await transaction.append([row(2)])
    assert (await first.head()).pos == 3
    for store in (first, second):
        await store.close()


async def test_a_database_that_takes_no_writes_is_read_and_refused_to_writers(
    postgres: Server,
) -> None:
    """As is a replica, where no transaction may write either."""
    place = await set_for(postgres)
    await (await open_writer(place, create=True)).close()
    await alter(postgres, place, "SET default_transaction_read_only = on")
    with pytest.raises(StorageFailed) as refused:
        await open_writer(place, create=False)
    assert refused.value.problem == f"{place.url} takes no writes: it is a replica, or read-only."
    reader = await open_reader(place)
    assert (await reader.head()).pos == 0
    await reader.close()


async def test_a_database_that_fires_no_triggers_is_read_and_refused_to_writers(
    postgres: Server,
) -> None:
    """They are what numbers events and refuses changes; only a superuser may switch them on."""
    place = await set_for(postgres)
    await (await open_writer(place, create=True)).close()
    await alter(postgres, place, "SET session_replication_role = replica")
    with pytest.raises(WrongDatabase, match="session_replication_role to replica") as refused:
        await open_writer(place, create=False)
    assert "RESET session_replication_role" in refused.value.remedy
    await (await open_reader(place)).close()


async def test_a_writer_waits_while_its_server_takes_no_writes(postgres: Server) -> None:
    """As behind a failover, until the replica that is there now has been promoted."""
    place = await set_for(postgres)
    store = await open_writer(place, create=True)
    leases = await open_leases(place, Leaving())
    assert leases is not None
    holder = Holder("s", 1, "host boot", 1, None)
    run = RunRegistered(run_id="r", origin="test", state="NEW")
    async with recording(store, SystemClock(), Writer("host", "boot", 1, "test", "0")) as recorder:
        await alter(postgres, place, "SET default_transaction_read_only = on")
        await postgres.end_all_others(place.url.rpartition("/")[2])
        with pytest.raises(ServerLost):
            await leases.renew(holder, 15.0)
        pending = recorder.enqueue(Command("c", "runs", b"", just(run)))
        async with anyio.create_task_group() as group:
            group.start_soon(leases.until_back)
            with anyio.move_on_after(0.5) as waited:
                await pending.answer()
            assert waited.cancelled_caught
            assert recorder.failed is None
            await alter(postgres, place, "RESET default_transaction_read_only")
            with anyio.fail_after(20):
                await pending.answer()
        await leases.renew(holder, 15.0)
    await leases.close()
    await store.close()


async def test_a_server_that_takes_no_writes_from_now_on_is_waited_for(postgres: Server) -> None:
    place = await set_for(postgres)
    store = await open_writer(place, create=True)
    async with store.transaction() as transaction:
        driver = vars(transaction)["_link"].driver
        await driver.execute("SET TRANSACTION READ ONLY")
        with pytest.raises(ServerLost):
            await transaction.look([], [])
    await store.close()
