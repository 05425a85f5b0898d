"""What holds of a log on a server only: who may change it, who waits, and what is shown of it."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from engine.errors import (
    AppendRefused,
    Fenced,
    LogUnreadable,
    ServerLost,
    StorageFailed,
    UsageProblem,
    WrongDatabase,
)
from engine.events import Head, Record, chain_hash
from engine.store import postgres_database
from engine.store.location import Location, locate
from engine.store.opening import is_missing, open_quick, open_reader, open_writer
from engine.store.postgres import PostgresReader
from engine.store.postgres_connection import WRITER
from engine.store.protocol import EventStore, Query
from tests.servers import PASSWORD, PASSWORD_IN_URL, USER, Server


def row(pos: int, previous: bytes = bytes(32), **changes: Any) -> Record:
    columns = Record(
        *(pos, "s", pos, f"c{pos}", 0, bytes(32), "usage.imported", 1, pos, pos, None, 1),
        *(None, "r", "p", None, "test", "0", "{}", b""),
    )._replace(**changes)
    return columns._replace(hash=chain_hash(previous, tuple(columns)[:-1]))


async def append(store: EventStore, *records: Record) -> None:
    async with store.transaction() as transaction:
        await transaction.append(records)


@pytest.fixture
async def place(postgres: Server) -> Location:
    return locate(await postgres.fresh())


@pytest.fixture
async def log(place: Location) -> AsyncGenerator[EventStore, None]:
    store = await open_writer(place, create=True)
    await append(store, row(1), row(2))
    yield store
    await store.close()


@pytest.fixture
async def hand(postgres: Server, place: Location, log: EventStore) -> AsyncGenerator[Any, None]:
    """Somebody with a client of his own."""
    connection = await postgres.connect(place.name.rpartition("-")[2])
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE runoff.events SET data = '[]' WHERE pos = 1",
        "DELETE FROM runoff.events WHERE pos = 2",
        "TRUNCATE runoff.events",
        """INSERT INTO runoff.events SELECT * FROM runoff.events WHERE pos = 1
           ON CONFLICT (pos) DO UPDATE SET data = '[]'""",
    ],
)
async def test_events_are_never_changed_or_deleted(hand: Any, statement: str) -> None:
    with pytest.raises(Exception, match="runoff: events are never changed or deleted"):
        await hand.execute(statement)


@pytest.mark.parametrize("pos", [0, -1, 4, 2**62])
async def test_a_row_by_hand_stands_right_behind_the_last_one_or_nowhere(
    hand: Any, pos: int
) -> None:
    columns = ", ".join(name for name in Record._fields if name not in ("pos", "version", "idx"))
    with pytest.raises(Exception, match="runoff: the log only grows at its end"):
        await hand.execute(
            f"INSERT INTO runoff.events (pos, version, idx, {columns})"
            f" SELECT $1, 99, 99, {columns} FROM runoff.events WHERE pos = 2",
            pos,
        )


async def test_a_writer_that_was_overtaken_is_fenced(place: Location, log: EventStore) -> None:
    rival = await open_writer(place, create=False)
    await append(rival, row(3))
    await rival.close()
    with pytest.raises(Fenced):
        await append(log, row(3, command_id="other"))
    await append(log, row(4))


async def test_writers_take_turns_and_no_reader_sees_past_one_that_is_on_its_way(
    place: Location, log: EventStore
) -> None:
    rival, reader = await open_writer(place, create=False), await open_reader(place)
    order: list[str] = []
    locked, looked_at = anyio.Event(), anyio.Event()

    async def first() -> None:
        async with log.transaction() as transaction:
            await transaction.look([], ["s"])
            locked.set()
            await looked_at.wait()
            await transaction.append([row(3)])
            order.append("first")

    async def second() -> None:
        await locked.wait()
        async with rival.transaction() as transaction:
            _, versions, _ = await transaction.look([], ["s"])
            order.append("second")
            await transaction.append([row(versions["s"] + 1)])

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        group.start_soon(second)
        await locked.wait()
        assert (await reader.head()).pos == 2
        looked_at.set()
    assert order == ["first", "second"]
    assert [record.pos for record in await reader.records(Query())] == [1, 2, 3, 4]
    await rival.close()
    await reader.close()


async def test_a_writer_that_stands_still_with_the_head_in_hand_loses_it(
    place: Location, log: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = WRITER | {"idle_in_transaction_session_timeout": "100ms"}
    monkeypatch.setattr(postgres_database, "WRITER", settings)
    frozen = await open_writer(place, create=False)
    with pytest.raises(ServerLost):  # noqa: PT012  the block is what is tested
        async with frozen.transaction() as transaction:
            await transaction.look([], [])
            await append(log, row(3))  # waits until the server has had enough of the other
            await transaction.append([row(3)])
    assert (await log.head()).pos == 3
    await frozen.close()


async def test_a_quick_reader_sees_one_moment(place: Location, log: EventStore) -> None:
    quick = await open_quick(place)
    assert (await quick.head()).pos == 2
    await append(log, row(3))
    assert (await quick.head()).pos == 2
    await quick.close()


async def test_a_reader_can_write_nothing(place: Location, log: EventStore) -> None:
    reader = await open_reader(place)
    assert isinstance(reader, PostgresReader)
    with pytest.raises(Exception, match="read-only transaction"):
        await reader.execute("DELETE FROM projections")
    await reader.close()


async def test_a_text_that_no_database_text_can_hold_is_refused_by_name(log: EventStore) -> None:
    for text in ("nul \0", "half \ud800"):
        wrong = row(3)._replace(run=text, hash=bytes(32))
        with pytest.raises(AppendRefused, match="PostgreSQL cannot hold a text"):
            await append(log, wrong)
    escaped = row(3, data='{"text":"nul \\u0000"}')
    await append(log, escaped)
    assert await log.records(Query(), after=2) == [escaped]


async def test_a_log_is_made_only_when_that_is_meant(place: Location) -> None:
    assert await is_missing(place)
    for opened in (open_reader, open_quick):
        with pytest.raises(WrongDatabase, match="there is no Runoff log"):
            await opened(place)
    with pytest.raises(WrongDatabase, match="there is no Runoff log"):
        await open_writer(place, create=False)
    assert await is_missing(place)
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(_made, place)
    assert not await is_missing(place)


async def _made(place: Location) -> None:
    store = await open_writer(place, create=True)
    assert await store.head() == Head(0, bytes(32))
    await store.close()


@pytest.mark.parametrize(
    "theirs",
    [
        "CREATE TABLE theirs (x int)",
        "CREATE TABLE events (x int)",
        "CREATE TABLE migrations (x int)",
        "CREATE VIEW events AS SELECT 1 AS x",
    ],
)
async def test_a_schema_of_another_program_is_left_alone(
    postgres: Server, place: Location, theirs: str
) -> None:
    connection = await postgres.connect(place.name.rpartition("-")[2])
    await connection.execute(f"CREATE SCHEMA runoff {theirs}")
    with pytest.raises(LogUnreadable, match="belongs to another program"):
        await open_writer(place, create=True)
    with pytest.raises(WrongDatabase, match="there is no Runoff log"):
        await open_reader(place)
    rows = "SELECT count(*) FROM pg_class WHERE relnamespace = 'runoff'::regnamespace"
    assert await connection.fetchval(rows) == 1
    await connection.close()


async def test_a_role_that_may_make_nothing_can_write_a_log_that_is_there(
    postgres: Server, place: Location, log: EventStore
) -> None:
    hand = await postgres.connect(place.name.rpartition("-")[2])
    await hand.execute(
        "CREATE ROLE clerk LOGIN PASSWORD 'c'; GRANT USAGE ON SCHEMA runoff TO clerk;"
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA runoff TO clerk"
    )
    assert place.address is not None
    url = place.address.reveal().replace(f"{USER}:{PASSWORD_IN_URL}", "clerk:c")
    store = await open_writer(locate(url), create=True)
    await append(store, row(3, (await log.head()).hash))
    assert (await log.head()).pos == 3
    await hand.execute("REVOKE USAGE ON SCHEMA runoff FROM clerk")
    with pytest.raises(LogUnreadable, match="are not there, or not for this role"):
        await store.head()
    await store.close()
    await hand.execute("DROP OWNED BY clerk; DROP ROLE clerk")
    await hand.close()


async def test_a_database_in_another_encoding_is_refused(postgres: Server) -> None:
    connection = await postgres.connect("postgres")
    await connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    await connection.close()
    with pytest.raises(WrongDatabase, match="needs UTF8"):
        await open_writer(locate(postgres.url("latin")), create=True)


async def test_a_server_that_is_not_there_is_said_so() -> None:
    pytest.importorskip("asyncpg", reason="the extra `postgres` is not installed")
    with pytest.raises(ServerLost, match="cannot be reached"):
        await open_reader(locate("postgresql://user:secret@127.0.0.1:1/name"))


async def test_a_wrong_password_is_refused_and_not_shown(postgres: Server) -> None:
    url = postgres.url("postgres").replace(PASSWORD_IN_URL, "hush")
    with pytest.raises(WrongDatabase) as refused:
        await open_reader(locate(url))
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("sslmode=foo", "`sslmode` parameter must be one of: disable, .*verify-full.$"),
        ("sslmode=verify-ca&sslrootcert=/not/there", "'/not/there', .* sslrootcert, is no file.$"),
        ("sslmode=require&sslcert=/dev/zero", "'/dev/zero', .* sslcert, is no file.$"),
        ("sslmode=verify-ca&sslrootcert=/etc/passwd", "certificates .* cannot be used: .*"),
        ("target_session_attrs=foo", "one of: any, primary, standby, .*, prefer-standby.$"),
        ("sslnegotiation=foo", "`sslnegotiation` parameter must be one of: .*"),
        ("ssl_min_protocol_version=foo", "No such TLS version: foo.$"),
    ],
)
async def test_a_setting_that_the_driver_does_not_know_is_no_lost_server(
    setting: str, said: str
) -> None:
    pytest.importorskip("asyncpg", reason="the extra `postgres` is not installed")
    with pytest.raises(UsageProblem) as refused:
        await open_reader(locate(f"postgresql://user@127.0.0.1:1/name?{setting}"))
    assert re.fullmatch(f".*DATABASE_URL.*{said}|.*{said}", refused.value.problem)
    assert "DATABASE_URL" in str(refused.value)


@pytest.mark.parametrize("text", ["Hostname mismatch.", "self-signed certificate"])
async def test_a_server_whose_certificate_is_not_trusted_is_told_as_that(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    # Python's error is one of values as well, like those of the driver about a URL.
    asyncpg = pytest.importorskip("asyncpg", reason="the extra `postgres` is not installed")

    async def refuse(*_: object, **__: object) -> None:
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_message = text
        raise error

    monkeypatch.setattr(asyncpg, "connect", refuse)
    with pytest.raises(WrongDatabase, match="is not trusted: ") as refused:
        await open_reader(locate("postgresql://user@127.0.0.1:1/name?sslmode=verify-full"))
    assert refused.value.problem.endswith(f": {text.rstrip('.')}.")
    assert "sslrootcert" in refused.value.remedy


def nobody_may(_path: str, _mode: int) -> bool:
    return False


@pytest.mark.parametrize("names_it", ["url", "environment"])
@pytest.mark.parametrize("is_there", [True, False])
async def test_a_certificate_that_cannot_be_read_is_no_lost_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names_it: str, *, is_there: bool
) -> None:
    pytest.importorskip("asyncpg", reason="the extra `postgres` is not installed")
    file = tmp_path / "root.crt"
    if is_there:
        file.touch()
        monkeypatch.setattr(os, "access", nobody_may)
    url = "postgresql://user@127.0.0.1:1/name?sslmode=verify-full"
    if names_it == "url":
        url += f"&sslrootcert={file}"
    else:
        monkeypatch.setenv("PGSSLROOTCERT", str(file))
    what = "cannot be read" if is_there else "is no file"
    by = "DATABASE_URL names as sslrootcert" if names_it == "url" else "PGSSLROOTCERT names"
    with pytest.raises(UsageProblem, match=f"root.crt', which {by}, {what}"):
        await open_reader(locate(url))


async def test_a_port_that_is_none_is_a_mistake_in_the_url() -> None:
    pytest.importorskip("asyncpg", reason="the extra `postgres` is not installed")
    with pytest.raises(UsageProblem, match="does not understand DATABASE_URL"):
        await open_reader(locate("postgresql:///name?host=127.0.0.1&port=x"))


@pytest.mark.parametrize(
    "setting", ["work_mem=x", "client_encoding=banana", "options=-c%20foo", "ssl=true"]
)
async def test_a_value_that_the_server_does_not_take_is_a_mistake_in_the_url(
    place: Location, setting: str
) -> None:
    assert place.address is not None
    with pytest.raises(UsageProblem, match="the database server does not understand DATABASE_URL"):
        await open_reader(locate(f"{place.address.reveal()}?{setting}"))


async def test_what_a_server_is_not_is_said_of_it(place: Location) -> None:
    assert place.address is not None
    with pytest.raises(ServerLost, match="no server is what target_session_attrs asks for"):
        await open_reader(locate(f"{place.address.reveal()}?target_session_attrs=standby"))
    with pytest.raises(UsageProblem, match="speaks no TLS"):
        await open_reader(locate(f"{place.address.reveal()}?sslmode=require"))


async def test_a_setting_that_the_server_does_not_know_is_no_damaged_log(place: Location) -> None:
    assert place.address is not None
    with pytest.raises(UsageProblem, match=r"DATABASE_URL: .*foo"):
        await open_reader(locate(f"{place.address.reveal()}?foo=bar"))


async def test_a_server_of_an_old_version_is_named_as_that() -> None:
    """Before version 12 a server ends the start of a connection with this error."""
    pytest.importorskip("asyncpg", reason="the extra `postgres` is not installed")
    fields = b'SFATAL\0C42704\0Munrecognized configuration parameter "tcp_user_timeout"\0\0'

    async def answer(client: SocketStream) -> None:
        async with client:
            await client.receive()  # whether it speaks TLS
            await client.send(b"N")
            await client.receive()
            await client.send(b"E" + (4 + len(fields)).to_bytes(4, "big") + fields)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        with pytest.raises(WrongDatabase, match="too old") as refused:
            await open_reader(locate(f"postgresql://user@127.0.0.1:{port}/name"))
        assert "12" in refused.value.remedy
        group.cancel_scope.cancel()


async def test_a_wrong_call_is_no_lost_server(log: EventStore) -> None:
    assert isinstance(log, PostgresReader)
    with pytest.raises(StorageFailed, match="argument"):
        await log.execute("SELECT 1", 2)


async def test_a_reader_whose_connection_was_closed_has_lost_the_server(
    place: Location, log: EventStore
) -> None:
    reader = await open_reader(place)
    await reader.close()
    with pytest.raises(ServerLost):
        await reader.head()


def test_a_password_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNOFF_FILES", str(tmp_path))
    for url in (
        f"postgresql://me:{PASSWORD_IN_URL}@host/db",
        f"postgres+x://me:{PASSWORD}@host/db",
        f"postgresql://me@host/db?password={PASSWORD_IN_URL}&sslmode=require",
    ):
        try:
            shown = repr(locate(url))
        except WrongDatabase as error:
            shown = str(error)
        assert PASSWORD_IN_URL not in shown
        assert PASSWORD not in shown
        assert "***" in shown


def test_files_stand_under_the_servers_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNOFF_FILES", str(tmp_path))
    location = locate("postgresql://me:pw@db.example:6543/work")
    assert location.beside("files") == tmp_path / "db.example-6543-work-files"
    assert locate("postgres://db.example:6543/work").path == location.path
    odd = {locate(f"postgresql://h/{name}").path for name in ("a%20b", "a_b", "a%3Ab")}
    assert len(odd) == 3
    monkeypatch.delenv("RUNOFF_FILES")
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".local" / "share" / "runoff"
    assert locate("postgresql://h/db").beside("anchors") == folder / "h-5432-db-anchors"
