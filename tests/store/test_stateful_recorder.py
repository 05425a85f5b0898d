"""The one writer, step by step, against a dictionary of what was asked and what came of it."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import anyio
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
from engine.audit.rows import follow
from engine.audit.stored import differences
from engine.audit.verify import KNOWN_SCHEMAS
from engine.clock import HandSetClock
from engine.errors import CommandReused, Fenced, StorageFailed, UsageProblem, WrongVersion
from engine.events import Record, RunRegistered
from engine.store.boards import catch_up
from engine.store.command import Command, Draft, Moment, Receipt, just
from engine.store.location import locate
from engine.store.memory import MemoryStore
from engine.store.opening import open_writer
from engine.store.protocol import EventStore, Query
from engine.store.recorder import Recorder, Writer, recording
from engine.store.sqlite import SqliteStore
from projections.board import Board
from tests.servers import Server

T = TypeVar("T")
STREAMS = st.sampled_from(["import/runs", "import/other"])
WRITER = Writer("host", "boot", 1, "test", "0")


class Asked(NamedTuple):
    """A command that was recorded, and the rows that it got."""

    command: Command
    records: tuple[Record, ...]


def refuse(_board: Board, _moment: Moment) -> Iterator[Draft]:
    raise UsageProblem("no.", remedy="ask for something else.")
    yield


class MemoryMachine(RuleBasedStateMachine):
    """``log`` and ``asked`` are what the store must hold; one recorder at a time is open."""

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.clock = HandSetClock()
        self.folder = Path(tempfile.mkdtemp(prefix="runoff-recorder-"))
        self.location = locate(f"sqlite:///{self.folder}/log.db")
        self.log: list[Record] = []
        self.asked: dict[str, Asked] = {}
        self.number = 0
        self.store = self.run(self.first())
        self.start()

    async def first(self) -> EventStore:
        return MemoryStore()

    async def another(self) -> EventStore:
        """The same log, opened once more."""
        return self.store

    def audit(self) -> None:
        """What is left to say when all is closed."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def start(self) -> None:
        self.announced = False
        self.host, self.recorder = self.run(self._start())

    async def _start(self) -> tuple[asyncio.Task[None], Recorder]:
        """One task enters and leaves the recorder, however many steps lie between."""
        self.closing = asyncio.Event()
        opened: asyncio.Future[Recorder] = asyncio.get_running_loop().create_future()
        host = asyncio.create_task(self._host(opened))
        return host, await opened

    async def _host(self, opened: asyncio.Future[Recorder]) -> None:
        anchors = self.location.beside("anchors")
        async with recording(self.store, self.clock, WRITER, anchors=anchors) as recorder:
            opened.set_result(recorder)
            await self.closing.wait()

    async def _stop(self) -> None:
        self.closing.set()
        await self.host

    def fresh(self, stream: str, count: int, **other: Any) -> Command:
        """A command that nobody has asked before, with so many events."""
        self.number += 1
        events = [
            RunRegistered(run_id=f"r{self.number}-{n}", origin="test", state="NEW")
            for n in range(count)
        ]
        return Command(f"c{self.number}", stream, b"x", just(*events), **other)

    def version(self, stream: str) -> int:
        return sum(row.stream == stream for row in self.log)

    def recorded(self, command: Command, count: int, *, announced: bool) -> tuple[Record, ...]:
        """The rows that ``command`` must have got, which the model takes over from the store."""
        if count and not announced:
            (started,) = self.run(self.store.records(Query(), after=len(self.log), limit=1))
            assert (started.type, started.stream) == ("engine.started", "engine")
            self.log.append(started)
        rows = self.run(self.store.records(Query(), after=len(self.log), limit=count))
        for idx, row in enumerate(rows):
            assert (row.command_id, row.idx, row.stream) == (
                command.command_id,
                idx,
                command.stream,
            )
            assert row.version == self.version(command.stream) + 1
            self.log.append(row)
        assert len(rows) == count
        if count:
            self.asked[command.command_id] = Asked(command, tuple(rows))
        return tuple(rows)

    def accepted(self, command: Command, receipt: Receipt, count: int) -> None:
        rows = self.recorded(command, count, announced=self.announced)
        self.announced = self.announced or count > 0
        assert receipt == Receipt(command.command_id, rows, receipt.repeated)

    @rule(stream=STREAMS, count=st.integers(0, 3), seconds=st.integers(-2, 2))
    def ask(self, stream: str, count: int, seconds: int) -> None:
        self.clock.advance(seconds)
        command = self.fresh(stream, count)
        receipt = self.run(self.recorder.submit(command))
        self.accepted(command, receipt, count)
        assert not receipt.repeated

    @rule(stream=STREAMS, count=st.integers(1, 2), off=st.integers(-1, 1))
    def ask_at_a_version(self, stream: str, count: int, off: int) -> None:
        command = self.fresh(stream, count, expected_version=self.version(stream) + off)
        if off:
            with pytest.raises(WrongVersion):
                self.run(self.recorder.submit(command))
        else:
            self.accepted(command, self.run(self.recorder.submit(command)), count)

    @rule()
    def ask_what_is_refused(self) -> None:
        self.number += 1
        with pytest.raises(UsageProblem):
            self.run(self.recorder.submit(Command(f"c{self.number}", "import/runs", b"x", refuse)))

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), same=st.booleans())
    def ask_again(self, data: st.DataObject, same: bool) -> None:
        asked = self.asked[data.draw(st.sampled_from(sorted(self.asked)))]
        request = asked.command.request if same else b"other"
        again = Command(asked.command.command_id, "elsewhere", request, refuse)
        if same:
            receipt = self.run(self.recorder.submit(again))
            assert receipt == Receipt(again.command_id, asked.records, repeated=True)
        else:
            with pytest.raises(CommandReused):
                self.run(self.recorder.submit(again))

    @rule(streams=st.lists(STREAMS, min_size=2, max_size=5), twice=st.booleans())
    def ask_at_once(self, streams: list[str], twice: bool) -> None:
        commands = [self.fresh(stream, 1) for stream in streams]
        others = [Command("no", "import/runs", b"x", refuse), *commands[:1]] if twice else []
        answers = self.run(self._at_once([*commands, *others]))
        for command, receipt in zip(commands, answers, strict=False):
            assert isinstance(receipt, Receipt)
            self.accepted(command, receipt, 1)
        if twice:
            assert isinstance(answers[-2], UsageProblem)
            assert answers[-1] == answers[0]._replace(repeated=True)

    async def _at_once(self, commands: list[Command]) -> list[Any]:
        pending = [self.recorder.enqueue(command) for command in commands]
        return await asyncio.gather(*(one.answer() for one in pending), return_exceptions=True)

    @rule(stream=STREAMS, closes=st.booleans())
    def give_up_waiting(self, stream: str, closes: bool) -> None:
        """Whoever gives up has still asked, and may ask again for what came of it."""
        command = self.fresh(stream, 1)
        self.run(self._give_up(command))
        if closes:
            self.run(self._stop())
            rows = self.recorded(command, 1, announced=self.announced)
            self.start()
            receipt = self.run(self.recorder.submit(command))
            assert receipt == Receipt(command.command_id, rows, repeated=True)
        else:
            receipt = self.run(self.recorder.submit(command))
            self.accepted(command, receipt, 1)
            assert receipt.repeated

    async def _give_up(self, command: Command) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await self.recorder.submit(command)

    @rule()
    def close_and_reopen(self) -> None:
        self.run(self._stop())
        with pytest.raises(StorageFailed):
            self.recorder.enqueue(self.fresh("import/runs", 1))
        assert self.run(differences(self.store)) == []
        if self.announced:
            points = {p.checkpoint.pos for p in self.run(self.store.projections())}
            assert points == {len(self.log)}
        self.run(self.store.close())
        self.store = self.run(self.another())
        self.start()
        rebuilt = Board()
        self.run(catch_up(rebuilt, self.store, len(self.log)))
        for ours, theirs in zip(self.recorder.board.all, rebuilt.all, strict=True):
            assert sorted(ours.rows()) == sorted(theirs.rows())

    @rule(stream=STREAMS, notices=st.booleans())
    def be_overtaken(self, stream: str, notices: bool) -> None:
        """Another writer appends; this one can no longer, and what it had said stays said."""
        command = self.fresh(stream, 1)
        self.run(self._overtake(command))
        self.recorded(command, 1, announced=False)
        if notices:
            for _ in range(2):
                with pytest.raises(Fenced):
                    self.run(self.recorder.submit(self.fresh(stream, 1)))
        self.run(self._stop())
        self.start()

    async def _overtake(self, command: Command) -> None:
        store = await self.another()
        other, anchors = WRITER._replace(pid=2), self.location.beside("anchors")
        async with recording(store, self.clock, other, anchors=anchors) as recorder:
            await recorder.submit(command)
        if store is not self.store:
            await store.close()

    @invariant()
    def the_log_is_what_was_asked(self) -> None:
        rows = self.run(self.store.records(Query()))
        assert rows == self.log
        broken: list[str] = []
        chain = Chain(lambda what, _pos: broken.append(what))
        for row in rows:
            chain.take(Row(*row), json.loads(row.data))
        assert broken == []

    def teardown(self) -> None:
        if hasattr(self, "host"):
            self.run(self._stop())
            self.run(self.store.close())
            self.audit()
            self.runner.close()
            shutil.rmtree(self.folder)


class SqliteMachine(MemoryMachine):
    """The same over a file, whose rows and anchors are audited at the end."""

    async def first(self) -> EventStore:
        return await self.another()

    async def another(self) -> EventStore:
        store = await open_writer(self.location, create=True)
        assert isinstance(store, SqliteStore)
        await store.execute("PRAGMA synchronous = OFF")  # no power fails here
        return store

    def audit(self) -> None:
        found: list[tuple[str, int | None]] = []
        rows = follow(self.location, KNOWN_SCHEMAS, lambda what, pos: found.append((what, pos)))
        assert (found, rows.pos) == ([], len(self.log))


class SharedMachine(MemoryMachine):
    """The same where others may append meanwhile, which overtakes nobody."""

    async def first(self) -> EventStore:
        return MemoryStore(is_shared=True)

    @rule(stream=STREAMS, notices=st.booleans())
    def be_overtaken(self, stream: str, notices: bool) -> None:
        """Another writer appends, and this one goes on behind it."""
        command = self.fresh(stream, 1)
        self.run(self._overtake(command))
        self.recorded(command, 1, announced=False)
        if notices:
            mine = self.fresh(stream, 1, expected_version=self.version(stream))
            self.accepted(mine, self.run(self.recorder.submit(mine)), 1)


class PostgresMachine(SharedMachine):
    """The same on a server."""

    server: Server

    async def first(self) -> EventStore:
        self.url = await self.server.emptied("recorder")
        return await self.another()

    async def another(self) -> EventStore:
        return await open_writer(locate(self.url), create=True)


def profile(max_examples: int) -> settings:
    slow = [HealthCheck.too_slow]
    return settings(
        max_examples=max_examples, stateful_step_count=25, deadline=None, suppress_health_check=slow
    )


MemoryMachine.TestCase.settings = profile(25)
SqliteMachine.TestCase.settings = profile(15)
SharedMachine.TestCase.settings = profile(15)
test_a_recorder_that_shares_its_log_keeps_what_it_says = SharedMachine.TestCase
test_a_recorder_over_memory_keeps_what_it_says = MemoryMachine.TestCase
test_a_recorder_over_sqlite_keeps_what_it_says = SqliteMachine.TestCase


def test_a_recorder_on_a_server_keeps_what_it_says(postgres: Server) -> None:
    PostgresMachine.server = postgres
    run_state_machine_as_test(PostgresMachine, settings=profile(6))
