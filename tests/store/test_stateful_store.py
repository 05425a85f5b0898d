"""Stores side by side, step by step, against a list and a few dictionaries."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.audit.chain import Chain, Row
from engine.errors import AppendRefused, Fenced, RunoffError
from engine.events import GENESIS, Head, Record, chain_hash
from engine.store.location import Location, locate
from engine.store.memory import MemoryStore
from engine.store.opening import open_writer
from engine.store.protocol import EventStore, Kept, Prior, Query, Shape
from engine.store.sqlite import SqliteStore
from projections.fold import Change, Checkpoint
from tests.servers import Server

T = TypeVar("T")
RUNS, PHASES, ATTEMPTS, SESSIONS = ("r", "q"), ("p0", "p1"), ("a", "b", "c", "d"), ("s", "t")
KINDS = ("attempt.started", "attempt.finished", "usage.recorded")
OTHERS: tuple[dict[str, str], ...] = ({}, {}, {"attempt": "other"}, {"phase": "other"})
few = st.integers(0, 3)
"""How far from right something is; 0 is right."""


def seldom(values: tuple[str, ...]) -> st.SearchStrategy[str | None]:
    """Mostly nothing, so that what is asked for is mostly there."""
    return st.sampled_from([None] * 3 * len(values) + list(values))


QUERIES = st.builds(
    Query,
    session=seldom(SESSIONS),
    run=seldom(RUNS),
    phase=seldom(PHASES),
    attempt=seldom(ATTEMPTS),
    types=st.sampled_from([(), (), ("attempt.*",), ("usage.recorded", "attempt.started")]),
    until=st.none() | st.integers(0, 6),
    newest_first=st.booleans(),
)


class Crash(Exception):
    """What ends a transaction in the middle."""


async def opened(location: Location) -> SqliteStore:
    store = await open_writer(location, create=True)
    assert isinstance(store, SqliteStore)
    await store.execute("PRAGMA synchronous = OFF")  # no power fails here
    return store


class Model:
    """What a log is: rows, and what follows from them."""

    def __init__(self) -> None:
        self.rows: list[Record] = []
        self.projections: dict[tuple[str, int], tuple[Checkpoint, dict[str, str]]] = {}

    @property
    def head(self) -> Head:
        return Head(self.rows[-1].pos, self.rows[-1].hash) if self.rows else Head(0, GENESIS)

    def version(self, stream: str) -> int:
        return sum(row.stream == stream for row in self.rows)

    def prior(self, command: str) -> Prior | None:
        of = [row for row in self.rows if row.command_id == command]
        return Prior(of[0].request, of[0].pos, of[-1].pos) if of else None

    def refusals(self, row: Record) -> tuple[type[RunoffError], ...]:
        """What may refuse ``row`` as the next one: all that it breaks, as no order is promised."""
        last = self.rows[-1] if self.rows else None
        goes_back = last and (row.epoch < last.epoch or row.recorded_us < last.recorded_us)
        taken = any(
            (row.stream, row.version) == (other.stream, other.version)
            or (row.command_id, row.idx) == (other.command_id, other.idx)
            for other in self.rows
        )
        late = row.cause is not None and row.cause >= row.pos
        fenced = bool(goes_back) or row.pos != len(self.rows) + 1
        refused = taken or late or self.breaks_an_attempt(row)
        return (Fenced,) * fenced + (AppendRefused,) * refused

    def breaks_an_attempt(self, row: Record) -> bool:
        about = [other for other in self.rows if other.type in KINDS[:2]]
        if row.type == "attempt.started":
            of_phase = [o for o in about if (o.run, o.phase) == (row.run, row.phase)]
            is_open = bool(of_phase) and of_phase[-1].type == "attempt.started"
            return is_open or any(o.attempt == row.attempt for o in about)
        if row.type == "attempt.finished":
            own = [o for o in about if o.attempt == row.attempt]
            return [(o.type, o.run, o.phase) for o in own] != [(KINDS[0], row.run, row.phase)]
        return False

    def matching(self, query: Query, after: int, limit: int) -> list[Record]:
        rows = self.rows[::-1] if query.newest_first else self.rows
        tags = ("session", "run", "phase", "attempt")

        def fits(row: Record) -> bool:
            beyond = row.pos < after if query.newest_first and after else row.pos > after
            named = all(getattr(query, t) in (None, getattr(row, t)) for t in tags)
            kinds = [k.removesuffix("*") for k in query.types]
            kind = not kinds or any(
                row.type.startswith(k) if whole.endswith("*") else row.type == k
                for k, whole in zip(kinds, query.types, strict=True)
            )
            return beyond and named and kind and (query.until is None or row.pos <= query.until)

        return [row for row in rows if fits(row)][:limit]


class StoreMachine(RuleBasedStateMachine):
    """Every step is done to both stores, and to the model."""

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="runoff-store-"))
        self.copies = 0
        self.location = self.place()
        self.memory = MemoryStore()
        self.stored = self.run(self.opened())
        self.model = Model()
        self.commands = 0

    def place(self) -> Location:
        return locate(f"sqlite:///{self.folder}/{self.copies}.db")

    async def opened(self) -> EventStore:
        return await opened(self.location)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def both(self) -> tuple[EventStore, EventStore]:
        return self.memory, self.stored

    def drafted(self, data: st.DataObject, *, count: int, wrong: dict[str, int]) -> list[Record]:
        """One command's rows behind the head; the last one is ``wrong`` by so much in a column."""
        rows, versions = list[Record](), dict[str, int]()
        session = data.draw(st.none() | st.sampled_from(SESSIONS))
        stream = f"drain/{session}" if session else data.draw(st.sampled_from(["runs", "other"]))
        head, last = self.model.head, self.model.rows[-1] if self.model.rows else None
        for idx in range(count):
            versions[stream] = versions.get(stream, self.model.version(stream)) + 1
            pos = head.pos + 1
            row = Record(
                pos=pos,
                stream=stream,
                version=versions[stream],
                command_id=f"c{self.commands}",
                idx=idx,
                request=bytes(32),
                type=data.draw(st.sampled_from((*KINDS, *KINDS[2:] * 3))),
                schema=data.draw(st.sampled_from([1, 2])),
                occurred_us=pos,
                recorded_us=(last.recorded_us if last else 9) + data.draw(st.integers(0, 1)),
                cause=data.draw(st.none() | st.integers(1, max(1, pos - 1))) if pos > 1 else None,
                epoch=(last.epoch if last else 2) + data.draw(st.integers(0, 1)),
                session=session,
                run=data.draw(st.sampled_from(RUNS)),
                phase=data.draw(st.sampled_from(PHASES)),
                attempt=data.draw(st.sampled_from(ATTEMPTS)),
                actor="test",
                code="0",
                data=f'{{"n":{data.draw(few)}}}',
                hash=b"",
            )
            if idx == count - 1:
                row = row._replace(**{name: getattr(row, name) - by for name, by in wrong.items()})
            last = row._replace(hash=chain_hash(head.hash, tuple(row)[:-1]))
            rows.append(last)
            head = Head(pos, last.hash)
        self.commands += 1
        return rows

    def replaced(self, row: Record, **changes: Any) -> Record:
        """The next row of the log with other columns."""
        row = row._replace(**changes)
        return row._replace(hash=chain_hash(self.model.head.hash, tuple(row)[:-1]))

    def append(self, rows: list[Record], kept: list[Kept], *, crash: bool = False) -> None:
        """What the model says must happen, happens to both stores."""
        before = list(self.model.rows)
        expected: tuple[type[Exception], ...] = ()
        for row in rows:
            expected = self.refused(expected, self.model.refusals(row))
            self.model.rows.append(row)
        expected += (Crash,) * crash
        for store in self.both():
            work = self._append(store, rows, kept, crash=crash)
            if expected:
                with pytest.raises(expected):
                    self.run(work)
            else:
                self.run(work)
        if expected:
            self.model.rows = before
            return
        for name, version, changes, checkpoint, is_whole in kept:
            _, old = self.model.projections.get((name, version), (None, dict[str, str]()))
            old = {} if is_whole else old
            self.model.projections[name, version] = (checkpoint, old | dict(changes))

    def refused(
        self, before: tuple[type[Exception], ...], by_this_row: tuple[type[Exception], ...]
    ) -> tuple[type[Exception], ...]:
        """What may be said of a batch: what may be said of its first wrong row."""
        return before or by_this_row

    @staticmethod
    async def _append(
        store: EventStore, rows: list[Record], kept: list[Kept], *, crash: bool
    ) -> None:
        async with store.transaction() as transaction:
            await transaction.append(rows, kept)
            if crash:
                raise Crash

    @rule(data=st.data(), count=st.integers(1, 4), crash=st.sampled_from([False] * 4 + [True]))
    def append_a_batch(self, data: st.DataObject, count: int, crash: bool) -> None:
        kept = data.draw(st.lists(self.kept(), max_size=2))
        self.append(self.drafted(data, count=count, wrong={}), kept, crash=crash)

    @staticmethod
    def kept() -> st.SearchStrategy[Kept]:
        change = st.builds(Change, st.sampled_from("xyz"), few.map(str))
        point = st.builds(Checkpoint, few, st.just(bytes(32)), st.just(bytes(32)))
        names, versions = st.sampled_from(["backlog", "runs"]), st.sampled_from([1, 2])
        changes = st.lists(change, max_size=2)
        return st.builds(Kept, names, versions, changes, point, st.booleans())

    @rule(
        data=st.data(),
        count=st.integers(1, 3),
        column=st.sampled_from(["pos", "epoch", "recorded_us"]),
        by=st.sampled_from([-1, 1, 2]),
    )
    def append_what_does_not_continue_the_log(
        self, data: st.DataObject, count: int, column: str, by: int
    ) -> None:
        self.append(self.drafted(data, count=count, wrong={column: by}), [])

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data(), same=st.sampled_from(["version", "key"]))
    def append_what_is_there_already(self, data: st.DataObject, same: str) -> None:
        (row,) = self.drafted(data, count=1, wrong={})
        taken = data.draw(st.sampled_from(self.model.rows))
        changes: dict[str, Any] = {"stream": taken.stream, "version": taken.version}
        changes |= {"session": taken.session}
        if same == "key":
            changes = {"command_id": taken.command_id, "idx": taken.idx}
        self.append([self.replaced(row, **changes)], [])

    @rule(data=st.data(), run=st.sampled_from(RUNS), phase=st.sampled_from(PHASES))
    def start_an_attempt(self, data: st.DataObject, run: str, phase: str) -> None:
        """A new one, of a phase that may have an open one."""
        (row,) = self.drafted(data, count=1, wrong={})
        tags = {"run": run, "phase": phase, "attempt": f"new-{self.commands}"}
        self.append([self.replaced(row, type=KINDS[0], **tags)], [])

    @precondition(lambda self: any(row.type == KINDS[0] for row in self.model.rows))
    @rule(data=st.data(), kind=st.sampled_from(KINDS[:2]), other=st.sampled_from(OTHERS))
    def go_on_with_an_attempt(self, data: st.DataObject, kind: str, other: dict[str, str]) -> None:
        """Finish it, open it again, or do so with one that is open in its place."""
        started = [row for row in self.model.rows if row.type == KINDS[0]]
        about = data.draw(st.sampled_from(started))
        (row,) = self.drafted(data, count=1, wrong={})
        tags = {"run": about.run, "phase": about.phase, "attempt": about.attempt} | other
        self.append([self.replaced(row, type=kind, **tags)], [])

    @rule(data=st.data(), ahead=st.integers(0, 1))
    def append_a_cause_that_is_not_earlier(self, data: st.DataObject, ahead: int) -> None:
        (row,) = self.drafted(data, count=1, wrong={})
        self.append([self.replaced(row, cause=row.pos + ahead)], [])

    @rule(name=st.sampled_from(["backlog", "runs"]), version=st.sampled_from([1, 2]))
    def drop_a_projection(self, name: str, version: int) -> None:
        for store in self.both():
            self.run(store.drop_projection(name, version))
        self.model.projections.pop((name, version), None)

    @rule()
    def reopen(self) -> None:
        self.run(self.stored.close())
        self.stored = self.run(self.opened())

    @rule()
    def lose_the_process(self) -> None:
        self.lose()
        self.run(self.stored.close())
        self.stored = self.run(self.opened())

    def lose(self) -> None:
        """What another one finds: the files as they stand, with nothing closed."""
        self.copies += 1
        copy = self.place()
        for suffix in ("", "-wal"):
            path = self.location.path.with_name(self.location.path.name + suffix)
            if path.exists():
                shutil.copy(path, copy.path.with_name(copy.path.name + suffix))
        self.location = copy

    @rule(
        reads=st.lists(
            st.tuples(QUERIES, st.integers(0, 6), st.sampled_from([1, 3, 100])), min_size=5
        )
    )
    def read_by_query(self, reads: list[tuple[Query, int, int]]) -> None:
        for query, after, limit in reads:
            expected = self.model.matching(query, after, limit)
            for store in self.both():
                assert self.run(store.records(query, after, limit)) == expected

    @rule(after=st.integers(0, 12), until=st.integers(0, 12), kinds=st.sets(st.sampled_from(KINDS)))
    def read_for_a_fold(self, after: int, until: int, kinds: set[str]) -> None:
        types = frozenset(kinds) or None
        expected = [
            (row.pos, row.recorded_us, row.type, row.schema, row.data)
            for row in self.model.rows
            if after < row.pos <= until and (types is None or row.type in types)
        ]
        for store in self.both():
            assert self.run(store.fold_rows(after, until, types)) == expected

    @rule()
    def look_before_an_append(self) -> None:
        commands = [f"c{number}" for number in range(self.commands + 1)]
        streams = ["runs", "other", "drain/s", "drain/t"]
        prior = {name: self.model.prior(name) for name in commands}
        found = {name: was for name, was in prior.items() if was is not None}
        versions = {stream: self.model.version(stream) for stream in streams}
        for store in self.both():
            looked = self.run(self._look(store, commands, streams))
            assert (looked.prior, looked.versions) == (found, versions)
            if store.is_shared:
                epoch = self.model.rows[-1].epoch if self.model.rows else 0
                assert looked.end == (self.model.head, epoch)

    @staticmethod
    async def _look(store: EventStore, commands: list[str], streams: list[str]) -> Any:
        async with store.transaction() as transaction:
            return await transaction.look(commands, streams)

    @invariant()
    def both_stores_say_what_the_model_says(self) -> None:
        shapes = dict[tuple[str, int], int]()
        for row in self.model.rows:
            shapes.setdefault((row.type, row.schema), row.pos)
        last = self.model.rows[-1] if self.model.rows else None
        for store in self.both():
            assert self.run(store.head()) == self.model.head
            assert self.run(store.last_epoch()) == (last.epoch if last else 0)
            assert self.run(store.hash_at(len(self.model.rows) + 1)) is None
            expected = [Shape(*shape, pos) for shape, pos in sorted(shapes.items())]
            assert sorted(self.run(store.shapes())) == expected
            points = {(p.name, p.version): p.checkpoint for p in self.run(store.projections())}
            assert points == {key: point for key, (point, _) in self.model.projections.items()}
            for key, (_, rows) in self.model.projections.items():
                assert self.run(store.projection_rows(*key)) == sorted(rows.items())

    @invariant()
    def the_log_is_one_chain(self) -> None:
        broken: list[str] = []
        chain = Chain(lambda what, _pos: broken.append(what))
        rows = self.run(self.stored.records(Query()))
        assert rows == self.run(self.memory.records(Query())) == self.model.rows
        for row in rows:
            chain.take(Row(*row), None)
        assert [what for what in broken if not what.startswith("S4")] == []

    def teardown(self) -> None:
        if hasattr(self, "stored"):
            self.run(self.stored.close())
            self.runner.close()
            shutil.rmtree(self.folder)


class PostgresMachine(StoreMachine):
    """The same with a server's store; a lost process is a connection that the server ends."""

    server: Server

    def place(self) -> Location:
        return locate(self.run(self.server.emptied("stateful")))

    async def opened(self) -> EventStore:
        return await open_writer(self.location, create=True)

    def refused(
        self, before: tuple[type[Exception], ...], by_this_row: tuple[type[Exception], ...]
    ) -> tuple[type[Exception], ...]:
        """A batch is one statement, so any of its wrong rows may be the one that is named."""
        return before + by_this_row

    def lose(self) -> None:
        self.run(self.server.end_all_others("stateful"))


SETTINGS = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
StoreMachine.TestCase.settings = SETTINGS
test_both_stores_do_what_a_plain_list_does = StoreMachine.TestCase


def test_a_server_does_what_a_plain_list_does(postgres: Server) -> None:
    PostgresMachine.server = postgres
    run_state_machine_as_test(PostgresMachine, settings=settings(SETTINGS, max_examples=10))
