"""On a full disk the ends that are known are kept for a reopened log, and recorded once.

What runs goes on under its guardian, whichever write it was that failed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
from msgspec.structs import replace

from engine.clock import SystemClock
from engine.drain.commands import finish
from engine.drain.last_words import last_words
from engine.drain.loop import Drain
from engine.errors import DiskFull, StorageFailed, is_full
from engine.events import Limits, PhaseRegistered, RunRegistered
from engine.executors.port import Assignment, Executor, Output, Report, Watch
from engine.ids import IdMaker
from engine.store.blobs import BlobStore
from engine.store.command import Command, just
from engine.store.memory import MemoryStore, MemoryTransaction
from engine.store.protocol import Query
from engine.store.recorder import Recorder, Writer, recording
from engine.triage.policy import Policy
from engine.triage.scope import Scope

CLOCK = SystemClock()
WRITER = Writer("host", "boot", 1, "test", "0")
LIMITS = Limits(batch_size=50, workers=4, per_run_max=4, phase_timeout_ms=60_000, grace_ms=100)


class Filling(MemoryStore):
    """A log whose disk is full for a while."""

    full = False

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[MemoryTransaction, None]:
        if self.full:
            raise DiskFull.at("the log")
        async with super().transaction() as transaction:
            yield transaction


class FullBlobs:
    """No room for output either."""

    def put(self, data: bytes) -> str:
        raise DiskFull.at(f"{len(data)} bytes of output")

    def get(self, digest: str) -> bytes | None:
        raise AssertionError(digest)


class Crew:
    """Its first attempt succeeds when the disk is full; the others only end when cancelled."""

    name = "crew"

    def __init__(self, store: Filling) -> None:
        self._store = store
        self._begun = 0
        self._all = anyio.Event()

    async def run(self, assignment: Assignment, watch: Watch) -> Report:  # noqa: ARG002
        self._begun += 1
        if self._begun == 3:
            self._all.set()
        if self._begun > 1:
            await anyio.sleep_forever()
        await self._all.wait()
        self._store.full = True
        return Report(ended="exited", duration_ms=7, exit_code=0, stdout=Output.of(b"done"))


async def register(recorder: Recorder) -> None:
    for run in ("r0", "r1", "r2"):
        registered = RunRegistered(run_id=run, origin="test", state="NEW")
        phase = PhaseRegistered(
            run_id=run,
            phase_id="p",
            tier_id="T",
            tier_index=0,
            phase_index=0,
            name="",
            state="QUEUED",
        )
        await recorder.submit(Command(f"reg-{run}", f"run/{run}", b"", just(registered, phase)))


def drain_of(recorder: Recorder, executor: Executor, blobs: BlobStore | None) -> Drain:
    return Drain(
        recorder=recorder,
        executor=executor,
        scope=Scope("s", Policy(name="t"), LIMITS),
        clock=CLOCK,
        ids=IdMaker(CLOCK.now_us, lambda: 7),
        blobs=blobs,
        tell=lambda _records: None,
    )


async def filled(store: Filling, blobs: FullBlobs | None) -> Drain:
    """A drain that met a full disk."""
    async with recording(store, CLOCK, WRITER) as recorder:
        await register(recorder)
        drain = drain_of(recorder, Crew(store), blobs)
        with pytest.raises(ExceptionGroup, check=is_full):
            await drain.run(resume=False)
    return drain


async def endings(store: MemoryStore) -> list[str]:
    found = await store.records(Query(types=("attempt.finished",)))
    return sorted(json.loads(record.data)["ending"] for record in found)


@pytest.mark.parametrize("blobs", [None, FullBlobs()], ids=["log full", "output full, too"])
async def test_the_ends_that_found_no_room_are_recorded_once_in_a_reopened_log(
    blobs: FullBlobs | None,
) -> None:
    store = Filling()
    drain = await filled(store, blobs)
    assert await endings(store) == []
    store.full = False
    for said in (3, 0):
        async with recording(store, CLOCK, WRITER) as recorder:
            assert await last_words(recorder, drain.unrecorded) == said
            phases = recorder.board.backlog.states.values()
            assert [phase.open_attempt for phase in phases] == [None, None, None]
        assert await endings(store) == ["abandoned", "abandoned", "succeeded"]


@pytest.mark.parametrize("at", [0, 1, 2])
async def test_what_somebody_else_has_closed_meanwhile_keeps_no_other_end_back(at: int) -> None:
    store = Filling()
    drain = await filled(store, None)
    store.full = False
    diagnosed, scope = drain.unrecorded[at]
    lost = replace(diagnosed.finished, ending="orphaned", duration_ms=1)
    async with recording(store, CLOCK, WRITER) as recorder:
        await recorder.submit(finish(diagnosed._replace(finished=lost), scope, None))
        assert await last_words(recorder, drain.unrecorded) == 2
    found = await endings(store)
    assert (len(found), found.count("orphaned")) == (3, 1)


async def test_without_room_even_for_last_words_the_attempts_stay_open() -> None:
    store = Filling()
    drain = await filled(store, None)
    store.full = False
    async with recording(store, CLOCK, WRITER) as recorder:
        store.full = True
        with pytest.raises(StorageFailed):
            await last_words(recorder, drain.unrecorded)
    assert await endings(store) == []


class FailingBlobs(FullBlobs):
    """A disk that takes no output, for this or that reason."""

    def __init__(self, error: StorageFailed) -> None:
        self._error = error

    def put(self, data: bytes) -> str:  # noqa: ARG002
        raise self._error


class Guarded:
    """Its first attempt prints much; the others ask, when cancelled, whether to leave theirs."""

    name = "guarded"

    def __init__(self) -> None:
        self.left: list[bool] = []
        self._begun = 0
        self._all = anyio.Event()

    async def run(self, assignment: Assignment, watch: Watch) -> Report:  # noqa: ARG002
        self._begun += 1
        if self._begun == 3:
            self._all.set()
        if self._begun == 1:
            await self._all.wait()
            output = Output.of(b"much " * 20_000)
            return Report(ended="exited", duration_ms=7, exit_code=0, stdout=output)
        try:
            await anyio.sleep_forever()
        finally:
            self.left.append(watch.leave())
        raise AssertionError


@pytest.mark.parametrize(
    "error",
    [DiskFull.at("output"), StorageFailed("cannot write output.", remedy="see to the disk.")],
    ids=["full", "failed"],
)
async def test_output_that_finds_no_room_leaves_the_other_attempts_to_their_guardians(
    error: StorageFailed,
) -> None:
    store, executor = MemoryStore(), Guarded()
    async with recording(store, CLOCK, WRITER) as recorder:
        await register(recorder)
        drain = drain_of(recorder, executor, FailingBlobs(error))
        with pytest.raises(ExceptionGroup) as raised:
            await drain.run(resume=False)
    assert raised.group_contains(StorageFailed)
    assert executor.left == [True, True]
    assert await endings(store) == []
