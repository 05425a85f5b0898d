"""The loop where it meets trouble: cancelled beside a living guardian, ended by a streak."""

from __future__ import annotations

import json
from typing import Any

import anyio
import msgspec
import pytest

from engine.clock import SystemClock
from engine.drain import commands
from engine.drain.loop import Drain
from engine.drain.recovery import open_attempts
from engine.errors import StorageFailed
from engine.events import Limits, Record, RunRegistered
from engine.executors.port import Assignment, Report, Telemetry, Usage, Watch
from engine.ids import IdMaker
from engine.store.command import Command, just
from engine.store.memory import MemoryStore
from engine.store.protocol import Query
from engine.store.recorder import Recorder, Writer, recording
from engine.triage.policy import Policy
from engine.triage.scope import Scope
from engine.triage.select import Queue
from tests.harness.backlogs import queued

WRITER = Writer("host", "boot", 1, "test", "0")
LIMITS = Limits(batch_size=50, workers=4, per_run_max=4, phase_timeout_ms=60_000, grace_ms=100)
CLOCK = SystemClock()


class Crew:
    """An executor whose attempts end when told, as told."""

    name = "crew"

    def __init__(self, report: Report | Exception | None = None) -> None:
        self.report = report
        self.busy = anyio.Event()
        self.given: list[Assignment] = []

    async def run(self, assignment: Assignment, _watch: Watch) -> Report:
        self.given.append(assignment)
        self.busy.set()
        if self.report is None:
            await anyio.sleep_forever()
        if isinstance(self.report, Exception):
            raise self.report
        assert self.report is not None
        return self.report


async def register(recorder: Recorder, runs: int) -> None:
    for run in range(runs):
        registered = RunRegistered(run_id=f"r{run}", origin="test", state="NEW")
        phase = queued(f"r{run}", "p")
        await recorder.submit(Command(f"reg-{run}", f"run/r{run}", b"", just(registered, phase)))


def drain_of(recorder: Recorder, executor: Any, policy: Policy, session: str = "s") -> Drain:
    return Drain(
        recorder=recorder,
        executor=executor,
        scope=Scope(session, policy, LIMITS),
        clock=CLOCK,
        ids=IdMaker(CLOCK.now_us, lambda: 7),
        blobs=None,
        tell=lambda _records: None,
    )


async def finished(store: MemoryStore) -> list[Record]:
    return await store.records(Query(types=("attempt.finished",)))


async def endings(store: MemoryStore) -> list[str]:
    return [json.loads(record.data)["ending"] for record in await finished(store)]


async def test_a_cancelled_drain_closes_its_own_attempts_as_abandoned() -> None:
    store = MemoryStore()
    async with recording(store, CLOCK, WRITER) as recorder:
        await register(recorder, 2)
        crew = Crew()
        async with anyio.create_task_group() as group:
            drain = drain_of(recorder, crew, Policy(name="t"))
            group.start_soon(lambda: drain.run(resume=False))
            await crew.busy.wait()
            group.cancel_scope.cancel()
    assert await endings(store) == ["abandoned", "abandoned"]
    told = [json.loads(record.data) for record in await finished(store)]
    assert [each["duration_ms"] for each in told] == [0, 0], "how long they took is not known"


async def test_an_adopted_attempt_whose_guardian_goes_on_stays_open_when_the_drain_breaks() -> None:
    store = MemoryStore()
    async with recording(store, CLOCK, WRITER) as recorder:
        await register(recorder, 2)
        await _start_one(drain_of(recorder, Crew(), Policy(name="t"), "before"))
        (left,) = await open_attempts(recorder, CLOCK, end=False)
        living = left._replace(report=_never_ends, lives=True)
        crew = Crew(StorageFailed("the disk is full.", remedy="free it."))
        drain = drain_of(recorder, crew, Policy(name="t"))
        with pytest.RaisesGroup(StorageFailed, flatten_subgroups=True):
            await drain.run(resume=False, adopt=[living])
        assert recorder.board.backlog.states["r0\np"].open_attempt == "att_left"
    assert "att_left" not in [r.attempt for r in await finished(store)]


async def _never_ends(_abandon: anyio.Event) -> Report:
    await anyio.sleep_forever()
    raise AssertionError


async def _start_one(drain: Drain) -> None:
    """Start an attempt of r0 and forget it, as an engine that dies does."""
    recorder = drain.recorder
    await recorder.submit(commands.begin("begin", drain.scope, "crew", resume=False))
    pick = commands.pick(
        "pick",
        drain.scope,
        Queue(recorder.board, drain.scope),
        capacity=1,
        new_attempt_id=lambda: "att_left",
    )
    await recorder.submit(pick)


async def test_a_session_that_is_ended_by_a_streak_is_ended_once() -> None:
    store = MemoryStore()
    async with recording(store, CLOCK, WRITER) as recorder:
        await register(recorder, 8)
        crew = Crew(Report(ended="exited", duration_ms=1, exit_code=0))
        policy = Policy(name="t", consecutive_zero_yield_max=2)
        assert await drain_of(recorder, crew, policy).run(resume=False) == "zero_yield_streak"
    assert len(await store.records(Query(types=("session.draining",)))) == 1


async def test_a_bug_in_an_executor_costs_one_attempt_not_the_drain() -> None:
    store = MemoryStore()
    async with recording(store, CLOCK, WRITER) as recorder:
        await register(recorder, 2)
        crew = Crew(KeyError("a bug"))
        policy = Policy(name="t", attempts_per_phase_max=1)
        assert await drain_of(recorder, crew, policy).run(resume=False) == "nothing_eligible"
    assert await endings(store) == ["broke", "broke"]


@pytest.mark.parametrize("text", ["not json", "[" * 5000 + "]" * 5000])
async def test_a_scope_that_cannot_be_read_goes_along_as_text(text: str) -> None:
    store = MemoryStore()
    async with recording(store, CLOCK, WRITER) as recorder:
        registered = RunRegistered(run_id="r", origin="test", state="NEW")
        phase = msgspec.structs.replace(queued("r", "p"), scope_json=text)
        await recorder.submit(Command("reg", "run/r", b"", just(registered, phase)))
        crew = Crew(Report(ended="exited", duration_ms=1, exit_code=0))
        await drain_of(recorder, crew, Policy(name="t")).run(resume=False)
    (given,) = crew.given
    assert given.sheet.scope is not None
    assert json.loads(bytes(given.sheet.scope)) == text


async def test_usage_is_credited_to_the_attempt_that_wrote_it() -> None:
    store = MemoryStore()
    async with recording(store, CLOCK, WRITER) as recorder:
        await register(recorder, 3)
        usage = Telemetry(usage=(Usage(line=1, source="file", output_tokens=7),), lines_read=1)
        crew = Crew(Report(ended="exited", duration_ms=1, exit_code=0, telemetry=usage))
        await drain_of(recorder, crew, Policy(name="t")).run(resume=False)
    attempts = [r.attempt for r in await store.records(Query(types=("usage.recorded",)))]
    assert len(attempts) == len(set(attempts)) == 3
