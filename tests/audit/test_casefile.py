"""What ``why`` looks at: the same from a few rows as from the whole board, at every position."""

from __future__ import annotations

import os

import pytest
from msgspec.structs import replace

from engine.audit.casefile import Around, case_file, case_on
from engine.drain.sheets import event_of
from engine.events import Record, Seen
from engine.store.boards import load_board
from engine.store.protocol import Query
from engine.triage.case import Case
from engine.triage.eligible import phase_hindrance, run_hindrance
from engine.triage.hindrances import Hindrance, of_phase_and_all, of_run
from engine.triage.picking import limit_reached
from engine.triage.reasons import Ground
from engine.triage.select import pick_by_scan
from projections.backlog import BACKLOG, PhaseStanding
from projections.board import Board
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


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
async def test_a_case_is_the_same_from_few_rows_as_from_the_whole_board(seed: int) -> None:
    world, records = await drained(seed)
    for record in records[seed % 7 :: 7]:
        board = await load_board(world.store, record.pos)
        around = await Around.load(world.store, record.pos)
        for run_id in board.runs.states:
            found = await case_file(world.store, around, run_id, record.pos, record.recorded_us)
            assert found is not None
            assert found.case == case_on(board, run_id, record.recorded_us)
        assert await case_file(world.store, around, "nope", record.pos, 0) is None


def offered_alone(board: Board, case: Case, phase: PhaseStanding) -> bool:
    """Whether a scan would offer this phase, were all its siblings busy."""
    alone = Board()
    alone.runs, alone.sessions = board.runs, board.sessions
    alone.breakers, alone.accounts = board.breakers, board.accounts
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
        around = Around.of(board)
        if around.newest() is None:
            continue
        for now_us in moments(record):
            for phase in board.backlog.values():
                case = case_on(board, phase.run_id, now_us)
                found = of_phase_and_all(case, phase)
                held = kinds(found, "phase", "run", "samples", "account")
                assert (held == set()) == offered_alone(board, case, phase), (record.pos, found)
                assert (kinds(found, "session") == set()) == session_goes_on(board, case)
                first, of_the_run = phase_hindrance(phase, case.scope), list(of_run(case))
                assert first is None or first in kinds(found, "phase")
                assert run_hindrance(case.run, case.scope) == next(
                    (hindrance.kind for hindrance in of_the_run), None
                )
                assert not kinds(of_phase_and_all(case.anew(), phase), "session") - {"day_budget"}
