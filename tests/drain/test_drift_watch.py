"""The watch for drift beside a drain: it reads on in small parts, and nobody waits for it long."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from engine.clock import HandSetClock
from engine.drain.drift_watch import LAST_LOOK_S, READ_AT_ONCE, DriftWatch
from engine.drain.virtual import VirtualTimeLoop
from engine.executors.port import Report
from engine.store.memory import MemoryStore
from engine.store.protocol import FoldRow, Query
from engine.store.recorder import Recorder, recording
from engine.triage.policy import Policy
from tests.drain.test_loop import WRITER, Crew, drain_of
from tests.harness.backlogs import register

READ_S = 1.0
RUNS = 220


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


class Slow(MemoryStore):
    """Takes a second for each reading of events to fold, and tells who reads what at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[int, int]] = []
        self.readers = 0

    async def fold_rows(
        self, after: int, until: int, types: frozenset[str] | None = None
    ) -> list[FoldRow]:
        if types is not None:
            assert self.readers == 0, "one after the other"
            self.readers += 1
            try:
                await anyio.sleep(READ_S)
            finally:
                self.readers -= 1
            self.reads.append((after, until))
        return await super().fold_rows(after, until, types)


async def watched(recorder: Recorder) -> DriftWatch:
    """A watch beside a log of thousands of events, that has to look."""
    await register(recorder, RUNS, 10)
    done = Crew(Report(ended="exited", duration_ms=1, exit_code=0))
    await drain_of(recorder, done, Policy(name="t")).run(resume=False)
    watch = DriftWatch(recorder, 1, lambda _text: None)
    await ask(recorder, watch)
    return watch


async def ask(recorder: Recorder, watch: DriftWatch) -> None:
    watch.heed(await recorder.store.records(Query(types=("attempt.finished",)), limit=1))


def parts(end: int) -> list[tuple[int, int]]:
    return [(start, min(end, start + READ_AT_ONCE)) for start in range(0, end, READ_AT_ONCE)]


async def test_a_watch_that_reads_may_be_cancelled_and_goes_on_from_there() -> None:
    store = Slow()
    async with recording(store, HandSetClock(), WRITER) as recorder:
        watch = await watched(recorder)
        with anyio.move_on_after(2.5 * READ_S) as waited:
            await watch.look()
        assert waited.cancelled_caught
        assert store.reads == parts(recorder.head.pos)[:2]
        await watch.look()
        assert len(store.reads) == 2, "it is not due before it is asked again"
        await ask(recorder, watch)
        await watch.look()
        assert store.reads == parts(recorder.head.pos)
        assert len(store.reads) > 4


async def test_the_last_look_takes_a_moment_and_waits_for_one_that_is_under_way() -> None:
    store = Slow()
    async with recording(store, HandSetClock(), WRITER) as recorder:
        watch = await watched(recorder)
        begun_s = anyio.current_time()
        async with anyio.create_task_group() as group:
            group.start_soon(watch.run)
            while not store.readers:
                await anyio.lowlevel.checkpoint()
            await watch.look_at_last()
            assert anyio.current_time() - begun_s == pytest.approx(LAST_LOOK_S)
            group.cancel_scope.cancel()
        assert anyio.current_time() - begun_s == pytest.approx(LAST_LOOK_S)


async def test_two_looks_read_nothing_twice() -> None:
    store = Slow()
    async with recording(store, HandSetClock(), WRITER) as recorder:
        watch = await watched(recorder)
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(watch.look)
        assert store.reads == parts(recorder.head.pos)
