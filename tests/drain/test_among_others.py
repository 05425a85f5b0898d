"""A drain among other engines of its log: what it leaves to them, and what it waits for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from engine.drain.loop import Drain
from engine.drain.patience import LEAVE_S
from engine.drain.virtual import VirtualClock, VirtualTimeLoop
from engine.events import (
    AnyEvent,
    BreakerClosed,
    BreakerOpened,
    Limits,
    PolicyAdopted,
    RunRegistered,
    SessionLeased,
    SessionStarted,
)
from engine.executors.port import Assignment, Report, Watch
from engine.ids import IdMaker
from engine.store.command import Command, just
from engine.store.memory import MemoryStore
from engine.store.protocol import Query
from engine.store.recorder import Recorder, Writer, recording
from engine.triage.policy import Policy
from engine.triage.scope import Scope
from tests.harness.backlogs import queued
from tests.rules.standings import because, finished, judged, started

START_US = 1_767_225_600_000_000
WRITER = Writer("host", "boot", 1, "test", "0")
LIMITS = Limits(batch_size=50, workers=4, per_run_max=4, phase_timeout_ms=60_000, grace_ms=100)
POLICY = Policy(name="t")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


class Sleeper:
    """Attempts that succeed after ten seconds."""

    name = "sleeper"

    async def run(self, assignment: Assignment, watch: Watch) -> Report:  # noqa: ARG002
        await anyio.sleep(10)
        return Report(ended="exited", duration_ms=10_000, exit_code=0)


def work(runs: int) -> list[AnyEvent]:
    found: list[AnyEvent] = []
    for number in range(runs):
        found.append(RunRegistered(run_id=f"r{number}", origin="test", state="NEW"))
        phase = queued(f"r{number}", "p")
        found.append(phase)
    return found


def another(host: str) -> list[AnyEvent]:
    """An engine that is at a session of its own, and does nothing."""
    adopted = PolicyAdopted(
        session_id="t", policy=POLICY.label, policy_sha256="", policy_json=POLICY.json
    )
    leased = SessionLeased(session_id="t", epoch=99, host=host, lease_ms=15_000)
    return [leased, adopted, SessionStarted(session_id="t", executor="x", limits=LIMITS)]


class World:
    """A drain on a log that others share, and what stands there before."""

    def __init__(
        self, *before: AnyEvent, is_shared: bool = True, policy: Policy = POLICY, **fields: Any
    ) -> None:
        self.before = before
        self.store = MemoryStore(is_shared=is_shared)
        self.clock = VirtualClock(START_US)
        self.scope = Scope("s", policy, replace(LIMITS, **fields))
        numbers = iter(range(10**6))
        self.ids = IdMaker(self.clock.now_us, lambda: next(numbers))

    async def drain(
        self,
        *later: AnyEvent,
        after_s: float = 5,
        standing: bool = False,
        asked: Callable[[Drain], Awaitable[None]] | None = None,
    ) -> str:
        """Why it ended.

        ``after_s`` another engine appends ``later``, the drain is ``asked`` something, and one
        that is ``standing`` is asked to stop.
        """
        ended: str = "not at all"
        async with recording(self.store, self.clock, WRITER) as recorder:
            await recorder.submit(Command("before", "x", b"", just(*self.before)))
            drain = Drain(
                recorder=recorder,
                executor=Sleeper(),
                scope=self.scope,
                clock=self.clock,
                ids=self.ids,
                blobs=None,
                tell=lambda _records: None,
                in_threads=False,
                standing=standing,
            )
            async with anyio.create_task_group() as group:
                group.start_soon(self._say, recorder, drain, later, after_s)
                if asked is not None:
                    group.start_soon(_ask, drain, asked, after_s)
                ended = await drain.run(resume=False)
        return ended

    async def _say(
        self, recorder: Recorder, drain: Drain, later: tuple[AnyEvent, ...], after_s: float
    ) -> None:
        """Append what another engine would, and have the drain follow it."""
        await anyio.sleep(after_s)
        if later:
            await recorder.submit(Command("later", "x", b"", just(*later)))
        for event in later:
            drain.heed(event)
        if drain.standing:
            drain.stopping.asked.set()

    async def starts_s(self) -> list[float]:
        """When the attempts of this drain began, in seconds."""
        return await self.recorded_s("attempt.started")

    async def recorded_s(self, kind: str) -> list[float]:
        """When this drain recorded events of that kind, in seconds."""
        records = await self.store.records(Query(types=(kind,), session="s"))
        return [(record.recorded_us - START_US) / 1e6 for record in records]

    @property
    def now_s(self) -> float:
        return (self.clock.now_us() - START_US) / 1e6


async def _ask(drain: Drain, asked: Callable[[Drain], Awaitable[None]], after_s: float) -> None:
    await anyio.sleep(after_s)
    await asked(drain)


async def test_half_of_the_work_is_left_to_another_engine_for_a_moment_and_then_taken() -> None:
    world = World(*work(4), *another("elsewhere"))
    assert await world.drain() == "nothing_eligible"
    assert await world.starts_s() == pytest.approx([0, 0, LEAVE_S, LEAVE_S])


async def test_one_that_never_ends_for_lack_of_work_waits_no_longer() -> None:
    world = World(*work(4), *another("elsewhere"))
    assert await world.drain(standing=True) == "interrupted"
    assert await world.starts_s() == pytest.approx([0, 0, LEAVE_S, LEAVE_S])


async def test_in_a_log_of_ones_own_and_among_the_dead_nothing_is_left() -> None:
    for world in (World(*work(4), *another(""), is_shared=False), World(*work(4))):
        assert await world.drain() == "nothing_eligible"
        assert len(set(await world.starts_s())) == 1


async def test_when_there_is_plenty_nobody_waits() -> None:
    world = World(*work(12), *another("elsewhere"))
    await world.drain()
    assert (await world.starts_s())[:4] == [0, 0, 0, 0]


async def test_a_drain_waits_for_its_host_and_goes_on_at_the_next_end_there() -> None:
    tags = {"session_id": "t", "run_id": "r0", "phase_id": "p", "attempt_id": "other"}
    world = World(*work(3), *another(""), started(**tags), host_workers=1)
    assert await world.drain(finished(**tags, final_state="COMPLETE")) == "nothing_eligible"
    # Its host has room for one, so the other engine would be less busy with either of the two.
    assert await world.starts_s() == pytest.approx([5 + LEAVE_S, 15 + LEAVE_S])


async def test_a_host_that_stays_full_does_not_outlast_the_time_of_the_session() -> None:
    tags = {"session_id": "t", "run_id": "r0", "phase_id": "p", "attempt_id": "other"}
    world = World(*work(3), *another(""), started(**tags), host_workers=1, total_ms_max=7000)
    assert await world.drain() == "total_time"
    assert await world.starts_s() == []
    assert world.now_s == pytest.approx(7, abs=0.01)


async def test_what_a_dead_engine_left_open_elsewhere_takes_a_worker_till_its_end() -> None:
    tags = {"session_id": "s", "run_id": "r0", "phase_id": "p", "attempt_id": "other"}
    dead = [each for each in another("elsewhere") if not isinstance(each, SessionLeased)]
    of_ours = [replace(each, session_id="s") for each in dead]
    world = World(*work(3), *of_ours, started(**tags), workers=1)
    assert await world.drain(finished(**tags, final_state="COMPLETE")) == "nothing_eligible"
    assert await world.starts_s() == pytest.approx([0, 5, 15])


async def test_what_is_due_before_the_patience_is_at_its_end_is_not_late() -> None:
    """The run ``r0`` may be sampled again while something is left to the other engine."""
    set_aside = judged(session_id="t", run_id="r0")
    cools = replace(POLICY, cool_down_ms=100)
    world = World(*work(5), *another("elsewhere"), set_aside, policy=cools)
    await world.drain(standing=True)
    assert await world.recorded_s("triage.run_cooled_down") == pytest.approx([0.1])


async def test_one_that_is_to_stop_takes_nothing_that_it_had_left_and_waits_for_what_runs() -> None:
    world = World(*work(4), *another("elsewhere"))
    assert await world.drain(standing=True, after_s=LEAVE_S / 2) == "interrupted"
    assert await world.starts_s() == [0, 0]
    assert world.now_s == pytest.approx(10)


async def test_who_has_no_worker_left_takes_what_it_had_left_when_one_is_free() -> None:
    async def fewer(drain: Drain) -> None:
        await drain.go_on(Scope("s", POLICY, replace(LIMITS, workers=2)))

    world = World(*work(4), *another("elsewhere"))
    assert await world.drain(after_s=LEAVE_S / 2, asked=fewer) == "nothing_eligible"
    assert await world.starts_s() == pytest.approx([0, 0, 10, 10])


PROBED = replace(POLICY, breaker_runs=2, breaker_probes_max=0, breaker_cool_down_ms=10**9)
PROBE = {"session_id": "t", "run_id": "r0", "phase_id": "p", "attempt_id": "other"}


def probing() -> list[AnyEvent]:
    """Another engine has a probe under way; every run but its own is unsampled, and held back."""
    why = because("breaker", "")
    opened = BreakerOpened(session_id="t", fingerprint="f", template="", runs=2, reason=why)
    return [*work(3), *another("elsewhere"), opened, started(**PROBE, probe_of="f")]


async def test_a_drain_waits_for_the_probe_of_another_engine_and_goes_on_when_it_did_well() -> None:
    world = World(*probing(), policy=PROBED)
    closed = BreakerClosed(
        session_id="t", fingerprint="f", attempt_id="other", reason=because("breaker", "")
    )
    well = finished(**PROBE, ending="succeeded", final_state="COMPLETE")
    assert await world.drain(well, closed) == "nothing_eligible"
    assert await world.starts_s() == pytest.approx([5, 5 + LEAVE_S])


async def test_a_probe_that_lasts_does_not_outlast_the_time_of_the_session() -> None:
    world = World(*probing(), policy=PROBED, total_ms_max=7000)
    assert await world.drain() == "total_time"
    assert await world.starts_s() == []
    assert world.now_s == pytest.approx(7, abs=0.01)
