"""What a drain takes over at its start and on its way, and how it is held and goes on."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import replace as changed
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from engine.drain import commands
from engine.drain.adoptions import Adoption
from engine.drain.loop import Drain
from engine.drain.recovery import open_attempts
from engine.drain.stopping import Hold
from engine.drain.virtual import VirtualClock, VirtualTimeLoop
from engine.errors import LogUnreadable
from engine.events import AnyEvent, RunRegistered
from engine.executors.port import Report
from engine.executors.scripted import Rule, ScriptedExecutor
from engine.ids import IdMaker
from engine.store.command import Command, just
from engine.store.memory import MemoryStore
from engine.store.protocol import Query
from engine.store.recorder import Recorder, Writer, recording
from engine.triage.policy import Policy
from engine.triage.scope import Scope
from tests.harness.backlogs import queued
from tests.rules.standings import limits, started

WRITER = Writer("host", "boot", 1, "test", "0")
OURS = Scope("s", Policy(name="ours"), limits(batch_size=50, workers=4, phase_timeout_ms=60_000))
THEIRS = Scope("t", Policy(name="theirs", timeout_exit_codes=(1,)), limits())
FAILED = Report(ended="exited", duration_ms=1, exit_code=1)
SOON_S = 1
LONG_S = 3600
"""On a clock that jumps it costs nothing to wait so long for what never comes."""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


class Place:
    """A drain, and attempts that another session left open."""

    def __init__(self, recorder: Recorder, clock: VirtualClock) -> None:
        self.recorder, self.clock = recorder, clock
        numbers = iter(range(10**6))
        self.ids = IdMaker(clock.now_us, lambda: next(numbers))
        self.drain = self.drain_of()

    def drain_of(self, *, standing: bool = False) -> Drain:
        return Drain(
            recorder=self.recorder,
            executor=ScriptedExecutor([Rule(state="COMPLETE", events=1, sleep=5)]),
            scope=OURS,
            clock=self.clock,
            ids=self.ids,
            blobs=None,
            tell=lambda _records: None,
            in_threads=False,
            standing=standing,
        )

    async def append(self, *events: AnyEvent) -> None:
        await self.recorder.submit(Command(self.ids("cmd"), "x", b"", just(*events)))

    async def register(self, name: str) -> list[AnyEvent]:
        events: list[AnyEvent] = [
            RunRegistered(run_id=name, origin="test", state="NEW"),
            queued(name, "p"),
        ]
        await self.append(*events)
        return events

    async def leave(self, *names: str, scope: Scope = THEIRS) -> list[Adoption]:
        """So many runs, each with an attempt that another session started."""
        begun = commands.begin(self.ids("cmd"), scope, "x", resume=False)
        await self.recorder.submit(begun)
        for name in names:
            await self.register(name)
            await self.append(started(session_id="t", run_id=name, attempt_id=name))
        return await open_attempts(self.recorder, self.clock, end=False)

    def open_now(self) -> set[str]:
        return {p.open_attempt for p in self.recorder.board.backlog.values() if p.open_attempt}

    async def endings(self) -> dict[str, str]:
        records = await self.recorder.store.records(Query(types=("attempt.finished",)))
        return {str(record.attempt): json.loads(record.data)["ending"] for record in records}


@pytest.fixture
async def place() -> AsyncGenerator[Place, None]:
    async with recording(MemoryStore(), clock := VirtualClock(), WRITER) as recorder:
        yield Place(recorder, clock)


class Taken:
    """Reports of attempts that are taken over: how often each was asked for."""

    def __init__(self, lasts_s: float) -> None:
        self.asked = 0
        self._lasts_s = lasts_s

    async def report(self, _abandon: anyio.Event) -> Report:
        self.asked += 1
        await anyio.sleep(self._lasts_s)
        return FAILED


async def test_it_is_ready_when_the_dead_are_closed_and_does_not_wait_for_the_living(
    place: Place,
) -> None:
    dead, living = await place.leave("dead", "living")
    living = living._replace(report=Taken(100).report, lives=True)
    dead = dead._replace(report=Taken(10).report)
    open_when_ready: list[set[str]] = []

    def ready() -> None:
        assert not place.drain.is_under_way
        open_when_ready.append(place.open_now())

    with anyio.fail_after(LONG_S):
        await place.drain.run(resume=False, adopt=[living, dead], ready=ready)
    assert open_when_ready == [{"living"}]
    assert place.open_now() == set()


async def test_what_is_taken_over_is_judged_by_the_policy_of_its_own_session(place: Place) -> None:
    left = await place.leave("a")
    adopt = [each._replace(report=Taken(0).report) for each in left]
    await place.drain.run(resume=False, adopt=adopt)
    assert (await place.endings())["a"] == "timed_out"


async def test_what_an_early_session_left_is_judged_by_the_detectors_that_came_after_its_own(
    place: Place,
) -> None:
    early = replace(THEIRS.policy, detectors="plain-1")
    (left,) = await place.leave("a", scope=changed(THEIRS, policy=early))
    await place.drain.run(resume=False, adopt=[left._replace(report=Taken(0).report)])
    assert (await place.endings())["a"] == "timed_out"
    query = Query(types=("diagnosis.zero_yield_explained",))
    (said,) = await place.recorder.store.records(query)
    assert json.loads(said.data)["detector"] == "zero-yield-1"


async def test_nothing_is_begun_beside_what_a_newer_program_would_have_to_judge(
    place: Place,
) -> None:
    newer = replace(THEIRS.policy, detectors="standard-99")
    with pytest.raises(LogUnreadable, match="'standard-99'") as refused:
        await place.leave("a", scope=changed(THEIRS, policy=newer))
    assert "newer" in refused.value.remedy
    assert place.open_now() == {"a"}


async def test_what_is_attended_already_is_not_taken_over_again(place: Place) -> None:
    (left,) = await place.leave("a")
    await place.register("ours")
    taken = Taken(10)
    with anyio.fail_after(LONG_S):
        async with anyio.create_task_group() as group:
            adoption = left._replace(report=taken.report, lives=True)
            place.drain.adopt([adoption])
            assert place.drain.attended == frozenset(), "it is not under way"
            group.start_soon(lambda: place.drain.run(resume=False))
            await anyio.sleep(SOON_S)
            place.drain.adopt([adoption])
            assert "a" in place.drain.attended
            await anyio.sleep(SOON_S)
            place.drain.adopt([adoption])
    assert taken.asked == 1
    assert place.open_now() == set()


async def test_a_drain_that_begins_on_hold_starts_nothing(place: Place) -> None:
    await place.register("a")
    hold = Hold("paused", "A person paused it.")
    assert await place.drain.run(resume=False, hold=hold) == "paused"
    assert await place.endings() == {}


async def test_one_that_stands_idle_heeds_a_hold_at_once(place: Place) -> None:
    drain = place.drain_of(standing=True)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: drain.run(resume=False))
        await anyio.sleep(LONG_S)
        await drain.hold(Hold("paused", "A person paused it."))
        with anyio.fail_after(SOON_S):
            while drain.is_under_way:  # noqa: ASYNC110  the clock is virtual
                await anyio.sleep(SOON_S / 10)


async def test_a_hold_that_is_over_at_once_ends_no_session(place: Place) -> None:
    fewer = Scope(OURS.session_id, OURS.policy, replace(OURS.limits, workers=2))
    drain = place.drain_of(standing=True)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: drain.run(resume=False))
        await anyio.sleep(LONG_S)
        await place.register("a")
        await drain.hold(Hold("paused", "A person paused it."))
        await drain.go_on(fewer)
        await anyio.sleep(SOON_S)
        assert (drain.is_under_way, drain.scope) == (True, fewer)
        assert len(place.open_now()) == 1, "it looks for work at once"
        drain.stopping.asked.set()
    begun = Query(types=("session.started", "session.resumed"))
    kinds = [record.type for record in await place.recorder.store.records(begun)]
    assert kinds == ["session.started", "session.resumed"]


async def test_one_that_stands_idle_asks_for_nothing_until_something_changes(place: Place) -> None:
    asked: list[object] = []
    drain = changed(place.drain_of(standing=True), tell=asked.append)
    assert drain.standing_of_session is None, "it has not begun"
    with anyio.fail_after(LONG_S + 2 * SOON_S):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: drain.run(resume=False))
            await anyio.sleep(SOON_S)
            before = len(asked)
            await anyio.sleep(LONG_S)
            assert len(asked) == before
            assert drain.standing_of_session is not None
            drain.stopping.asked.set()
    assert drain.standing_of_session is None, "it has ended"


async def test_work_that_another_records_is_begun_at_once(place: Place) -> None:
    drain = place.drain_of(standing=True)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: drain.run(resume=False))
        await anyio.sleep(LONG_S)
        for event in await place.register("a"):
            drain.heed(event)
        await anyio.sleep(SOON_S)
        assert len(place.open_now()) == 1
        drain.stopping.asked.set()
