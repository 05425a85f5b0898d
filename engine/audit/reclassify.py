"""Reclassify: ask another rule set about every attempt there was, and record where it disagrees.

Nothing is edited, and no decision is taken again: what was decided stands on what was known then.
Asked again, the same rule set has nothing more to say, so a run that was cut short is just begun
again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import NamedTuple

import msgspec

from engine.audit.outputs import Outputs
from engine.detect import RuleSet
from engine.detect.reclassification import Asked, last_said, reclassified
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
from engine.store.command import Command, Draft, Moment
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


class Changed(NamedTuple):
    """One attempt of which the rule set says something else; ``pos`` is where it ended."""

    pos: int
    events: tuple[Reclassified, ...]


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
        known = last_said([*events, *newest.get(finished.attempt_id, ())])
        asked = Asked(wanted.rule_set, _timeouts(board, finished), wanted.by, wanted.why)
        found = reclassified(finished, streams, known, asked)
        if found:
            yield Changed(pos, tuple(found))


def recorded(command_id: str, change: Changed) -> Command:
    """What to record of one attempt."""

    def decide(_board: Board, _moment: Moment) -> Iterator[Draft]:
        for event in change.events:
            yield Draft(event, cause=change.pos)

    request = msgspec.json.encode(change.events)
    return Command(command_id, "reclassification", request, decide, actor="operator")


def _timeouts(board: Board, finished: AttemptFinished) -> TimeoutFingerprints:
    """How the session told timeouts apart, so that a rule set is asked as it would have been."""
    session = board.sessions.get(finished.session_id)
    if session is None or not session.policy_json:
        return "detected"
    return policy_from_json(session.policy_json).timeout_fingerprints


async def _reclassified_before(
    reader: LogReader, wanted: Wanted, end: int
) -> dict[str, list[AnyEvent]]:
    """What was said of attempts after the fact already, the newest word of each kind."""
    newest: dict[_Key, AnyEvent] = {}
    async for seen in _events(reader, wanted, ("diagnosis.reclassified",), end):
        if isinstance(seen.event, Reclassified):
            newest[seen.event.attempt_id, seen.event.what] = seen.event
    found: dict[str, list[AnyEvent]] = {}
    for (attempt_id, _), event in newest.items():
        found.setdefault(attempt_id, []).append(event)
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
