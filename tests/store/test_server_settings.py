"""What a database sets for other programs changes nothing of a log in it."""

from __future__ import annotations

from typing import NamedTuple

import anyio
import pytest

from engine.store.location import Location, locate
from engine.store.opening import open_reader, open_writer
from engine.store.postgres import PostgresReader
from engine.store.protocol import EventStore
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
