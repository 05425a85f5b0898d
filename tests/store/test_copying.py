"""A log moves to another store and back without a byte changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import AppendRefused, LogUnreadable, UnknownEvent
from engine.events import Record, chain_hash
from engine.store.blobs import Blobs
from engine.store.copying import copy_blobs, copy_log
from engine.store.memory import MemoryStore
from engine.store.protocol import PAGE_ROWS, EventStore, Query


def rows(count: int, kind: str = "usage.imported", per_command: int = 1) -> list[Record]:
    found, previous = list[Record](), bytes(32)
    for pos in range(1, count + 1):
        command_id, idx = f"c{(pos - 1) // per_command}", (pos - 1) % per_command
        columns = Record(
            *(pos, "s", pos, command_id, idx, bytes(32), kind, 1, pos, pos, None, 1 + pos // 9),
            *(None, "r\n½", "p", None, "test", "0", '{"text":"\\u0000 ½"}', b""),
        )
        previous = chain_hash(previous, tuple(columns)[:-1])
        found.append(columns._replace(hash=previous))
    return found


async def filled(log: list[Record]) -> MemoryStore:
    source = MemoryStore()
    async with source.transaction() as transaction:
        await transaction.append(log)
    return source


async def everything(store: EventStore) -> list[Record]:
    found = list[Record]()
    while page := await store.records(Query(), after=len(found)):
        found += page
    return found


async def test_a_copy_is_the_log_in_bytes_and_hashes(store: EventStore) -> None:
    log, told = rows(PAGE_ROWS + 3), list[tuple[int, int]]()
    head = await copy_log(
        await filled(log), store, resume=False, tell=lambda at, end: told.append((at, end))
    )
    assert await everything(store) == log
    assert head == await store.head() == (log[-1].pos, log[-1].hash)
    assert told == [(PAGE_ROWS, PAGE_ROWS + 3), (PAGE_ROWS + 3, PAGE_ROWS + 3)]
    back = MemoryStore()
    await copy_log(store, back, resume=False, tell=lambda _at, _end: None)
    assert await everything(back) == log


async def test_a_copy_that_was_cut_short_goes_on_only_when_asked(store: EventStore) -> None:
    log = rows(9)
    async with store.transaction() as transaction:
        await transaction.append(log[:4])
    with pytest.raises(AppendRefused, match="holds 4 events already"):
        await copy_log(await filled(log), store, resume=False, tell=lambda _at, _end: None)
    await copy_log(await filled(log), store, resume=True, tell=lambda _at, _end: None)
    assert await everything(store) == log
    await copy_log(await filled(log), store, resume=True, tell=lambda _at, _end: None)


@pytest.mark.parametrize("per_command", [7, PAGE_ROWS + 7, 2 * PAGE_ROWS])
async def test_wherever_a_copy_is_cut_short_it_ends_with_a_command(
    store: EventStore, per_command: int
) -> None:
    log, told = rows(2 * PAGE_ROWS + 9, per_command=per_command), list[int]()
    await copy_log(await filled(log), store, resume=False, tell=lambda at, _end: told.append(at))
    assert [at % per_command for at in told[:-1]] == [0] * (len(told) - 1)
    assert told[-1] == len(log)
    assert await everything(store) == log


async def test_a_target_that_holds_another_log_is_left_alone(store: EventStore) -> None:
    other = rows(3, "backlog.run_registered")
    async with store.transaction() as transaction:
        await transaction.append(other)
    for count in (2, 3, 9):
        with pytest.raises(AppendRefused, match="another log"):
            await copy_log(await filled(rows(count)), store, resume=True, tell=lambda _a, _e: None)
    assert await everything(store) == other


@pytest.mark.parametrize("held", [0, 5])
async def test_a_copy_that_has_more_than_its_source_is_said_to_be_worth_keeping(
    store: EventStore, held: int
) -> None:
    """As of a log that was restored from an older backup than this one."""
    log = rows(9)
    async with store.transaction() as transaction:
        await transaction.append(log)
    with pytest.raises(AppendRefused) as refused:
        await copy_log(await filled(log[:held]), store, resume=True, tell=lambda _at, _end: None)
    assert refused.value.problem == f"the target goes on to position 9, the source ends at {held}."
    assert "keep the target" in refused.value.remedy
    assert await everything(store) == log


async def test_a_broken_chain_is_not_copied(store: EventStore) -> None:
    log = rows(5)
    log[2] = log[2]._replace(actor="forged")
    with pytest.raises(LogUnreadable, match="breaks at position 3"):
        await copy_log(await filled(log), store, resume=False, tell=lambda _at, _end: None)
    assert await everything(store) == []


async def test_a_newer_programs_log_is_not_copied(store: EventStore) -> None:
    with pytest.raises(UnknownEvent):
        await copy_log(
            await filled(rows(1, "future.thing")), store, resume=False, tell=lambda _a, _e: None
        )


def test_kept_output_goes_along_unless_it_is_not_what_its_name_says(tmp_path: Path) -> None:
    old = Blobs(tmp_path / "old")
    good, bad = old.put(b"good"), old.put(b"bad")
    old.path(bad).write_bytes(b"other")
    assert copy_blobs(tmp_path / "old", tmp_path / "new") == 1
    assert copy_blobs(tmp_path / "old", tmp_path / "new") == 0
    new = Blobs(tmp_path / "new")
    assert new.get(good) == b"good"
    assert not new.path(bad).exists()
    assert copy_blobs(tmp_path / "nowhere", tmp_path / "new") == 0
