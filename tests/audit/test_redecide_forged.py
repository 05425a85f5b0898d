"""A decision that is forged, left out or told twice is one difference, at its place, of any kind.

A log is followed up to the command that was tampered with; what comes behind it is decided from
what is recorded, and says nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from engine.audit.lines import Line, commands
from engine.audit.redecide import Redecision
from engine.drain.commands import begin, drain_now, end as end_of, pick
from engine.events import (
    AnyEvent,
    AttemptFinished,
    AttemptStarted,
    Budget,
    BudgetReached,
    PolicyAdopted,
    RunCooledDown,
    SessionDraining,
    SessionEnd,
    SessionEnded,
    SessionLeased,
    SessionPartLost,
    SessionStarted,
    UsageRejected,
    encode,
    event_of,
    event_type,
)
from engine.executors.scripted import Rule
from engine.store.blobs import MemoryBlobs
from engine.store.command import Command, just
from engine.store.protocol import Query
from engine.store.recorder import recording
from engine.triage.policy import POLICIES
from engine.triage.scope import Scope
from engine.triage.select import Queue
from tests.worlds import WRITER, Simulation

BLOBS = MemoryBlobs()
DAY_US = 86_400_000_000
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

    def instead(self, *lines: Line) -> list[Told]:
        """The same when these lines stood there for the last command."""
        return self.told(lambda _: lines)

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


async def handed_over(seed: int, times: int) -> list[Group]:
    """A session whose engine dies, and then others on the same log, each begun anew."""
    world = Simulation(seed, BLOBS)
    await world.register()
    await world.crash(resume=False)
    for _ in range(times):
        world.scope = Scope(world.ids("ses"), world.scope.policy, world.scope.limits)
        await world.drain(resume=False, crash_after_s=None)
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
    told = place.instead(with_event(start, end))
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


async def test_a_success_has_no_words_of_a_failure() -> None:
    groups = await drained(SEEDS[0])
    number, at, end = next(
        (number, at, line)
        for number, group in enumerate(groups)
        for at, line in enumerate(group)
        if isinstance(line.event, AttemptFinished) and line.event.ending == "succeeded"
    )
    told = Place(groups[: number + 1], at).one(lied(replace(end.event, error="It broke.")))
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
    """Also a diagnosis: failures that nothing had would stop what they never spoiled."""
    for kind, place in (await found(places)).items():
        if kind.startswith(("triage.", "diagnosis.")) and place.line.cause is not None:
            told = place.instead(place.line)
            assert told == [(place.line.pos, "unexpected", kind, ())]


async def test_a_lost_part_that_no_session_took_over_is_unexpected() -> None:
    groups = await handed_over(SEEDS[0], times=1)
    begun = next(g for g in groups if any(isinstance(e.event, SessionPartLost) for e in g))
    lost = next(line for line in begun if isinstance(line.event, SessionPartLost))
    told = Place(groups[: groups.index(begun) + 1], 0).instead(lost)
    assert told == [(lost.pos, "unexpected", "session.part_lost", ())]


async def test_a_decision_that_stands_before_its_fact_does_not_count(
    places: dict[str, Place],
) -> None:
    for kind, place in (await found(places)).items():
        group = place.groups[-1]
        at = next((n for n, e in enumerate(group) if isinstance(e.event, AttemptFinished)), None)
        if at is None or place.line.cause != group[at].pos:
            continue
        rest = [line for line in group if line is not place.line]
        told = place.instead(place.line, *rest)
        unexpected = (place.line.pos, "unexpected", event_type(type(place.line.event)), ())
        assert unexpected in told, kind


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


@pytest.mark.parametrize("because", ["nothing_eligible", "run_budgets"])
async def test_what_budgets_hold_back_is_missed_at_an_end_that_says_nothing_before(
    places: dict[str, Place], because: SessionEnd
) -> None:
    place = (await found(places))["session.draining run_budgets"]
    end = place.groups[-1][-1]
    assert isinstance(end.event, SessionEnded)
    silent = with_event(end, replace(end.event, because=because))
    told = place.instead(silent)
    assert told[0] == (end.pos, "missing", "session.draining", ())
    assert len(told) == (1 if because == "nothing_eligible" else 2), "without it no budget did"


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


async def test_a_session_that_was_lost_is_told_of_when_the_next_one_begins_and_never_again() -> (
    None
):
    groups = await handed_over(SEEDS[0], times=2)
    places = [
        Place(groups[: number + 1], at)
        for number, group in enumerate(groups)
        for at, line in enumerate(group)
        if isinstance(line.event, SessionPartLost)
    ]
    (place,) = places
    lost = place.line.event
    assert isinstance(lost, SessionPartLost)
    longer = replace(lost, active_ms=lost.active_ms + 1)
    told = place.one(lied(longer))
    assert told == [(place.line.pos, "differs", "session.part_lost", ("active_ms",))]
    told = place.one(lambda _: [])
    assert told == [(place.line.pos - 1, "missing", "session.part_lost", ())]
    assert Place(groups, 0).told(lambda group: group) == []


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_session_may_end_where_it_went_on(seed: int) -> None:
    """Wherever there was an attempt to start, an end that is told instead is unexpected."""
    groups = await drained(seed)
    found: set[Told] = set()
    for number, (before, group) in enumerate(pairwise(groups), 1):
        line = group[0]
        at_once = line.recorded_us == before[-1].recorded_us
        if not isinstance(line.event, AttemptStarted) or not at_once:
            continue  # where time went by it may have had nothing to start before
        early = SessionEnded(
            session_id=line.event.session_id,
            because="nothing_eligible",
            active_ms=0,
            attempts=0,
            work_left=0,
        )
        found.update(Place(groups[: number + 1], 0).instead(with_event(line, early)))
    assert {(what, of) for _, what, of, _ in found} == {("unexpected", "session.ended")}


async def test_two_budgets_that_one_start_uses_up_are_both_told() -> None:
    world = Simulation(SEEDS[0], BLOBS)
    once = [Budget(scope=scope, measure="attempts", limit=1) for scope in ("phase", "run")]
    limits = replace(world.scope.limits, budgets=tuple(once))
    world.scope = Scope(world.scope.session_id, POLICIES["default"], limits)
    await world.register()
    await world.drain(resume=False, crash_after_s=None)
    groups = await groups_of(world)
    at = next(n for n, group in enumerate(groups) if isinstance(group[0].event, AttemptStarted))
    last = groups[at][-1]
    assert isinstance(last.event, BudgetReached)
    told = Place(groups[: at + 1], len(groups[at]) - 1).one(lambda _: [])
    assert told == [(last.pos - 1, "missing", "triage.budget_reached", ())]


async def test_what_has_cooled_down_when_an_end_is_recorded_had_not_when_it_was_decided() -> None:
    """The session may have ended at any time since its last event, but its time is counted."""
    world = Simulation(0, BLOBS)
    world.scope = Scope(world.scope.session_id, POLICIES["default"], world.scope.limits)
    await world.register()
    await world.drain(resume=False, crash_after_s=None)
    place = Place(await groups_of(world), 0)
    end = place.line
    assert isinstance(end.event, SessionEnded)
    assert end.event.because == "nothing_eligible"
    late = end._replace(recorded_us=end.recorded_us + 2 * DAY_US)
    told = place.instead(late)
    assert told == [(end.pos, "differs", "session.ended", ("active_ms",))]


async def test_what_cannot_be_read_is_named_each_word_of_it_or_the_end_itself() -> None:
    """The log holds short output itself; longer output may be gone."""
    world = Simulation(1, BLOBS)
    long = "more than stands in the log itself\n" * 40
    world.rules = [
        Rule(phase="p0", state="COMPLETE", rc=0, events=1, stdout=long),
        Rule(state="FAILED", rc=1, stderr=long),
    ]
    await world.register()
    await world.drain(resume=False, crash_after_s=None)
    audit, expected = Redecision(lambda _digest: None), set[int]()
    for group in await groups_of(world):
        audit.take(group)
        ends = [line.pos for line in group if isinstance(line.event, AttemptFinished)]
        words = [line.pos for line in group if kind_of(line.event).startswith("diagnosis.")]
        expected |= set(words or ends)
    assert {each.pos for each in audit.unverifiable} == expected
    kinds = {each.what for each in audit.unverifiable}
    assert {"attempt.finished", "diagnosis.fingerprinted"} <= kinds
    assert audit.differences == []


async def test_what_was_decided_by_unknown_rules_stands_and_later_ones_go_on_from_there() -> None:
    """The first life went by rules of tomorrow, the second one by those of today."""
    audit = Redecision(BLOBS.get)
    lives = 0
    for group in await drained(SEEDS[0]):
        lives += any(isinstance(line.event, PolicyAdopted) for line in group)
        audit.take([tomorrow(line) for line in group] if lives < 2 else group)
    assert lives == 2
    assert [each.sentence for each in audit.differences] == []
    assert "attempt.started" in {each.what for each in audit.unverifiable}
    assert audit.decided["attempt.started"] > 0
    assert audit.decided["session.ended"] == 1


@pytest.mark.parametrize("is_known", [True, False])
async def test_what_a_session_did_that_has_not_begun_is_unverifiable(*, is_known: bool) -> None:
    groups = await drained(SEEDS[0])
    begun = next(g for g in groups if any(isinstance(e.event, SessionStarted) for e in g))
    adopted = next(line for line in begun if isinstance(line.event, PolicyAdopted))
    end = groups[-1][-1]
    assert isinstance(end.event, SessionEnded)
    audit = Redecision(BLOBS.get)
    for group in ([adopted], [end])[not is_known :]:
        audit.take(group)
    assert [(each.pos, each.what) for each in audit.unverifiable] == [(end.pos, "session.ended")]
    assert audit.differences == []


async def test_rows_that_no_rule_reads_move_what_decisions_stand_on() -> None:
    """Before a pick, a stop and an end stand rows that are not even handed to the audit."""
    world = Simulation(1, BLOBS)
    await world.register()
    async with recording(world.store, world.clock, WRITER) as recorder:
        of, ids = world.scope, world.ids
        queue = Queue(recorder.board, of)
        for command in (
            begin(ids("cmd"), of, "scripted", resume=False, queue=queue),
            pick(ids("cmd"), of, queue, capacity=1, new_attempt_id=lambda: ids("att")),
            drain_now(ids("cmd"), of, "interrupted", "Somebody said so."),
        ):
            await recorder.submit(Command(ids("cmd"), "x", b"", just(UNREAD)))
            await recorder.submit(command)
    audit = Redecision(BLOBS.get)
    for group in await groups_of(world):
        if type(group[0].event) is not UsageRejected:
            audit.take(group)
    assert [each.sentence for each in audit.differences] == []
    assert (audit.decided["attempt.started"], audit.decided["session.draining"]) == (1, 1)


UNREAD = UsageRejected(
    session_id="s",
    run_id="r",
    phase_id="p",
    attempt_id="a",
    why="not_json",
    count=1,
    first_line=1,
    excerpt="",
)
