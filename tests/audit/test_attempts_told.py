"""What the log says of attempts: one object for each, and what their diagnoses rest on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, get_args

import msgspec
import pytest
from msgspec.structs import replace

from engine.audit.decisions import Decision, decisions_of
from engine.audit.facts import EXCERPT_BYTES, SIGHTINGS_MAX, Evidence, evidence, sightings
from engine.clock import HandSetClock
from engine.events import (
    AccountPaused,
    AnyEvent,
    AttemptFinished,
    BreakerOpened,
    BudgetReached,
    Ending,
    FailureFingerprinted,
    FingerprintStopped,
    RunRegistered,
    RunStopped,
    Seen,
    SessionDraining,
    Stream,
    event_of,
)
from engine.events.diagnosis import Evidence as Place
from engine.store.command import Command, Draft, Moment
from engine.store.memory import MemoryStore
from engine.store.protocol import Query
from engine.store.recorder import recording
from projections.board import Board
from projections.fingerprints import FingerprintCount
from tests.harness.backlogs import queued
from tests.rules.standings import (
    because,
    boundary,
    fingerprinted,
    finished,
    judged,
    silent,
    started,
)
from tests.worlds import WRITER

WHY = because("stops", "so it is")


@asynccontextmanager
async def recorded(*commands: Sequence[AnyEvent]) -> AsyncGenerator[MemoryStore, None]:
    """A log of these commands; what stands behind an end has it for its cause."""
    store = MemoryStore()
    async with recording(store, HandSetClock(), WRITER) as recorder:
        for number, events in enumerate(commands):
            await recorder.submit(Command(f"c{number}", "drain/s", b"", drafts(events)))
        yield store


def drafts(events: Sequence[AnyEvent]) -> Any:
    def decide(_board: Board, moment: Moment) -> Iterator[Draft]:
        end: int | None = None
        for pos, event in enumerate(events, moment.next_pos):
            yield Draft(event, end)
            end = pos if isinstance(event, AttemptFinished) else end

    return decide


def backlog(*phases: tuple[str, str]) -> list[AnyEvent]:
    runs = dict.fromkeys(run for run, _ in phases)
    found: list[AnyEvent] = [RunRegistered(run_id=r, origin="x", state="NEW") for r in runs]
    return found + [queued(*each) for each in phases]


def attempt(attempt_id: str, *behind: AnyEvent, **end: Any) -> list[list[AnyEvent]]:
    """A start, and an end with what stands behind it; its run has the attempt's first letter."""
    ids = {"run_id": attempt_id[0], "attempt_id": attempt_id}
    session = {"session_id": end.pop("session_id", "s")}
    told = [
        replace(each, **{k: v for k, v in (ids | session).items() if k in each.__struct_fields__})
        for each in behind
    ]
    return [[started(**ids, **session)], [finished(**ids, **session, **end), *told]]


async def decisions(*attempts: list[list[AnyEvent]]) -> list[Decision]:
    commands = [each for commands in attempts for each in commands]
    async with recorded(backlog(("a", "p"), ("b", "p"), ("c", "p")), *commands) as store:
        return await decisions_of(store, "s", (await store.head()).pos)


async def test_attempts_are_counted_from_one_and_failures_by_when_they_first_appeared() -> None:
    told = await decisions(
        attempt("a", fingerprinted(fingerprint="f1", family="x")),
        attempt("b", fingerprinted(fingerprint="f2", family="x")),
        attempt("c", fingerprinted(fingerprint="f1", family="x")),
    )
    assert [(each.seq, each.attempt, each.fp_class) for each in told] == [
        (1, "a", 1),
        (2, "b", 2),
        (3, "c", 1),
    ]


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ({"exit_code": 3}, 3),
        ({"exit_code": None, "signal": 9}, -9),
        ({"exit_code": 3, "ending": "timed_out"}, -1),
        ({"exit_code": None, "signal": 9, "ending": "timed_out"}, -1),
        ({"exit_code": None}, None),
    ],
)
async def test_a_code_is_minus_one_at_the_deadline_and_minus_the_signal_that_ended_it(
    end: dict[str, Any], code: int | None
) -> None:
    (told,) = await decisions(attempt("a", **end))
    assert told.returncode == code


@pytest.mark.parametrize("ending", get_args(Ending))
async def test_only_an_end_that_succeeded_was_a_success(ending: Ending) -> None:
    (told,) = await decisions(attempt("a", ending=ending, final_state="COMPLETE"))
    assert (told.success, told.final_state) == (ending == "succeeded", "COMPLETE")


@pytest.mark.parametrize(
    ("family", "exit_class", "end", "said"),
    [
        ("FAILED|rc1", "rc1", {"exit_code": 1}, ("FAILED", 1, 0, "unknown")),
        ("TIMEOUT|timeout", "timeout", {"exit_code": 1}, ("TIMEOUT", 1, None, "timeout")),
        ("FAILED", "", {"exit_code": None}, ("FAILED", None, 0, "unknown")),
        (
            "FAILED|timeout143",
            "timeout143",
            {"exit_code": None, "ending": "timed_out"},
            ("FAILED", 143, 0, "unknown"),
        ),
    ],
)
async def test_what_the_originals_detectors_diagnosed_is_told_in_its_own_words(
    family: str, exit_class: str, end: dict[str, Any], said: tuple[object, ...]
) -> None:
    of = fingerprinted(detector="classic-1", family=family, exit_class=exit_class)
    (told,) = await decisions(attempt("a", silent(), of, **end))
    assert (told.final_state, told.returncode, told.events, told.zero_yield) == said
    (ours,) = await decisions(attempt("a", silent(), replace(of, detector="fp-1"), **end))
    assert (ours.final_state, ours.events, ours.zero_yield) == ("FAILED", 0, "unknown")


async def test_an_attempt_is_told_with_its_verdict_its_stops_and_where_they_stand() -> None:
    stops: list[AnyEvent] = [
        FingerprintStopped(session_id="s", fingerprint="f", repeats=3, reason=WHY),
        RunStopped(session_id="s", run_id="a", because="timeouts", reason=WHY),
        SessionDraining(session_id="s", because="zero_yield_streak", reason=WHY),
    ]
    verdict = judged(verdict="promising", because="timeout", reason=because("verdict", "it is"))
    told, other = await decisions(
        attempt("a", fingerprinted(), boundary(), silent(), verdict, *stops), attempt("b")
    )
    assert (told.verdict, told.rule, told.boundary, told.zero_yield) == (
        "promising",
        "verdict",
        True,
        "unknown",
    )
    assert (told.policy, other.policy) == ("t@7", started().reason.policy)
    assert [(each.stopped, each.id, each.because) for each in told.stops] == [
        ("fingerprint", "f", "fingerprint_repeats"),
        ("run", "a", "timeouts"),
        ("session", "s", "zero_yield_streak"),
    ]
    start = told.positions["started"]
    assert told.positions == {
        name: start + offset
        for offset, name in enumerate(
            ("started", "finished", "fingerprinted", "boundary_detected", "zero_yield_explained")
        )
    } | {"judged": start + 5}
    assert [each.position for each in told.stops] == [start + 6, start + 7, start + 8]
    assert {each.sentence for each in told.stops} == {"so it is"}
    assert (other.verdict, other.boundary, other.stops) == (None, False, [])
    assert other.rule == started().reason.rule


async def test_whatever_keeps_something_from_being_attempted_is_told_with_what_it_stopped() -> None:
    spent: dict[str, Any] = {"session_id": "s", "run_id": "a", "limit": 8, "spent": 9}
    stops: list[AnyEvent] = [
        BreakerOpened(session_id="s", fingerprint="f", template="t", runs=3, reason=WHY),
        AccountPaused(
            session_id="s",
            account="key",
            kind="quota",
            until_us=9,
            stated=False,
            consecutive=1,
            reason=WHY,
        ),
        BudgetReached(phase_id="p", scope="phase", measure="tokens", reason=WHY, **spent),
        BudgetReached(phase_id=None, scope="run", measure="ms", reason=WHY, **spent),
    ]
    (told,) = await decisions(attempt("a", *stops))
    assert [(each.stopped, each.id, each.because) for each in told.stops] == [
        ("unsampled runs", "f", "breaker_open"),
        ("account", "key", "quota"),
        ("phase", "p", "tokens_budget"),
        ("run", "a", "ms_budget"),
    ]


# Evidence.


def shown(*events: AnyEvent) -> tuple[Evidence, ...]:
    return evidence([Seen(pos, 0, event) for pos, event in enumerate(events, 5)], "a")


@pytest.mark.parametrize(
    ("head", "tail", "place"),
    [
        (300, 0, (0, 300)),
        (EXCERPT_BYTES, 0, (0, EXCERPT_BYTES)),
        (EXCERPT_BYTES, 1, (1, EXCERPT_BYTES + 1)),
        (4000, 2000, (6000 - EXCERPT_BYTES, 6000)),
    ],
)
def test_a_failure_rests_on_the_end_of_what_was_kept(
    head: int, tail: int, place: tuple[int, int]
) -> None:
    kept = Stream(total_bytes=9999, head_bytes=head, tail_bytes=tail, digest="d", excerpt="end")
    (found,) = shown(finished(stderr=kept), fingerprinted())
    assert (found.kind, found.pos, found.name, found.text) == ("failure", 6, "f", "words")
    assert (found.stream, found.digest, found.excerpt) == ("stderr", "d", "end")
    assert (found.byte_start, found.byte_end) == place


def test_standard_error_says_what_went_wrong_unless_it_is_silent() -> None:
    out, err = (Stream(digest=name, head_bytes=1, excerpt=name) for name in ("out", "err"))
    for stdout, stderr, said in (
        (out, err, ("stderr", "err")),
        (out, Stream(), ("stdout", "out")),
        (Stream(), err, ("stderr", "err")),
        (Stream(), Stream(), (None, None)),
    ):
        (found,) = shown(finished(stdout=stdout, stderr=stderr), fingerprinted())
        assert (found.stream, found.excerpt) == said
        assert found.detector == "d"


def test_limits_and_silences_rest_on_their_own_words() -> None:
    at = Place(stream="stdout", digest="d", byte_start=3, byte_end=7, excerpt="429!")
    found = shown(
        finished(),
        boundary(evidence=at),
        boundary(declared="RUNOFF_LIMIT"),
        silent(detail="more"),
        silent(attempt_id="b"),
    )
    assert [(each.kind, each.pos, each.text) for each in found] == [
        ("limit", 6, "429"),
        ("limit", 7, "RUNOFF_LIMIT"),
        ("zero_yield", 8, "nothing (more)"),
    ]
    assert (found[0].byte_start, found[0].byte_end, found[0].excerpt) == (3, 7, "429!")
    assert {each.detector for each in found} == {"d"}
    assert found[1].stream is None


@pytest.mark.parametrize("listed", [True, False])
async def test_a_failure_was_seen_first_where_its_own_session_saw_it_before(
    monkeypatch: pytest.MonkeyPatch, *, listed: bool
) -> None:
    """By the runs that are listed, and by the whole log where they are not."""
    f = fingerprinted(fingerprint="f")
    names = [f"{letter}{number}" for number in range(3) for letter in "abc"]
    ends = [
        each
        for name in names
        for each in attempt(name, replace(f, seen_before=names.index(name)), session_id="s")
    ]
    before = attempt("a-other", f, session_id="t")
    async with recorded(backlog(("a", "p"), ("b", "p"), ("c", "p")), *before, *ends) as store:
        row = FingerprintCount(session_id="s", fingerprint="f", template="", runs=(*"bca",))

        async def stored(*_: object) -> str | None:
            return msgspec.json.encode(row).decode() if listed else None

        monkeypatch.setattr(store, "projection_row", stored)
        records = await store.records(Query(session="s", types=("diagnosis.fingerprinted",)))
        for number, record in enumerate(records):
            event = event_of(record)
            assert isinstance(event, FailureFingerprinted)
            found = await sightings(store, event, record.pos)
            assert [each.attempt_id for each in found] == names[: min(number, SIGHTINGS_MAX)]
            assert [each.pos for each in found] == [r.pos for r in records[: len(found)]]
