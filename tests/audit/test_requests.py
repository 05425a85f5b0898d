"""What a command asked for is read out of its events as the writer's commands wrote it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Any, get_args

import msgspec
import pytest

from engine.audit.requests import WORKERS_MAX, Requests, check_requests
from engine.cli.drain import drain
from engine.drain.drift_watch import alarm_command
from engine.events import (
    AccountResumed,
    AnyEvent,
    AttemptAdopted,
    AttemptSpawned,
    BreakerReset,
    CalibrationProposed,
    CoefficientsAdopted,
    DaemonPaused,
    Diagnosed,
    DriftAlarmed,
    PhaseRequeued,
    Reclassified,
    RunReinstated,
    SessionEnd,
    SessionEnded,
    UsageRecorded,
    encode,
)
from engine.triage.operating import (
    AdoptCoefficients,
    Operation,
    ProposeCalibration,
    ReinstateRun,
    RequeuePhase,
    ResetBreaker,
    ResumeAccount,
)
from tests.harness.backlogs import queued
from tests.rules.standings import finished

BY, WHY = "mé", 'a "quoted" \\ line\n with \x01, \x7f, \u2028 and 🙂'
PROPOSED = CalibrationProposed(
    position=1, hash="h", input_sha256="i", formula_version="f", coefficient_version=None,
    min_samples=5, confidence_threshold=0.7, samples=0, groups=0, sentence=WHY,
)  # fmt: skip
ALARM = DriftAlarmed(
    category="c", complexity="low", coefficient_version="v", position=3, z=-2.5000000001
)
OF: dict[str, str] = {"session_id": "s", "run_id": "r", "phase_id": "p", "attempt_id": "a"}
COEFFICIENTS: dict[str, str] = {
    "coefficient_version": "v",
    "coefficients_sha256": "h",
    "coefficients_json": '{"version":"v"}',
    "replaces": "u",
    "by": BY,
    "why": WHY,
}
ASKED: list[tuple[Operation, AnyEvent]] = [
    (
        ReinstateRun(run_id="r", by=BY, why=WHY),
        RunReinstated(run_id="r", generation=2, by=BY, why=WHY),
    ),
    (
        RequeuePhase(run_id="r", phase_id="p", by=BY, why=WHY),
        PhaseRequeued(run_id="r", phase_id="p", by=BY, why=WHY),
    ),
    (
        ResetBreaker(fingerprint="f", by=BY, why=WHY),
        BreakerReset(session_id="s", fingerprint="f", by=BY, why=WHY),
    ),
    (ResumeAccount(account="a", by=BY, why=WHY), AccountResumed(account="a", by=BY, why=WHY)),
    (AdoptCoefficients(**COEFFICIENTS), CoefficientsAdopted(**COEFFICIENTS)),
    (ProposeCalibration(proposal=PROPOSED), PROPOSED),
]
ADOPTED = AttemptAdopted(**OF, epoch=4)
SPAWNED = AttemptSpawned(**OF, host="h", boot_id="b", pid=1, start_ticks=2, directory="d")


def found(command_id: str, asked: bytes, events: Sequence[AnyEvent | str]) -> list[int | None]:
    """Where something is said of a command whose events stand at 3, 4, ..."""
    said: list[int | None] = []
    requests = Requests(lambda _what, pos: said.append(pos))
    request = hashlib.sha256(asked).digest()
    for pos, event in enumerate(events, 3):
        data = event if isinstance(event, str) else encode(event)
        kind: str = msgspec.json.decode(data)["type"]
        requests.take(pos, command_id, request, (kind, OF["attempt_id"], data))
    requests.close()
    return said


@pytest.mark.parametrize(("operation", "event"), ASKED, ids=lambda each: type(each).__name__)
def test_the_word_of_a_person_is_what_was_asked_for(operation: Operation, event: AnyEvent) -> None:
    asked = msgspec.json.encode(operation)
    assert found("c", asked, [event]) == []
    fields: dict[str, Any] = msgspec.json.decode(encode(event))
    named = msgspec.json.decode(asked)
    for name in set(fields) & set(named.get("proposal", named)) - {"type"}:
        other = fields | {name: "another"}
        assert found("c", asked, [msgspec.json.encode(other).decode()]) == [3], name


@pytest.mark.parametrize(
    "event", [event for _, event in ASKED[:4]], ids=lambda each: type(each).__name__
)
def test_the_word_of_a_person_was_first_asked_for_as_its_event_stands(event: AnyEvent) -> None:
    asked = encode(event).encode()
    assert found("c", asked, [event]) == []
    fields: dict[str, Any] = msgspec.json.decode(asked)
    for name in set(fields) - {"type"}:
        other = fields | {name: "another"}
        assert found("c", asked, [msgspec.json.encode(other).decode()]) == [3], name


def test_an_alarm_is_named_by_what_it_says() -> None:
    command = alarm_command(ALARM)
    assert found(command.command_id, command.request, [ALARM]) == []
    assert found("drift.other", command.request, [ALARM]) == [3]
    assert found(command.command_id, command.request, [PROPOSED]) == [3]


def test_what_a_daemon_or_an_attempt_says_is_asked_for_as_it_stands() -> None:
    paused = DaemonPaused(by=BY, why=WHY)
    assert found("c", encode(paused).encode(), [paused]) == []
    assert found("c", b"else", [paused]) == [3]
    asked = msgspec.json.encode(ADOPTED)
    assert found("a.adopted-4", asked, [ADOPTED]) == []
    assert found("a.adopted-5", asked, [ADOPTED]) == [3]
    assert found("a.adopted-4", b"else", [ADOPTED]) == [3]
    asked = msgspec.json.encode(SPAWNED)
    assert found("a.spawned", asked, [SPAWNED]) == []
    assert found("a.adopted-4", asked, [SPAWNED]) == [3]
    assert found("a.spawned", b"else", [SPAWNED]) == [3]


def test_what_a_rule_set_says_of_an_attempt_is_asked_for_at_once() -> None:
    said = [
        Reclassified(
            **OF, what=what, detector="d", timeouts="run", before=None, after=None, by=BY, why=WHY
        )
        for what in get_args(Diagnosed)
    ]
    asked = msgspec.json.encode(said)
    assert found("c", asked, said) == []
    assert found("c", asked, said[:1]) == [3]


def test_leases_are_asked_for_by_a_word() -> None:
    for kind, word in (("session.leased", b"lease"), ("session.lapsed", b"lapse")):
        data = f'{{"type":"{kind}"}}'
        assert found("c", word, [data]) == []
        assert found("c", b"else", [data]) == [3]


@pytest.mark.parametrize(
    ("asked", "starts", "is_right"),
    [
        (b"pick 2", 1, True),
        (b"pick 2", 2, True),
        (b"pick 2", 3, False),
        (b"pick 0", 0, False),
        (b"pick %d" % WORKERS_MAX, 1, True),
        (b"pick %d" % (WORKERS_MAX + 1), 1, False),
        (b"batch_size", 0, True),
        (b"total_time", 0, False),
        (b"batch_size", 1, False),
    ],
)
def test_a_pick_wanted_as_many_as_it_started(asked: bytes, starts: int, is_right: bool) -> None:
    draining = '{"type":"session.draining","because":"batch_size"}'
    events = ['{"type":"attempt.started"}'] * starts + [draining]
    assert found("c", asked, events) == ([] if is_right else [2 + len(events)])


@pytest.mark.parametrize("because", get_args(SessionEnd))
def test_a_session_ends_for_any_of_the_reasons_there_are(because: SessionEnd) -> None:
    end = SessionEnded(session_id="s", because="storage", active_ms=1, attempts=1, work_left=1)
    held = '{"type":"session.draining","because":"run_budgets"}'
    assert found("c", because.encode(), [end]) == found("c", because.encode(), [held, end]) == []
    assert found("c", b"moonlight", [end]) == [3]


_USED = {"type": "usage.recorded", **OF, "source": "script"}
USED = [msgspec.convert(_USED | {"line": line}, UsageRecorded) for line in (1, 2)]
END = finished(attempt_id="a", run_id="r", phase_id="p", session_id="s")
JUDGED = '{"type":"triage.run_judged"}'


@pytest.mark.parametrize("used", [[], USED[:1], USED])
def test_an_end_is_asked_for_with_the_usage_that_came_before_it(used: list[UsageRecorded]) -> None:
    """What was decided from it was asked of nobody."""
    asked = msgspec.json.encode([used, END])
    said: list[AnyEvent | str] = [*used, END, JUDGED]
    assert found("a.finished", asked, said) == []
    assert found("a.ended", asked, said) == [2 + len(said)]
    assert found("a.finished", msgspec.json.encode([USED[:1] * 3, END]), said) == [2 + len(said)]
    assert found("a.finished", msgspec.json.encode([used, SPAWNED]), said) == [2 + len(said)]


def test_a_registration_is_asked_for_line_by_line() -> None:
    said = [queued("r", "p"), queued("r", "q")]
    asked = "\n".join(map(encode, said)).encode()
    assert found("reg_1", asked, said) == []
    assert found("c", asked, said) == [4]
    assert found("reg_1", asked, said[:1]) == [3]
    assert found("reg_1", b"else", said) == [4]


def test_an_engine_is_named_by_its_epoch() -> None:
    began = '{"type":"engine.started","epoch":7}'
    assert found("engine-7", began.encode(), [began]) == []
    assert found("engine-8", began.encode(), [began]) == [3]
    assert found("engine-7", b"else", [began]) == [3]
    assert found("engine-7", b"else", ['{"type":"engine.started"}']) == [3], "it says no epoch"


@pytest.mark.parametrize("kind", ["daemon.configured", "daemon.resumed", "triage.run_cooled_down"])
def test_whatever_comes_from_outside_or_goes_before_a_start_was_asked_for(kind: str) -> None:
    said = f'{{"type":"{kind}"}}'
    asked = b"pick 1" if kind.startswith("triage") else said.encode()
    assert found("c", asked, [said]) == []
    assert found("c", b"else", [said]) == [3]


def test_as_many_are_picked_at_once_as_a_drain_may_have_workers() -> None:
    (workers,) = (each for each in drain.params if each.name == "workers")
    assert getattr(workers.type, "max", None) == WORKERS_MAX


@pytest.mark.parametrize("asked", [b"interrupted", b"pick 1"])
def test_what_drains_was_told_why_or_wanted_to_pick(asked: bytes) -> None:
    draining = '{"type":"session.draining","because":"interrupted"}'
    assert found("c", asked, [draining]) == []
    assert found("c", b"else", [draining]) == [3]


STREAMS = (
    *("run/r", "run/", "import/x", "operator/r", "operator/ré"),
    *("calibration", "daemon", "engine", "reclassification"),
)


@pytest.mark.parametrize("stream", [*STREAMS, "drain/s", "daemons", "runs/r", "operators"])
def test_all_that_comes_from_outside_is_judged_stream_by_stream(stream: str) -> None:
    """Commands of two streams are no command of one; sessions are decided again elsewhere."""
    told: list[tuple[str, int | None]] = []
    columns = "pos, stream, version, type, attempt, data, command_id, request"
    paused = encode(DaemonPaused(by=BY, why=WHY))
    rows = [
        (pos, stream, 9 - pos, "daemon.paused", None, paused, f"c{pos}", b"x") for pos in (1, 2)
    ]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE events ({columns})")
        places = ", ".join("?" * len(rows[0]))
        connection.executemany(f"INSERT INTO events VALUES ({places})", rows)
        check_requests(connection, lambda what, pos: told.append((what, pos)))
    what = "S37: what {} asked for is not what its daemon.paused says"
    expected = [(what.format("c2"), 2), (what.format("c1"), 1)]  # by version, not by position
    assert told == (expected if stream in STREAMS else [])


def test_commands_are_told_apart_and_what_says_nothing_of_it_is_let_be() -> None:
    said: list[int | None] = []
    requests = Requests(lambda _what, pos: said.append(pos))
    lease = ("session.leased", None, "{}")
    for pos, command, word in ((1, "a", b"lease"), (2, "b", b"x"), (3, "c", b"lease")):
        requests.take(pos, command, hashlib.sha256(word).digest(), lease)
    requests.take(4, "d", b"", ("triage.run_judged", None, "{}"))
    requests.close()
    requests.close()
    assert said == [2]
