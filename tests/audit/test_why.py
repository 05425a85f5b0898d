"""``why`` on simulated drains: a hindrance is named exactly when nothing would be picked."""

from __future__ import annotations

import os

import pytest
from msgspec.structs import replace

from engine.audit.casefile import Around, case_on
from engine.audit.survey import survey
from engine.audit.why import Explanation, explanation
from engine.audit.why_attempt import attempt_explanation
from engine.events import AnyEvent, AttemptFinished, FailureFingerprinted, Record, Seen, event_of
from engine.store.boards import load_board
from engine.store.protocol import Query
from engine.triage.case import Case
from engine.triage.eligible import phase_hindrance, run_hindrance
from engine.triage.hindrance import Hindrance
from engine.triage.hindrances import of_phase_and_all, of_run
from engine.triage.picking import limit_reached
from engine.triage.reasons import Ground
from engine.triage.select import pick_by_scan
from projections.backlog import BACKLOG, PhaseStanding
from projections.board import Board
from projections.breakers import BREAKERS
from projections.fold import Keyed, canonical, join
from tests.worlds import Simulation

SEEDS = range(int(os.environ.get("RUNOFF_SIM_SEEDS", "60")))


async def drained(seed: int) -> tuple[Simulation, list[Record]]:
    world = Simulation(seed)
    await world.register()
    lives = world.random.randint(0, 3)
    for life in range(lives):
        await world.crash(resume=life > 0)
    await world.drain(resume=lives > 0, crash_after_s=None)
    return world, await world.store.records(Query(), limit=1_000_000)


def moments(record: Record) -> tuple[int, int]:
    """Right then, and a while later: pauses and cool-downs end by the clock alone."""
    return record.recorded_us, record.recorded_us + 4_000_000


def offered_alone(board: Board, case: Case, phase: PhaseStanding) -> bool:
    """Whether a scan would offer this phase, were all its siblings busy."""
    alone = Board()
    alone.runs, alone.sessions, alone.accounts = board.runs, board.sessions, board.accounts
    alone.breakers = Keyed(BREAKERS, [(b.fingerprint, canonical(b)) for b in case.breakers])
    rows = [(join(p.run_id, p.phase_id), canonical(busy(p, phase))) for p in case.phases]
    alone.backlog = Keyed(BACKLOG, rows)
    return pick_by_scan(alone, case.scope, case.now_us) is not None


def busy(phase: PhaseStanding, but: PhaseStanding) -> PhaseStanding:
    if phase.phase_id == but.phase_id:
        return phase
    return replace(phase, open_attempt="att_busy")


def session_goes_on(board: Board, case: Case) -> bool:
    session, limits = case.session, case.scope.limits
    if session.status != "running" or session.open >= limits.workers:
        return False
    return limit_reached(board, Ground(case.scope, board.head.pos, case.now_us)) is None


def kinds(found: list[Hindrance], *levels: str) -> set[str]:
    return {hindrance.kind for hindrance in found if hindrance.of in levels}


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
async def test_a_hindrance_is_named_exactly_when_a_scan_would_not_offer_the_phase(
    seed: int,
) -> None:
    _, records = await drained(seed)
    board = Board()
    for record in records:
        board.feed(Seen(record.pos, record.recorded_us, event_of(record)))
        for now_us in moments(record):
            for phase in board.backlog.values():
                case = case_on(board, phase.run_id, now_us)
                check_hindrances(board, case, phase)
                check_hindrances(board, case.anew(), phase)


def check_hindrances(board: Board, case: Case, phase: PhaseStanding) -> None:
    """What is named is what a scan, the first-of-all rules and the session's limits say."""
    found = of_phase_and_all(case, phase)
    held = kinds(found, "phase", "run", "samples", "account")
    assert (held == set()) == offered_alone(board, case, phase), (board.head.pos, found)
    first = phase_hindrance(phase, case.scope)
    assert first is None or first in kinds(found, "phase")
    of_the_run = next((hindrance.kind for hindrance in of_run(case)), None)
    assert run_hindrance(case.run, case.scope) == of_the_run
    if case.is_new:
        assert kinds(found, "session") <= {"day_budget"}
    else:
        assert (kinds(found, "session") == set()) == session_goes_on(board, case)


@pytest.mark.parametrize("seed", SEEDS[:20], ids=lambda seed: f"seed-{seed}")
async def test_every_run_and_phase_is_explained_at_any_position(seed: int) -> None:
    world, records = await drained(seed)
    events = {record.pos: event_of(record) for record in records}
    for record in records[seed % 11 :: 11]:
        end, now_us = record.pos, record.recorded_us
        board = await load_board(world.store, end)
        around = Around.of(board)
        for phase in board.backlog.values():
            case = case_on(board, phase.run_id, now_us)
            told = await explanation(
                world.store, phase.run_id, phase.phase_id, end=end, now_us=now_us
            )
            if around.newest() is not None:
                assert list(told.hindrances) == of_phase_and_all(case, phase)
            assert list(told.new_session) == of_phase_and_all(case.anew(), phase)
            assert sum(told.phases.values()) == len(case.phases)
            check_places(told, events, end)
        for run_id in board.runs.states:
            told = await explanation(world.store, run_id, None, end=end, now_us=now_us)
            check_places(told, events, end)


def check_places(told: Explanation, events: dict[int, AnyEvent], end: int) -> None:
    """Every position that is named holds what is said to stand there."""
    assert told.sentence.endswith(".")
    assert all(fact.pos <= end for fact in told.facts)
    assert len({fact.pos for fact in told.facts}) == len(told.facts)
    for seen in told.seen:
        there = events[seen.pos]
        assert isinstance(there, FailureFingerprinted)
        assert (there.fingerprint, there.attempt_id) == (told.fingerprint, seen.attempt_id)
    for each in told.evidence:
        assert getattr(events[each.pos], "attempt_id", None) == each.attempt_id
    named = [e for e in told.evidence if e.kind == "failure"]
    if named:
        failure = events[named[0].pos]
        assert isinstance(failure, FailureFingerprinted)
        before = [
            pos
            for pos, event in events.items()
            if pos < named[0].pos
            and isinstance(event, FailureFingerprinted)
            and event.fingerprint == failure.fingerprint
            and event.session_id == failure.session_id
        ]
        if failure.seen_before:
            assert [seen.pos for seen in told.seen] == before[:5]


@pytest.mark.parametrize("seed", SEEDS[:20], ids=lambda seed: f"seed-{seed}")
async def test_an_attempt_names_all_that_was_decided_from_its_end(seed: int) -> None:
    world, records = await drained(seed)
    end = records[-1].pos
    ends = [r for r in records if isinstance(event_of(r), AttemptFinished)]
    for finish in ends:
        assert finish.attempt is not None
        told = await attempt_explanation(world.store, finish.attempt, end=end, now_us=0)
        assert told is not None
        decided = [
            r.pos
            for r in records
            if r.cause == finish.pos and hasattr(event_of(r), "reason")
            if not r.type.startswith("diagnosis.")
        ]
        assert [fact.pos for fact in told.decided] == decided
        before = await attempt_explanation(
            world.store, finish.attempt, end=finish.pos - 1, now_us=finish.recorded_us
        )
        assert before is not None
        assert (before.ended, before.decided) == (None, ())
        assert before.open_us is not None
        assert before.open_us >= 0


@pytest.mark.parametrize("seed", SEEDS[:20], ids=lambda seed: f"seed-{seed}")
async def test_the_overview_counts_every_phase_and_names_what_is_picked_next(seed: int) -> None:
    world, records = await drained(seed)
    for record in records[seed % 5 :: 5]:
        board = await load_board(world.store, record.pos)
        phases, was_open = len(board.backlog), board.sessions.get(world.scope.session_id)
        picked = None
        if was_open is not None and was_open.status == "running":
            picked = pick_by_scan(board, world.scope, record.recorded_us)
        told = await survey(world.store, board, record.recorded_us)
        assert sum(told.phases.values()) == phases
        assert set(told.examples) == set(told.phases)
        assert told.sentence.endswith(".")
        if told.seen_from == "session" and told.next is not None and told.next.what == "attempt":
            assert picked is not None
            found = (picked.phase.run_id, picked.phase.phase_id)
            assert (told.next.run_id, told.next.phase_id) == found
        if told.seen_from == "session" and told.next is None:
            assert picked is None
