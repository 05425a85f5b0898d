"""A log, an executor and blobs that do as they are told, and attempts that somebody attends."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from engine.clock import HandSetClock
from engine.drain import commands
from engine.drain.attendance import Attendance
from engine.drain.stopping import Stopping
from engine.errors import RunoffError
from engine.events import AnyEvent, Record, RunRegistered, event_of
from engine.executors.port import Assignment, Output, PhaseSheet, Report, Spawned, Watch
from engine.store.command import Command, just
from engine.store.memory import MemoryStore, MemoryTransaction
from engine.store.protocol import Found, Query
from engine.store.recorder import Recorder, Writer, recording
from engine.triage.policy import Policy
from engine.triage.scope import Scope
from tests.harness.backlogs import queued
from tests.rules.standings import limits, started

WRITER = Writer("host", "boot", 1, "test", "0")
LONG_S = 3600
"""On a clock that jumps it costs nothing to wait so long for what never comes."""
NO_TEXT = b"\xff\xfe"
"""Output that does not stand in the log itself, so that it is put into a blob."""
SPAWNED = Spawned(host="h", boot_id="b", pid=1, start_ticks=None, directory="/nowhere")
FAILED = Report(ended="exited", duration_ms=1, exit_code=1, stdout=Output.of(NO_TEXT))


class Log(MemoryStore):
    """A log that notes which commands it was searched for, and that can break."""

    def __init__(self, *, is_shared: bool = False) -> None:
        super().__init__(is_shared=is_shared)
        self.searched: list[str] = []
        self.broken: RunoffError | None = None
        self.takes_s = 0.0

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[MemoryTransaction, None]:
        if self.broken is not None:
            raise self.broken
        async with super().transaction() as transaction:
            look = transaction.look

            async def noted(command_ids: Sequence[str], streams: Sequence[str]) -> Found:
                self.searched += command_ids
                return await look(command_ids, streams)

            transaction.look = noted  # type: ignore[method-assign]
            yield transaction
        await anyio.sleep(self.takes_s)


class Blobs:
    """``put`` does what it is told."""

    def __init__(self, does: Callable[[], None] = lambda: None) -> None:
        self._does = does

    def put(self, data: bytes) -> str:
        self._does()
        return data.hex()

    def get(self, digest: str) -> bytes | None:
        return bytes.fromhex(digest)


Run = Callable[[Watch], Awaitable[Report]]


@dataclass
class Players:
    """An executor whose attempts go as their own functions say."""

    name: str = "players"
    parts: dict[str, Run] = field(default_factory=dict[str, Run])

    async def run(self, assignment: Assignment, watch: Watch) -> Report:
        return await self.parts[assignment.attempt_id](watch)


class Stage:
    """Attempts that have been started in a session, and who attends them."""

    def __init__(
        self, recorder: Recorder, log: Log, blobs: Blobs, *, in_threads: bool = False
    ) -> None:
        self.recorder, self.log = recorder, log
        self.scope = Scope("s", Policy(name="first"), limits())
        self.players, self.stopping = Players(), Stopping()
        self.freed = 0
        self.told: list[Record] = []
        self.attendance = Attendance(
            recorder=recorder,
            executor=self.players,
            stopping=self.stopping,
            blobs=blobs,
            tell=self.told.extend,
            scope_of=lambda _started: self.scope,
            free=self._free,
            in_threads=in_threads,
        )

    def _free(self) -> None:
        self.freed += 1

    async def begin(self, *attempts: str) -> None:
        """So many runs, with an open attempt each."""
        await self.recorder.submit(commands.begin("begin", self.scope, "x", resume=False))
        for name in attempts:
            run = RunRegistered(run_id=name, origin="test", state="NEW")
            begun = started(run_id=name, attempt_id=name)
            work = just(run, queued(name, "p"), begun)
            await self.recorder.submit(Command(f"work-{name}", "x", b"", work))

    async def play(self, *, adopted: bool = False, **parts: Run) -> None:
        """Attend them all at once, until they have had their last word."""
        self.players.parts = parts
        with anyio.fail_after(LONG_S):
            async with anyio.create_task_group() as beside:
                beside.start_soon(self.attendance.tell_begun)
                async with anyio.create_task_group() as group:
                    for name, part in parts.items():
                        self.attendance.attend(
                            group,
                            started(run_id=name, attempt_id=name),
                            assignment(name),
                            take_over(part) if adopted else None,
                        )
                beside.cancel_scope.cancel()

    async def said(self, *types: str) -> list[AnyEvent]:
        return [event_of(record) for record in await self.log.records(Query(types=types))]

    async def endings(self) -> dict[str, str]:
        records = await self.log.records(Query(types=("attempt.finished",)))
        return {str(record.run): json.loads(record.data)["ending"] for record in records}


def take_over(part: Run) -> Callable[[anyio.Event], Awaitable[Report]]:
    async def report(abandon: anyio.Event) -> Report:
        async def nothing(_process: Spawned) -> None:
            raise AssertionError

        return await part(Watch(spawned=nothing, abandon=abandon))

    return report


def assignment(name: str) -> Assignment:
    sheet = PhaseSheet(
        run_id=name,
        tier_id="T",
        phase_id="p",
        phase_index=0,
        name="",
        state="QUEUED",
        attempt=1,
    )
    return Assignment(
        session_id="s", attempt_id=name, sheet=sheet, timeout_s=20, grace_s=1, deadline_us=0
    )


@asynccontextmanager
async def stage(
    *attempts: str,
    blobs: Blobs | None = None,
    in_threads: bool = False,
    is_shared: bool = False,
) -> AsyncGenerator[Stage, None]:
    log = Log(is_shared=is_shared)
    async with recording(log, HandSetClock(), WRITER) as recorder:
        found = Stage(recorder, log, blobs or Blobs(), in_threads=in_threads)
        await found.begin(*attempts)
        log.searched.clear()
        yield found


async def fails(_watch: Watch) -> Report:
    return FAILED


async def is_lost(_watch: Watch) -> Report:
    return Report(ended="lost", duration_ms=0)


async def until_abandoned(watch: Watch) -> Report:
    await watch.abandon.wait()
    return Report(ended="abandoned", duration_ms=1)
