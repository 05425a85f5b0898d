"""Reclassify: ask another rule set about every attempt there was, and record where it disagrees.

Nothing is edited, and no decision is taken again: what was decided stands on what was known then.
Asked again, the same rule set has nothing more to say, so a run that was cut short is just begun
again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import msgspec

from engine.audit.outputs import Outputs
from engine.detect import RuleSet
from engine.detect.reclassification import Asked, Changed, last_said, reclassified
from engine.events import (
    AnyEvent,
    AttemptFinished,
    Classified,
    Diagnosed,
    Reclassified,
    Seen,
    TimeoutFingerprints,
)
from engine.store.boards import seen_page
from engine.store.protocol import LogReader, Query
from engine.triage.policy import policy_from_json
from projections.board import Board

TYPES = ("attempt.finished", "diagnosis.*")
_Key = tuple[str, Diagnosed]


class Wanted(NamedTuple):
    """Which attempts a rule set is asked about, by whom and why."""

    rule_set: RuleSet
    by: str
    why: str
    session_id: str | None = None
    run_id: str | None = None


class Tally(msgspec.Struct, kw_only=True):
    """What it came to.

    ``unreadable``: attempts whose output is gone, or that an older program recorded without what
    detectors read.  ``moves``: "what: before -> after" to the number of attempts.
    """

    rule_set: str
    attempts: int = 0
    changed: int = 0
    unreadable: int = 0
    moves: dict[str, int] = {}

    def count(self, change: Changed) -> None:
        """One more attempt that changed."""
        self.changed += 1
        moves = Counter(self.moves)
        moves.update(move_of(event) for event in change.events)
        self.moves = dict(sorted(moves.items()))


def move_of(event: Reclassified) -> str:
    """What was said before, and what is said now."""
    return f"{event.what}: {_name(event.before)} -> {_name(event.after)}"


def _name(said: Classified | None) -> str:
    if said is None:
        return "nothing"
    return f"{said.name} ({said.detail})" if said.detail in _DISPOSITIONS else said.name


_DISPOSITIONS = ("stopped_by", "encountered", "suspected")


async def changes(
    reader: LogReader,
    board: Board,
    read_output: Callable[[str], bytes | None],
    wanted: Wanted,
    tally: Tally,
) -> AsyncIterator[Changed]:
    """Every attempt up to the board's head of which the rule set says something else, in order."""
    end, outputs = board.head.pos, Outputs(read_output)
    newest = await _reclassified_before(reader, wanted, end)
    async for pos, events in _attempts(reader, wanted, end):
        finished = events[0]
        assert isinstance(finished, AttemptFinished)
        tally.attempts += 1
        streams = outputs.of(finished)
        if finished.told is None or streams is None:
            tally.unreadable += 1
            continue
        later = newest.get(finished.attempt_id, [])
        known = last_said([*events, *(seen.event for seen in later)])
        asked = Asked(wanted.rule_set, _timeouts(board, finished), wanted.by, wanted.why)
        found = reclassified(finished, streams, known, asked)
        if found:
            basis = max((seen.pos for seen in later), default=pos)
            yield Changed(pos=pos, basis=basis, events=tuple(found))


def _timeouts(board: Board, finished: AttemptFinished) -> TimeoutFingerprints:
    """How the session told timeouts apart, so that a rule set is asked as it would have been."""
    session = board.sessions.get(finished.session_id)
    if session is None or not session.policy_json:
        return "detected"
    return policy_from_json(session.policy_json).timeout_fingerprints


async def _reclassified_before(
    reader: LogReader, wanted: Wanted, end: int
) -> dict[str, list[Seen]]:
    """What was said of attempts after the fact already, the newest word of each kind."""
    newest: dict[_Key, Seen] = {}
    async for seen in _events(reader, wanted, ("diagnosis.reclassified",), end):
        if isinstance(seen.event, Reclassified):
            newest[seen.event.attempt_id, seen.event.what] = seen
    found: dict[str, list[Seen]] = {}
    for (attempt_id, _), seen in newest.items():
        found.setdefault(attempt_id, []).append(seen)
    return found


async def _attempts(
    reader: LogReader, wanted: Wanted, end: int
) -> AsyncIterator[tuple[int, list[AnyEvent]]]:
    """Every end with its diagnosis, which stands behind it."""
    pos = 0
    events: list[AnyEvent] = []
    async for seen in _events(reader, wanted, TYPES, end):
        if isinstance(seen.event, AttemptFinished):
            if events:
                yield pos, events
            pos = seen.pos
            events = [seen.event]
        elif events and not isinstance(seen.event, Reclassified):
            events.append(seen.event)
    if events:
        yield pos, events


async def _events(
    reader: LogReader, wanted: Wanted, types: tuple[str, ...], end: int
) -> AsyncIterator[Seen]:
    query = Query(session=wanted.session_id, run=wanted.run_id, types=types, until=end)
    after = 0
    while records := await reader.records(query, after=after):
        rows = [(r.pos, r.recorded_us, r.type, r.schema, r.data) for r in records]
        for seen in seen_page(rows):
            yield seen
        after = records[-1].pos
