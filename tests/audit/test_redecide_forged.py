"""A decision that is forged, left out or told twice is one difference, at its place, of any kind.

A log is followed up to the command that was tampered with; what comes behind it is decided from
what is recorded, and says nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from engine.audit.lines import Line, commands
from engine.audit.redecide import Redecision
from engine.drain.commands import begin, drain_now, end as end_of
from engine.events import (
    AnyEvent,
    AttemptFinished,
    AttemptStarted,
    BudgetReached,
    PolicyAdopted,
    RunCooledDown,
    SessionDraining,
    SessionEnd,
    SessionEnded,
    SessionLeased,
    SessionPartLost,
    SessionStarted,
    encode,
    event_of,
    event_type,
)
from engine.store.blobs import MemoryBlobs
from engine.store.protocol import Query
from engine.store.recorder import recording
from engine.triage.policy import POLICIES
from engine.triage.scope import Scope
from tests.worlds import WRITER, Simulation

BLOBS = MemoryBlobs()
SEEDS = (94, 13, 51, 76, 100)
"""Together they hold every kind of decision that is EXPECTED."""
Group = tuple[Line, ...]
Told = tuple[int, str, str, tuple[str, ...]]


class Place(NamedTuple):
    """Where a decision of some kind stands: the commands up to its own, and which line it is."""

    groups: list[Group]
    at: int

    @property
    def line(self) -> Line:
        return self.groups[-1][self.at]

    def told(self, change: Callable[[Group], Group]) -> list[Told]:
        """What an audit says when the last command was changed."""
        audit = Redecision(BLOBS.get)
        for group in self.groups[:-1]:
            audit.take(group)
        assert audit.differences == []
        changed = change(self.groups[-1])
        if changed:
            audit.take(changed)
        return [(d.pos, d.what, d.type, tuple(d.fields)) for d in audit.differences]

    def one(self, change: Callable[[Line], Sequence[Line]]) -> list[Told]:
        """The same when this line became others."""
        return self.told(
            lambda group: (*group[: self.at], *change(self.line), *group[self.at + 1 :])
        )


async def drained(seed: int) -> list[Group]:
    world = Simulation(seed, BLOBS)
    await world.register()
    await world.crash(resume=False)
    await world.drain(resume=True, crash_after_s=None)
    return await groups_of(world)


async def groups_of(world: Simulation) -> list[Group]:
    lines = [
        Line(r.pos, r.recorded_us, r.command_id, r.cause, r.data, event_of(r))
        for r in await world.store.records(Query(), limit=1_000_000)
    ]
    return [tuple(group) for group in commands(lines)]


def kind_of(event: AnyEvent) -> str:
    because = f" {event.because}" if isinstance(event, SessionDraining | SessionEnded) else ""
    return event_type(type(event)) + because


@pytest.fixture(scope="module")
def places() -> dict[str, Place]:
    """The first place of every kind of decision, over all seeds; filled by ``found``."""
    return {}


async def found(places: dict[str, Place]) -> dict[str, Place]:
    for seed in SEEDS if not places else ():
        groups = await drained(seed)
        for number, group in enumerate(groups):
            for at, line in enumerate(group):
                is_decision = hasattr(line.event, "reason") or line.cause is not None
                if is_decision or isinstance(line.event, SessionEnded | SessionPartLost):
                    places.setdefault(kind_of(line.event), Place(groups[: number + 1], at))
    return places


def with_event(line: Line, event: AnyEvent) -> Line:
    return line._replace(event=event, data=encode(event))


def lied(event: AnyEvent) -> Callable[[Line], Sequence[Line]]:
    """This event stands there instead."""
    return lambda line: [with_event(line, event)]


def followed(by: Line) -> Callable[[Line], Sequence[Line]]:
    """Another line stands behind it."""
    return lambda line: [line, by]


def did_well(event: AnyEvent) -> bool:
    if not isinstance(event, AttemptFinished):
        return False
    return event.ending == "succeeded" and event.yield_events > 0


EXPECTED = {
    "attempt.started",
    "diagnosis.boundary_detected",
    "diagnosis.fingerprinted",
    "diagnosis.zero_yield_explained",
    "session.draining run_budgets",
    "session.draining total_time",
    "session.ended nothing_eligible",
    "session.ended total_time",
    "triage.account_paused",
    "triage.account_recovered",
    "triage.attempt_deferred",
    "triage.breaker_closed",
    "triage.breaker_opened",
    "triage.breaker_probed",
    "triage.budget_reached",
    "triage.fingerprint_stopped",
    "triage.run_judged",
    "triage.run_stopped",
}


async def test_a_sentence_that_was_forged_is_the_only_difference(places: dict[str, Place]) -> None:
    kinds = await found(places)
    assert set(kinds) >= EXPECTED
    for kind, place in kinds.items():
        why: Any = getattr(place.line.event, "reason", None)
        if not hasattr(why, "sentence"):
            continue
        moon = replace(place.line.event, reason=replace(why, sentence="The moon did it."))
        told = place.one(lied(moon))
        name = event_type(type(place.line.event))
        assert told == [(place.line.pos, "differs", name, ("reason.sentence",))], kind


async def test_a_decision_that_was_left_out_is_missed_at_its_fact(places: dict[str, Place]) -> None:
    for kind, place in (await found(places)).items():
        line = place.line
        if isinstance(line.event, AttemptStarted | RunCooledDown | SessionDraining | SessionEnded):
            continue  # what comes next is another pick, or nothing was asked for
        if line.cause is None and place.at + 1 < len(place.groups[-1]):
            continue
        told = place.one(lambda _: [])
        before = place.groups[-1][place.at - 1].pos
        fact = before if line.cause is None else line.cause
        missed = (fact, "missing", event_type(type(line.event)), ())
        assert missed in told, kind
        if kind.startswith("triage."):
            assert told == [missed], kind


async def test_a_decision_that_was_told_twice_is_told_once_too_often(
    places: dict[str, Place],
) -> None:
    for kind, place in (await found(places)).items():
        if not kind.startswith(("triage.", "diagnosis.")) or place.line.cause is None:
            continue
        told = place.one(lambda line: [line, line])
        assert (place.line.pos, "unexpected", event_type(type(place.line.event)), ()) in told, kind


async def test_a_decision_belongs_to_the_fact_that_it_names(places: dict[str, Place]) -> None:
    for kind, place in (await found(places)).items():
        if place.line.cause is None or kind.startswith("usage."):
            continue
        told = place.one(lambda line: [line._replace(cause=(line.cause or 0) - 1)])
        name = event_type(type(place.line.event))
        assert told == [(place.line.pos, "differs", name, ("cause",))], kind


@pytest.mark.parametrize("field", ["attempts", "active_ms", "work_left"])
async def test_the_end_of_a_session_counts_right(places: dict[str, Place], field: str) -> None:
    place = (await found(places))["session.ended total_time"]
    one_more = {field: getattr(place.line.event, field) + 1}
    told = place.one(lied(replace(place.line.event, **one_more)))
    assert told == [(place.line.pos, "differs", "session.ended", (field,))]


@pytest.mark.parametrize("because", ["nothing_eligible", "total_time"])
async def test_the_end_of_a_session_has_its_cause(places: dict[str, Place], because: str) -> None:
    place = (await found(places))[f"session.ended {because}"]
    told = place.one(lied(replace(place.line.event, because="storage")))
    assert told == [(place.line.pos, "differs", "session.ended", ("because",))]


async def test_a_session_that_has_work_for_it_may_not_end(places: dict[str, Place]) -> None:
    place = (await found(places))["attempt.started"]
    start = place.groups[-1][0]
    assert isinstance(start.event, AttemptStarted)
    end = SessionEnded(
        session_id=start.event.session_id,
        because="nothing_eligible",
        active_ms=0,
        attempts=0,
        work_left=0,
    )
    told = place.told(lambda _: (with_event(start, end),))
    assert told == [(start.pos, "unexpected", "session.ended", ())]


async def test_the_words_of_a_failure_are_those_of_its_output(places: dict[str, Place]) -> None:
    place = (await found(places))["diagnosis.fingerprinted"]
    at, end = next(
        (n, line)
        for n, line in enumerate(place.groups[-1])
        if isinstance(line.event, AttemptFinished)
    )
    for words in ("The moon did it.", None):
        told = Place(place.groups, at).one(lied(replace(end.event, error=words)))
        assert told == [(end.pos, "differs", "attempt.finished", ("error",))]


async def test_a_diagnosis_of_an_end_that_there_is_nothing_to_say_of_is_unexpected(
    places: dict[str, Place],
) -> None:
    said = (await found(places))["diagnosis.fingerprinted"].line
    for groups in [await drained(seed) for seed in SEEDS]:
        for number, group in enumerate(groups):
            at = next((n for n, line in enumerate(group) if did_well(line.event)), None)
            if at is None:
                continue
            end = group[at]
            invented = said._replace(pos=end.pos + 1, cause=end.pos)
            told = Place(groups[: number + 1], at).one(followed(invented))
            assert (invented.pos, "unexpected", "diagnosis.fingerprinted", ()) in told
            return
    pytest.fail("no attempt did well")


async def test_a_decision_without_its_fact_is_unexpected(places: dict[str, Place]) -> None:
    place = (await found(places))["triage.run_judged"]
    told = place.told(lambda _: (place.line,))
    assert told == [(place.line.pos, "unexpected", "triage.run_judged", ())]


async def test_what_rules_of_tomorrow_decided_is_unverifiable_and_no_difference() -> None:
    audit = Redecision(BLOBS.get)
    for group in await drained(SEEDS[0]):
        audit.take([tomorrow(line) for line in group])
    assert audit.differences == []
    whys = {each.why for each in audit.unverifiable}
    assert whys == {"its session, policy or rules are unknown here"}
    assert "triage.run_judged" in {each.what for each in audit.unverifiable}


def tomorrow(line: Line) -> Line:
    event = line.event
    if not isinstance(event, PolicyAdopted):
        return line
    text = event.policy_json.replace('"standard-1"', '"standard-9"')
    return with_event(line, replace(event, policy_json=text))


@pytest.mark.parametrize("because", ["interrupted", "storage", "paused", "window_closed"])
async def test_a_stop_from_outside_is_believed(because: SessionEnd) -> None:
    world = Simulation(1, BLOBS)
    await world.register()
    async with recording(world.store, world.clock, WRITER) as recorder:
        of, ids = world.scope, world.ids
        for command in (
            begin(ids("cmd"), of, "scripted", resume=False),
            drain_now(ids("cmd"), of, because, "Somebody said so."),
            end_of(ids("cmd"), of, "nothing_eligible"),
        ):
            await recorder.submit(command)
    audit = Redecision(BLOBS.get)
    for group in await groups_of(world):
        audit.take(group)
    assert [each.sentence for each in audit.differences] == []
    assert audit.decided["session.draining"] == audit.decided["session.ended"] == 1


async def test_what_budgets_hold_back_is_missed_at_an_end_that_says_nothing_of_it(
    places: dict[str, Place],
) -> None:
    place = (await found(places))["session.draining run_budgets"]
    end = place.groups[-1][-1]
    assert isinstance(end.event, SessionEnded)
    silent = with_event(end, replace(end.event, because="nothing_eligible"))
    told = place.told(lambda _: (silent,))
    assert told == [(end.pos, "missing", "session.draining", ())]


async def test_a_budget_that_the_last_start_of_a_pick_uses_up_is_missed(
    places: dict[str, Place],
) -> None:
    for seed in SEEDS:
        groups = await drained(seed)
        for number, group in enumerate(groups):
            last = group[-1]
            if isinstance(last.event, BudgetReached) and last.cause is None:
                place = Place(groups[: number + 1], len(group) - 1)
                told = place.one(lambda _: [])
                assert told == [(group[-2].pos, "missing", "triage.budget_reached", ())]
                return
    pytest.fail("no start used up a budget")


@pytest.mark.parametrize("is_leased", [False, True])
@pytest.mark.parametrize("seed", range(6))
async def test_a_session_that_goes_on_under_another_policy_is_decided_by_that(
    seed: int, *, is_leased: bool
) -> None:
    """Also in a log that is shared, where the sessions of others go on beside it."""
    world = Simulation(seed, BLOBS)
    await world.register()
    await world.crash(resume=False)
    other = POLICIES["classic" if world.scope.policy.name == "default" else "default"]
    world.scope = Scope(world.scope.session_id, other, world.scope.limits)
    await world.drain(resume=True, crash_after_s=None)
    audit = Redecision(BLOBS.get)
    leased = SessionLeased(session_id=world.scope.session_id, epoch=1, host="h", lease_ms=1)
    for group in await groups_of(world):
        audit.take(group)
        if is_leased and any(isinstance(line.event, SessionStarted) for line in group):
            audit.take([group[-1]._replace(event=leased)])
    assert [each.sentence for each in audit.differences] == []
