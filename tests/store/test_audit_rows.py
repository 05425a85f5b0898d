"""The fast pass over the rows says what a plain one by the same rules says, whatever was done."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings, strategies as st

from engine.audit.anchored import Anchors, End
from engine.audit.chain import Chain, Row
from engine.audit.origins import Origins
from engine.audit.parts import Tags
from engine.audit.rows import Asked, Followed, follow
from engine.errors import LogUnreadable
from engine.events import COLUMNS, chain_hash
from engine.store.location import Location, locate
from engine.store.migrate import migrations, statements

KNOWN = {
    "attempt.finished": 2,
    "attempt.started": 2,
    "backlog.run_registered": 1,
    "engine.started": 1,
    "usage.recorded": 1,
}
LOOSE = f"CREATE TABLE events (pos INTEGER PRIMARY KEY, {', '.join(COLUMNS[1:])})"
Found = tuple[list[tuple[str, int | None]], Followed | None, str | None]
"""What was reported, what the rows came to, and the error if there was one."""


def draft(pos: int, stream: str, command: str, kind: str, **other: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"pos": pos, "stream": stream, "command_id": command, "type": kind, "schema": 1}
    row |= {"request": hashlib.sha256(command.encode()).digest(), "actor": "cli", "code": "0.1"}
    row |= {"occurred_us": 1_000 + pos // 4, "recorded_us": 1_000 + pos // 4, "epoch": 1}
    started = {"epoch": 1, "program": "cli", "package_version": "0.1"}
    data = {"type": kind} | (started if kind == "engine.started" else {"say": "né"})
    return row | {"data": json.dumps(data, ensure_ascii=False, separators=(",", ":"))} | other


def drafts(attempts: int) -> Iterator[dict[str, Any]]:
    yield draft(1, "engine", "engine-1", "engine.started")
    yield draft(2, "run/r0", "import-0", "backlog.run_registered", run="r0")
    yield draft(3, "run/é", "import-1", "backlog.run_registered", run="é")
    pos = 4
    for number in range(attempts):
        name, run = f"a{number}", ("r0", "é")[number % 2]
        tags = {"session": "s", "run": run, "phase": f"p{number}", "attempt": name, "epoch": 1}
        tags |= {"actor": "worker", "data": '{"type":"attempt.started"}'}
        begun = tags | {"actor": "picker"}
        yield draft(pos, "drain/s", f"start-{name}", "attempt.started", schema=2, **begun)
        for offset in range(1, 4):
            tags["data"] = f'{{"type":"usage.recorded","line":{offset}}}'
            yield draft(pos + offset, "drain/s", f"end-{name}", "usage.recorded", **tags)
        tags |= {"data": '{"type":"attempt.finished"}', "cause": pos}
        yield draft(pos + 4, "drain/s", f"end-{name}", "attempt.finished", schema=2, **tags)
        pos += 5
    data = '{"type":"engine.started","epoch":2,"program":"cli","package_version":"0.1"}'
    yield draft(pos, "engine", "engine-2", "engine.started", epoch=2, data=data)
    yield draft(pos + 1, "run/z", "import-2", "backlog.run_registered", run="z", epoch=2)


def written(path: Path, attempts: int = 4) -> Location:
    """A log by the writer's own encoding, with every third position anchored."""
    location = locate(f"sqlite:///{path}")
    previous, versions, commands = bytes(32), dict[str, int](), dict[str, int]()
    with closing(sqlite3.connect(path)) as connection, location.beside("anchors").open("w") as file:
        connection.execute("PRAGMA synchronous=OFF")
        for migration in migrations("sqlite"):
            for statement in statements(migration.sql):
                connection.execute(statement)
        for row in drafts(attempts):
            for column, key, counts in (
                ("version", "stream", versions),
                ("idx", "command_id", commands),
            ):
                counts[row[key]] = counts.get(row[key], 0) + 1
                row[column] = counts[row[key]] - (column == "idx")
            previous = row["hash"] = chain_hash(previous, tuple(row.values())[:-1])
            connection.execute(insert(len(row)), tuple(row.values()))
            if row["pos"] % 3 == 0:
                file.write(f"{row['pos']} {previous.hex()}\n")
        connection.commit()
    return location


def insert(count: int) -> str:
    return f"INSERT INTO events VALUES ({', '.join('?' * count)})"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Location:
    return written(tmp_path_factory.mktemp("rows") / "log.db")


def copied(original: Location, folder: Path) -> Location:
    location = locate(f"sqlite:///{folder}/copy.db")
    shutil.copy(original.path, location.path)
    shutil.copy(original.beside("anchors"), location.beside("anchors"))
    return location


@pytest.fixture
def log(original: Location, tmp_path: Path) -> Location:
    return copied(original, tmp_path)


def tamper(location: Location, *done: tuple[str, tuple[Any, ...]], forged: bool = False) -> None:
    """What someone with the file in hand can do: no trigger, key or kind is in the way.

    ``forged``: every hash is computed anew afterwards, from what is stored.
    """
    with closing(sqlite3.connect(location.path, isolation_level=None)) as connection:
        for pragma in ("synchronous=OFF", "journal_mode=MEMORY", "writable_schema=ON"):
            connection.execute(f"PRAGMA {pragma}")
        sql = "SELECT type, name FROM sqlite_schema WHERE type='trigger' OR name GLOB 'events_by*'"
        for kind, name in connection.execute(sql).fetchall():
            connection.execute(f"DROP {kind} {name}")
        sql = "SELECT sql FROM sqlite_schema WHERE name='events'"
        (strict,) = connection.execute(sql).fetchone()
        redefine(connection, LOOSE)
        for statement in done:
            connection.execute(*statement)
        if forged:
            rechain(connection)
        redefine(connection, strict)


def redefine(connection: sqlite3.Connection, sql: str) -> None:
    connection.execute("UPDATE sqlite_schema SET sql=? WHERE name='events'", (sql,))
    connection.execute("PRAGMA writable_schema=RESET")
    connection.execute("PRAGMA writable_schema=ON")


def rechain(connection: sqlite3.Connection) -> None:
    connection.text_factory = decoded
    previous = bytes(32)
    for row in connection.execute("SELECT * FROM events ORDER BY pos").fetchall():
        previous = hashlib.sha256(previous + b"".join(map(part, row[:-1]))).digest()
        connection.execute("UPDATE events SET hash=? WHERE pos=?", (previous, row[0]))


def decoded(text: bytes) -> str:
    return text.decode(errors="surrogateescape")


def part(value: Any) -> bytes:
    if isinstance(value, str):
        text = value.encode(errors="surrogateescape")
        return b"s%d:%b" % (len(text), text)
    if isinstance(value, bytes):
        return b"b%d:%b" % (len(value), value)
    return b"n;" if value is None else b"i%d;" % value


def fast(location: Location) -> Found:
    found: list[tuple[str, int | None]] = []
    try:
        followed = follow(location, KNOWN, lambda what, pos: found.append((what, pos)))
    except LogUnreadable as error:
        return found, None, str(error)
    return found, followed, None


def plain(location: Location) -> Found:
    """The same, row by row and column by column."""
    found: list[tuple[str, int | None]] = []

    def report(what: str, pos: int | None) -> None:
        found.append((what, pos))

    chain, origins, followed = Chain(report), Origins(report), Followed()
    anchors = Anchors(location.beside("anchors"), report)
    try:
        with closing(sqlite3.connect(location.path)) as connection:
            for values in connection.execute(f"SELECT {','.join(COLUMNS)} FROM events"):
                row = Row._make(values)
                event = checked(row, chain.pos, report)
                chain.take(row, event)
                origins.take(row, event)
                anchors.take(row.pos, row.hash.hex(), row.recorded_us)
                if row.type == "usage.recorded" and row.attempt is not None:
                    followed.usage[row.attempt] = followed.usage.get(row.attempt, 0) + 1
                followed.events += 1
            sql = "SELECT hex(hash) FROM events WHERE pos=?"
            followed.anchors = anchors.close(
                End(chain.pos, chain.recorded_us, chain.epoch),
                lambda pos: (connection.execute(sql, (pos,)).fetchone() or ("",))[0].lower(),
            )
            followed.anchored = anchors.reach
    except sqlite3.Error as error:
        beyond = f"the log cannot be read beyond position {followed.events}: {error}."
        return found, None, f"{beyond}\n  try: {RESTORE}"
    except LogUnreadable as error:
        return found, None, str(error)
    followed.pos, followed.hash, followed.epoch = chain.pos, chain.hash, chain.epoch
    return found, followed, None


RESTORE = "restore the database from a backup; up to there it was read."


def checked(row: Row, last: int, report: Any) -> dict[str, Any] | None:
    for name, value in row._asdict().items():
        right = (
            bytes if name in ("request", "hash") else int if isinstance(SHAPE[name], int) else str
        )
        nullable = name in ("cause", "session", "run", "phase", "attempt")
        if type(value) is not right and not (value is None and nullable):
            wrong = f"the event behind position {last} has a {type(value).__name__} for {name}."
            raise LogUnreadable(wrong, remedy=RESTORE)
    if not 1 <= row.schema <= KNOWN.get(row.type, 0):
        raise LogUnreadable(
            f"the event at position {row.pos} is of type {row.type[:100]!a} version {row.schema},"
            " which this program does not know.",
            remedy="upgrade runoff to the version that wrote this log.",
        )
    try:
        loaded = json.loads(row.data)
    except (ValueError, RecursionError):
        loaded = None
    if not isinstance(loaded, dict):
        report("S3: the data is not a JSON object", row.pos)
        return None
    event = cast("dict[str, Any]", loaded)
    if event.get("type") != row.type:
        report("S3: the type of the data is not that of the row", row.pos)
    return event


SHAPE: dict[str, Any] = dict.fromkeys(COLUMNS, "") | dict.fromkeys(
    ("pos", "version", "idx", "schema", "occurred_us", "recorded_us", "cause", "epoch"), 0
)
NUMBERS = [name for name, value in SHAPE.items() if value == 0 and name != "pos"]
BLOBS = ["request", "hash"]
TEXTS = [name for name in COLUMNS if name not in (*NUMBERS, *BLOBS, "pos")]


def marks(found: Found) -> list[tuple[str, int | None]]:
    return [(what.partition(":")[0], pos) for what, pos in found[0]]


def test_an_untouched_log_holds_and_no_byte_of_it_changes(log: Location) -> None:
    before = log.path.read_bytes()
    found, followed, error = fast(log)
    assert (found, error) == ([], None)
    assert followed is not None
    assert (followed.events, followed.pos, followed.epoch, followed.anchors) == (25, 25, 2, "ok")
    assert followed.usage == {f"a{number}": 3 for number in range(4)}
    assert (found, followed, error) == plain(log)
    assert log.path.read_bytes() == before


@pytest.mark.parametrize("column", [*NUMBERS, *TEXTS, *BLOBS])
@pytest.mark.parametrize("pos", [8, 13, 17])
def test_a_changed_column_is_named_at_its_row(log: Location, column: str, pos: int) -> None:
    value = f"{column} + 1" if column in NUMBERS else f"{column} || 'x'"
    if column in BLOBS:
        value = f"CAST({column} || x'00' AS BLOB)"
    if column == "cause":
        value = "ifnull(cause, 0) + 2"
    tamper(log, (f"UPDATE events SET {column} = {value} WHERE pos = ?", (pos,)))
    found = fast(log)
    assert found == plain(log)
    if column in ("type", "schema"):
        assert f"position {pos} " in str(found[2])
    else:
        assert marks(found)[0][1] == pos
        assert ("S2", pos) in marks(found)


@pytest.mark.parametrize("column", [*NUMBERS, *TEXTS, *BLOBS])
@pytest.mark.parametrize("forged", [False, True])
def test_a_wrong_kind_is_found_though_nothing_else_changed(
    original: Location, tmp_path: Path, column: str, forged: bool
) -> None:
    for value in (
        *("NULL", "1.0", "1", "'1'", "''", "x''", "x'ff'", "CAST(x'ff' AS TEXT)"),
        *(f"CAST({column} AS {kind})" for kind in ("BLOB", "TEXT", "REAL")),
        f"{column} || char(0) || 'x'",
    ):
        if forged and (column == "hash" or (column == "data" and "char(0)" in value)):
            continue  # what data goes on with is for those to judge who read it
        log = copied(original, tmp_path)
        done = (f"UPDATE events SET {column} = {value} WHERE pos = 14", ())
        tamper(log, done, forged=forged)
        assert fast(log) == plain(log), value


def test_a_deleted_row_is_missed_where_the_next_one_stands(log: Location) -> None:
    tamper(log, ("DELETE FROM events WHERE pos = 10", ()))
    found = fast(log)
    assert found == plain(log)
    assert marks(found)[0] == ("S1", 11)


@pytest.mark.parametrize("pos", [1, 5, 12, 24])
def test_two_rows_in_each_others_place_are_named(log: Location, pos: int) -> None:
    moves = ((-1, pos), (pos, pos + 1), (pos + 1, -1))
    tamper(log, *(("UPDATE events SET pos = ? WHERE pos = ?", move) for move in moves))
    found = fast(log)
    assert found == plain(log)
    assert marks(found)[0][1] == pos


@pytest.mark.parametrize("pos", [-(2**63), -5, 0, 99, 2**63 - 1])
def test_a_row_at_an_odd_place_is_named(log: Location, pos: int) -> None:
    tamper(log, ("UPDATE events SET pos = ? WHERE pos = 12", (pos,)))
    found = fast(log)
    assert found == plain(log)
    assert ("S1", pos) in marks(found)


def test_a_cut_tail_is_told_by_the_anchors(log: Location) -> None:
    tamper(log, ("DELETE FROM events WHERE pos > 9", ()))
    found = fast(log)
    assert found == plain(log)
    assert marks(found) == [("S2", 12)]
    assert found[1] is not None
    assert found[1].anchors == "broken"


def test_a_forged_chain_is_told_by_the_anchors(log: Location) -> None:
    tamper(log, ("UPDATE events SET actor = 'me' WHERE pos = 11", ()), forged=True)
    found = fast(log)
    assert found == plain(log)
    assert marks(found)[:2] == [("S36", 11), ("S2", 12)]


@pytest.mark.parametrize("data", ["[]", "{", '{"type":"attempt.started"}', "\0", "", "[" * 9999])
def test_data_of_another_type_is_named_even_in_a_forged_chain(log: Location, data: str) -> None:
    tamper(log, ("UPDATE events SET data = ? WHERE pos = 13", (data,)), forged=True)
    log.beside("anchors").unlink()
    found = fast(log)
    assert found == plain(log)
    assert marks(found) == [("S3", 13)]


def test_an_unknown_type_stops_even_if_its_data_begins_with_nothing(log: Location) -> None:
    tamper(log, ("UPDATE events SET type = 'x', data = char(0) WHERE pos = 13", ()), forged=True)
    found = fast(log)
    assert found == plain(log)
    assert "position 13 " in str(found[2])


def test_every_row_is_handed_on_with_its_tags(log: Location) -> None:
    tamper(log, ("UPDATE events SET actor = 'me' WHERE pos = 14", ()))
    seen: list[tuple[Any, ...]] = []

    def each(pos: int, kind: str, tags: Tags, data: str, asked: Asked) -> None:
        seen.append((pos, kind, *tags, data, *asked))

    follow(log, KNOWN, lambda _what, _pos: None, each)
    with closing(sqlite3.connect(log.path)) as connection:
        named = "pos, type, session, run, phase, attempt, data, command_id, request, cause"
        assert seen == connection.execute(f"SELECT {named} FROM events").fetchall()


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Location:
    """More than three pages of rows."""
    return written(tmp_path_factory.mktemp("long") / "log.db", attempts=160)


@pytest.mark.parametrize("pos", [255, 256, 257, 512, 513, 768])
@pytest.mark.parametrize("change", ["actor = 'me'", "run = CAST(run AS BLOB)", "data = NULL"])
def test_what_stands_at_the_edge_of_a_page_is_seen(
    long: Location, tmp_path: Path, pos: int, change: str
) -> None:
    log = copied(long, tmp_path)
    tamper(log, (f"UPDATE events SET {change} WHERE pos = ?", (pos,)))
    found = fast(log)
    assert found == plain(log)
    assert found[2] is not None or marks(found)[0] == ("S2", pos)


@pytest.mark.parametrize("page", range(2, 40, 3))
def test_a_damaged_page_is_refused_with_the_last_good_position(
    long: Location, tmp_path: Path, page: int
) -> None:
    log = copied(long, tmp_path)
    with log.path.open("r+b") as file:
        file.seek(page * 4096)
        file.write(bytes(4096))
    assert fast(log) == plain(log)


def test_what_a_writer_has_not_yet_moved_into_the_file_counts(log: Location) -> None:
    with closing(sqlite3.connect(log.path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        where = {"run": "z", "epoch": 2, "version": 2, "idx": 0}
        row = dict(draft(26, "run/z", "last", "backlog.run_registered", **where))
        previous = writer.execute("SELECT hash FROM events WHERE pos=25").fetchone()[0]
        row["hash"] = chain_hash(previous, tuple(row.values())[:-1])
        writer.execute(insert(len(row)), tuple(row.values()))
        found, followed, _ = fast(log)
        assert found == []
        assert followed is not None
        assert followed.pos == 26


def test_it_starts_without_what_takes_long_to_import() -> None:
    heavy = "{'sqlalchemy', 'anyio', 'asyncio', 'click', 'rich', 'structlog', 'msgspec'}"
    code = f"import sys, engine.audit.rows; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


texts = st.text(max_size=3) | st.sampled_from(["usage.recorded", "drain/s", "r0", "a1", "end-a1"])
values = st.none() | st.integers(-3, 40) | st.floats(-3, 40) | texts | st.binary(max_size=3)


@settings(max_examples=150, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.integers(1, 25), st.sampled_from(COLUMNS[1:]), values), min_size=1, max_size=2
    ),
    delete=st.none() | st.integers(1, 25),
    forged=st.booleans(),
)
def test_the_fast_pass_and_the_plain_one_agree(
    original: Location,
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[int, str, Any]],
    delete: int | None,
    forged: bool,
) -> None:
    log = copied(original, tmp_path_factory.mktemp("tampered"))
    done = [
        (f"UPDATE events SET {name} = ? WHERE pos = ?", (value, pos))
        for pos, name, value in changes
    ]
    tamper(log, *done, ("DELETE FROM events WHERE pos = ?", (delete,)), forged=forged)
    assert fast(log) == plain(log)
