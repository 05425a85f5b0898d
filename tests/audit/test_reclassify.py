"""Another rule set is asked about every attempt that is wanted, once, and by its newest words."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, cast

import pytest

from engine.audit.reclassify import Tally, Wanted, changes, move_of
from engine.detect import RULE_SETS
from engine.detect.reclassification import Changed
from engine.events import (
    COLUMNS,
    AnyEvent,
    AttemptFinished,
    Classified,
    Reclassified,
    Record,
    Stream,
    Told,
    encode,
    event_type,
    tags_of,
)
from engine.store.protocol import LogReader, Query
from projections.board import Board
from tests.rules.standings import BASIS, board, finished, policy, session

RULES = RULE_SETS["standard-1"]
TOLD = Told(ended="exited")


class Rows:
    """A log of these rows, read two at a time."""

    def __init__(self, events: dict[int, AnyEvent]) -> None:
        self._rows = [row_of(pos, event) for pos, event in events.items()]

    async def records(self, query: Query, after: int = 0) -> list[Record]:
        """The next rows that match."""
        found = [
            row
            for row in self._rows
            if after < row.pos <= (query.until or row.pos)
            and query.session in (None, row.session)
            and query.run in (None, row.run)
            and any(row.type == each or row.type.startswith(each[:-1]) for each in query.types)
        ]
        return found[:2]


def row_of(pos: int, event: AnyEvent) -> Record:
    columns: dict[str, Any] = dict.fromkeys(COLUMNS) | {"pos": pos, "recorded_us": pos}
    columns |= dict(zip(("session", "run", "phase", "attempt"), tags_of(event), strict=True))
    columns |= {"type": event_type(type(event)), "schema": event.schema, "data": encode(event)}
    return Record(**columns)


def stream(text: str) -> Stream:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Stream(total_bytes=len(text), head_bytes=len(text), digest=digest, excerpt=text)


def end(attempt: str = "a", **fields: Any) -> AttemptFinished:
    """It failed, and nothing was said of it."""
    known: dict[str, Any] = {"told": TOLD, "exit_code": 1, "stderr": stream("Error: boom\n")}
    return finished(attempt_id=attempt, **(known | fields))


def word(what: Any, name: str | None, attempt: str = "a", **fields: Any) -> Reclassified:
    """What was said after the fact."""
    known: dict[str, Any] = {"session_id": "s", "run_id": "r", "phase_id": "p"}
    after = None if name is None else Classified(detector="d", name=name)
    return Reclassified(
        **(known | fields), attempt_id=attempt, what=what, detector="d", timeouts="run",
        before=None, after=after, by="me", why="so",
    )  # fmt: skip


async def asked(
    events: dict[int, AnyEvent], of: Board | None = None, **wanted: Any
) -> tuple[list[Changed], Tally]:
    tally = Tally(rule_set=RULES.detectors.name)
    question = Wanted(RULES, "me", "so", **wanted)
    reader = cast("LogReader", Rows(events))
    found = changes(reader, of or board(session()), lambda _digest: None, question, tally)
    return [change async for change in found], tally


def places(found: Sequence[Changed]) -> list[tuple[int, int]]:
    """Of every attempt that changed, where it ended and where the last word on it stands."""
    return [(change.pos, change.basis) for change in found]


async def test_every_attempt_is_asked_about_over_many_pages() -> None:
    found, tally = await asked({pos: end(f"a{pos}") for pos in range(1, 8)})
    assert places(found) == [(pos, pos) for pos in range(1, 8)]
    assert [change.events[0].attempt_id for change in found] == [f"a{pos}" for pos in range(1, 8)]
    assert (tally.attempts, tally.unreadable) == (7, 0)


async def test_what_stands_behind_the_head_is_not_asked_about() -> None:
    found, _ = await asked({BASIS: end("in"), BASIS + 1: end("out")})
    assert places(found) == [(BASIS, BASIS)]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [({}, [1, 2, 3]), ({"session_id": "t"}, [2]), ({"run_id": "q"}, [3])],
)
async def test_only_attempts_that_are_wanted_are_asked_about(
    wanted: dict[str, Any], expected: list[int]
) -> None:
    log: dict[int, AnyEvent] = {1: end("a"), 2: end("b", session_id="t"), 3: end("c", run_id="q")}
    found, tally = await asked(log, **wanted)
    assert [change.pos for change in found] == expected
    assert tally.attempts == len(expected)


@pytest.mark.parametrize(
    "odd",
    [{"told": None}, {"stderr": Stream(total_bytes=9999, head_bytes=9999, digest="0" * 64)}],
    ids=["nothing told", "output gone"],
)
async def test_what_cannot_be_read_is_counted_and_the_rest_is_asked_about(
    odd: dict[str, Any],
) -> None:
    found, tally = await asked({1: end("odd", **odd), 2: end("b")})
    assert places(found) == [(2, 2)]
    assert (tally.attempts, tally.unreadable) == (2, 1)


async def test_the_newest_word_of_each_kind_is_what_counts() -> None:
    (first,), _ = await asked({1: end()})
    said = {event.what: event for event in first.events}
    assert set(said) >= {"fingerprint", "zero_yield"}
    log: dict[int, AnyEvent] = {1: end(), 2: word("fingerprint", "other")}
    for pos, what in enumerate(said, 3):
        log[pos] = said[what]
    assert (await asked(log))[0] == []
    log[9] = word("fingerprint", "other again")
    (again,), _ = await asked(log)
    assert (again.pos, again.basis) == (1, 9)
    assert [event.what for event in again.events] == ["fingerprint"]
    before = again.events[0].before
    assert before is not None
    assert before.name == "other again"
    log[10] = word("zero_yield", None)
    assert places((await asked(log))[0]) == [(1, 10)]


async def test_the_basis_is_the_last_word_of_any_kind() -> None:
    log: dict[int, AnyEvent] = {
        1: end(), 4: word("zero_yield", "x"), 6: word("fingerprint", "y"), 7: end("b"),
    }  # fmt: skip
    assert places((await asked(log))[0]) == [(1, 6), (7, 7)]


async def test_a_word_on_another_attempt_is_no_diagnosis_of_the_last_one() -> None:
    (first,), _ = await asked({2: end("b")})
    behind: dict[int, AnyEvent] = {1: end("a"), 2: end("b"), 3: word("fingerprint", "x", "a")}
    found, _ = await asked(behind)
    assert places(found) == [(1, 3), (2, 2)]
    assert found[1].events == first.events


@pytest.mark.parametrize("told_apart", ["detected", "run", "session", None, "unknown"])
async def test_timeouts_are_told_apart_as_the_session_did(told_apart: str | None) -> None:
    if told_apart is None:
        rows = [session(policy_json="")]
    elif told_apart == "unknown":
        rows = []
    else:
        rows = [session(policy_json=policy(timeout_fingerprints=told_apart).json)]
    (change,), _ = await asked({1: end()}, board(*rows))
    expected = told_apart if told_apart in ("run", "session") else "detected"
    assert {event.timeouts for event in change.events} == {expected}


def test_a_move_names_both_words_with_how_a_limit_ended_it() -> None:
    def move(before: Classified | None, after: Classified | None) -> str:
        fields = {"session_id": "s", "run_id": "r", "phase_id": "p", "attempt_id": "a"}
        return move_of(
            Reclassified(
                **fields, what="boundary", detector="d", timeouts="run", before=before,
                after=after, by="me", why="so",
            )
        )  # fmt: skip

    for detail in ("stopped_by", "encountered", "suspected"):
        limit = Classified(detector="d", name="rate_limit", detail=detail)
        assert move(None, limit) == f"boundary: nothing -> rate_limit ({detail})"
        assert move(limit, None) == f"boundary: rate_limit ({detail}) -> nothing"
    plain = Classified(detector="d", name="x", detail="family")
    assert move(plain, plain) == "boundary: x -> x"


async def test_moves_are_counted_by_name_and_attempts_once() -> None:
    found, tally = await asked({1: end("a"), 2: end("b")})
    for change in found:
        tally.count(change)
    assert tally.changed == 2
    assert list(tally.moves) == sorted(tally.moves)
    assert set(tally.moves.values()) == {2}
    assert len(tally.moves) == len(found[0].events) > 1
    other = Changed(pos=3, basis=3, events=(word("boundary", "x"),))
    tally.count(other)
    assert list(tally.moves) == sorted(tally.moves)
