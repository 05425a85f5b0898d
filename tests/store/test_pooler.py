"""By way of a pooler: one of sessions does, whatever it drops; one of transactions is refused."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from engine.errors import WrongDatabase
from engine.store import pooler
from engine.store.location import Location, locate
from engine.store.opening import open_reader, open_writer
from engine.store.postgres import PostgresReader
from engine.store.postgres_connection import READER, SCHEMA, WRITER
from tests.poolers import Pooler, pooling
from tests.servers import Server
from tests.store.test_postgres_log import append, row
from tests.store.test_server_settings import Setting, set_for

OTHERS = [
    Setting("synchronous_commit", "off", "on"),
    Setting("default_transaction_isolation", "serializable", "read committed"),
    Setting("search_path", "pg_catalog", "runoff"),
]
"""What the database sets, and a log must not have."""


@asynccontextmanager
async def by_way(
    postgres: Server, *settings: Setting, **kind: bool
) -> AsyncGenerator[tuple[Pooler, Location, Location], None]:
    """A pooler, the way by it to a database, and the database itself."""
    direct = await set_for(postgres, *OTHERS, *settings)
    assert direct.address is not None
    with anyio.fail_after(60):
        async with pooling(postgres.port, **kind) as (between, port):
            url = direct.address.reveal().replace(f":{postgres.port}/", f":{port}/")
            yield between, locate(url), direct


@pytest.mark.parametrize("ignores", [False, True])
async def test_by_a_pool_of_sessions_all_settings_are_in_force(
    postgres: Server, ignores: bool
) -> None:
    async with by_way(postgres, ignores=ignores) as (between, place, direct):
        await writes_by(place)
        await reads_by(place)
        assert (between.refused > 0) is not ignores
        same = await open_reader(direct)
        assert (await same.head()).pos == 1, "it is the same log, in its own schema"
        await same.close()


async def test_a_pooler_is_known_by_its_greeting(postgres: Server) -> None:
    """Also where the database happens to set what else would give it away."""
    ours = Setting("search_path", SCHEMA, SCHEMA)
    async with by_way(postgres, ours, ignores=True) as (_, place, _):
        await writes_by(place)


async def writes_by(place: Location) -> None:
    log = await open_writer(place, create=True)
    await append(log, row(1))
    async with log.transaction() as transaction:
        asked = vars(transaction)["_link"].driver
        for name, value in ({"search_path": SCHEMA} | WRITER).items():
            assert await asked.fetchval(f"SELECT current_setting('{name}')") == value
    await log.close()


async def reads_by(place: Location) -> None:
    reader = await open_reader(place)
    assert isinstance(reader, PostgresReader)
    for name, value in ({"search_path": SCHEMA} | READER).items():
        [found] = await reader.execute(f"SELECT current_setting('{name}')")
        assert found[0] == value
    assert (await reader.head()).pos == 1
    await reader.close()


@pytest.mark.parametrize("names", [False, True])
@pytest.mark.parametrize("ignores", [False, True])
async def test_a_pool_of_transactions_is_refused(
    postgres: Server, ignores: bool, names: bool
) -> None:
    kind = {"ignores": ignores, "shares": True, "names": names}
    async with by_way(postgres, **kind) as (_, place, direct):
        with pytest.raises(WrongDatabase, match="pools transactions") as refused:
            await open_writer(place, create=True)
        assert "pool_mode = session" in refused.value.remedy
        await (await open_writer(direct, create=True)).close()
        with pytest.raises(WrongDatabase, match="pools transactions"):
            await open_reader(place)


async def test_what_another_has_prepared_gives_a_pool_of_transactions_away(
    postgres: Server,
) -> None:
    import asyncpg.connection  # noqa: PLC0415  an extra

    async with by_way(postgres, ignores=True, shares=True) as (_, place, _):
        assert place.address is not None
        other = await asyncpg.connect(place.address.reveal())
        last = vars(asyncpg.connection)["_uid"]
        for number in range(last, last + 30):
            await other.execute(f'PREPARE "__asyncpg_stmt_{number:x}__" AS SELECT 1')
        with pytest.raises(WrongDatabase, match="pools transactions"):
            await open_reader(place)
        other.terminate()


async def test_a_server_that_is_asked_itself_is_not_asked_twice(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: list[Mapping[str, str]] = []
    settle = pooler.settle

    async def told(connection: Any, settings: Mapping[str, str], another: Any) -> None:
        settled.append(settings)
        await settle(connection, settings, another)

    monkeypatch.setattr(pooler, "settle", told)
    async with by_way(postgres, ignores=True) as (_, place, direct):
        await (await open_writer(direct, create=True)).close()
        assert not settled
        await (await open_reader(place)).close()
    assert [each["default_transaction_read_only"] for each in settled] == ["on"]
