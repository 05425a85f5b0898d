"""Why a run or a phase stands where it stands: the sentence first, then all that it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from engine.audit.answers import hindrances_of, of_phase, of_run, phase_counts
from engine.audit.casefile import Around, CaseFile, case_file
from engine.audit.facts import (
    DECIDED,
    Evidence,
    Fact,
    Rule,
    Sighting,
    evidence,
    fact,
    sightings,
)
from engine.audit.session_view import SessionView, session_view
from engine.errors import UsageProblem
from engine.events import (
    AttemptFinished,
    AttemptStarted,
    FailureFingerprinted,
    PhaseRegistered,
    RunJudged,
    RunStopped,
    Seen,
)
from engine.store.protocol import LogReader
from engine.triage.case import Case
from engine.triage.hindrance import Hindrance
from engine.triage.typed import cuts
from projections.backlog import PhaseStanding

FACTS_MAX = 20
"""So many of what happened, and so many of what was decided; the newest of each."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A decision: where it stands, about which attempt, its sentence and its rule."""

    pos: int
    attempt_id: str
    sentence: str
    rule: Rule


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a run, or one of its phases, stands where it stands, as of ``position``.

    ``now_us`` (Unix) is what statements about time go by.  ``change``: what would make a
    difference, None when nothing needs to.  ``ran``: why it was attempted last (for a run: why its
    sample was); ``judged``: the verdict of its present generation.  ``hindrances``: all that keep
    it from being attempted in ``session``; ``new_session``: those that a session begun now would
    meet.  ``phases`` counts the run's phases by their first hindrance of their own, ``ready``
    without one.  ``evidence`` and ``seen`` are about its newest end (for a run: its sample's).
    """

    run_id: str
    phase_id: str | None
    position: int
    now_us: int
    sentence: str
    change: str | None
    standing: str
    state: str | None
    ran: Said | None
    judged: Said | None
    rule: Rule | None
    session: SessionView | None
    hindrances: tuple[Hindrance, ...]
    new_session: tuple[Hindrance, ...]
    phases: dict[str, int]
    facts: tuple[Fact, ...]
    facts_left_out: int
    fingerprint: str | None
    seen: tuple[Sighting, ...]
    evidence: tuple[Evidence, ...]


async def explanation(
    reader: LogReader,
    run_id: str,
    phase_id: str | None,
    *,
    end: int,
    now_us: int,
    is_left: bool = False,
) -> Explanation:
    """Explain a run, or one of its phases, as of position ``end``.

    ``is_left``: no engine has the log, so that a session which has not ended was left behind.
    ``run_id`` may be ``RUN/PHASE`` when no run has that id and no phase is given.
    Raises UsageProblem for an id that the log does not hold.
    """
    around = await Around.load(reader, end)
    found, phase_id = await _found(reader, around, run_id, phase_id, (end, now_us))
    session = await session_view(reader, around.newest(), end)
    if is_left and not found.case.is_over:
        lost = replace(found.case.session, status="lost")
        found = found._replace(case=found.case._replace(session=lost))
        session = None if session is None else replace(session, status="lost")
    phase = None if phase_id is None else _phase(found.case, phase_id)
    about = _about(found, phase)
    failure = next((s for s in about.failure if isinstance(s.event, FailureFingerprinted)), None)
    seen: Sequence[Sighting] = ()
    if failure is not None and isinstance(failure.event, FailureFingerprinted):
        seen = await sightings(reader, failure.event, failure.pos)
    return _explanation(found, phase, about, session, tuple(seen))


async def _found(
    reader: LogReader,
    around: Around,
    run_id: str,
    phase_id: str | None,
    as_of: tuple[int, int],
) -> tuple[CaseFile, str | None]:
    found = await case_file(reader, around, run_id, *as_of)
    if found is not None:
        return found, phase_id
    cut = None if phase_id is not None else await _cut(reader, around, run_id, as_of)
    if cut is None:
        raise UsageProblem(
            f"there is no run {run_id[:80]!a}.", remedy="`runoff run list` names the runs."
        )
    return cut


async def _cut(
    reader: LogReader, around: Around, what: str, as_of: tuple[int, int]
) -> tuple[CaseFile, str] | None:
    """RUN/PHASE, cut at the last slash that leaves a phase, or else a run."""
    first: tuple[CaseFile, str] | None = None
    for run_id, phase_id in cuts(what):
        found = await case_file(reader, around, run_id, *as_of)
        if found is None:
            continue
        if any(phase.phase_id == phase_id for phase in found.case.phases):
            return found, phase_id
        first = first or (found, phase_id)
    return first


def _phase(case: Case, phase_id: str) -> PhaseStanding:
    for phase in case.phases:
        if phase.phase_id == phase_id:
            return phase
    raise UsageProblem(
        f"the run has no phase {phase_id[:80]!a}.", remedy="`runoff run show RUN` names its phases."
    )


class _About(NamedTuple):
    """The events that an answer rests on.

    ``own``: of the phase, or of all; ``attempt_id``: the attempt whose end is the evidence;
    ``failure``: its fingerprint, if it has one.
    """

    own: tuple[Seen, ...]
    attempt_id: str | None
    failure: tuple[Seen, ...]


def _about(found: CaseFile, phase: PhaseStanding | None) -> _About:
    own = found.events
    if phase is not None:
        own = tuple(
            seen for seen in own if getattr(seen.event, "phase_id", None) in (None, phase.phase_id)
        )
    attempt_id = None if phase is not None else found.case.run.sample
    if attempt_id is None:
        ends = (seen.event for seen in reversed(own) if isinstance(seen.event, AttemptFinished))
        attempt_id = next((end.attempt_id for end in ends), None)
    failure = tuple(
        seen
        for seen in own
        if isinstance(seen.event, FailureFingerprinted) and seen.event.attempt_id == attempt_id
    )
    return _About(own, attempt_id, failure)


def _explanation(
    found: CaseFile,
    phase: PhaseStanding | None,
    about: _About,
    session: SessionView | None,
    seen: tuple[Sighting, ...],
) -> Explanation:
    case = found.case
    held, later = hindrances_of(case, phase), hindrances_of(case.anew(), phase)
    answer = of_run(case, held, later) if phase is None else of_phase(case, phase, held, later)
    facts, left_out = _facts(about, for_run=phase is None)
    judged = _judged(found)
    failure = about.failure[0].event if about.failure else None
    return Explanation(
        run_id=case.run.run_id,
        phase_id=phase.phase_id if phase is not None else None,
        position=found.position,
        now_us=case.now_us,
        sentence=answer.sentence,
        change=answer.change,
        standing=case.run.standing,
        state=phase.state if phase is not None else None,
        ran=_ran(about, for_run=phase is None),
        judged=judged,
        rule=_rule(about.own) or (judged.rule if judged else None),
        session=session,
        hindrances=tuple(held),
        new_session=tuple(later),
        phases=dict(sorted(phase_counts(case if not case.is_over else case.anew()).items())),
        facts=facts,
        facts_left_out=left_out,
        fingerprint=failure.fingerprint if isinstance(failure, FailureFingerprinted) else None,
        seen=seen,
        evidence=evidence(about.own, about.attempt_id) if about.attempt_id else (),
    )


def _ran(about: _About, *, for_run: bool) -> Said | None:
    """Why it was attempted: a phase the last time, a run for its sample."""
    started = [seen for seen in about.own if isinstance(seen.event, AttemptStarted)]
    if for_run and about.attempt_id is not None:
        started = [s for s in started if getattr(s.event, "attempt_id", None) == about.attempt_id]
    return _said(started[-1]) if started else None


def _judged(found: CaseFile) -> Said | None:
    pos = found.case.run.verdict_pos
    return next((_said(seen) for seen in found.events if seen.pos == pos), None)


def _said(seen: Seen) -> Said:
    event = seen.event
    assert isinstance(event, AttemptStarted | RunJudged)
    return Said(
        pos=seen.pos,
        attempt_id=event.attempt_id,
        sentence=event.reason.sentence,
        rule=Rule.of(event.reason),
    )


def _rule(own: Iterable[Seen]) -> Rule | None:
    """The rule of the newest verdict or stop."""
    found = [s.event.reason for s in own if isinstance(s.event, RunJudged | RunStopped)]
    return Rule.of(found[-1]) if found else None


def _facts(about: _About, *, for_run: bool) -> tuple[tuple[Fact, ...], int]:
    """The newest of what was decided and of what happened; how many more there are.

    Of a run all of its sample is among them, and no registration.
    """
    sample = about.attempt_id if for_run else None
    told = [
        (seen, found)
        for seen in about.own
        if not (for_run and isinstance(seen.event, PhaseRegistered))
        and (found := fact(seen)) is not None
    ]
    decided = [f for seen, f in told if isinstance(seen.event, DECIDED)]
    happened = [f for seen, f in told if not isinstance(seen.event, DECIDED)]
    of_sample = [f for seen, f in told if sample and _attempt(seen) == sample]
    chosen = {f.pos: f for f in (*decided[-FACTS_MAX:], *happened[-FACTS_MAX:], *of_sample)}
    return tuple(chosen[pos] for pos in sorted(chosen)), len(told) - len(chosen)


def _attempt(seen: Seen) -> str | None:
    found: str | None = getattr(seen.event, "attempt_id", None)
    return found
