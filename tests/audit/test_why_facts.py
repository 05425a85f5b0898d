"""Which facts an answer rests on: the newest that were decided, that happened, and the sample's."""

from __future__ import annotations

import pytest

from engine.audit import why
from engine.audit.facts import DECIDED, fact
from engine.audit.why import Explanation, explanation
from engine.audit.why_attempt import attempt_explanation
from engine.drain.intake import operating
from engine.events import (
    AnyEvent,
    AttemptFinished,
    AttemptStarted,
    BoundaryDetected,
    FailureFingerprinted,
    PhaseRegistered,
    Record,
    RunJudged,
    RunStopped,
    Seen,
    event_of,
)
from engine.store.boards import load_board
from engine.store.protocol import Query
from engine.store.recorder import recording
from engine.triage.operating import ReinstateRun
from tests.worlds import WRITER, Simulation

SEEDS = range(24)
FEW = 1


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("declared", "limit max_turns (stopped_by), declared by the program"),
        ("max turns", "limit max_turns (stopped_by) by the pattern 'max turns'"),
    ],
)
def test_a_limit_says_by_what_it_was_found(pattern: str, text: str) -> None:
    event = BoundaryDetected(
        session_id="s",
        run_id="r",
        phase_id="p",
        attempt_id="a",
        detector="d",
        kind="max_turns",
        disposition="stopped_by",
        pattern=pattern,
    )
    found = fact(Seen(9, 1, event))
    assert found is not None
    assert found.text == text


async def drained(seed: int) -> tuple[Simulation, list[Record]]:
    world = Simulation(seed)
    await world.register()
    for life in range(seed % 4):
        await world.crash(resume=life > 0)
    await world.drain(resume=seed % 4 > 0, crash_after_s=None)
    return world, await world.store.records(Query(), limit=1_000_000)


async def told(
    world: Simulation, end: Record, run_id: str, phase_id: str | None = None
) -> Explanation:
    end_pos, now_us = end.pos, end.recorded_us
    return await explanation(world.store, run_id, phase_id, end=end_pos, now_us=now_us)


@pytest.mark.parametrize("seed", SEEDS)
async def test_an_answer_shows_the_newest_facts_and_counts_the_rest(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, records = await drained(seed)
    events = {record.pos: event_of(record) for record in records}
    end = records[-1]
    board = await load_board(world.store, end.pos)
    about: list[tuple[str, str | None]] = [(run_id, None) for run_id in board.runs.states]
    about += [(phase.run_id, phase.phase_id) for phase in board.backlog.values()]
    for run_id, phase_id in about:
        monkeypatch.setattr(why, "FACTS_MAX", 10_000)
        whole = await told(world, end, run_id, phase_id)
        assert whole.facts_left_out == 0
        assert [*whole.phases] == sorted(whole.phases)
        places = [fact.pos for fact in whole.facts]
        if phase_id is None:
            judged = {pos for pos, e in events.items() if isinstance(e, RunJudged)}
            assert set(places) & judged == {
                pos for pos in judged if getattr(events[pos], "run_id", None) == run_id
            }
        registered = [pos for pos in places if isinstance(events[pos], PhaseRegistered)]
        assert len(registered) == (phase_id is not None)
        monkeypatch.setattr(why, "FACTS_MAX", FEW)
        few = await told(world, end, run_id, phase_id)
        sample = board.runs.states[run_id].sample or last_end(events, run_id)
        sample = sample if phase_id is None else None
        assert [fact.pos for fact in few.facts] == sorted(expected(events, places, sample))
        assert few.facts_left_out == len(places) - len(few.facts)


def last_end(events: dict[int, AnyEvent], run_id: str) -> str | None:
    ends = [e for e in events.values() if isinstance(e, AttemptFinished) and e.run_id == run_id]
    return ends[-1].attempt_id if ends else None


def expected(events: dict[int, AnyEvent], places: list[int], sample: str | None) -> set[int]:
    decided = [pos for pos in places if isinstance(events[pos], DECIDED)]
    happened = [pos for pos in places if not isinstance(events[pos], DECIDED)]
    of_sample = {
        pos for pos in places if sample and getattr(events[pos], "attempt_id", None) == sample
    }
    return {*decided[-FEW:], *happened[-FEW:], *of_sample}


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_phase_is_answered_for_by_its_last_attempt_and_a_run_by_its_sample(
    seed: int,
) -> None:
    world, records = await drained(seed)
    events = [event_of(record) for record in records]
    board = await load_board(world.store, records[-1].pos)
    said = {e.attempt_id: e.fingerprint for e in events if isinstance(e, FailureFingerprinted)}
    for phase in board.backlog.values():
        ends = [
            e.attempt_id
            for e in events
            if isinstance(e, AttemptFinished)
            and (e.run_id, e.phase_id) == (phase.run_id, phase.phase_id)
        ]
        found = await told(world, records[-1], phase.run_id, phase.phase_id)
        assert found.fingerprint == (said.get(ends[-1]) if ends else None)
        starts = [
            e.attempt_id
            for e in events
            if isinstance(e, AttemptStarted)
            and (e.run_id, e.phase_id) == (phase.run_id, phase.phase_id)
        ]
        assert (found.ran.attempt_id if found.ran else None) == (starts[-1] if starts else None)
        own = [e for e in events if getattr(e, "run_id", None) == phase.run_id]
        own = [e for e in own if getattr(e, "phase_id", None) in (None, phase.phase_id)]
        verdict = board.runs.states[phase.run_id].verdict_pos
        assert (found.judged.pos if found.judged else None) == verdict
        assert (found.rule.rule if found.rule else None) == newest_rule(own, found)
    for run in board.runs.values():
        found = await told(world, records[-1], run.run_id)
        mine = [e for e in events if getattr(e, "run_id", None) == run.run_id]
        if run.sample is not None:
            assert found.fingerprint == said.get(run.sample)
            assert found.ran is not None
            assert found.ran.attempt_id == run.sample
        began = any(isinstance(e, AttemptStarted) for e in mine)
        assert (found.ran is not None) == began
        assert (found.rule.rule if found.rule else None) == newest_rule(mine, found)


def newest_rule(own: list[AnyEvent], found: Explanation) -> str | None:
    """The rule of the newest verdict or stop, else that of the run's verdict."""
    rulings = [e.reason.rule for e in own if isinstance(e, RunJudged | RunStopped)]
    if rulings:
        return rulings[-1]
    return found.judged.rule.rule if found.judged else None


async def test_a_verdict_that_was_set_aside_is_no_longer_the_one_that_counts() -> None:
    world, records = await drained(0)
    board = await load_board(world.store, records[-1].pos)
    run_id = next(run.run_id for run in board.runs.values() if run.verdict_pos is not None)
    async with recording(world.store, world.clock, WRITER) as recorder:
        asked = ReinstateRun(run_id=run_id, by="me", why="so")
        await recorder.submit(operating(world.ids("cmd"), asked))
    (*_, end) = await world.store.records(Query(), limit=1_000_000)
    assert (await told(world, records[-1], run_id)).judged is not None
    assert (await told(world, end, run_id)).judged is None


@pytest.mark.parametrize("seed", range(4))
async def test_an_attempt_that_has_ended_waits_for_nothing_and_names_its_failure(seed: int) -> None:
    world, records = await drained(seed)
    events = [event_of(record) for record in records]
    said = {e.attempt_id: e.fingerprint for e in events if isinstance(e, FailureFingerprinted)}
    for record, event in zip(records, events, strict=True):
        if not isinstance(event, AttemptFinished):
            continue
        of, now = event.attempt_id, record.recorded_us
        over = await attempt_explanation(world.store, of, end=records[-1].pos, now_us=now)
        going = await attempt_explanation(world.store, of, end=record.pos - 1, now_us=now)
        assert over is not None
        assert going is not None
        assert (over.change, over.fingerprint) == (None, said.get(of))
        assert (going.change, going.fingerprint) == ("The end of the attempt.", None)
