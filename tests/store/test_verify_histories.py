"""Verify against small logs made by hand: legal ones hold, illegal ones are named by position."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from engine.audit.stored import differences
from engine.audit.verify import Verification, verify
from engine.clock import HandSetClock
from engine.errors import LogUnreadable
from engine.events import (
    AnyEvent,
    AttemptFinished,
    AttemptSpawned,
    AttemptStarted,
    BoundaryDetected,
    Evidence,
    Limits,
    PhaseRegistered,
    PhaseRequeued,
    PolicyAdopted,
    Reason,
    RunJudged,
    RunRegistered,
    RunReinstated,
    SessionDraining,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    Stream,
    UsageRecorded,
    UsageRejected,
    ZeroYieldExplained,
)
from engine.store.anchors import Anchors
from engine.store.blobs import Blobs
from engine.store.database import open_reader, open_writer
from engine.store.location import Location, locate
from engine.store.recorder import Writer, recording
from engine.triage.policy import Policy
from tests.forgery import unguarded
from tests.placed import Item, placed

WRITER = Writer("host", "boot", 1, "test", "0")
REASON = Reason(rule="r", version=1, policy="default@1", basis=0, sentence="Because.")
LIMITS = Limits(batch_size=9, workers=2, per_run_max=2, phase_timeout_ms=1000, grace_ms=10)
NO_USAGE = ZeroYieldExplained(
    session_id="s", run_id="r", phase_id="p0", attempt_id="a", detector="d", reason="unknown",
    evidence="none",
)  # fmt: skip


def policy(limits: Limits = LIMITS, session: str = "s") -> list[AnyEvent]:
    default = Policy(name="default")
    return [
        PolicyAdopted(
            session_id=session,
            policy=default.label,
            policy_sha256=default.sha256,
            policy_json=default.json,
        ),
        SessionStarted(session_id=session, executor="e", limits=limits),
    ]


def registered(phase: str) -> PhaseRegistered:
    return PhaseRegistered(
        run_id="r", phase_id=phase, tier_id="t", tier_index=0, phase_index=0, name=phase,
        state="QUEUED",
    )  # fmt: skip


def started(attempt: str = "a", phase: str = "p0", number: int = 1, **other: Any) -> AttemptStarted:
    event = AttemptStarted(
        session_id="s", run_id="r", phase_id=phase, attempt_id=attempt, number=number,
        group="unsampled", category="none", initial_state="QUEUED", phase_index=0, executor="e",
        timeout_ms=1000, reason=REASON,
    )  # fmt: skip
    return replace(event, **other)


def finished(
    attempt: str = "a", phase: str = "p0", number: int = 1, **other: Any
) -> AttemptFinished:
    event = AttemptFinished(
        session_id="s", run_id="r", phase_id=phase, attempt_id=attempt, number=number,
        ending="failed", final_state="FAILED", duration_ms=1, timeout_ms=1000,
    )  # fmt: skip
    return replace(event, **other)


def judged(attempt: str = "a", **other: Any) -> RunJudged:
    event = RunJudged(
        session_id="s", run_id="r", attempt_id=attempt, generation=1, verdict="promising",
        because="new_failure", reason=REASON,
    )  # fmt: skip
    return replace(event, **other)


def usage(attempt: str = "a", phase: str = "p0") -> UsageRecorded:
    return UsageRecorded(
        session_id="s", run_id="r", phase_id=phase, attempt_id=attempt, line=1, source="file"
    )


def drained(session: str = "s") -> SessionDraining:
    return SessionDraining(session_id=session, because="batch_size", reason=REASON)


# engine.started is at position 1, the run at 2, the phases at 3 to 5, policy and session at 6, 7.
BEGUN: list[Item] = [
    RunRegistered(run_id="r", origin="test", state="NEW"),
    *(registered(f"p{number}") for number in range(3)),
    *policy(),
]
# start 8, finish 9, reason 10, verdict 11
SAMPLED: list[Item] = [*BEGUN, started(), finished(), (NO_USAGE, 9), (judged(), 9)]


async def log_of(folder: Path, items: list[Item]) -> Location:
    """A log with these events, in commands as they would have been recorded by."""
    location = locate(f"sqlite:///{folder}/log.db")
    store = await open_writer(location, create=True)
    try:
        async with recording(store, HandSetClock(), WRITER) as recorder:
            for command in placed(items):
                await recorder.submit(command)
    finally:
        await store.close()
    return location


def first(found: Verification) -> tuple[str, int | None]:
    assert not found.ok
    what, pos = found.violations[0]
    return what.partition(":")[0], pos


async def test_a_legal_session_holds(tmp_path: Path) -> None:
    location = await log_of(
        tmp_path,
        [
            *SAMPLED,
            started("b", "p1"),
            usage("b", "p1"),
            finished("b", "p1", yield_events=1, lines_read=2, lines_other=1),
            started("c", "p2"),
            drained(),
        ],
    )
    found = verify(location)
    assert (found.violations, found.events, found.open_attempts) == ([], 16, 1)
    assert (found.ok, found.epoch, found.anchors, len(found.head)) == (True, 1, "missing", 64)


async def test_a_phase_asked_for_by_name_is_no_sample_of_its_run(tmp_path: Path) -> None:
    named: dict[str, Any] = {"session_id": "n"}
    location = await log_of(
        tmp_path,
        [
            *BEGUN,
            *policy(replace(LIMITS, phase_id="p1"), "n"),
            started("x", "p1", **named),
            finished("x", "p1", **named),
            (replace(NO_USAGE, attempt_id="x", phase_id="p1", session_id="n"), 11),
            started(),
            finished(),
            (NO_USAGE, 14),
            (judged(), 14),
        ],
    )
    assert verify(location).violations == []


async def test_a_requeued_phase_and_a_reinstated_run_begin_again(tmp_path: Path) -> None:
    location = await log_of(
        tmp_path,
        [
            *SAMPLED,
            PhaseRequeued(run_id="r", phase_id="p0", by="me", why="again"),
            RunReinstated(run_id="r", generation=2, by="me", why="again"),
            started("b"),
            finished("b"),
            (replace(NO_USAGE, attempt_id="b"), 15),
            (judged("b", generation=2), 15),
            drained(),
            SessionEnded(
                session_id="s", because="batch_size", active_ms=1, attempts=2, work_left=3
            ),
        ],
    )
    assert verify(location).violations == []


DEPRIORITIZED: list[Item] = [*SAMPLED[:-1], (judged(verdict="deprioritized"), 9)]
SECOND = replace(NO_USAGE, attempt_id="b")
SUCCEEDED: list[Item] = [
    *BEGUN,
    started(),
    finished(ending="succeeded", final_state="COMPLETE"),
    (NO_USAGE, 9),
    (judged(), 9),
]
ILLEGAL: dict[str, tuple[list[Item], str, int]] = {
    "a second sample in flight": ([*BEGUN, started(), started("b", "p1")], "S15", 9),
    "an attempt of a deprioritized run": ([*DEPRIORITIZED, started("b", "p1")], "S18", 12),
    "a finish without a reason for its zero yield": ([*SAMPLED[:-2], (judged(), 9)], "S22", 9),
    "two reasons": ([*SAMPLED[:-1], (NO_USAGE, 9), (judged(), 9)], "S22", 11),
    "a reason beside yield": (
        [*BEGUN, started(), usage(), finished(yield_events=1), (NO_USAGE, 10), (judged(), 10)],
        "S22",
        11,
    ),
    "two verdicts": ([*SAMPLED, (judged(), 9)], "S16", 12),
    "a verdict about another attempt": ([*SAMPLED[:-1], (judged("b"), 9)], "S16", 11),
    "a verdict with another cause": ([*SAMPLED[:-1], (judged(), 8)], "S16", 11),
    "a verdict of a later generation": ([*SAMPLED[:-1], (judged(generation=2), 9)], "S16", 11),
    "a sample that nobody judged": (SAMPLED[:-1], "L2", 9),
    "a start after success": (
        [*SUCCEEDED, started("b", number=2, initial_state="COMPLETE")],
        "S8",
        12,
    ),
    "a skipped attempt number": ([*BEGUN, started(number=2)], "S9", 8),
    "a third attempt where two are allowed": (
        [
            *SAMPLED,
            started("b", number=2, initial_state="FAILED"),
            finished("b", number=2),
            (SECOND, 13),
            started("c", number=3, initial_state="FAILED"),
        ],
        "S9",
        15,
    ),
    "more workers than there are": (
        [*SAMPLED, RunRegistered(run_id="q", origin="t", state="NEW"), *(
            replace(registered(f"q{n}"), run_id="q") for n in range(1)
        ), started("b", "p1"), started("c", "p2"), started("d", "q0", run_id="q")],
        "S10",
        16,
    ),
    "a start while draining": ([*SAMPLED, drained(), started("b", "p1")], "S11", 13),
    "a start after the end": (
        [
            *BEGUN,
            SessionEnded(session_id="s", because="batch_size", active_ms=1, attempts=0,
                         work_left=3),
            started(),
        ],
        "S11",
        9,
    ),
    "a state the phase never had": ([*BEGUN, started(initial_state="FAILED")], "S32", 8),
    "a phase registered twice": ([*BEGUN, registered("p0")], "S32", 8),
    "a backlog counted wrong": (
        [*BEGUN, SessionEnded(session_id="s", because="batch_size", active_ms=1, attempts=0,
                              work_left=2)],
        "S32",
        8,
    ),
    "usage of nobody": ([*BEGUN, usage()], "S21", 8),
    "usage of another phase's attempt": ([*BEGUN, started(), usage("a", "p1")], "S21", 9),
    "usage after the end": ([*SAMPLED, usage()], "S21", 12),
    "yield that nobody recorded": (
        [*BEGUN, started(), finished(yield_events=1), (judged(), 9)],
        "S21",
        9,
    ),
    "lines that do not add up": (
        [*SAMPLED[:-3], finished(lines_read=3, lines_other=2), (NO_USAGE, 9), (judged(), 9)],
        "S21",
        9,
    ),
    "rejected lines that nobody counted": (
        [
            *BEGUN,
            started(),
            UsageRejected(session_id="s", run_id="r", phase_id="p0", attempt_id="a",
                          why="not_json", count=2, first_line=1, excerpt="?"),
            finished(lines_rejected=1),
            (NO_USAGE, 10),
            (judged(), 10),
        ],
        "S21",
        10,
    ),
    "a finish with another number": (
        [*SAMPLED[:-3], finished(number=2), (NO_USAGE, 9), (judged(), 9)],
        "S6",
        9,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ILLEGAL)
async def test_an_illegal_history_with_a_perfect_chain_is_named(tmp_path: Path, name: str) -> None:
    items, invariant, pos = ILLEGAL[name]
    assert first(verify(await log_of(tmp_path, items))) == (invariant, pos)


async def test_a_resumed_session_may_start_again(tmp_path: Path) -> None:
    resumed = SessionResumed(session_id="s", executor="e", limits=LIMITS)
    location = await log_of(tmp_path, [*SAMPLED, drained(), resumed, started("b", "p1")])
    assert verify(location).violations == []


def boundary(blob: str, **other: Any) -> BoundaryDetected:
    evidence = Evidence(stream="stdout", digest=blob, byte_start=4, byte_end=9, excerpt="limit")
    return BoundaryDetected(
        session_id="s", run_id="r", phase_id="p0", attempt_id="a", detector="d",
        kind="rate_limit", disposition="stopped_by", pattern="x",
        evidence=replace(evidence, **other),
    )  # fmt: skip


async def with_output(folder: Path, **other: Any) -> Location:
    data = b"the limit\n"
    digest = Blobs(folder / "log.db-files" / "blobs").put(data)
    kept = Stream(total_bytes=10, head_bytes=10, digest=digest)
    return await log_of(
        folder,
        [
            *BEGUN,
            started(),
            finished(stdout=kept),
            (boundary(digest, **other), 9),
            (NO_USAGE, 9),
            (judged(), 9),
        ],
    )


async def test_evidence_that_stands_in_the_output_holds(tmp_path: Path) -> None:
    assert verify(await with_output(tmp_path)).violations == []


@pytest.mark.parametrize(
    "other",
    [
        {"byte_end": 11},
        {"byte_start": -1},
        {"byte_start": 9, "byte_end": 4},
        {"digest": "0" * 64},
        {"stream": "stderr"},
        {"excerpt": "other"},
    ],
)
async def test_evidence_that_does_not_stand_in_the_output_is_named(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    assert first(verify(await with_output(tmp_path, **other))) == ("S24", 10)


@pytest.mark.parametrize("data", [None, b"the limit!\n", b"the_limit\n"])
async def test_output_that_is_missing_or_another_is_named(
    tmp_path: Path, data: bytes | None
) -> None:
    location = await with_output(tmp_path)
    (blob,) = (tmp_path / "log.db-files" / "blobs").glob("*/*")
    blob.unlink() if data is None else blob.write_bytes(data)
    found = verify(location)
    assert first(found) == ("S14", 9)
    assert (data is None) == ("blob missing" in found.violations[0].what)


async def test_output_that_is_missing_is_looked_for_where_it_was_kept(tmp_path: Path) -> None:
    process = AttemptSpawned(
        session_id="s", run_id="r", phase_id="p0", attempt_id="a", host="build-2", boot_id="b",
        pid=1, start_ticks=1, directory="d",
    )  # fmt: skip
    gone = Stream(total_bytes=10, head_bytes=10, digest="0" * 64)
    told = [*BEGUN, started(), process, finished(stdout=gone), (NO_USAGE, 10), (judged(), 10)]
    found = verify(await log_of(tmp_path, told))
    missing = [v.what for v in found.violations if v.what.startswith("S14")]
    assert missing == [f"S14: blob missing: {'0' * 64} (stdout, kept on build-2)"]


def tamper(location: Location, *statements: str) -> None:
    connection = sqlite3.connect(location.path)
    triggers = unguarded(connection)
    for statement in (*statements, *triggers):
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "invariant", "pos"),
    [
        ("UPDATE events SET actor='me' WHERE pos=5", "S2", 5),
        ("UPDATE events SET request=x'00' WHERE pos=5", "S2", 5),
        ("UPDATE events SET epoch=2 WHERE pos=5", "S4", 5),
        ("UPDATE events SET recorded_us=recorded_us+1 WHERE pos=5", "S2", 5),
        ("UPDATE events SET version=90 WHERE pos=5", "S1", 5),
        ("UPDATE events SET idx=90 WHERE pos=5", "S1", 5),
        ("UPDATE events SET data='[]' WHERE pos=5", "S3", 5),
        (f"UPDATE events SET data='{'[' * 9999}' WHERE pos=5", "S3", 5),
        ("UPDATE events SET run='q' WHERE pos=5", "S6", 5),
        ("UPDATE events SET data=replace(data,'\"r\"','\"\\ud800\"') WHERE pos=5", "S6", 5),
    ],
)
async def test_a_tampered_row_is_named(
    tmp_path: Path, statement: str, invariant: str, pos: int
) -> None:
    location = await log_of(tmp_path, SAMPLED)
    tamper(location, statement)
    found = verify(location)
    assert first(found) == (invariant, pos)
    json.dumps([violation.what for violation in found.violations]).encode("ascii")
    assert all(violation.what.isprintable() for violation in found.violations)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "DELETE FROM events WHERE pos=5",
            [("S37", 4), ("S1", 6), ("S2", 6)],
        ),
        (
            "UPDATE events SET command_id='x' WHERE pos=5",
            [("S37", 4), ("S1", 5), ("S2", 5), ("S37", 5)],
        ),
    ],
)
async def test_a_command_that_was_cut_short_is_named_at_its_new_end(
    tmp_path: Path, statement: str, expected: list[tuple[str, int]]
) -> None:
    location = await log_of(tmp_path, SAMPLED)
    tamper(location, statement)
    found = verify(location)
    assert [(v.what.partition(":")[0], v.pos) for v in found.violations] == expected


async def test_two_rows_in_each_others_place_are_named(tmp_path: Path) -> None:
    location = await log_of(tmp_path, SAMPLED)
    tamper(
        location,
        "UPDATE events SET pos=-1 WHERE pos=4",
        "UPDATE events SET pos=4 WHERE pos=5",
        "UPDATE events SET pos=5 WHERE pos=-1",
    )
    assert first(verify(location))[1] == 4


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET type='triage.run_pardoned' WHERE pos=5",
        "UPDATE events SET schema=99 WHERE pos=5",
    ],
)
async def test_an_unknown_event_stops_verify_at_its_position(
    tmp_path: Path, statement: str
) -> None:
    location = await log_of(tmp_path, SAMPLED)
    tamper(location, statement)
    with pytest.raises(LogUnreadable, match="position 5"):
        verify(location)


async def test_a_damaged_file_is_refused_with_the_last_good_position(tmp_path: Path) -> None:
    location = await log_of(tmp_path, SAMPLED)
    tamper(location, "UPDATE events SET actor=CAST(x'ff' AS TEXT) WHERE pos=5")
    with pytest.raises(LogUnreadable, match="beyond position 4"):
        verify(location)


def hash_at(location: Location, pos: int) -> bytes:
    connection = sqlite3.connect(location.path)
    (found,) = connection.execute("SELECT hash FROM events WHERE pos=?", (pos,)).fetchone()
    connection.close()
    assert isinstance(found, bytes)
    return found


async def anchored(folder: Path) -> Location:
    location = await log_of(folder, SAMPLED)
    anchors = location.beside("anchors")
    Anchors(anchors).close()
    lines = [f"{pos} {hash_at(location, pos).hex()}\n" for pos in (1, 7, 11)]
    anchors.write_text("".join(lines))
    return location


async def test_anchors_that_hold_are_ok_and_a_cut_last_line_is_ignored(tmp_path: Path) -> None:
    location = await anchored(tmp_path)
    with location.beside("anchors").open("a") as file:
        file.write("12 abc")
    found = verify(location)
    assert (found.violations, found.anchors) == ([], "ok")


async def test_an_anchor_written_behind_one_that_a_crash_cut_short_still_holds(
    tmp_path: Path,
) -> None:
    location = await anchored(tmp_path)
    whole = location.beside("anchors").read_text().splitlines()
    torn = [whole[0], whole[1][:5] + whole[2]]
    location.beside("anchors").write_text("\n".join(torn) + "\n")
    assert verify(location).violations == []


async def test_a_cut_tail_is_told_by_its_anchor(tmp_path: Path) -> None:
    location = await anchored(tmp_path)
    tamper(location, "DELETE FROM events WHERE pos > 7")
    found = verify(location)
    by_anchors = [(what, pos) for what, pos in found.violations if what.startswith("S2:")]
    assert [("cut short" in what, pos) for what, pos in by_anchors] == [(True, 11)]


@pytest.mark.parametrize("line", ["5 " + "0" * 64, "garbage", "9" * 300])
async def test_an_anchor_that_does_not_hold_is_named(tmp_path: Path, line: str) -> None:
    location = await anchored(tmp_path)
    lines = location.beside("anchors").read_text().splitlines()
    location.beside("anchors").write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    found = verify(location)
    assert found.anchors == "broken"
    assert first(found)[0] == "S2"


async def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    path.write_bytes(hashlib.sha256(b"").digest() * 64)
    with pytest.raises(LogUnreadable, match="position 0"):
        verify(locate(f"sqlite:///{path}"))


async def test_stored_projections_are_held_against_the_log(tmp_path: Path) -> None:
    location = await log_of(tmp_path, SAMPLED)
    for damaged in (False, True):
        if damaged:
            tamper(location, "UPDATE projection_backlog_v5 SET data=replace(data,'FAILED','X')")
        reader = await open_reader(location)
        try:
            found = await differences(reader)
        finally:
            await reader.close()
        assert [violation.what.partition(":")[0] for violation in found] == ["S29"] * damaged
