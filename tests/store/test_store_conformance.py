"""What every store must do: in memory, in SQLite and in PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from engine.errors import AppendRefused, Fenced, LogUnreadable
from engine.events import GENESIS, Head, Record, chain_hash
from engine.store.protocol import PAGE_ROWS, EventStore, Kept, Query
from projections.fold import Change, Checkpoint


def record(
    pos: int, previous: bytes = GENESIS, *, kind: str = "usage.imported", **changes: Any
) -> Record:
    columns = Record(
        pos=pos,
        stream="s",
        version=pos,
        command_id=f"c{pos}",
        idx=0,
        request=bytes(32),
        type=kind,
        schema=1,
        occurred_us=pos,
        recorded_us=pos,
        cause=None,
        epoch=1,
        session=None,
        run="r",
        phase="p",
        attempt=None,
        actor="test",
        code="0",
        data="{}",
        hash=b"",
    )._replace(**changes)
    return columns._replace(hash=chain_hash(previous, tuple(columns)[:-1]))


async def append(store: EventStore, *records: Record) -> None:
    async with store.transaction() as transaction:
        await transaction.append(records)


async def test_an_empty_log_has_a_head_at_zero(store: EventStore) -> None:
    assert await store.head() == Head(0, GENESIS)
    assert await store.last_epoch() == 0


async def test_rows_come_back_as_they_went_in(store: EventStore) -> None:
    rows = [record(1), record(2)]
    await append(store, *rows)
    assert await store.records(Query()) == rows
    assert await store.head() == Head(2, rows[1].hash)
    assert await store.hash_at(1) == rows[0].hash
    assert await store.hash_at(3) is None


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"pos": 3}, Fenced),
        ({"pos": 1}, Fenced),
        ({"epoch": 0}, Fenced),
        ({"recorded_us": 0}, Fenced),
        ({"version": 1}, AppendRefused),
    ],
)
async def test_a_row_that_does_not_continue_the_log_is_refused(
    store: EventStore, changes: dict[str, Any], error: type[Exception]
) -> None:
    await append(store, record(1))
    wrong = record(2)._replace(**changes)
    with pytest.raises(error):
        await append(store, wrong)
    assert (await store.head()).pos == 1


async def test_a_phase_has_at_most_one_open_attempt(store: EventStore) -> None:
    await append(store, record(1, kind="attempt.started", attempt="a"))
    with pytest.raises(AppendRefused):
        await append(store, record(2, kind="attempt.started", attempt="b"))
    await append(store, record(2, kind="attempt.finished", attempt="a"))
    with pytest.raises(AppendRefused):
        await append(store, record(3, kind="attempt.finished", attempt="a"))
    await append(store, record(3, kind="attempt.started", attempt="b"))


@pytest.mark.parametrize(
    "wrong",
    [
        record(3, command_id="c1"),
        record(3, cause=3),
        record(3, kind="attempt.started", attempt="a", phase="q"),
        record(3, kind="attempt.finished", phase="never-started"),
    ],
    ids=["a key twice", "a cause that is not earlier", "an attempt twice", "nothing open"],
)
async def test_a_row_that_breaks_a_rule_of_the_log_is_refused(
    store: EventStore, wrong: Record
) -> None:
    await append(store, record(1), record(2, kind="attempt.started", attempt="a"))
    with pytest.raises(AppendRefused):
        await append(store, wrong)
    assert (await store.head()).pos == 2


async def test_pages_follow_each_other_without_gap_or_overlap(store: EventStore) -> None:
    count = PAGE_ROWS + 5
    await append(store, *[record(pos) for pos in range(1, count + 1)])
    first = await store.fold_rows(0, count)
    second = await store.fold_rows(first[-1][0], count)
    assert [row[0] for row in first + second] == list(range(1, count + 1))
    page = await store.records(Query())
    rest = await store.records(Query(), after=page[-1].pos)
    assert [r.pos for r in page + rest] == list(range(1, count + 1))


async def test_the_shapes_of_events_are_known_with_their_first_position(store: EventStore) -> None:
    await append(store, record(1), record(2, kind="future.thing"), record(3, schema=2))
    assert sorted(await store.shapes()) == [
        ("future.thing", 1, 2),
        ("usage.imported", 1, 1),
        ("usage.imported", 2, 3),
    ]


async def test_a_transaction_that_raises_leaves_nothing(store: EventStore) -> None:
    kept = Kept("backlog", 1, [Change("k", "{}")], Checkpoint(1, bytes(32), bytes(32)))
    with pytest.raises(RuntimeError):  # noqa: PT012  the block is what is tested
        async with store.transaction() as transaction:
            await transaction.append([record(1)], [kept])
            raise RuntimeError
    assert (await store.head()).pos == 0
    assert await store.projections() == []
    await append(store, record(1))


async def test_projections_are_kept_replaced_and_dropped(store: EventStore) -> None:
    for data in ("1", "2"):
        kept = Kept("backlog", 1, [Change("k", data)], Checkpoint(1, bytes(32), bytes(32)))
        async with store.transaction() as transaction:
            await transaction.append([], [kept])
    assert await store.projection_rows("backlog", 1) == [("k", "2")]
    assert await store.projection_row("backlog", 1, "k") == "2"
    assert await store.projection_row("backlog", 1, "other") is None
    assert await store.projection_row("backlog", 2, "k") is None
    whole = Kept("backlog", 1, [Change("new", "3")], Checkpoint(2, bytes(32), bytes(32)), True)
    async with store.transaction() as transaction:
        await transaction.append([], [whole])
    assert await store.projection_rows("backlog", 1) == [("new", "3")]
    await store.drop_projection("backlog", 1)
    assert await store.projections() == []


async def test_rows_of_a_projection_are_handed_out_in_the_order_of_their_keys(
    store: EventStore,
) -> None:
    """Also half of them; whoever took no more, or failed over one, is in nobody's way."""
    rows = [Change(key, f'"{key}"') for key in ("b", "a", "c")]
    kept = Kept("backlog", 1, rows, Checkpoint(1, bytes(32), bytes(32)))
    async with store.transaction() as transaction:
        await transaction.append([], [kept])
    assert await store.read_projection("backlog", 1, list) == sorted(tuple(row) for row in rows)
    assert await store.read_projection("backlog", 1, lambda some: next(iter(some))[0]) == "a"

    def fails(some: Iterable[tuple[str, str]]) -> None:
        raise KeyError(next(iter(some))[0])

    with pytest.raises(KeyError, match="a"):
        await store.read_projection("backlog", 1, fails)
    with pytest.raises(LogUnreadable):
        await store.read_projection("backlog", 2, list)
    await store.drop_projection("backlog", 1)
    assert await store.projections() == []


async def test_prior_commands_and_stream_versions_are_found(store: EventStore) -> None:
    await append(store, record(1), record(2, command_id="c1", idx=1), record(3))
    async with store.transaction() as transaction:
        prior, versions, end = await transaction.look(["c1", "c3", "new"], ["s", "new"])
        assert {name: tuple(p)[1:] for name, p in prior.items()} == {"c1": (1, 2), "c3": (3, 3)}
        assert versions == {"s": 3, "new": 0}
        assert end == ((await store.head(), 1) if store.is_shared else None)


async def test_queries_select_by_tag_type_and_position(store: EventStore) -> None:
    await append(
        store,
        record(1, run="a"),
        record(2, run="b", kind="attempt.started", attempt="x"),
        record(3, run="a", session="ses", stream="drain/ses", version=1),
    )

    async def found(query: Query, after: int = 0) -> list[int]:
        return [r.pos for r in await store.records(query, after=after)]

    assert await found(Query(run="a")) == [1, 3]
    assert await found(Query(attempt="x")) == [2]
    assert await found(Query(session="ses")) == [3]
    assert await found(Query(types=("attempt.*",))) == [2]
    assert await found(Query(stream="s")) == [1, 2]
    assert await found(Query(stream="s", newest_first=True)) == [2, 1]
    assert await found(Query(stream="s", newest_first=True), after=2) == [1]
    assert await found(Query(stream="s", until=1)) == [1]
    assert await found(Query(stream="s", types=("attempt.*",))) == [2]
    assert await found(Query(stream="drain/ses", session="ses")) == [3]
    assert await found(Query(stream="none")) == []
    assert await found(Query(until=2), after=1) == [2]
    assert await found(Query(newest_first=True)) == [3, 2, 1]
    assert await found(Query(newest_first=True), after=3) == [2, 1]
    assert [r[0] for r in await store.fold_rows(0, 2)] == [1, 2]
    assert [r[0] for r in await store.fold_rows(0, 3, frozenset({"attempt.started"}))] == [2]
