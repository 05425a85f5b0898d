"""An engine whose log can be written no more ends as if it were killed: by policy, not by luck."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import anyio
import msgspec
import pytest

from engine.clock import SystemClock
from engine.drain.loop import Drain
from engine.drain.recovery import open_attempts
from engine.errors import Fenced, RunoffError, StorageFailed
from engine.events import Limits, PhaseRegistered, Record, RunRegistered
from engine.executors.command import CommandExecutor, workspace_directory
from engine.executors.port import Assignment, Report, Watch
from engine.ids import IdMaker
from engine.store.command import Command, just
from engine.store.memory import MemoryStore
from engine.store.protocol import Query
from engine.store.recorder import Recorder, Writer, recording
from engine.triage.policy import Policy
from engine.triage.scope import Scope

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a subreaper")

CLOCK = SystemClock()
WRITER = Writer("host", "boot", 1, "test", "0")
LIMITS = Limits(batch_size=50, workers=4, per_run_max=4, phase_timeout_ms=60_000, grace_ms=100)
LIMIT_S = 30
WORK = "touch started; while [ ! -e finish ]; do sleep 0.01; done"


class Breaking:
    """Runs the first attempt as a program and breaks down under the second."""

    name = "breaking"

    def __init__(self, inner: CommandExecutor, started: Path, error: RunoffError) -> None:
        self._inner, self._started, self._error = inner, started, error
        self._calls = 0

    async def run(self, assignment: Assignment, watch: Watch) -> Report:
        self._calls += 1
        if self._calls == 1:
            return await self._inner.run(assignment, watch)
        with anyio.fail_after(LIMIT_S):
            while not self._started.exists():  # noqa: ASYNC110  it is another's
                await anyio.sleep(0.005)
        raise self._error


async def register(recorder: Recorder, runs: int) -> None:
    for run in (f"r{number}" for number in range(runs)):
        phase = PhaseRegistered(
            run_id=run,
            phase_id="p",
            tier_id="T",
            tier_index=0,
            phase_index=0,
            name="",
            state="QUEUED",
        )
        registered = RunRegistered(run_id=run, origin="test", state="NEW")
        await recorder.submit(Command(f"reg-{run}", f"run/{run}", b"", just(registered, phase)))


async def broken_drain(
    root: Path,
    store: MemoryStore,
    policy: Literal["adopt", "end"],
    error: RunoffError,
    *,
    runs: int = 2,
    limits: Limits = LIMITS,
) -> None:
    inner = CommandExecutor(("sh", "-c", WORK), files_root=root, on_engine_death=policy)
    started = workspace_directory(root, "r0") / "started"
    async with recording(store, CLOCK, WRITER) as recorder:
        await register(recorder, runs)
        drain = Drain(
            recorder=recorder,
            executor=Breaking(inner, started, error),
            scope=Scope("s", Policy(name="t"), limits),
            clock=CLOCK,
            ids=IdMaker(CLOCK.now_us, lambda: 7),
            blobs=None,
            tell=lambda _records: None,
        )
        with pytest.RaisesGroup(type(error), flatten_subgroups=True):
            await drain.run(resume=False)


async def endings(store: MemoryStore) -> list[str]:
    found = await store.records(Query(types=("attempt.finished",)))
    return [record.data.partition('"ending":"')[2].partition('"')[0] for record in found]


FULL = StorageFailed("the disk is full.", remedy="free it.")


async def test_running_attempts_are_left_to_their_guardians_when_the_policy_says_so(
    tmp_path: Path,
) -> None:
    store = MemoryStore()
    await broken_drain(tmp_path, store, "adopt", FULL)
    assert await endings(store) == []
    async with recording(store, CLOCK, WRITER) as recorder:
        told: list[tuple[Record, ...]] = []
        adoptions = await open_attempts(recorder, CLOCK, end=False, tell=told.append)
        (living,) = [adoption for adoption in adoptions if adoption.lives]
        assert [record.type for records in told for record in records] == ["attempt.adopted"]
        again = await open_attempts(recorder, CLOCK, end=False, tell=told.append)
        assert (len(again), len(told)) == (len(adoptions), 1)  # what stands is no news
        (workspace_directory(tmp_path, "r0") / "finish").touch()
        report = await living.report(anyio.Event())
    assert (report.ended, report.exit_code) == ("exited", 0)


async def test_nothing_starts_in_the_place_of_what_a_failing_disk_leaves_open(
    tmp_path: Path,
) -> None:
    store, limits = MemoryStore(), msgspec.structs.replace(LIMITS, workers=2)
    await broken_drain(tmp_path, store, "adopt", FULL, runs=3, limits=limits)
    assert len(await store.records(Query(types=("attempt.started",)))) == limits.workers
    assert await endings(store) == []
    (workspace_directory(tmp_path, "r0") / "finish").touch()


async def test_running_attempts_end_with_their_engine_when_the_policy_says_so(
    tmp_path: Path,
) -> None:
    store = MemoryStore()
    await broken_drain(tmp_path, store, "end", FULL)
    assert await endings(store) == ["abandoned"]


async def test_an_overtaken_engine_ends_what_it_runs(tmp_path: Path) -> None:
    store = MemoryStore()
    await broken_drain(tmp_path, store, "adopt", Fenced("overtaken.", remedy="start again."))
    assert await endings(store) == ["abandoned"]
