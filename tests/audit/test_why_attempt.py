"""Every field of an attempt's explanation, found again in the events; and ids that hold slashes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.audit.why import explanation
from engine.audit.why_attempt import attempt_explanation
from engine.clock import HandSetClock
from engine.errors import UsageProblem
from engine.events import (
    AnyEvent,
    AttemptFinished,
    AttemptSpawned,
    AttemptStarted,
    BoundaryDetected,
    BreakerOpened,
    Ending,
    FailureFingerprinted,
    PolicyAdopted,
    RunRegistered,
    SessionEnded,
    SessionStarted,
    ZeroYieldExplained,
    event_of,
)
from engine.store.command import Command, Decide, Draft, Moment, just
from engine.store.memory import MemoryStore
from engine.store.recorder import recording
from projections.board import Board
from tests.audit.test_why_facts import drained
from tests.harness.backlogs import queued
from tests.rules.standings import because, finished, judged, limits, policy, started
from tests.worlds import WRITER

DIAGNOSES = (FailureFingerprinted, BoundaryDetected, ZeroYieldExplained)
LATER_US = 1_234_567


@pytest.mark.parametrize("seed", range(12))
async def test_every_field_of_an_attempt_is_what_its_events_say(seed: int) -> None:
    world, records = await drained(seed)
    starts = [(r, e) for r in records if isinstance(e := event_of(r), AttemptStarted)]
    ends = {e.attempt_id: (r, e) for r in records if isinstance(e := event_of(r), AttemptFinished)}
    for place, start in starts:
        end = ends.get(start.attempt_id)
        for until in {place.pos, records[-1].pos, *([end[0].pos, end[0].pos - 1] if end else [])}:
            now_us = place.recorded_us + LATER_US
            of = start.attempt_id
            found = await attempt_explanation(world.store, of, end=until, now_us=now_us)
            assert found is not None
            ids = (found.attempt_id, found.session_id, found.run_id, found.phase_id)
            assert ids == (of, start.session_id, start.run_id, start.phase_id)
            assert (found.number, found.group, found.probe_of) == (
                start.number,
                start.group,
                start.probe_of,
            )
            assert (found.position, found.now_us) == (until, now_us)
            assert (found.started.pos, found.started.type) == (place.pos, "attempt.started")
            assert (found.rule.rule, found.rule.version) == ("pick", start.reason.version)
            is_over = end is not None and end[0].pos <= until
            assert found.open_us == (None if is_over else LATER_US)
            assert found.ending == (end[1].ending if end and is_over else None)
            told = None if found.ended is None else (found.ended.pos, found.ended.type)
            assert told == ((end[0].pos, "attempt.finished") if end and is_over else None)
            assert all(fact.pos <= until for fact in (*found.facts, *found.decided))
            assert [each.pos for each in found.evidence] == [
                each.pos
                for each in records
                if each.attempt == of
                and each.pos <= until
                and isinstance(event_of(each), DIAGNOSES)
            ]


async def test_an_attempt_that_has_not_begun_by_then_is_none() -> None:
    world, records = await drained(0)
    first = next(r for r in records if r.type == "attempt.started")
    of = first.attempt
    assert of is not None
    now_us = first.recorded_us
    assert await attempt_explanation(world.store, of, end=first.pos - 1, now_us=now_us) is None
    assert await attempt_explanation(world.store, "att_x", end=first.pos, now_us=now_us) is None


async def test_a_probe_is_open_since_it_was_started_whatever_came_of_it_later() -> None:
    store, clock = await registered(("r", "p")), HandSetClock()
    ids = {"run_id": "r", "phase_id": "p", "session_id": "s", "attempt_id": "att_1"}
    spawned = AttemptSpawned(**ids, host="h", boot_id="b", pid=1, start_ticks=2, directory="d")
    begun = SessionStarted(session_id="s", executor="x", limits=limits())
    opened = BreakerOpened(
        session_id="s", fingerprint="f", template="", runs=3, reason=because("breaker", "")
    )
    async with recording(store, clock, WRITER) as recorder:
        for event in (begun, opened, started(**ids, probe_of="f"), spawned):
            clock.advance(60)
            await recorder.submit(Command(type(event).__name__, "drain/s", b"", just(event)))
    now_us = clock.now_us()
    found = await attempt_explanation(store, "att_1", end=99, now_us=now_us)
    assert found is not None
    assert (found.open_us, found.probe_of) == (60_000_000, "f")


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("succeeded", "It succeeded after 0.0 s."),
        ("failed", "It failed after 0.0 s."),
        ("timed_out", "It was ended by its deadline after 0.0 s."),
        ("broke", "It was broken by its executor after 0.0 s."),
        ("abandoned", "It was abandoned after 0.0 s."),
        ("orphaned", "It was lost with its engine after 0.0 s."),
    ],
)
async def test_an_attempt_is_told_by_how_it_ended_and_what_was_decided_from_that(
    ending: Ending, words: str
) -> None:
    decided = judged(attempt_id="att_1", reason=because("verdict", "It is judged."))
    for behind, follows in (((), "Nothing was decided from that."), ((decided,), "It is judged.")):
        store = await registered(("r", "p"))
        begun = SessionStarted(session_id="s", executor="x", limits=limits())
        end = finished(attempt_id="att_1", ending=ending)
        async with recording(store, HandSetClock(), WRITER) as recorder:
            start = just(begun, started(attempt_id="att_1"))
            await recorder.submit(Command("start", "drain/s", b"", start))
            await recorder.submit(Command("end", "drain/s", b"", caused(end, *behind)))
        found = await attempt_explanation(store, "att_1", end=99, now_us=0)
        assert found is not None
        said = f"This is attempt 1 of p in r. {words} {follows}"
        assert found.sentence == said


@pytest.mark.parametrize("is_over", [False, True])
async def test_phases_are_counted_as_their_session_sees_them_or_one_that_is_to_come(
    *, is_over: bool
) -> None:
    store, of = await registered(("r", "p"), ("r", "q")), policy()
    adopted = PolicyAdopted(
        session_id="s", policy=of.label, policy_sha256=of.sha256, policy_json=of.json
    )
    only_p = limits(run_id="r", phase_id="p")
    begun = SessionStarted(session_id="s", executor="x", limits=only_p)
    ended = SessionEnded(
        session_id="s", because="interrupted", active_ms=1, attempts=0, work_left=1
    )
    async with recording(store, HandSetClock(), WRITER) as recorder:
        told = (adopted, begun, ended) if is_over else (adopted, begun)
        await recorder.submit(Command("session", "drain/s", b"", just(*told)))
    found = await explanation(store, "r", None, end=99, now_us=0)
    assert sum(found.phases.values()) == 2
    assert found.phases.get("filtered") == (None if is_over else 1)


def caused(first: AnyEvent, *behind: AnyEvent) -> Decide:
    """The first event, and those that it is the cause of."""

    def decide(_board: Board, moment: Moment) -> Iterator[Draft]:
        yield Draft(first)
        yield from (Draft(event, moment.next_pos) for event in behind)

    return decide


async def registered(*phases: tuple[str, str]) -> MemoryStore:
    """A log of these phases, each a run's and its own id."""
    store = MemoryStore()
    events: list[AnyEvent] = [
        RunRegistered(run_id=run_id, origin="test", state="NEW")
        for run_id in dict.fromkeys(run_id for run_id, _ in phases)
    ]
    events += [queued(*phase) for phase in phases]
    async with recording(store, HandSetClock(), WRITER) as recorder:
        await recorder.submit(Command("backlog", "backlog", b"", just(*events)))
    return store


@pytest.mark.parametrize(
    ("asked", "run_id", "phase_id"),
    [
        ("a/b/c", "a", "b/c"),
        ("x/y/z", "x/y", "z"),
        ("q/r/s/t", "q/r", "s/t"),
        ("x/y", "x/y", None),
        ("k/l", "k", "l"),
    ],
)
async def test_a_slash_may_belong_to_the_run_or_to_the_phase(
    asked: str, run_id: str, phase_id: str | None
) -> None:
    store = await registered(
        *(("a", "b/c"), ("a", "e"), ("a/b", "d"), ("x/y", "z"), ("q/r", "s/t"), ("k", "l")),
        *(("x/y", "w"), ("q/r", "v")),
    )
    found = await explanation(store, asked, None, end=99, now_us=0)
    assert (found.run_id, found.phase_id) == (run_id, phase_id)


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ("a/b/x", "the run has no phase 'x'"),
        ("n/o/x", "there is no run 'n/o/x'"),
        ("a.b/c", "there is no run 'a.b/c'"),
    ],
)
async def test_where_no_cut_names_a_phase_it_is_said_of_the_longest_run(
    asked: str, problem: str
) -> None:
    store = await registered(("a", "b/c"), ("a/b", "d"))
    with pytest.raises(UsageProblem, match=problem):
        await explanation(store, asked, None, end=99, now_us=0)
