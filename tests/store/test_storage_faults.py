"""Storage that fails: one clear error of the right kind, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from engine.clock import SystemClock
from engine.errors import DiskFull, StorageFailed, UsageProblem, is_full, not_written
from engine.events import RunRegistered
from engine.store.command import Command, just
from engine.store.database import LOCK_WAIT, lock_wait, open_reader, open_writer
from engine.store.location import Location, locate
from engine.store.recorder import Recorder, Writer, recording
from engine.store.reserve import RESERVE_BYTES, Reserve
from engine.store.same_files import SameFiles

WRITER = Writer("host", "boot", 1, "test", "0")


@pytest.fixture
def location(tmp_path: Path) -> Location:
    return locate(f"sqlite:///{tmp_path}/b.db")


async def register(recorder: Recorder, name: str, size: int = 1) -> None:
    event = RunRegistered(run_id=name, origin="x" * size, state="NEW")
    await recorder.submit(Command(name, f"run/{name}", b"", just(event)))


async def runs(location: Location) -> int:
    reader = await open_reader(location)
    rows = await reader.execute("SELECT count(*) FROM events WHERE type = 'backlog.run_registered'")
    await reader.close()
    return int(rows[0][0])


async def test_a_full_disk_is_told_apart_and_stops_the_writer(location: Location) -> None:
    store = await open_writer(location, create=True)
    async with recording(store, SystemClock(), WRITER) as recorder:
        await register(recorder, "acknowledged")
        await store.execute("PRAGMA max_page_count = 1")  # as many as there are
        with pytest.raises(DiskFull) as full:
            await register(recorder, "too much", 100_000)
        assert full.value.exit_code == 74
        assert recorder.failed is full.value
        with pytest.raises(DiskFull):
            await register(recorder, "small, and never tried on this handle again")
    await store.close()
    assert await runs(location) == 1


async def test_a_writer_whose_file_was_replaced_acknowledges_nothing_more(
    location: Location,
) -> None:
    await (await open_writer(location, create=True)).close()
    store = await open_writer(location, create=False)
    async with recording(store, SystemClock(), WRITER) as recorder:
        await register(recorder, "one")
        await register(recorder, "two")
        older = location.path.with_name("older.db")
        older.write_bytes(location.path.read_bytes())
        kept = location.path.rename(location.path.with_name("kept.db"))
        older.rename(location.path)
        with pytest.raises(StorageFailed, match="replaced or removed"):
            await register(recorder, "three")
        assert not is_full(recorder.failed or Exception())
    kept.replace(location.path)
    await store.close()


@pytest.mark.parametrize("name", ["b.db", "b.db-wal"])
@pytest.mark.parametrize("fresh", [False, True])
async def test_a_writer_whose_file_was_removed_acknowledges_nothing_more(
    location: Location, name: str, *, fresh: bool
) -> None:
    if not fresh:
        await (await open_writer(location, create=True)).close()
    store = await open_writer(location, create=fresh)
    async with recording(store, SystemClock(), WRITER) as recorder:
        await register(recorder, "one")
        location.path.with_name(name).unlink()
        with pytest.raises(StorageFailed, match=f"{name} was replaced or removed"):
            await register(recorder, "two")
    await store.close()


def test_a_reserve_takes_room_once_and_gives_it_back(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve")
    for _ in range(2):
        reserve.hold()
        assert reserve.path.stat().st_blocks * 512 >= RESERVE_BYTES
    reserve.release()
    reserve.release()
    assert not reserve.path.exists()


def test_a_reserve_that_finds_no_room_takes_none(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", 2**62)
    with pytest.raises(StorageFailed, match="the reserve"):
        reserve.hold()
    assert not reserve.path.exists()
    with pytest.raises(StorageFailed, match="the reserve"):
        Reserve(tmp_path / "nowhere" / "reserve").hold()


def test_want_of_room_is_told_from_other_trouble() -> None:
    assert isinstance(not_written("it", OSError(28, "No space left on device")), DiskFull)
    assert not isinstance(not_written("it", OSError(5, "Input/output error")), DiskFull)
    assert is_full(ExceptionGroup("", [ValueError(), ExceptionGroup("", [DiskFull.at("it")])]))
    assert not is_full(ExceptionGroup("", [ValueError()]))


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("", 5000), ("0", 0), ("0.25", 250), ("60", 60_000)]
)
def test_how_long_to_wait_for_a_lock_can_be_set(
    monkeypatch: pytest.MonkeyPatch, text: str, milliseconds: int
) -> None:
    monkeypatch.setenv(LOCK_WAIT, text)
    assert lock_wait() == f"PRAGMA busy_timeout = {milliseconds}"


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "1e9"])
def test_what_is_no_number_of_seconds_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(LOCK_WAIT, text)
    with pytest.raises(UsageProblem, match="no number of seconds"):
        lock_wait()


@pytest.mark.parametrize(("name", "kept"), [("b.db", 0.5), ("b.db-wal", 0), ("b.db-wal", 0.5)])
async def test_a_writer_whose_file_was_cut_short_acknowledges_nothing_more(
    location: Location, name: str, kept: float
) -> None:
    store = await open_writer(location, create=True)
    async with recording(store, SystemClock(), WRITER) as recorder:
        for number in range(20):
            await register(recorder, f"run-{number}")
        if name == "b.db":
            await store.execute("PRAGMA wal_checkpoint(PASSIVE)")
            await register(recorder, "behind it")
        file = location.path.with_name(name)
        os.truncate(file, int(file.stat().st_size * kept))
        with pytest.raises(StorageFailed, match=f"{name} was cut short"):
            await register(recorder, "one more")
    await store.close()


async def test_a_link_that_is_turned_to_another_log_is_noticed(tmp_path: Path) -> None:
    for name in ("old", "new"):
        await (await open_writer(locate(f"sqlite:///{tmp_path}/{name}.db"), create=True)).close()
    link = tmp_path / "b.db"
    link.symlink_to("new.db")
    store = await open_writer(locate(f"sqlite:///{link}"), create=False)
    async with recording(store, SystemClock(), WRITER) as recorder:
        await register(recorder, "r")
        link.unlink()
        link.symlink_to("old.db")
        with pytest.raises(StorageFailed, match=r"/b\.db was replaced"):
            await register(recorder, "one more")
    await store.close()


@pytest.mark.parametrize("name", ["b.db", "link.db"])
async def test_a_log_is_watched_from_its_first_moment_by_whatever_name(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "link.db").symlink_to("b.db")
    store = await open_writer(locate(f"sqlite:///{tmp_path}/{name}"), create=True)
    async with recording(store, SystemClock(), WRITER) as recorder:
        await register(recorder, "r")
        os.truncate(tmp_path / "b.db-wal", 0)
        with pytest.raises(StorageFailed, match=r"b\.db-wal was cut short"):
            await register(recorder, "one more")
    await store.close()


def test_a_write_ahead_log_that_its_writers_begin_anew_is_not_cut_short(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "b.db", isolation_level=None)) as log:
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA wal_autocheckpoint = 0",
            "PRAGMA journal_size_limit = 100000",
            "CREATE TABLE t (x)",
        ):
            log.execute(statement)
        files = SameFiles(tmp_path / "b.db")
        wal = tmp_path / "b.db-wal"
        for mode in ("RESTART", "TRUNCATE"):
            log.execute("INSERT INTO t VALUES (zeroblob(300000))")
            files.check()
            before = wal.stat().st_size
            log.execute(f"PRAGMA wal_checkpoint({mode})")
            files.check()
            log.execute("INSERT INTO t VALUES (1)")
            assert wal.stat().st_size < before
            files.check()
