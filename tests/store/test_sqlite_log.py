"""The log in a SQLite file: what it refuses, whoever asks, and what it never changes."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from engine.clock import HandSetClock
from engine.errors import (
    Fenced,
    LogHeld,
    LogUnreadable,
    RunoffError,
    StorageFailed,
    UsageProblem,
    WrongDatabase,
)
from engine.events import COLUMNS, RunRegistered
from engine.store import database
from engine.store.anchors import Anchors, last_anchor
from engine.store.boards import load_board
from engine.store.command import Command, just
from engine.store.database import open_reader, open_writer
from engine.store.location import Location, locate
from engine.store.lock import WriterLock, holder_of
from engine.store.migrate import APPLICATION_ID, migrations, statements
from engine.store.protocol import Query
from engine.store.recorder import Writer, recording

WRITER = Writer("host", "boot", 1, "test", "0")


async def fill(location: Location, *run_ids: str) -> None:
    store = await open_writer(location, create=True)
    try:
        anchors = location.beside("anchors")
        async with recording(store, HandSetClock(), WRITER, anchors=anchors) as recorder:
            for run_id in run_ids:
                event = RunRegistered(run_id=run_id, origin="test", state="NEW")
                await recorder.submit(Command(f"cmd-{run_id}", f"run/{run_id}", b"", just(event)))
    finally:
        await store.close()


@pytest.fixture
def log(tmp_path: Path) -> Location:
    """A closed log of three events."""
    location = locate(f"sqlite:///{tmp_path}/log.db")
    anyio.run(fill, location, "a", "b")
    return location


@pytest.fixture
def raw(log: Location) -> Iterator[sqlite3.Connection]:
    """What a stranger with the file in hand can do."""
    with closing(sqlite3.connect(log.path, isolation_level=None)) as connection:
        yield connection


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rows(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT * FROM events ORDER BY pos").fetchall()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE events SET data = '{}'",
        "UPDATE events SET pos = 9 WHERE pos = 3",
        "UPDATE OR REPLACE events SET version = 2",
        "DELETE FROM events",
        "DELETE FROM events WHERE pos = 3",
        "INSERT OR REPLACE INTO events SELECT * FROM events WHERE pos = 2",
        "INSERT INTO events SELECT * FROM events WHERE pos = 3",
    ],
)
def test_a_stranger_cannot_change_or_remove_an_event(raw: sqlite3.Connection, sql: str) -> None:
    before = rows(raw)
    with pytest.raises(sqlite3.IntegrityError, match="runoff:"):
        raw.execute(sql)
    assert rows(raw) == before
    assert len(before) == 3


@pytest.mark.parametrize("verb", ["INSERT", "INSERT OR REPLACE", "INSERT OR IGNORE", "REPLACE"])
@pytest.mark.parametrize(
    "changes",
    [
        {"pos": 2},
        {"pos": 5},
        {"pos": 0},
        {"pos": -1},
        {"epoch": 0},
        {"recorded_us": 0},
        {"stream": "run/a", "version": 1},
        {"command_id": "cmd-a", "idx": 0},
        {"type": "attempt.finished"},
        {"cause": 4},
    ],
    ids=str,
)
def test_a_row_is_only_ever_added_behind_the_last(
    raw: sqlite3.Connection, verb: str, changes: dict[str, object]
) -> None:
    before = rows(raw)
    last = dict(zip(COLUMNS, before[-1], strict=True))
    fresh = last | {"pos": 4, "stream": "new", "version": 1, "command_id": "new", "idx": 0}
    sql = f"{verb} INTO events VALUES ({', '.join('?' * len(COLUMNS))})"
    if verb == "INSERT OR IGNORE" and "cause" in changes:
        raw.execute(sql, tuple((fresh | changes).values()))  # a CHECK that fails is ignored
    else:
        with pytest.raises(sqlite3.IntegrityError):
            raw.execute(sql, tuple((fresh | changes).values()))
    assert rows(raw) == before
    raw.execute(sql, tuple(fresh.values()))
    assert rows(raw)[:-1] == before


async def test_a_writer_waits_for_the_disk_and_a_reader_cannot_write(log: Location) -> None:
    store = await open_writer(log, create=False)
    assert await store.execute("PRAGMA journal_mode") == [("wal",)]
    assert await store.execute("PRAGMA synchronous") == [(2,)]
    await store.close()
    assert int.from_bytes(log.path.read_bytes()[68:72], "big") == APPLICATION_ID == 0x52554E46
    reader = await open_reader(log)
    with pytest.raises(StorageFailed):
        await reader.execute("DELETE FROM projections")
    await reader.close()


async def test_a_reader_changes_no_byte(log: Location) -> None:
    def digests() -> dict[str, str]:
        files = [p for p in log.path.parent.iterdir() if not p.name.endswith("-shm")]
        return {
            p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files if p.stat().st_size
        }

    before, modified_ns = digests(), log.path.stat().st_mtime_ns
    reader = await open_reader(log)
    assert len((await load_board(reader)).runs) == 2
    assert len(await reader.records(Query())) == 3
    await reader.close()
    assert digests() == before
    assert log.path.stat().st_mtime_ns == modified_ns


async def test_a_reader_sees_what_a_living_writer_committed(log: Location) -> None:
    store = await open_writer(log, create=False)
    async with recording(store, HandSetClock(), WRITER) as recorder:
        event = RunRegistered(run_id="c", origin="test", state="NEW")
        await recorder.submit(Command("cmd-c", "run/c", b"", just(event)))
        reader = await open_reader(log)
        assert (await reader.head()) == recorder.head
        await reader.close()
    await store.close()


def _garbage(path: Path) -> None:
    path.write_bytes(b"not a database " * 100)


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE runs (id TEXT)")


def _cut(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0")


def _missing(path: Path) -> None:
    path.unlink(missing_ok=True)


UNFIT = [_garbage, _foreign, _cut, Path.mkdir]


@pytest.mark.parametrize("make", UNFIT, ids=lambda make: make.__name__)
@pytest.mark.parametrize("create", [True, False])
async def test_what_is_no_log_is_refused_and_left_alone(
    tmp_path: Path, make: type[Path], create: bool
) -> None:
    location = locate(f"sqlite:///{tmp_path}/x.db")
    make(location.path)
    before = location.path.read_bytes() if location.path.is_file() else None
    with pytest.raises(WrongDatabase) as refused:
        await open_writer(location, create=create)
    assert refused.value.exit_code == 3
    with pytest.raises(WrongDatabase):
        await open_reader(location)
    assert names(tmp_path) == ["x.db"]
    assert before is None or location.path.read_bytes() == before


@pytest.mark.parametrize("make", [Path.touch, _missing], ids=["empty", "missing"])
async def test_nothing_is_started_unless_asked_for(tmp_path: Path, make: type[Path]) -> None:
    location = locate(f"sqlite:///{tmp_path}/x.db")
    make(location.path)
    before = names(tmp_path)
    with pytest.raises(WrongDatabase):
        await open_reader(location)
    with pytest.raises(WrongDatabase):
        await open_writer(location, create=False)
    assert names(tmp_path) == before
    await (await open_writer(location, create=True)).close()
    await (await open_reader(location)).close()


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    location = locate(f"sqlite:///{tmp_path}/nowhere/x.db")
    with pytest.raises(WrongDatabase, match="nowhere"):
        await open_writer(location, create=True)
    assert names(tmp_path) == []


async def test_a_read_only_file_can_be_read_but_not_written(log: Location) -> None:
    log.path.chmod(0o444)
    with pytest.raises(StorageFailed, match="read-only") as refused:
        await open_writer(log, create=False)
    assert refused.value.exit_code == 74
    reader = await open_reader(log)
    assert (await reader.head()).pos == 3
    await reader.close()


async def test_a_file_with_two_names_can_be_read_but_not_written(log: Location) -> None:
    other = log.path.with_name("other.db")
    other.hardlink_to(log.path)
    with pytest.raises(StorageFailed, match="has 2 names") as refused:
        await open_writer(log, create=False)
    assert refused.value.exit_code == 74
    reader = await open_reader(log)
    assert (await reader.head()).pos == 3
    await reader.close()
    other.unlink()
    await (await open_writer(log, create=False)).close()


async def test_a_damaged_log_is_one_error_and_no_traceback(log: Location) -> None:
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
    with pytest.raises(LogUnreadable) as refused:
        await open_reader(log)
    assert refused.value.exit_code == 5


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("INSERT INTO migrations VALUES (999, '0999_later.sql', '')", "schema 999"),
        ("UPDATE migrations SET sha256 = 'other' WHERE number = 1", "schema 1 is not the one"),
    ],
)
async def test_a_schema_of_another_program_is_refused(log: Location, sql: str, says: str) -> None:
    with closing(sqlite3.connect(log.path)) as connection, connection:
        connection.execute(sql)
    with pytest.raises(LogUnreadable, match=says) as refused:
        await open_writer(log, create=False)
    assert refused.value.exit_code == 5


def test_every_migration_splits_into_whole_statements_and_back() -> None:
    numbers = [migration.number for migration in migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    with (
        closing(sqlite3.connect(":memory:")) as whole,
        closing(sqlite3.connect(":memory:")) as by_one,
    ):
        for migration in migrations():
            whole.executescript(migration.sql)
            for statement in statements(migration.sql):
                by_one.execute(statement)
            made = "SELECT sql FROM sqlite_schema ORDER BY name"
            assert by_one.execute(made).fetchall() == whole.execute(made).fetchall()


async def test_a_log_of_an_older_schema_is_read_as_it_is_and_brought_up_by_its_writer(
    log: Location, raw: sqlite3.Connection
) -> None:
    reader = await open_reader(log)
    shapes = sorted(await reader.shapes())
    await reader.close()
    raw.executescript(
        "DROP TABLE event_shapes; DROP TRIGGER events_new_shape;"
        " DELETE FROM migrations WHERE number = 3;"
    )
    reader = await open_reader(log)
    assert sorted(await reader.shapes()) == shapes
    await reader.close()
    writer = await open_writer(log, create=False)
    assert raw.execute("SELECT count(*) FROM event_shapes").fetchone() == (len(shapes),)
    assert sorted(await writer.shapes()) == shapes
    await writer.close()


async def test_a_locked_database_is_held_and_not_broken(
    log: Location, raw: sqlite3.Connection
) -> None:
    store = await open_writer(log, create=False)
    await store.execute("PRAGMA busy_timeout = 10")
    raw.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogHeld) as held:
        async with store.transaction():
            pass
    assert held.value.exit_code == 75
    raw.execute("ROLLBACK")
    async with store.transaction():
        pass
    await store.close()


async def test_a_writer_that_was_overtaken_is_fenced(log: Location) -> None:
    old = await open_writer(log, create=False)
    async with recording(old, HandSetClock(), WRITER) as recorder:
        await fill(log, "overtaker")
        event = RunRegistered(run_id="late", origin="test", state="NEW")
        with pytest.raises(Fenced) as fenced:
            await recorder.submit(Command("cmd-late", "run/late", b"", just(event)))
    await old.close()
    assert fenced.value.exit_code == 76
    reader = await open_reader(log)
    assert "late" not in [record.run for record in await reader.records(Query())]
    await reader.close()


HOLDER = """
import sys
from pathlib import Path
from engine.store.lock import WriterLock
lock = WriterLock(Path(sys.argv[1]), "runoff drain")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_log_held_by_another_process_names_it_until_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "x.db-lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(database.__file__).parents[2],
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LogHeld, match=f"runoff drain, pid {holder.pid} on ") as held:
            WriterLock(path, "runoff seed")
        named = holder_of(path)
        assert named is None if sys.platform != "linux" else str(holder.pid) in (named or "")
        assert held.value.exit_code == 75
        holder.kill()
    assert holder_of(path) in {"", None}
    assert holder_of(path.with_name("nothing")) in {"", None}
    WriterLock(path, "runoff seed").close()
    assert path.read_text(encoding="utf-8").startswith("runoff seed, pid ")


def test_a_lock_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="nowhere"):
        WriterLock(tmp_path / "nowhere" / "x.db-lock", "runoff")


async def test_the_last_anchor_is_the_head_after_a_clean_end(log: Location) -> None:
    anchors = log.beside("anchors")
    reader = await open_reader(log)
    assert last_anchor(anchors) == await reader.head()
    await reader.close()
    with anchors.open("ab") as file:
        file.write(b"4 00ff")  # a crash in the middle of a line
    assert last_anchor(anchors) == await _head(log)


async def _head(location: Location) -> object:
    reader = await open_reader(location)
    try:
        return await reader.head()
    finally:
        await reader.close()


@pytest.mark.parametrize("line", [b"x\n", b"1 zz\n", b"1 00\n", b"1\n", b"\xff \xff\n", b"\n"])
def test_a_line_that_is_no_anchor_is_refused(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "x.db-anchors"
    assert last_anchor(path) is None
    path.write_bytes(line)
    with pytest.raises(LogUnreadable) as refused:
        last_anchor(path)
    assert refused.value.problem.isprintable()


def test_anchors_that_cannot_be_opened_are_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed):
        Anchors(tmp_path)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        (None, UsageProblem),
        ("", UsageProblem),
        ("backlog.db", UsageProblem),
        ("sqlite://", UsageProblem),
        ("sqlite:///", UsageProblem),
        ("sqlite:///:memory:", UsageProblem),
        ("sqlite:///folder/", UsageProblem),
        ("sqlite:///..", UsageProblem),
        ("sqlite:///a%00b", UsageProblem),
        ("sqlite://host/a.db", UsageProblem),
        ("mysql://ann:secret@host/db", WrongDatabase),
    ],
)
def test_a_url_that_names_no_file_is_refused(url: str | None, error: type[RunoffError]) -> None:
    with pytest.raises(error) as refused:
        locate(url)
    assert "secret" not in str(refused.value)
    assert refused.value.problem.isprintable()


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////tmp/a.db", "/tmp/a.db"),
        ("sqlite+aiosqlite:////tmp/a.db", "/tmp/a.db"),
        ("SQLITE:////tmp/a%20b.db?mode=ro", "/tmp/a b.db"),
    ],
)
def test_a_url_becomes_a_path(url: str, path: str) -> None:
    location = locate(url)
    assert location.path == Path(path)
    assert location.beside("lock") == Path(f"{path}-lock")


@pytest.mark.parametrize("name", ["-wal", "-shm", "-journal"])
def test_what_is_removed_while_it_is_looked_at_is_not_in_the_way(
    log: Location, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever closes a log last removes its files; one that looks just then starts all the same."""
    beside = log.path.with_name(log.path.name + name)
    beside.touch()
    stat, looks = Path.stat, list[Path]()

    def look(path: Path, *, follow_symlinks: bool = True) -> object:
        if path == beside:
            looks.append(path)
            if len(looks) > 1:
                beside.unlink(missing_ok=True)
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", look)
    database.check_file(log)
    assert looks
