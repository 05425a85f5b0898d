"""Where rows must come from, as whole tables: the stream and the actor of every type of event."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from engine.audit.chain import Row
from engine.audit.origins import BACKLOG_TYPES, DATED, IN_DATA, Origins, is_dated, is_plain, run_of
from engine.events.codec import SCHEMAS

PLACES: dict[tuple[str, str], tuple[str, ...]] = {
    ("drain/s", "picker"): (
        "attempt.estimated",
        "attempt.started",
        "triage.run_cooled_down",
    ),
    ("drain/s", "worker"): (
        "attempt.adopted",
        "attempt.finished",
        "attempt.spawned",
        "diagnosis.boundary_detected",
        "diagnosis.fingerprinted",
        "diagnosis.zero_yield_explained",
        "triage.account_paused",
        "triage.account_recovered",
        "triage.attempt_deferred",
        "triage.breaker_closed",
        "triage.breaker_opened",
        "triage.breaker_probed",
        "triage.fingerprint_stopped",
        "triage.run_judged",
        "triage.run_stopped",
        "usage.recorded",
        "usage.rejected",
    ),
    ("drain/s", "cli"): (
        "session.coefficients_in_force",
        "session.ended",
        "session.lapsed",
        "session.leased",
        "session.policy_adopted",
        "session.resumed",
        "session.started",
    ),
    ("run/r", "cli"): (
        "backlog.import_finished",
        "backlog.phase_registered",
        "backlog.run_registered",
        "backlog.tier_registered",
        "usage.estimate_imported",
        "usage.imported",
    ),
    ("daemon", "daemon"): ("daemon.configured", "daemon.paused", "daemon.resumed"),
    ("calibration", "drift"): ("calibration.drift_alarmed",),
    ("reclassification", "operator"): ("diagnosis.reclassified",),
}
"""The one place of all types whose rows show by their columns alone where they come from."""

SHOWN_IN_DATA = {
    "backlog.phase_requeued",
    "calibration.coefficients_adopted",
    "calibration.proposed",
    "engine.started",
    "operator.account_resumed",
    "operator.breaker_reset",
    "operator.run_reinstated",
    "session.draining",
    "session.part_lost",
    "triage.budget_reached",
}
STREAMS = (
    *("drain/s", "drain/t", "drain/", "run/r", "run/q", "import/x", "operator/r", "operator/"),
    *("daemon", "daemon/", "calibration", "reclassification", "engine", ""),
)
ACTORS = ("picker", "worker", "cli", "daemon", "drift", "operator", "engine", "drain/", "run/", "")


def row(kind: str, **columns: Any) -> Row:
    base = dict.fromkeys(Row._fields) | {"pos": 9, "type": kind, "command_id": "c", "code": "1"}
    base |= {"stream": "drain/s", "session": "s", "recorded_us": 5, "occurred_us": 5, "idx": 0}
    return Row._make((base | columns).values())


def said(*rows: tuple[Row, dict[str, Any] | None]) -> list[int | None]:
    """Where something is said of rows."""
    found: list[int | None] = []
    origins = Origins(lambda _what, pos: found.append(pos))
    for each, event in rows:
        origins.take(each, event)
    return found


@pytest.mark.parametrize(
    ("kind", "because", "cause", "right"),
    [
        ("session.draining", "batch_size", None, "picker"),
        ("session.draining", "total_time", None, "picker"),
        ("session.draining", "session_budget", None, "picker"),
        ("session.draining", "day_budget", None, "picker"),
        ("session.draining", "zero_yield_streak", 8, "worker"),
        ("session.draining", "interrupted", None, "cli"),
        ("session.draining", "run_budgets", None, "cli"),
        ("triage.budget_reached", None, None, "picker"),
        ("triage.budget_reached", None, 8, "worker"),
    ],
)
def test_who_says_it_shows_in_why_and_in_its_cause(
    kind: str, because: str | None, cause: int | None, right: str
) -> None:
    for actor in ("picker", "worker", "cli", "me"):
        found = said((row(kind, actor=actor, cause=cause), {"because": because}))
        assert found == ([] if actor == right else [9])


@pytest.mark.parametrize(("carried", "right"), [(True, "cli"), (False, "worker"), (1, "worker")])
def test_an_early_program_said_what_breakers_were_open_as_a_session_began(
    carried: object, right: str
) -> None:
    for actor in ("picker", "worker", "cli", "me"):
        found = said((row("triage.breaker_opened", actor=actor), {"carried": carried}))
        assert found == ([] if actor == right else [9])


@pytest.mark.parametrize(
    ("kind", "columns", "event", "is_right"),
    [
        ("session.part_lost", {"stream": "drain/other"}, {}, True),
        ("session.part_lost", {"stream": "run/other"}, {}, False),
        ("backlog.run_registered", {"stream": "import/x", "run": "r"}, {}, True),
        ("backlog.run_registered", {"stream": "run/r", "run": "r"}, {}, True),
        ("backlog.run_registered", {"stream": "run/r", "run": "q"}, {}, False),
        ("backlog.run_registered", {"stream": "runs", "run": "r"}, {}, False),
        ("operator.breaker_reset", {"stream": "operator/f"}, {"fingerprint": "f"}, True),
        ("operator.breaker_reset", {"stream": "operator/s"}, {"fingerprint": "f"}, False),
        ("operator.account_resumed", {"stream": "operator/a"}, {"account": "a"}, True),
        ("operator.account_resumed", {"stream": "operator/b"}, {"account": "a"}, False),
        ("backlog.phase_requeued", {"stream": "operator/r"}, {"run_id": "r"}, True),
        ("backlog.phase_requeued", {"stream": "operator/p"}, {"run_id": "r"}, False),
        ("operator.run_reinstated", {"stream": "operator/r"}, {"run_id": "r"}, True),
        ("operator.run_reinstated", {"stream": "operator/s"}, {"run_id": "r"}, False),
        ("calibration.proposed", {"stream": "operator/calibration"}, {}, True),
        ("calibration.proposed", {"stream": "calibration"}, {}, False),
        ("calibration.coefficients_adopted", {"stream": "operator/coefficients"}, {}, True),
        ("calibration.coefficients_adopted", {"stream": "operator/calibration"}, {}, False),
    ],
)
def test_a_stream_is_that_of_what_its_events_are_about(
    kind: str, columns: dict[str, str], event: dict[str, Any], is_right: bool
) -> None:
    assert said((row(kind, actor="cli", **columns), event)) == ([] if is_right else [9])


@pytest.mark.parametrize(
    ("kind", "created", "occurred", "is_right"),
    [
        ("backlog.run_registered", None, 5, True),
        ("backlog.run_registered", 3, 3, True),
        ("backlog.run_registered", 3, 5, False),
        ("backlog.phase_registered", 3, 3, True),
        ("backlog.phase_registered", 3, 4, False),
        ("backlog.phase_registered", 0, 5, True),
        ("usage.imported", 3, 3, True),
        ("usage.estimate_imported", 3, 3, True),
        ("backlog.tier_registered", 3, 3, False),
    ],
)
def test_what_is_dated_occurred_then_and_all_else_when_it_was_recorded(
    kind: str, created: int | None, occurred: int, is_right: bool
) -> None:
    one_row = row(kind, stream="import/x", actor="cli", occurred_us=occurred)
    assert said((one_row, {"created_us": created})) == ([] if is_right else [9])
    text = "" if created is None else f'"created_us":{created}'
    for data in (f'{{"type":"x",{text}}}', f'{{{text},"failure_reason":"x"}}'):
        plainly = is_dated(data.encode(), occurred, 5) if kind in DATED else occurred == 5
        assert plainly == is_right or created == 0


@pytest.mark.parametrize("told", [31, 36, 3])
def test_a_date_is_its_whole_number(told: int) -> None:
    assert not is_dated(b'{"created_us":%d}' % told, 3 if told != 3 else 31, 5)


def test_a_program_that_began_may_have_written_what_comes_later() -> None:
    began = {"program": "runoff", "package_version": "1"}
    engine = row("engine.started", stream="engine", actor="runoff", command_id="e")
    later = [row("session.ended", actor="cli", pos=10, code=code) for code in ("1", "2")]
    assert said((engine, began), (later[0], {})) == []
    assert said((engine, began), (later[1], {})) == [10]
    newer = row("engine.started", stream="engine", actor="runoff", command_id="f", code="2")
    both = (engine, began), (newer, began | {"package_version": "2"})
    assert said(*both, (later[0], {})) == said(*both, (later[1], {})) == []


def test_what_is_odd_is_no_measure_for_what_stands_beside_it() -> None:
    first, second, third = (row("session.ended", actor=actor) for actor in ("me", "cli", "cli"))
    assert said((first, {}), (second, {}), (third, {})) == [9]
    other = third._replace(stream="drain/t", session="t", pos=11)
    assert said((first, {}), (second, {}), (other, {})) == [9, 11]
    assert said((second, {}), (first, {}), (other, {})) == [9, 11]
    assert said((second, {}), (other._replace(command_id="d"), {})) == []


def test_every_type_has_its_place_and_no_other() -> None:
    placed = [kind for kinds in PLACES.values() for kind in kinds]
    assert sorted([*placed, *SHOWN_IN_DATA]) == sorted(SCHEMAS)
    assert set(IN_DATA) == SHOWN_IN_DATA
    assert set(BACKLOG_TYPES) == set(PLACES["run/r", "cli"])
    for (own, by), kinds in PLACES.items():
        streams = {own, "import/x"} if own == "run/r" else {own}
        for kind, stream, actor in product(kinds, STREAMS, ACTORS):
            is_right = stream in streams and actor == by
            found = said((row(kind, stream=stream, actor=actor, run="r"), {}))
            assert (found == []) is is_right, (kind, stream, actor)


@pytest.mark.parametrize("kind", [*sorted(SCHEMAS), "unknown"])
def test_what_is_plain_is_right_and_what_shows_in_its_columns_is_plain(kind: str) -> None:
    """The fast way by the columns never passes what the slow one would name."""
    for stream, actor in product(STREAMS, ACTORS):
        plainly = is_plain(kind, stream, "s", actor)
        # Whether a stream of a run is that of the row's own run is asked elsewhere.
        run_id = run_of(stream) or "r"
        if kind in SHOWN_IN_DATA or kind == "unknown":
            assert not plainly
        else:
            one = row(kind, stream=stream, actor=actor, run=run_id)
            assert plainly == (said((one, {})) == []), (stream, actor)


def test_a_stream_of_a_run_says_of_which() -> None:
    assert [run_of(stream) for stream in ("run/r", "run/run/r", "run/", "import/r", "runs/r")] == [
        "r",
        "run/r",
        "",
        None,
        None,
    ]


def test_an_engine_writes_about_itself_by_its_programs_name() -> None:
    began = {"program": "runoff", "package_version": "1"}
    for stream, actor in product(("engine", "drain/s", "run/r"), ("runoff", "cli", "")):
        found = said((row("engine.started", stream=stream, actor=actor), began))
        assert (found == []) is (stream == "engine" and actor == "runoff")


def test_what_is_wrong_is_said_with_what_it_is_about() -> None:
    def words(one: Row, event: dict[str, Any] | None) -> list[str]:
        found: list[str] = []
        origins = Origins(lambda what, _pos: found.append(what))
        origins.programs = {"1"}
        origins.take(one, event)
        return found

    where = "a session.ended of {} stands in 'drain/t'"
    astray = row("session.ended", stream="drain/t", actor="cli")
    assert words(astray, {}) == [f"S36: {where.format('s')}"]
    assert words(astray._replace(session=None, run="r"), {}) == [f"S36: {where.format('r')}"]
    assert words(astray._replace(session=None), {}) == [f"S36: {where.format('all')}"]
    assert words(astray, None) == [], "what cannot be read has been named already"
    by_me = row("session.ended", actor="m" * 100)
    assert words(by_me, {}) == [f"S36: such a session.ended is not by '{'m' * 80}'"]
    foreign = row("session.ended", actor="cli", code="2" * 100)
    assert words(foreign, {}) == [f"S36: no engine of version '{'2' * 80}' has begun"]
    late = row("session.ended", actor="cli", occurred_us=6)
    when = "S36: it occurred at another time than was recorded, or than its data says"
    assert words(late, {}) == [when]
    longest = late._replace(stream="x" * 100, actor="me", code="2")
    assert words(longest, {}) == [
        f"S36: a session.ended of s stands in '{'x' * 80}'",
        "S36: such a session.ended is not by 'me'",
        "S36: no engine of version '2' has begun",
        when,
    ]


def test_what_has_a_cause_is_by_whom_its_type_says() -> None:
    """Only where several may say it does the cause tell which of them did."""
    for kind, actor in (("attempt.started", "picker"), ("session.ended", "cli")):
        assert said((row(kind, actor=actor, cause=8), {})) == []
        assert said((row(kind, actor="worker", cause=8), {})) == [9]


@pytest.mark.parametrize(
    ("data", "occurred", "is_right"),
    [
        (b'{"created_us":null}', 5, True),
        (b'{"created_us":null}', 3, False),
        (b'{"created_us":null,"goal":"x"}', 5, True),
        (b'{"created_us":nul}', 5, False),
        (b'{"created_us":0}', 0, False),
        (b'{"created_us":1}', 1, True),
        (b'{"created_us":-1}', -1, True),
        (b'{"goal":"created_us"}', 5, True),
        (b'{"goal":"created_us"}', 3, False),
    ],
)
def test_a_date_is_read_from_the_data_as_it_is_written(
    data: bytes, occurred: int, *, is_right: bool
) -> None:
    assert is_dated(data, occurred, 5) is is_right


def test_a_date_that_is_no_number_dates_nothing() -> None:
    for created in ("3", 3.0, True, None):
        one = row("usage.imported", stream="import/x", actor="cli")
        assert said((one, {"created_us": created})) == []


def test_the_rows_of_a_command_have_one_request_and_one_place() -> None:
    first = row("session.ended", actor="cli", request=b"x")
    assert said((first, {}), (first._replace(request=b"y", pos=10), {})) == [10]
    other = first._replace(request=b"y", command_id="d", pos=10)
    assert said((first, {}), (other, {})) == []
    elsewhere = first._replace(stream="drain/t", session="t", pos=10)
    assert said((first, {}), (elsewhere, {}), (first._replace(pos=11), {})) == [10, 11]


def test_how_a_command_falls_apart_is_said_with_its_name() -> None:
    found: list[str] = []
    origins = Origins(lambda what, _pos: found.append(what))
    first = row("session.ended", actor="cli", request=b"x")
    origins.take(first, {})
    origins.take(first._replace(stream="drain/t", session="t"), {})
    origins.take(first._replace(request=b"y"), {})
    assert found == [
        "S36: the command c is of another place here",
        "S36: the command c asks for something else here",
    ]


def test_an_engine_whose_beginning_cannot_be_read_has_no_version() -> None:
    unread = row("engine.started", stream="engine", actor="runoff", command_id="e")
    assert said((unread, None), (row("session.ended", actor="cli", code="9"), {})) == []
