"""The parts of verify that look at one fact at a time, each as a table with its answers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from engine.audit.anchored import SLACK_US, Anchors, End, is_anchored, lines_of
from engine.audit.chain import Report
from engine.audit.credible import odd_coefficients, odd_end, odd_policy, tokens_of
from engine.audit.derived import check_derived, check_open_attempts, check_shapes
from engine.audit.written import PAGE_ROWS, check_written
from engine.events import (
    AnyEvent,
    CoefficientsAdopted,
    CoefficientsInForce,
    PolicyAdopted,
    RunRegistered,
    encode,
    event_type,
    tags_of,
)
from tests.rules.standings import finished, policy, started

Told = list[tuple[str, int | None]]


def reported(check: Callable[[sqlite3.Connection, Report], None], log: sqlite3.Connection) -> Told:
    found: Told = []
    check(log, lambda what, pos: found.append((what, pos)))
    return found


END: dict[str, Any] = {"timeout_ms": 7, "tokens": 5, "ending": "failed", "final_state": "FAILED"}
SUCCEEDED = {"ending": "succeeded", "final_state": "COMPLETE"}
ENDS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"duration_ms": 0, "killed": 0, "yield_events": 0}, []),
    *(
        ({name: -1}, [f"{name} is -1"])
        for name in ("duration_ms", "yield_events", "lines_read", "lines_other", "killed")
    ),
    ({"timeout_ms": 8}, ["timeout_ms is 8, and it was started with 7"]),
    ({"timeout_ms": 6}, ["timeout_ms is 6, and it was started with 7"]),
    ({"tokens": 6}, ["6 tokens are claimed, and its usage records have 5"]),
    ({"tokens": 4}, ["4 tokens are claimed, and its usage records have 5"]),
    ({"tokens": ...}, ["0 tokens are claimed, and its usage records have 5"]),
    ({"exit_code": 1, "signal": 9}, []),  # it failed
    ({"ending": "timed_out", "exit_code": 1, "signal": 9}, []),
    ({**SUCCEEDED, "exit_code": 0}, []),
    ({**SUCCEEDED, "exit_code": 1}, []),  # an executor without a child: its state is its word
    ({**SUCCEEDED, "exit_code": 1, "told": {"state": "COMPLETE"}}, []),
    ({**SUCCEEDED, "exit_code": 1, "told": {"state": "FAILED"}}, ["it succeeded with exit code 1"]),
    ({**SUCCEEDED, "exit_code": 1, "told": {}}, ["it succeeded with exit code 1"]),
    ({**SUCCEEDED, "exit_code": 0, "told": {}}, []),
    ({**SUCCEEDED, "final_state": "X", "exit_code": 1}, ["it succeeded with exit code 1"]),
    ({**SUCCEEDED, "signal": 9}, ["it succeeded by signal 9"]),
]


@pytest.mark.parametrize(("fields", "odd"), ENDS)
def test_what_cannot_be_of_an_end_is_said(fields: dict[str, Any], odd: list[str]) -> None:
    end = {name: value for name, value in {**END, **fields}.items() if value is not ...}
    assert list(odd_end(end, timeout_ms=7, tokens=5)) == odd


def test_an_end_without_tokens_claims_none() -> None:
    end = {name: value for name, value in END.items() if name != "tokens"}
    assert list(odd_end(end, timeout_ms=7, tokens=0)) == []


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"input_tokens": 3, "output_tokens": 4}, 7),
        ({"input_tokens": 3}, 3),
        ({"output_tokens": 4, "input_tokens": None}, 4),
        ({"cached_tokens": 9}, 0),
    ],
)
def test_tokens_are_what_went_in_and_what_came_out(usage: dict[str, Any], tokens: int) -> None:
    assert tokens_of(usage) == tokens


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


POLICY = '{"name":"mine","version":3}'
MINE = {"policy": "mine@3", "policy_sha256": digest(POLICY), "policy_json": POLICY}
FACTORS = '{"version":"2"}'
OURS = {
    "coefficient_version": "2",
    "coefficients_sha256": digest(FACTORS),
    "coefficients_json": FACTORS,
}


@pytest.mark.parametrize(
    ("fields", "odd"),
    [
        ({}, []),
        ({"policy": "mine@4"}, ["the policy is called 'mine@4', and its text is 'mine@3'"]),
        ({"policy": "your@3"}, ["the policy is called 'your@3', and its text is 'mine@3'"]),
        ({"policy_sha256": digest("")}, ["policy_sha256 is not that of policy_json"]),
    ],
)
def test_a_policy_is_called_by_its_text(fields: dict[str, str], odd: list[str]) -> None:
    assert list(odd_policy({**MINE, **fields})) == odd


@pytest.mark.parametrize(
    ("fields", "odd"),
    [
        ({}, []),
        (
            {"coefficient_version": "3"},
            ["the coefficients are called '3', and their text is '2'"],
        ),
        ({"coefficients_sha256": ""}, ["coefficients_sha256 is not that of coefficients_json"]),
    ],
)
def test_coefficients_are_called_by_their_text(fields: dict[str, str], odd: list[str]) -> None:
    assert list(odd_coefficients({**OURS, **fields})) == odd


@pytest.fixture
def log() -> Iterator[sqlite3.Connection]:
    columns = "pos, recorded_us, type, schema, data, session, run, phase, attempt"
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE events ({columns})")
        yield connection


def write(log: sqlite3.Connection, *events: AnyEvent) -> None:
    for event in events:
        (last,) = log.execute("SELECT coalesce(max(pos), 0) FROM events").fetchone()
        kind = type(event)
        row = (last + 1, 0, event_type(kind), kind.schema, encode(event), *tags_of(event))
        log.execute(f"INSERT INTO events VALUES ({', '.join('?' * len(row))})", row)


def shaped(log: sqlite3.Connection, *rows: tuple[int, str, int]) -> None:
    log.executemany("INSERT INTO events (pos, type, schema) VALUES (?, ?, ?)", rows)


BACK = "S35: a {} of an older version stands behind version {}"
DIFFERS = "S35: event_shapes and the log differ in {} version {}"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([(1, "a", 1), (2, "a", 1), (3, "a", 2)], []),
        ([(1, "a", 2), (2, "a", 1)], [(BACK.format("a", 2), 2)]),
        ([(1, "a", 1), (2, "a", 2), (3, "a", 1), (4, "a", 2)], [(BACK.format("a", 2), 3)]),
        ([(1, "b", 2), (2, "a", 1)], []),  # of two types
        ([(1, "a", 3), (2, "b", 1), (3, "a", 4)], []),
    ],
)
def test_a_version_that_goes_back_is_named_at_its_last_place(
    log: sqlite3.Connection, rows: list[tuple[int, str, int]], told: Told
) -> None:
    shaped(log, *rows)
    assert reported(check_shapes, log) == told


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ([("a", 1, 1), ("b", 1, 2)], []),
        ([("a", 1, 1)], [(DIFFERS.format("b", 1), 2)]),
        ([("a", 1, 1), ("b", 1, 2), ("c", 1, 3)], [(DIFFERS.format("c", 1), 3)]),
        ([("a", 1, 1), ("b", 1, 3)], [(DIFFERS.format("b", 1), 2), (DIFFERS.format("b", 1), 3)]),
    ],
)
def test_a_type_that_is_listed_otherwise_is_named(
    log: sqlite3.Connection, stored: list[tuple[str, int, int]], told: Told
) -> None:
    shaped(log, (1, "a", 1), (2, "b", 1), (3, "b", 1))
    log.execute("CREATE TABLE event_shapes (type, schema, first_pos)")
    log.executemany("INSERT INTO event_shapes VALUES (?, ?, ?)", stored)
    assert sorted(reported(check_shapes, log)) == told


ATTEMPTS = [("a1", "r", "p", 1, 4), ("a2", "r", "q", 2, None)]


@pytest.mark.parametrize(
    ("stored", "places"),
    [
        (ATTEMPTS, []),
        (ATTEMPTS[1:], [1]),
        ([*ATTEMPTS, ("a3", "r", "z", 9, None)], [9]),
        ([ATTEMPTS[0], ("a2", "r", "q", 2, 5)], [2, 2]),
        ([("a1", "r", "q", 1, 4), ATTEMPTS[1]], [1, 1]),
        ([("a1", "r", "p", 1, None), ATTEMPTS[1]], [1, 1]),
    ],
)
def test_an_attempt_that_is_listed_otherwise_is_named_where_it_started(
    log: sqlite3.Connection, stored: list[tuple[Any, ...]], places: list[int]
) -> None:
    write(log, started(attempt_id="a1"), started(attempt_id="a2", phase_id="q"))
    log.execute(
        "INSERT INTO events (pos, type, attempt) VALUES (3, 'attempt.spawned', 'a1')",
    )
    write(log, finished(attempt_id="a1"))
    log.execute("CREATE TABLE open_attempts (attempt, run, phase, started_pos, closed_pos)")
    log.executemany("INSERT INTO open_attempts VALUES (?, ?, ?, ?, ?)", stored)
    said = "S35: open_attempts and the log differ in an attempt"
    assert reported(check_open_attempts, log) == [(said, pos) for pos in places]


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("event_shapes", "type, schema"),
        ("event_shapes", "type, schema, first"),
        ("open_attempts", "run, phase, started_pos, closed_pos"),
        ("open_attempts", "attempt"),
    ],
)
def test_a_table_that_lost_a_column_is_named(
    log: sqlite3.Connection, table: str, columns: str
) -> None:
    shaped(log, (1, "a", 1))
    log.execute(f"CREATE TABLE {table} ({columns})")
    assert [(what.split(":")[1].split()[0], pos) for what, pos in reported(check_derived, log)] == [
        (table, None)
    ]


def test_where_a_table_names_no_position_there_is_none(log: sqlite3.Connection) -> None:
    log.execute("CREATE TABLE event_shapes (type, schema, first_pos)")
    log.execute("CREATE TABLE open_attempts (attempt, run, phase, started_pos, closed_pos)")
    log.execute("INSERT INTO event_shapes VALUES ('a', 1, 'x')")
    log.execute("INSERT INTO open_attempts VALUES ('a1', 'r', 'p', x'00', NULL)")
    assert [pos for _, pos in reported(check_derived, log)] == [None, None]


def test_a_copy_of_a_servers_log_has_no_list_of_attempts(log: sqlite3.Connection) -> None:
    write(log, started())
    assert reported(check_open_attempts, log) == reported(check_shapes, log) == []


def runs(count: int, first: int = 1) -> list[AnyEvent]:
    numbers = range(first, first + count)
    return [RunRegistered(run_id=f"r{each}", origin="o", state="NEW") for each in numbers]


def change(log: sqlite3.Connection, pos: int, **columns: object) -> None:
    for name, value in columns.items():
        log.execute(f"UPDATE events SET {name} = ? WHERE pos = ?", (value, pos))


TAGS = "S6: the tags of the row are not those of the data"
UNPLAIN = "S3: the data is not written as this program writes it"
UNREAD = "S3: the data does not read as backlog.run_registered version 1"


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"run": "r9"}, [TAGS]),
        ({"session": "s"}, [TAGS]),
        ({"attempt": "a"}, [TAGS]),
        ({"phase": "p"}, [TAGS]),
        ({"data": encode(runs(1, 2)[0]).replace(",", ", ")}, [UNPLAIN]),
        ({"data": "{"}, [UNREAD]),
        ({"data": "{}"}, [UNREAD]),
        ({"schema": 99}, ["S3: the data does not read as backlog.run_registered version 99"]),
        ({"type": "x.y"}, ["S3: the data does not read as x.y version 1"]),
    ],
)
def test_a_row_that_was_written_otherwise_is_named_and_so_are_those_behind_it(
    log: sqlite3.Connection, columns: dict[str, object], told: list[str]
) -> None:
    write(log, *runs(4))
    assert reported(check_written, log) == []
    change(log, 2, **columns)
    change(log, 4, run="other")
    assert reported(check_written, log) == [*((what, 2) for what in told), (TAGS, 4)]


def test_every_page_is_looked_at(log: sqlite3.Connection) -> None:
    write(log, *runs(2))
    text = encode(runs(1)[0])
    rows = [
        (pos, 0, "backlog.run_registered", 1, text, None, "r1", None, None)
        for pos in range(3, 2 * PAGE_ROWS + 2)
    ]
    log.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    places = [1, PAGE_ROWS, PAGE_ROWS + 1, 2 * PAGE_ROWS + 1]
    for pos in places:
        change(log, pos, run="other")
    assert reported(check_written, log) == [(TAGS, pos) for pos in places]


def test_a_row_of_an_older_version_need_not_be_written_as_today(log: sqlite3.Connection) -> None:
    write(log, finished())
    text = encode(finished()).replace('"duration_ms":7', '"duration_ms": 7')
    assert text != encode(finished())
    change(log, 1, data=text, schema=type(finished()).schema - 1)
    assert reported(check_written, log) == []
    change(log, 1, schema=type(finished()).schema)
    assert reported(check_written, log) == [(UNPLAIN, 1)]


NOT_THAT = "S33: the sha256 is not that of the JSON beside it"


def in_force(version: str, digest_of: str, text: str) -> AnyEvent:
    return CoefficientsInForce(
        session_id="s",
        coefficient_version=version,
        coefficients_sha256=digest(digest_of),
        coefficients_json=text,
    )


def changed_to(version: str, digest_of: str, text: str) -> AnyEvent:
    return CoefficientsAdopted(
        coefficient_version=version,
        coefficients_sha256=digest(digest_of),
        coefficients_json=text,
        replaces=None,
        by="x",
        why="y",
    )


def went_by(label: str, digest_of: str, text: str) -> AnyEvent:
    return PolicyAdopted(
        session_id="s", policy=label, policy_sha256=digest(digest_of), policy_json=text
    )


OF_OURS = policy().json
CALLED = "it is called '{}', and the JSON beside it '{}'"


DIGESTED: list[tuple[AnyEvent, list[str]]] = [
    (went_by("t@7", OF_OURS, OF_OURS), []),
    (went_by("t@7", "", OF_OURS), [NOT_THAT]),
    (went_by("t@8", OF_OURS, OF_OURS), [f"S33: {CALLED.format('t@8', 't@7')}"]),
    (went_by("t@8", "{}", "{}"), []),  # what cannot be read here calls itself nothing
]
for made in (in_force, changed_to):
    DIGESTED.extend(
        [
            (made("2", FACTORS, FACTORS), []),
            (made("2", "", FACTORS), [NOT_THAT]),
            (made("3", FACTORS, FACTORS), [f"S33: {CALLED.format('3', '2')}"]),
            (made("3", "{}", "{}"), []),
        ]
    )


@pytest.mark.parametrize(("event", "told"), DIGESTED)
def test_a_label_and_a_digest_are_those_of_the_text_beside_them(
    log: sqlite3.Connection, event: AnyEvent, told: list[str]
) -> None:
    write(log, event)
    assert reported(check_written, log) == [(what, 1) for what in told]


def hash_of(pos: int) -> str | None:
    """That of a log of which nobody knows the end."""
    return f"{pos:064x}"


def line(pos: int, digest_of: int | None = None) -> str:
    return f"{pos} {hash_of(pos if digest_of is None else digest_of)}\n"


def held_against(
    path: Path, text: str | None, end: End, *, rest_s: int = 0, **more: bool
) -> tuple[str, int, Told]:
    """The state, the reach and what is said of a log that ends at ``end``, a second a row.

    ``rest_s``: so long nothing was recorded behind the row at 3.
    """
    if text is not None:
        path.write_text(text)
    told: Told = []
    anchors = Anchors(path, lambda what, pos: told.append((what, pos)), **more)
    for pos in range(1, end.pos + 1):
        if anchors.next_pos <= pos:
            ago_s = end.pos - pos + (rest_s if pos <= 3 else 0)
            anchors.take(pos, hash_of(pos) or "", end.recorded_us - ago_s * 1_000_000)
    state = anchors.close(end, lambda pos: hash_of(pos) if 0 < pos <= end.pos else None)
    return state, anchors.reach, told


def at(pos: int, epoch: int = 1) -> End:
    return End(pos, 10**15, epoch)


CUT = "S2: the log was cut short: it ends at {}, and {} is anchored"
CHANGED = "S2: the log was changed: the anchor at {} is another"
GOES_ON = "S2: the anchors {}, and the log goes on to {}"
NO_ANCHOR = "S2: a line of the anchors is no anchor: {}"
HALF = f"12 {'0' * 30}"
ANCHORED: dict[str, tuple[str | None, End, str, int, list[tuple[str, int | None]]]] = {
    "nothing": (None, at(0), "none", 0, []),
    "no file": (None, at(3), "missing", 0, []),
    "empty, and no log": ("", at(0), "ok", 0, []),
    "empty": ("", at(3), "short", 0, []),
    "empty, a second engine": (
        "",
        at(3, 2),
        "broken",
        0,
        [(GOES_ON.format("hold nothing", 3), 3)],
    ),
    "all": (line(1) + line(3), at(3), "ok", 3, []),
    "just near enough": (line(3), at(64), "ok", 3, []),
    "too far": (line(3), at(65), "broken", 3, [(GOES_ON.format("end at 3", 65), 65)]),
    "not in order": (line(3) + line(1), at(3), "ok", 3, []),
    "not in order, the last at the end": (line(2) + line(1) + line(3), at(3), "ok", 3, []),
    "twice": (line(2) + line(2), at(3), "ok", 2, []),
    "another": (line(1) + line(2, 9) + line(3), at(3), "broken", 3, [(CHANGED.format(2), 2)]),
    "of another place": (line(2, 3), at(3), "broken", 0, [(CHANGED.format(2), 2)]),
    "two others": (
        line(1, 9) + line(2, 9),
        at(3),
        "broken",
        0,
        [(CHANGED.format(1), 1), (CHANGED.format(2), 2)],
    ),
    "cut": (line(1) + line(4) + line(5), at(3), "broken", 1, [(CUT.format(3, 4), 4)]),
    "a line cut short": (line(3) + HALF, at(3), "ok", 3, []),
    "written behind a cut one": (line(1) + "1 7" + line(3), at(3), "ok", 1, []),
    "no hex": (
        line(3) + "4 xyz\n",
        at(3),
        "broken",
        3,
        [(NO_ANCHOR.format(repr(b"4 xyz\n")), None)],
    ),
    "a half with an end": (
        line(3) + HALF + "\n",
        at(3),
        "broken",
        3,
        [(NO_ANCHOR.format(repr(f"{HALF}\n".encode())), None)],
    ),
    "no line at all": (line(3) + "4 x", at(3), "broken", 3, [(NO_ANCHOR.format(b"4 x"), None)]),
}


@pytest.mark.parametrize("name", ANCHORED)
def test_what_anchors_come_to(tmp_path: Path, name: str) -> None:
    text, end, state, reach, told = ANCHORED[name]
    assert held_against(tmp_path / "anchors", text, end) == (state, reach, told)


@pytest.mark.parametrize(
    ("text", "end", "rest_s"), [("", 99, 0), (line(3), 99, 0), (line(3), 4, 3600)]
)
def test_anchors_of_a_log_that_others_write_may_be_short(
    tmp_path: Path, text: str, end: int, rest_s: int
) -> None:
    state, _, told = held_against(
        tmp_path / "anchors", text, at(end, 3), rest_s=rest_s, is_shared=True
    )
    assert (state, told) == ("short", [])


@pytest.mark.parametrize("rest_s", [0, 1, 60, 3600, 400 * 86_400])
def test_an_engine_may_die_before_the_anchor_of_what_it_committed_after_a_long_rest(
    tmp_path: Path, rest_s: int
) -> None:
    found, reach, told = held_against(tmp_path / "anchors", line(1) + line(3), at(5), rest_s=rest_s)
    assert (found, reach, told) == ("ok", 3, [])


def test_a_minute_without_an_anchor_is_by_chance() -> None:
    assert SLACK_US == 60_000_000


def test_what_is_no_file_holds_no_anchors(tmp_path: Path) -> None:
    (tmp_path / "anchors").mkdir()
    said = [("S2: what bears the name of the anchors is no file", None)]
    assert held_against(tmp_path / "anchors", None, at(3)) == ("broken", 0, said)


def test_zeros_without_end_are_not_read_to_it(tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    anchors = Anchors(path, lambda _what, _pos: None)
    assert anchors.close(at(1), hash_of) == "broken"


def test_anchors_that_become_shorter_while_they_are_read_end_there(tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    path.write_text(line(1))
    with path.open("rb") as file:
        assert list(lines_of(file, 2 * path.stat().st_size)) == [line(1).encode()]


def test_anchors_that_cannot_be_read_are_no_good_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "anchors").write_text(line(3))
    monkeypatch.setattr(Path, "open", refuse)
    state, reach, told = held_against(tmp_path / "anchors", None, at(3))
    said = [("S2: the anchors cannot be read: Permission denied", None)]
    assert (state, reach, told) == ("broken", 0, said)


def test_what_is_written_while_it_is_read_is_not_held_against_the_log(tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    path.write_text(line(1))
    anchors = Anchors(path, lambda what, _pos: pytest.fail(what))
    with path.open("a") as file:
        file.write(line(9))
    anchors.take(1, hash_of(1) or "", 0)
    assert anchors.close(End(1, 0, 1), hash_of) == "ok"


def test_a_verdict_rests_on_anchors_that_reach_far_enough() -> None:
    states: Iterable[str] = ("ok", "none", "broken", "short", "missing")
    assert [is_anchored(state) for state in states] == [True, True, True, False, False]
