"""The reader for one quick question: one snapshot, no byte changed, the same refusals."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from engine.errors import StorageFailed, WrongDatabase
from engine.events import RunRegistered
from engine.store.boards import load_board, load_folds
from engine.store.command import Command, just
from engine.store.database import open_reader, open_writer
from engine.store.direct import open_direct
from engine.store.location import Location, locate
from engine.store.recorder import recording
from engine.store.sqlite import SqliteStore
from projections.board import FOLDS
from tests.worlds import WRITER

TABLE = FOLDS["run_triage"].table


class Still:
    """A clock that stands."""

    def now_us(self) -> int:
        return 1

    def monotonic_s(self) -> float:
        return 0.0


async def register(store: SqliteStore, *names: str) -> None:
    async with recording(store, Still(), WRITER) as recorder:
        events = [RunRegistered(run_id=name, origin="x", state="NEW") for name in names]
        await recorder.submit(Command(f"c-{names[0]}", "s", b"", just(*events)))


@pytest.fixture
def location(tmp_path: Path) -> Location:
    return locate(f"sqlite:///{tmp_path}/b.db")


async def test_what_is_appended_meanwhile_is_not_seen(location: Location) -> None:
    store = await open_writer(location, create=True)
    await register(store, "a")
    reader = open_direct(location)
    before = await reader.head()
    await register(store, "b")
    assert await reader.head() == before
    assert set((await load_board(reader)).runs.states) == {"a"}
    await reader.close()
    later = open_direct(location)
    assert set((await load_board(later)).runs.states) == {"a", "b"}
    await later.close()
    await store.close()


async def test_it_cannot_write(location: Location) -> None:
    await (await open_writer(location, create=True)).close()
    reader = open_direct(location)
    with pytest.raises(StorageFailed, match="read-only"):
        await reader.execute("CREATE TABLE x (y)")
    await reader.close()


@pytest.mark.parametrize("content", [None, b"", b"not a database" * 20])
async def test_what_is_no_log_is_refused(location: Location, content: bytes | None) -> None:
    if content is not None:
        location.path.write_bytes(content)
    with pytest.raises(WrongDatabase):
        open_direct(location)


async def test_a_few_projections_are_those_of_the_board(location: Location) -> None:
    store = await open_writer(location, create=True)
    await register(store, "a", "b")
    await store.close()
    reader = await open_reader(location)
    for end in (0, 1, 2, 3):
        board = await load_board(reader, end)
        few = await load_folds(reader, (FOLDS["run_triage"], FOLDS["days"]), end)
        assert dict(few["run_triage"].items()) == board.runs.states
        assert set(few) == {"run_triage", "days"}
    await reader.close()


@pytest.mark.parametrize(
    "damage",
    [
        f"UPDATE {TABLE} SET data = '{{}}'",
        f"UPDATE {TABLE} SET data = 'x'",
        f"DELETE FROM {TABLE}",
        f"DROP TABLE {TABLE}",
        "UPDATE projections SET pos = 2",
        "UPDATE projections SET hash = x'00'",
    ],
)
async def test_rows_that_were_damaged_are_not_used(location: Location, damage: str) -> None:
    store = await open_writer(location, create=True)
    await register(store, "a", "b")
    await store.close()
    connection = sqlite3.connect(location.path)
    connection.execute(damage)
    connection.commit()
    connection.close()
    reader = open_direct(location)
    few = await load_folds(reader, (FOLDS["run_triage"],), (await reader.head()).pos)
    assert set(few["run_triage"].states) == {"a", "b"}
    assert few["run_triage"].states["a"].origin == "x"
    await reader.close()
