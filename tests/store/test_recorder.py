"""The one writer: group commit, each intent once, decisions at the head."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import anyio
import pytest

from engine.clock import HandSetClock
from engine.errors import AppendRefused, CommandReused, StorageFailed, UsageProblem, WrongVersion
from engine.events import Record, RunRegistered
from engine.store.command import Command, Draft, Moment, just
from engine.store.memory import MemoryStore, MemoryTransaction
from engine.store.protocol import PAGE_ROWS, EventStore, Found, Kept, Query
from engine.store.recorder import Recorder, Writer, recording
from projections.backlog import BACKLOG
from projections.board import Board
from projections.fold import Change

WRITER = Writer("host", "boot", 1, "test", "0")


def registers(run_id: str, *, command_id: str | None = None, request: bytes = b"x") -> Command:
    event = RunRegistered(run_id=run_id, origin="test", state="NEW")
    return Command(command_id or f"cmd-{run_id}", f"run/{run_id}", request, just(event))


class Counting(MemoryStore):
    """Counts transactions, and fails the commit when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.transactions = 0
        self.broken = False

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[MemoryTransaction, None]:
        self.transactions += 1
        async with super().transaction() as transaction:
            yield transaction
            await anyio.lowlevel.checkpoint()
            if self.broken:
                raise StorageFailed("the disk is gone.", remedy="find it.")


class Watched(MemoryStore):
    """Notes looks into the log, and in which order projections are kept and dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    async def drop_projection(self, name: str, version: int) -> None:
        self.steps.append(f"drop {name} {version}")
        await super().drop_projection(name, version)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[MemoryTransaction, None]:
        async with super().transaction() as transaction:
            look = transaction.look

            async def looked(command_ids: Sequence[str], streams: Sequence[str]) -> Found:
                self.steps.append("look")
                return await look(command_ids, streams)

            transaction.look = looked  # type: ignore[method-assign]
            yield transaction
        self.steps += [f"keep {kept.name} {kept.version}" for kept in transaction.kept]


async def test_concurrent_commands_share_commits() -> None:
    store = Counting()
    async with recording(store, HandSetClock(), WRITER) as recorder:
        before = store.transactions
        async with anyio.create_task_group() as group:
            for number in range(64):
                group.start_soon(recorder.submit, registers(f"r{number}"))
        assert store.transactions - before <= 3
        assert len(recorder.board.runs) == 64


class Held(MemoryStore):
    """Commits when it is let, or fails then."""

    def __init__(self) -> None:
        super().__init__()
        self.decided, self.let = anyio.Event(), anyio.Event()
        self.broken = False

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[MemoryTransaction, None]:
        async with super().transaction() as transaction:
            yield transaction
            self.decided.set()
            await self.let.wait()
            if self.broken:
                raise StorageFailed("the disk is gone.", remedy="find it.")


@pytest.mark.parametrize("broken", [False, True])
async def test_what_is_decided_and_not_committed_is_waited_for(broken: bool) -> None:
    store = Held()
    seen: list[int | StorageFailed] = []

    async def look(recorder: Recorder) -> None:
        try:
            await recorder.settled()
        except StorageFailed as error:
            seen.append(error)
        else:
            seen.append((await store.head()).pos - recorder.head.pos)

    async with recording(store, HandSetClock(), WRITER) as recorder:
        await recorder.settled()  # nothing is under way
        assert recorder.committed == recorder.head
        pending = recorder.enqueue(registers("a"))
        await store.decided.wait()
        assert recorder.committed is None
        ahead, too_early = recorder.head.pos, list(seen)
        async with anyio.create_task_group() as group:
            group.start_soon(look, recorder)
            await anyio.wait_all_tasks_blocked()
            too_early = list(seen)  # whatever came while the commit was held
            store.broken = broken
            store.let.set()
        assert (ahead, too_early) == (2, []), "the log may never come to say so"
        assert seen == ([recorder.failed] if broken else [0])
        with suppress(StorageFailed):
            await pending.answer()


async def test_an_intent_happens_once(store: EventStore) -> None:
    async with recording(store, HandSetClock(), WRITER) as recorder:
        first = await recorder.submit(registers("a"))
        again = await recorder.submit(registers("a"))
        assert (first.repeated, again.repeated) == (False, True)
        assert again.records == first.records
        with pytest.raises(CommandReused):
            await recorder.submit(registers("a", request=b"other"))
    async with recording(store, HandSetClock(), WRITER) as recorder:
        again = await recorder.submit(registers("a"))
        assert again.repeated
        assert again.records == first.records
        assert (await store.head()).pos == 2


async def test_an_id_made_just_now_is_looked_for_in_no_log() -> None:
    store = Watched()

    def fresh(number: int) -> Command:
        event = RunRegistered(run_id=f"r{number}", origin="test", state="NEW")
        return Command(f"cmd-{number}", "runs", b"x", just(event), is_fresh=True)

    async with recording(store, HandSetClock(), WRITER) as recorder:
        await recorder.submit(fresh(1))  # where its stream ends must be looked up
        store.steps.clear()
        first = await recorder.submit(fresh(2))
        assert store.steps == []
        await recorder.submit(registers("a"))
        assert store.steps == ["look"]
        again = await recorder.submit(registers("a"))
        assert again.repeated
    assert [record.version for record in first.records] == [2]


async def test_a_fresh_id_that_is_not_breaks_the_writer_and_not_the_log(store: EventStore) -> None:
    one = replace(registers("a"), is_fresh=True)
    with pytest.RaisesGroup(AppendRefused, allow_unwrapped=True, flatten_subgroups=True):
        async with recording(store, HandSetClock(), WRITER) as recorder:
            await recorder.submit(one)
            await recorder.submit(replace(one, request=b"y"))
    (record,) = [r for r in await store.records(Query()) if r.command_id == "cmd-a"]
    assert record.request == hashlib.sha256(b"x").digest()


async def test_a_receipt_is_whole_however_many_events_it_has(store: EventStore) -> None:
    events = [RunRegistered(run_id=f"r{n}", origin="test", state="NEW") for n in range(2500)]
    large = Command("large", "runs", b"x", just(*events))
    async with recording(store, HandSetClock(), WRITER) as recorder:
        first = await recorder.submit(large)
    async with recording(store, HandSetClock(), WRITER) as recorder:
        again = await recorder.submit(large)
    assert len(first.records) == 2500
    assert again.records == first.records


async def test_nothing_is_written_when_there_is_nothing_to_record(store: EventStore) -> None:
    async with recording(store, HandSetClock(), WRITER) as recorder:
        receipt = await recorder.submit(Command("none", "s", b"", just()))
    assert receipt.records == ()
    assert (await store.head()).pos == 0


async def test_a_failing_commit_reaches_every_caller_of_its_batch() -> None:
    store = Counting()
    async with recording(store, HandSetClock(), WRITER) as recorder:
        store.broken = True
        pending = [recorder.enqueue(registers(f"r{n}")) for n in range(9)]
        for one in pending:
            with pytest.raises(StorageFailed):
                await one.answer()


class Unreadable(MemoryStore):
    """Takes appends and, when told to, gives nothing back."""

    is_unreadable = False

    async def records(self, query: Query, after: int = 0, limit: int = PAGE_ROWS) -> list[Record]:
        if self.is_unreadable:
            raise StorageFailed("the disk is gone.", remedy="find it.")
        return await super().records(query, after, limit)


async def test_whoever_waits_is_told_when_an_earlier_receipt_cannot_be_read() -> None:
    """Who closes an attempt waits shielded: nobody else would ever end that."""
    store = Unreadable()
    async with recording(store, HandSetClock(), WRITER) as recorder:
        await recorder.submit(registers("r"))
        store.is_unreadable = True
        recorded, repeated, beside = map(recorder.enqueue, map(registers, ("a", "r", "b")))
        for each in (repeated, beside):
            with pytest.raises(StorageFailed, match="the disk is gone"):
                await each.answer()
        assert (await recorded.answer()).records
        assert recorder.failed is not None


async def test_a_new_version_of_a_projection_stands_before_the_old_one_goes() -> None:
    store = Watched()
    async with recording(store, HandSetClock(), WRITER) as recorder:
        await recorder.submit(registers("a"))
    point = (await store.projections())[0].checkpoint
    async with store.transaction() as transaction:
        await transaction.append([], [Kept("backlog", 0, [Change("k", "{}")], point)])
    store.steps.clear()
    await store.drop_projection("backlog", BACKLOG.version)
    async with recording(store, HandSetClock(), WRITER):
        pass
    steps = store.steps
    assert steps.index(f"keep backlog {BACKLOG.version}") < steps.index("drop backlog 0")
    assert ("backlog", 0) not in {(p.name, p.version) for p in await store.projections()}


async def test_each_writer_that_writes_opens_an_epoch(store: EventStore) -> None:
    for run_id in ("a", "b"):
        async with recording(store, HandSetClock(), WRITER) as recorder:
            await recorder.submit(registers(run_id))
    async with recording(store, HandSetClock(), WRITER):
        pass
    records = await store.records(Query())
    assert [(r.type, r.epoch) for r in records] == [
        ("engine.started", 1),
        ("backlog.run_registered", 1),
        ("engine.started", 2),
        ("backlog.run_registered", 2),
    ]


async def test_a_decision_sees_what_the_same_batch_did_before_it() -> None:
    async with recording(MemoryStore(), HandSetClock(), WRITER) as recorder:

        def decide(board: Board, _moment: Moment) -> Iterator[Draft]:
            for number in range(2):
                run_id = f"{len(board.runs)}-{number}"
                yield Draft(RunRegistered(run_id=run_id, origin="t", state="NEW"))

        pending = [
            recorder.enqueue(registers("a")),
            recorder.enqueue(Command("c", "s", b"", decide)),
        ]
        for one in pending:
            await one.done.wait()
        assert [run_id for run_id, _ in recorder.board.runs.items()] == ["a", "1-0", "2-1"]


async def test_a_refusal_costs_only_its_own_command() -> None:
    def refuse(_board: Board, _moment: Moment) -> Iterator[Draft]:
        raise UsageProblem("no.", remedy="ask for something else.")
        yield

    async with recording(MemoryStore(), HandSetClock(), WRITER) as recorder:
        refused = recorder.enqueue(Command("no", "s", b"", refuse))
        await recorder.submit(registers("a"))
        assert isinstance(refused.error, UsageProblem)
        with pytest.raises(WrongVersion):
            await recorder.submit(
                Command("v", "run/a", b"", just(), expected_version=0),
            )
        assert recorder.head.pos == 2


async def test_a_cancelled_caller_has_still_submitted() -> None:
    store = Counting()
    async with recording(store, HandSetClock(), WRITER) as recorder:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await recorder.submit(registers("a"))
        assert not (await recorder.submit(registers("b"))).repeated
        assert (await recorder.submit(registers("a"))).repeated


async def test_nothing_is_acknowledged_when_the_commit_fails() -> None:
    store = Counting()
    async with recording(store, HandSetClock(), WRITER) as recorder:
        await recorder.submit(registers("a"))
        store.broken = True
        for run_id in ("b", "c"):
            with pytest.raises(StorageFailed):
                await recorder.submit(registers(run_id))
    assert (await store.head()).pos == 2


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_stored_projections_equal_rebuilt_ones(store: EventStore, size: int) -> None:
    from engine.audit.stored import differences  # noqa: PLC0415

    async with recording(store, HandSetClock(), WRITER) as recorder:
        for start in range(0, 12, size):
            pending = [
                recorder.enqueue(registers(f"r{number}"))
                for number in range(start, min(12, start + size))
            ]
            for one in pending:
                await one.done.wait()
    assert await differences(store) == []
    assert {p.checkpoint.pos for p in await store.projections()} == {13}


@pytest.mark.parametrize("dropped", [False, True])
async def test_a_writer_at_work_is_no_difference(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, dropped: bool
) -> None:
    from engine.audit.stored import differences  # noqa: PLC0415

    lives = iter(range(5))
    read = store.projection_rows

    async def goes_on() -> None:
        async with recording(store, HandSetClock(), WRITER) as recorder:
            await recorder.submit(registers(f"r{recorder.head.pos}"))

    async def read_late(name: str, version: int) -> list[tuple[str, str]]:
        if next(lives, None) is not None:
            monkeypatch.setattr(store, "projection_rows", read)
            await goes_on()
            if dropped:
                await store.drop_projection(name, version)
            monkeypatch.setattr(store, "projection_rows", read_late)
        return await read(name, version)

    await goes_on()
    monkeypatch.setattr(store, "projection_rows", read_late)
    assert await differences(store) == []
    assert next(lives, None) is None
