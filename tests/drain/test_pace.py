"""How long a drain waits, on a clock that jumps: for pauses, for its own time, and no longer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import pytest
from msgspec.structs import replace

from engine.calibration.estimator import estimate, shipped
from engine.drain.loop import Drain
from engine.drain.virtual import VirtualClock, VirtualTimeLoop
from engine.events import (
    AccountPaused,
    AnyEvent,
    AttemptStarted,
    Limits,
    Record,
    RunRegistered,
    SessionDraining,
    SessionEnd,
    SessionEnded,
    event_of,
)
from engine.executors.port import Assignment, Report, Watch
from engine.executors.scripted import Rule, ScriptedExecutor
from engine.ids import IdMaker
from engine.store.command import Command, just
from engine.store.memory import MemoryStore, MemoryTransaction
from engine.store.protocol import Query
from engine.store.recorder import Writer, recording
from engine.triage.policy import POLICIES, Policy
from engine.triage.scope import Scope
from tests.harness.backlogs import queued

START_US = 1_767_225_600_000_000
DAY_S = 86_400
"""A drain that waits so long waits for ever."""
DEFAULT = POLICIES["default"]
LIMITS = Limits(batch_size=50, workers=1, per_run_max=1, phase_timeout_ms=60_000, grace_ms=100)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


class Drained(NamedTuple):
    """What a drain said, what it recorded and when (s), and how often it asked."""

    because: SessionEnd
    events: list[AnyEvent]
    recorded_s: list[float]
    commands: int

    def when_s(self, kind: type[AnyEvent]) -> list[float]:
        """When events of a kind were recorded."""
        moments = zip(self.recorded_s, self.events, strict=True)
        return [moment_s for moment_s, event in moments if isinstance(event, kind)]

    @property
    def started_s(self) -> list[float]:
        return self.when_s(AttemptStarted)

    @property
    def ended(self) -> SessionEnded:
        (found,) = [event for event in self.events if isinstance(event, SessionEnded)]
        return found


async def drained(
    rules: Sequence[Rule], runs: int = 1, policy: Policy = DEFAULT, **limits: Any
) -> Drained:
    """Drain so many runs of one phase each."""
    store, clock, commands = MemoryStore(), VirtualClock(START_US), 0

    def tell(_records: object) -> None:
        nonlocal commands
        commands += 1

    async with recording(store, clock, Writer("h", "b", 1, "t", "0")) as recorder:
        for number in range(runs):
            run = RunRegistered(run_id=f"r{number}", origin="test", state="NEW")
            work = just(run, queued(f"r{number}", "p"))
            await recorder.submit(Command(f"reg-{number}", f"run/{number}", b"", work))
        drain = Drain(
            recorder=recorder,
            executor=ScriptedExecutor(rules),
            scope=Scope("s", policy, replace(LIMITS, **limits)),
            clock=clock,
            ids=IdMaker(clock.now_us, lambda: 7),
            blobs=None,
            tell=tell,
            in_threads=False,
        )
        with anyio.fail_after(DAY_S):
            because = await drain.run(resume=False)
    records = await store.records(Query(), limit=10_000)
    recorded_s = [(record.recorded_us - START_US) / 1e6 for record in records]
    return Drained(because, [event_of(record) for record in records], recorded_s, commands)


def limited(seconds: int) -> Rule:
    """The first attempt of a phase, which meets a limit after ten seconds."""
    said = f"429 rate limit exceeded. Please try again in {seconds}s."
    return Rule(attempt=1, state="FAILED", rc=1, stderr=said, sleep=10.0)


WELL = Rule(state="COMPLETE", events=1, sleep=1.0)


async def test_a_drain_waits_for_the_end_of_a_pause_and_not_longer() -> None:
    found = await drained([limited(20), WELL])
    assert found.started_s == [0.0, 30.0]
    assert found.because == found.ended.because == "nothing_eligible"
    assert found.ended.active_ms == 31_000


async def test_an_hour_is_waited_for_as_long_as_a_minute_is() -> None:
    found = await drained([limited(3600), WELL])
    assert found.started_s == [0.0, 3610.0]
    assert found.because == "nothing_eligible"


class Slow(MemoryStore):
    """Every answer of it comes a second after it was decided."""

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[MemoryTransaction, None]:
        async with super().transaction() as transaction:
            yield transaction
        await anyio.sleep(1)


async def test_a_pause_that_ends_while_a_pick_meets_it_does_not_end_the_session() -> None:
    store, clock = Slow(), VirtualClock(START_US)
    paused, is_paused = list[AccountPaused](), anyio.Event()

    def tell(records: tuple[Record, ...]) -> None:
        paused.extend(e for e in map(event_of, records) if isinstance(e, AccountPaused))
        if paused:
            is_paused.set()

    async def ask_just_before_its_end(drain: Drain) -> None:
        await is_paused.wait()
        await anyio.sleep((paused[0].until_us - clock.now_us()) / 1e6 - 0.5)
        drain.heed(RunRegistered(run_id="r", origin="test", state="NEW"))

    async with recording(store, clock, Writer("h", "b", 1, "t", "0")) as recorder:
        run = RunRegistered(run_id="r", origin="test", state="NEW")
        await recorder.submit(Command("reg", "run/r", b"", just(run, queued("r", "p"))))
        drain = Drain(
            recorder=recorder,
            executor=ScriptedExecutor([limited(20), WELL]),
            scope=Scope("s", DEFAULT, LIMITS),
            clock=clock,
            ids=IdMaker(clock.now_us, lambda: 7),
            blobs=None,
            tell=tell,
            in_threads=False,
        )
        async with anyio.create_task_group() as group:
            group.start_soon(ask_just_before_its_end, drain)
            assert await drain.run(resume=False) == "nothing_eligible"
        assert len(paused) == 1
        assert recorder.board.backlog.states["r\np"].state == "COMPLETE"


async def test_a_pause_beyond_its_time_does_not_keep_a_session() -> None:
    found = await drained([limited(3600), WELL], total_ms_max=30_000)
    assert found.started_s == [0.0]
    assert found.because == found.ended.because == "total_time"
    assert found.ended.active_ms == 30_000
    assert found.commands < 10, "it waits at once for all that is left"


async def test_nobody_waits_for_a_pause_who_has_nothing_to_start_behind_it() -> None:
    found = await drained([limited(3600)], batch_size=1)
    assert found.because == found.ended.because == "batch_size"
    assert found.ended.active_ms == 10_000


async def test_a_pause_is_not_waited_for_when_nothing_is_left_behind_it() -> None:
    once = replace(DEFAULT, deferrals_per_phase_max=0, attempts_per_phase_max=1)
    found = await drained([limited(3600)], policy=once)
    assert found.because == found.ended.because == "nothing_eligible"
    assert found.ended.active_ms == 10_000


BROKEN = Rule(run="r0", state="FAILED", rc=1, reason="the database is down", sleep=1.0)
LONG = Rule(run="r1", state="COMPLETE", events=1, sleep=50.0)
RESTING = Policy(
    name="t",
    attempts_per_phase_max=1,
    breaker_runs=1,
    breaker_probes_max=0,
    breaker_cool_down_ms=5_000,
)


async def test_a_probe_that_is_due_while_others_are_at_work_is_not_left_until_they_end() -> None:
    rules = [BROKEN, LONG, WELL]
    found = await drained(rules, runs=3, policy=RESTING, workers=2, per_run_max=1)
    assert found.started_s == [0.0, 0.0, 6.0]
    assert found.because == "nothing_eligible"


async def test_a_probe_that_comes_due_during_a_pause_goes_at_its_end() -> None:
    policy = replace(RESTING, provider_pause_ms=1_000)
    said = "429 rate limit exceeded. Please try again in 20s."
    limit = Rule(run="r2", attempt=1, state="FAILED", rc=1, stderr=said, sleep=2.0)
    rules = [BROKEN, LONG, limit, WELL]
    found = await drained(rules, runs=3, policy=policy, workers=3, per_run_max=1)
    assert found.started_s == [0.0, 0.0, 0.0, 22.0]


async def test_a_run_that_cools_down_while_others_are_at_work_is_sampled_then() -> None:
    policy = Policy(name="t", cool_down_ms=5_000, attempts_per_phase_max=2)
    alike = replace(BROKEN, run="r2")
    found = await drained([BROKEN, LONG, alike], runs=3, policy=policy, workers=3)
    assert found.started_s == [0.0, 0.0, 0.0, 1.0, 6.0]


async def test_nothing_but_a_pause_is_waited_for_when_nobody_is_at_work() -> None:
    found = await drained([BROKEN, WELL], runs=2, policy=RESTING, workers=1)
    assert found.started_s == [0.0]
    assert found.because == "held_back"


async def test_behind_a_pause_the_time_of_a_session_ends_when_it_does_whoever_is_at_work() -> None:
    rules = [LONG, limited(3600), WELL]
    found = await drained(rules, runs=2, workers=2, total_ms_max=30_000)
    assert found.started_s == [0.0, 0.0]
    assert found.when_s(SessionDraining) == [30.0]


async def test_waiting_beside_those_at_work_ends_with_the_time_of_the_session() -> None:
    rules = [BROKEN, LONG, WELL]
    found = await drained(rules, runs=3, policy=RESTING, workers=2, total_ms_max=4_000)
    assert found.started_s == [0.0, 0.0]
    assert found.because == "total_time"
    assert found.commands < 10


class Estimates:
    """An executor that notes what each attempt was estimated at."""

    name = "estimates"

    def __init__(self) -> None:
        self.told: dict[str, int | None] = {}

    async def run(self, assignment: Assignment, watch: Watch) -> Report:
        assert not watch.abandon.is_set()
        self.told[assignment.sheet.phase_id] = assignment.sheet.estimate_tokens
        return Report(ended="exited", duration_ms=1, exit_code=0)


async def test_attempts_of_one_run_that_start_at_once_have_estimates_of_their_own() -> None:
    store, clock, executor = MemoryStore(), VirtualClock(START_US), Estimates()
    phases = [
        replace(queued("r", name), order="free", complexity=name, phase_index=number)
        for number, name in enumerate(("low", "medium", "high"))
    ]
    async with recording(store, clock, Writer("h", "b", 1, "t", "0")) as recorder:
        run = RunRegistered(run_id="r", origin="test", state="NEW")
        await recorder.submit(Command("reg", "run/r", b"", just(run, *phases)))
        drain = Drain(
            recorder=recorder,
            executor=executor,
            scope=Scope("s", DEFAULT, replace(LIMITS, workers=3, per_run_max=3)),
            clock=clock,
            ids=IdMaker(clock.now_us, lambda: 7),
            blobs=None,
            tell=lambda _records: None,
            in_threads=False,
            coefficients=shipped(),
        )
        await drain.run(resume=False)
    wanted = {name: estimate(shipped(), None, name, 0).estimated_tokens for name in executor.told}
    assert executor.told == wanted
    assert len(set(wanted.values())) == 3


async def test_a_worker_takes_one_attempt_at_a_time() -> None:
    found = await drained([WELL], runs=4)
    assert found.started_s == [0.0, 1.0, 2.0, 3.0]
    two = await drained([WELL], runs=4, workers=2)
    assert two.started_s == [0.0, 0.0, 1.0, 1.0]


async def test_an_attempt_that_fails_for_good_leaves_nothing_to_wait_for() -> None:
    twice = [replace(limited(20), attempt=None, stderr="", reason="it broke", sleep=5.0)]
    found = await drained(twice)
    assert found.started_s == [0.0, 5.0]
    assert (found.because, found.ended.active_ms) == ("nothing_eligible", 10_000)
