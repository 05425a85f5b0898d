"""Why one attempt was started, how it ended, and what was decided from that."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from engine.audit.answers import SEEN_TO, TAKE_OVER
from engine.audit.facts import Evidence, Fact, Rule, Sighting, evidence, fact, sightings
from engine.events import (
    AttemptFinished,
    AttemptStarted,
    Ending,
    FailureFingerprinted,
    Reason,
    Record,
    Seen,
)
from engine.store.boards import load_folds, seen_page
from engine.store.protocol import LogReader, Query
from engine.triage.hindrance import span
from projections.sessions import SESSIONS

PREFIX = "att_"
DECISIONS_MAX = 100
TYPES = ("attempt.*", "diagnosis.*", "triage.*")
"""All but usage, of which an attempt may have any number of records."""


class AttemptExplanation(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt, as of ``position``.

    ``started`` and ``ended`` are the facts of its start and end, ``ended`` None while it is open;
    ``rule`` is the one that picked it.  ``decided``: what was recorded because of its end.
    """

    attempt_id: str
    session_id: str
    run_id: str
    phase_id: str
    number: int
    position: int
    now_us: int
    sentence: str
    change: str | None
    group: str
    probe_of: str | None
    rule: Rule
    started: Fact
    ended: Fact | None
    ending: Ending | None
    open_us: int | None
    decided: tuple[Fact, ...]
    facts: tuple[Fact, ...]
    fingerprint: str | None
    seen: tuple[Sighting, ...]
    evidence: tuple[Evidence, ...]


async def attempt_explanation(
    reader: LogReader, attempt_id: str, *, end: int, now_us: int, is_left: bool = False
) -> AttemptExplanation | None:
    """Explain an attempt as of position ``end``; None when the log holds no such attempt.

    ``is_left``: no engine has the log, so that an attempt which is open was left behind.
    """
    records = await reader.records(Query(attempt=attempt_id, until=end, types=TYPES))
    if not records or records[0].type != "attempt.started":
        return None
    events = _decoded(records)
    ends = [r for r in records if r.type == "attempt.finished"]
    decided = await _decided(reader, ends[0], end) if ends else ()
    failures = [s for s in events if isinstance(s.event, FailureFingerprinted)]
    seen: Sequence[Sighting] = ()
    for failure in failures:
        assert isinstance(failure.event, FailureFingerprinted)
        seen = await sightings(reader, failure.event, failure.pos)
    found = _explanation(events, decided, tuple(seen), (end, now_us))
    if ends or not (is_left or await _is_lost(reader, found)):
        return found
    change = TAKE_OVER if is_left else SEEN_TO
    return replace(found, sentence=f"{found.sentence} {_LEFT}", change=change)


async def _is_lost(reader: LogReader, found: AttemptExplanation) -> bool:
    """Whether others of a shared log know that the engine of its session is gone."""
    sessions = (await load_folds(reader, (SESSIONS,), found.position))[SESSIONS.name]
    session = sessions.get(found.session_id)
    return session is not None and session.status == "lost"


def _decoded(records: Sequence[Record]) -> list[Seen]:
    return seen_page([(r.pos, r.recorded_us, r.type, r.schema, r.data) for r in records])


async def _decided(reader: LogReader, finish: Record, end: int) -> tuple[Seen, ...]:
    """What stands behind the end of an attempt, in the same command and because of it."""
    records = await reader.records(Query(until=end), after=finish.pos, limit=DECISIONS_MAX)
    own = [r for r in records if (r.command_id, r.cause) == (finish.command_id, finish.pos)]
    return tuple(_decoded(own))


def _explanation(
    events: Sequence[Seen],
    decided: Sequence[Seen],
    seen: tuple[Sighting, ...],
    as_of: tuple[int, int],
) -> AttemptExplanation:
    started = events[0].event
    assert isinstance(started, AttemptStarted)
    ends = [s for s in events if isinstance(s.event, AttemptFinished)]
    ended = ends[0].event if ends else None
    assert ended is None or isinstance(ended, AttemptFinished)
    rulings = [s for s in decided if isinstance(getattr(s.event, "reason", None), Reason)]
    own = [found for s in events if (found := fact(s)) is not None]
    failures = [s.event for s in events if isinstance(s.event, FailureFingerprinted)]
    open_us = as_of[1] - events[0].recorded_us if ended is None else None
    return AttemptExplanation(
        attempt_id=started.attempt_id,
        session_id=started.session_id,
        run_id=started.run_id,
        phase_id=started.phase_id,
        number=started.number,
        position=as_of[0],
        now_us=as_of[1],
        sentence=_sentence(started, ended, rulings, open_us),
        change=None if ended else "The end of the attempt.",
        group=started.group,
        probe_of=started.probe_of,
        rule=Rule.of(started.reason),
        started=own[0],
        ended=next((found for found in own if ends and found.pos == ends[0].pos), None),
        ending=ended.ending if ended else None,
        open_us=open_us,
        decided=tuple(found for s in rulings if (found := fact(s)) is not None),
        facts=tuple(own),
        fingerprint=failures[0].fingerprint if failures else None,
        seen=seen,
        evidence=evidence(events, started.attempt_id),
    )


def _sentence(
    started: AttemptStarted,
    ended: AttemptFinished | None,
    decided: Sequence[Seen],
    open_us: int | None,
) -> str:
    what = f"This is attempt {started.number} of {started.phase_id} in {started.run_id}."
    if ended is None:
        return f"{what} It has been open for {span(open_us or 0)}. {started.reason.sentence}"
    how = f"It {_ENDED[ended.ending]} after {ended.duration_ms / 1000:.1f} s."
    reasons = [getattr(s.event, "reason", None) for s in decided]
    said = [reason.sentence for reason in reasons if isinstance(reason, Reason)]
    follows = " ".join(said) if said else "Nothing was decided from that."
    return f"{what} {how} {follows}"


_LEFT = "An engine that is gone left it open."

_ENDED: dict[Ending, str] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "timed_out": "was ended by its deadline",
    "broke": "was broken by its executor",
    "abandoned": "was abandoned",
    "orphaned": "was lost with its engine",
}
