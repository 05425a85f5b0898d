"""The laws of replay, over the logs of simulated drains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from engine.audit.replay import (
    ProjectionChange,
    RowChange,
    Rows,
    difference,
    overview,
    rows_of,
    step,
)
from engine.store.boards import catch_up, load_board
from engine.store.protocol import Query
from projections.board import FOLDS
from projections.fold import join
from tests.worlds import Simulation

SEEDS = range(8)
Plain = dict[str, dict[str, dict[str, Any]]]


async def drained(seed: int) -> Simulation:
    world = Simulation(seed)
    await world.register()
    await world.crash(resume=False)
    await world.drain(resume=True, crash_after_s=None)
    return world


def plain(rows: Rows) -> Plain:
    """Rows as a reader of the JSON has them."""
    found: Plain = msgspec.json.decode(msgspec.json.encode(rows))
    return found


def applied(rows: Plain, changes: Iterable[RowChange]) -> Plain:
    """``rows`` after the changes, which are taken from their JSON."""
    after = {name: dict(of_name) for name, of_name in rows.items()}
    for change in msgspec.json.decode(msgspec.json.encode(list(changes))):
        of_name, key = after[change["projection"]], join(*change["key"])
        assert change["added"] == (key not in of_name)
        row = dict(of_name.get(key, {}))
        for field in change["fields"]:
            assert field["old"] == row.get(field["field"])
            row[field["field"]] = field["new"]
        of_name[key] = row
    return after


def all_rows(found: Iterable[ProjectionChange]) -> list[RowChange]:
    return [row for projection in found for row in projection.rows]


@pytest.mark.parametrize("seed", SEEDS)
async def test_rows_with_a_difference_applied_are_the_later_rows(seed: int) -> None:
    world = await drained(seed)
    head = (await world.store.head()).pos
    cuts = sorted(world.random.sample(range(head + 1), min(6, head + 1)))
    for begin, end in zip([0, *cuts], [*cuts, head], strict=True):
        before = rows_of(await load_board(world.store, begin))
        after = rows_of(await load_board(world.store, end))
        found = difference(before, after)
        assert applied(plain(before), all_rows(found)) == plain(after)
        for change in found:
            assert change.added == change.rows_after - change.rows_before
            assert change.added + change.changed == len(change.rows)
        assert [change.name for change in found] == list(FOLDS)
        assert all_rows(difference(after, after)) == []


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_walk_event_by_event_makes_every_row_and_names_every_change(seed: int) -> None:
    world = await drained(seed)
    head = await world.store.head()
    board = await load_board(world.store, world.random.randint(0, head.pos))
    rows = plain(rows_of(board))
    for record in await world.store.records(Query(), after=board.head.pos, limit=head.pos):
        rows = applied(rows, step(board, record).changes)
    whole = await load_board(world.store)
    assert rows == plain(rows_of(board)) == plain(rows_of(whole))
    assert board.head == whole.head


async def test_rows_taken_from_a_board_stay_when_the_board_goes_on() -> None:
    world = await drained(3)
    head = (await world.store.head()).pos
    board = await load_board(world.store, head // 2)
    taken = rows_of(board)
    text = plain(taken)
    await catch_up(board, world.store, head)
    assert plain(taken) == text != plain(rows_of(board))


async def test_an_overview_counts_what_the_rows_hold() -> None:
    attempts_seen_open = 0
    for seed in SEEDS:
        world = await drained(seed)
        for pos in range(0, (await world.store.head()).pos + 1, 5):
            board = await load_board(world.store, pos)
            found = overview(board, None)
            assert found.position == pos
            assert sum(found.runs.values()) == len(board.runs)
            assert sum(found.phases.values()) == len(board.backlog)
            assert sum(found.sessions.values()) == len(board.sessions)
            assert len(found.open_attempts) == sum(run.open for run in board.runs.values())
            counts = [seen.count for seen in found.fingerprints]
            assert counts == sorted(counts, reverse=True)
            attempts_seen_open += len(found.open_attempts)
    assert attempts_seen_open > 20
