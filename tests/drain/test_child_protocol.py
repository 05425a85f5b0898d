"""What a child tells by its files and exit code: garbage is counted, never trusted or fatal."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings, strategies as st

from engine.events import BoundaryKind
from engine.executors import protocol
from engine.executors.port import (
    TELEMETRY_LINE_BYTES_MAX,
    USAGE_RECORDS_MAX,
    Declared,
    Rejected,
    Telemetry,
)
from engine.executors.protocol import Result, declared, read_result, read_telemetry

USAGE = b'{"type":"usage","model":"m","input_tokens":7,"output_tokens":3}\n'


def told(directory: Path, events: bytes) -> Telemetry:
    path = directory / "events.ndjson"
    path.write_bytes(events)
    return read_telemetry(path)


def why(telemetry: Telemetry) -> list[tuple[str, int]]:
    return [(each.why, each.count) for each in telemetry.rejected]


def adds_up(telemetry: Telemetry) -> bool:
    rejected = sum(each.count for each in telemetry.rejected)
    return telemetry.lines_read == len(telemetry.usage) + telemetry.lines_other + rejected


def test_a_usage_line_becomes_a_record_with_its_line_and_source(tmp_path: Path) -> None:
    fields = {
        "provider": "p",
        "model": "m",
        "operation": "chat",
        "input_tokens": 10,
        "cached_input_tokens": 4,
        "output_tokens": 5,
        "reasoning_tokens": 0,
        "finish_reason": "stop",
        "status": "ok",
        "success": True,
        "duration_ms": 12,
    }
    line = json.dumps({"type": "usage", "unknown": [1], **fields}).encode()
    (record,) = told(tmp_path, b"\n  \n" + line).usage
    assert (record.line, record.source) == (3, "file")
    assert {name: getattr(record, name) for name in fields} == fields


def test_alike_usage_lines_are_separate_calls(tmp_path: Path) -> None:
    telemetry = told(tmp_path, USAGE * 3)
    assert [record.line for record in telemetry.usage] == [1, 2, 3]
    assert telemetry.lines_read == 3


def test_a_last_line_without_newline_counts_if_it_is_whole(tmp_path: Path) -> None:
    assert len(told(tmp_path, USAGE + USAGE.rstrip()).usage) == 2
    assert why(told(tmp_path, USAGE + USAGE[:20])) == [("not_json", 1)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"hello", "not_json"),
        (b'{"type":"usage"', "not_json"),
        (b'{"type":"usage","model":"\xff\xfe"}', "not_json"),
        (b'{"type":"usage","model":"\\ud800"}', "not_json"),
        (b"\0\0\0", "not_json"),
        (b"[" * 60_000, "not_json"),
        (b"NaNsense", "not_json"),
        (b"[1,2]", "not_an_object"),
        (b"null", "not_an_object"),
        (b"NaN", "not_an_object"),
        (b'"usage"', "not_an_object"),
        (b"{}", "unknown_type"),
        (b'{"type":"Usage"}', "unknown_type"),
        (b'{"type":["usage"]}', "unknown_type"),
        (b'{"type":"usage","input_tokens":-1}', "bad_fields"),
        (b'{"type":"usage","input_tokens":true}', "bad_fields"),
        (b'{"type":"usage","input_tokens":"12"}', "bad_fields"),
        (b'{"type":"usage","input_tokens":1.5}', "bad_fields"),
        (b'{"type":"usage","input_tokens":NaN}', "bad_fields"),
        (b'{"type":"usage","output_tokens":-Infinity}', "bad_fields"),
        (b'{"type":"usage","output_tokens":1000000000001}', "bad_fields"),
        (b'{"type":"usage","output_tokens":' + b"9" * 5000 + b"}", "bad_fields"),
        (b'{"type":"usage","model":5}', "bad_fields"),
        (b'{"type":"usage","success":"yes"}', "bad_fields"),
        (b'{"type":"artifact"}', "bad_fields"),
        (b'{"type":"artifact","path":""}', "bad_fields"),
        (b'{"type":"boundary"}', "bad_fields"),
        (b'{"type":"boundary","kind":"tiredness"}', "bad_fields"),
        (b'{"type":"usage","model":"' + b"m" * TELEMETRY_LINE_BYTES_MAX + b'"}', "too_long"),
        (b"x" * 5_000_000, "too_long"),
    ],
)
def test_a_line_of_no_use_is_counted_with_its_reason(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    telemetry = told(tmp_path, USAGE + line + b"\n" + USAGE)
    (rejected,) = telemetry.rejected
    assert (rejected.why, rejected.count, rejected.first_line) == (reason, 1, 2)
    assert len(rejected.excerpt) <= 200
    assert [record.line for record in telemetry.usage] == [1, 3]
    assert adds_up(telemetry)


def test_a_line_as_long_as_allowed_is_read(tmp_path: Path) -> None:
    start = b'{"type":"usage","model":"'
    line = start + b"m" * (TELEMETRY_LINE_BYTES_MAX - len(start) - 2) + b'"}'
    telemetry = told(tmp_path, line + b"\n")
    assert len(line) == TELEMETRY_LINE_BYTES_MAX
    assert telemetry.usage[0].model == "m" * 512


def test_what_is_absent_or_null_stays_unknown(tmp_path: Path) -> None:
    (record,) = told(tmp_path, b'{"type":"usage","input_tokens":null}').usage
    assert (record.input_tokens, record.output_tokens, record.model) == (None, None, None)


def test_an_excerpt_shows_control_characters_without_sending_them(tmp_path: Path) -> None:
    (rejected,) = told(tmp_path, b"\x1b[31mred\x07 \xff\n\xe2\x80\xae" + b"y" * 999).rejected
    assert rejected.excerpt == "\\x1b[31mred\\x07 \N{REPLACEMENT CHARACTER}"
    assert (rejected.why, rejected.count) == ("not_json", 2)


def test_other_lines_are_counted_and_artifacts_kept_up_to_a_hundred(tmp_path: Path) -> None:
    lines = b'{"type":"progress","done":0.5}\n{"type":"boundary","kind":"rate_limit"}\n'
    lines += b"".join(b'{"type":"artifact","path":"f%d"}\n' % i for i in range(150))
    telemetry = told(tmp_path, lines)
    assert telemetry.lines_other == 152
    assert telemetry.artifacts == tuple(f"f{i}" for i in range(100))
    assert telemetry.boundary == "rate_limit"


def test_the_last_boundary_told_is_the_one_that_counts(tmp_path: Path) -> None:
    lines = b'{"type":"boundary","kind":"rate_limit"}\n{"type":"boundary","kind":"quota"}\n'
    assert told(tmp_path, lines).boundary == "quota"


def test_usage_beyond_the_limit_is_counted_as_too_many(tmp_path: Path) -> None:
    telemetry = told(tmp_path, USAGE * (USAGE_RECORDS_MAX + 5))
    assert len(telemetry.usage) == USAGE_RECORDS_MAX
    (rejected,) = telemetry.rejected
    assert (rejected.why, rejected.count) == ("too_many", 5)
    assert rejected.first_line == USAGE_RECORDS_MAX + 1
    assert adds_up(telemetry)


def test_labels_beyond_their_limit_are_too_many_and_equal_ones_are_kept_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "LABELS_CHARACTERS_MAX", 3 * 512 + 100)
    long = b'{"type":"usage","model":"%s"}\n' % (b"m" * 600)
    telemetry = told(tmp_path, long * 5 + b'{"type":"usage","model":"short"}\n')
    assert [record.model for record in telemetry.usage] == ["m" * 512] * 3 + ["short"]
    assert len({id(record.model) for record in telemetry.usage}) == 2
    assert why(telemetry) == [("too_many", 2)]
    assert telemetry.rejected[0].first_line == 4
    assert adds_up(telemetry)


def test_few_labels_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LABELS_SHARED_MAX", 2)
    labels = protocol.Labels()
    assert [labels[text] for text in ("a", "b", "a", "c" * 600)] == ["a", "b", "a", "c" * 512]
    assert list(labels) == ["c" * 600]


@pytest.mark.parametrize("line", [b"x\n", b"\n", b'{"type":"progress"}\n'])
def test_an_endless_file_is_read_within_bounds(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "events.ndjson"
    count = (protocol.EVENTS_BYTES_MAX + 5_000_000) // len(line)
    with path.open("wb") as file:
        file.write(USAGE)
        file.write(line * count)
    telemetry = read_telemetry(path)
    assert len(telemetry.usage) == 1
    assert adds_up(telemetry)
    if line != b"\n":
        assert telemetry.lines_read == count + 1
        assert dict(why(telemetry))["too_many"] > 0


def test_a_file_with_a_hole_of_a_terabyte_is_read_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "EVENTS_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(protocol, "COUNTED_BYTES_MAX", 1 << 20)
    path = tmp_path / "events.ndjson"
    path.write_bytes(USAGE)
    os.truncate(path, 1 << 40)
    telemetry = read_telemetry(path)
    assert len(telemetry.usage) == 1
    assert why(telemetry) == [("too_many", 1)]


def test_no_file_tells_nothing(tmp_path: Path) -> None:
    assert read_telemetry(tmp_path / "none") == Telemetry()
    assert read_result(tmp_path / "none") == Result()


def replaced(path: Path, by: str) -> None:
    if by == "pipe":
        os.mkfifo(path)
    elif by == "folder":
        path.mkdir()
    elif by == "link":
        path.symlink_to("/dev/zero")
    elif by == "link to a file":
        (path.parent / "secret").write_bytes(USAGE)
        path.symlink_to(path.parent / "secret")
    elif by == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = Path.cwd()
            os.chdir(path.parent)  # a socket's path must be short
            server.bind(path.name)
            os.chdir(here)


@pytest.mark.parametrize("by", ["pipe", "folder", "link", "link to a file", "socket"])
def test_a_file_replaced_by_something_else_is_refused_at_once(tmp_path: Path, by: str) -> None:
    path = tmp_path / "file"
    replaced(path, by)
    telemetry = read_telemetry(path)
    assert (telemetry.usage, why(telemetry)) == ((), [("not_json", 1)])
    assert "events file" in telemetry.rejected[0].excerpt
    result = read_result(path)
    assert (result.success, result.state) == (None, None)
    assert (result.trouble or "").startswith("the result file could not be read: ")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
telemetry_objects = st.fixed_dictionaries(
    {"type": st.sampled_from(["usage", "progress", "artifact", "boundary", "other"])},
    optional={
        "input_tokens": st.integers(-2, 9) | json_values,
        "model": st.text(max_size=5) | json_values,
        "path": st.text(max_size=5) | json_values,
        "kind": st.sampled_from(get_args(BoundaryKind)) | json_values,
    },
)
lines = st.one_of(
    st.binary(max_size=40),
    json_values.map(json.dumps).map(str.encode),
    telemetry_objects.map(json.dumps).map(str.encode),
)


@given(parts=st.lists(lines, max_size=8), ending=st.sampled_from([b"", b"\n", b"\r\n"]))
@settings(deadline=None)
def test_every_line_of_whatever_file_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], ending: bytes
) -> None:
    contents = b"\n".join(parts) + ending
    telemetry = told(tmp_path_factory.getbasetemp(), contents)
    assert adds_up(telemetry)
    assert telemetry.lines_read == sum(1 for line in contents.split(b"\n") if line.strip())


@given(contents=st.binary(max_size=60) | json_values.map(json.dumps).map(str.encode))
@settings(deadline=None)
def test_whatever_stands_in_a_result_file_is_a_result_or_a_trouble(
    tmp_path_factory: pytest.TempPathFactory, contents: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "result.json"
    path.write_bytes(contents)
    result = read_result(path)
    assert result.trouble is None or result == Result(trouble=result.trouble)


def test_a_result_file_claims_an_ending(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    claims = {"success": False, "state": "GATE", "reason": "r" * 5000, "boundary": "quota"}
    path.write_text(json.dumps(claims | {"extra": 1}))
    result = read_result(path)
    assert (result.success, result.state, result.boundary) == (False, "GATE", "quota")
    assert result.reason == "r" * 2000


def test_a_reason_that_quotes_bytes_that_are_no_text_takes_no_claim_away(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    reason = b"caf\xe9: no such file \xf0\x9f\x8e\x89".decode(errors="surrogateescape")
    path.write_text(json.dumps({"success": False, "reason": reason, "usage": [{"model": "m"}]}))
    result = read_result(path)
    assert (result.success, result.reason) == (False, "caf?: no such file 🎉")
    assert result.usage is not None
    assert [bytes(record) for record in result.usage] == [b'{"model": "m"}']
    assert result.trouble is None


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"no",
        b"[]",
        b'{"success":"yes"}',
        b'{"success":"yes","reason":"\\ud800"}',
        b'{"reason":"\\ud800","success":',
        b'{"usage":' + b"[" * 100_000 + b'"\\ud800',
        b'{"state":"DONE"}',
        b'{"trouble":',
        b'{"reason":"\xff"}',
        b'{"reason":"' + b"x" * protocol.RESULT_BYTES_MAX + b'"}',
    ],
)
def test_a_result_file_of_no_use_claims_nothing_and_says_why(
    tmp_path: Path, contents: bytes
) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(contents)
    result = read_result(path)
    assert (result.success, result.state, result.reason) == (None, None, None)
    assert (result.trouble or "").startswith("the result file could not be read: ")


def test_a_result_file_cannot_claim_that_it_was_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text('{"success": true, "trouble": "none of yours"}')
    assert read_result(path) == Result(success=True)


def result_with(directory: Path, usage: Any) -> Result:
    path = directory / "result.json"
    path.write_text(json.dumps({"success": True, "usage": usage}))
    return read_result(path)


def test_usage_in_the_result_counts_when_the_events_file_has_none(tmp_path: Path) -> None:
    result = result_with(tmp_path, [{"input_tokens": 3}, {"input_tokens": -3}, 5])
    events = told(tmp_path, b'{"type":"progress"}\n')
    telemetry = protocol.with_usage_of(result, events)
    (record,) = telemetry.usage
    assert (record.source, record.line, record.input_tokens) == ("result", 1, 3)
    assert telemetry.rejected == (
        Rejected(why="bad_fields", count=2, first_line=2, excerpt='{"input_tokens": -3}'),
    )
    assert (telemetry.lines_read, telemetry.lines_other) == (4, 1)


def test_usage_is_never_counted_from_both_files(tmp_path: Path) -> None:
    events = told(tmp_path, USAGE)
    assert protocol.with_usage_of(result_with(tmp_path, [{"input_tokens": 3}]), events) == events


@pytest.mark.parametrize(
    ("code", "result", "events", "expected"),
    [
        (0, None, None, None),
        (1, None, None, None),
        (12, None, None, None),
        (64, None, None, None),
        (None, None, None, None),
        (10, None, None, ("unspecified", "exit code")),
        (11, None, None, ("spend_limit", "exit code")),
        (69, None, None, ("overloaded", "exit code")),
        (75, None, None, ("rate_limit", "exit code")),
        (10, None, "max_turns", ("max_turns", "events")),
        (10, "quota", "max_turns", ("quota", "result")),
        (11, None, "rate_limit", ("spend_limit", "exit code")),
        (11, "quota", "rate_limit", ("quota", "result")),
        (0, None, "rate_limit", ("rate_limit", "events")),
        (1, "context_window", None, ("context_window", "result")),
    ],
)
def test_the_most_exact_word_about_a_limit_counts(
    code: int | None,
    result: BoundaryKind | None,
    events: BoundaryKind | None,
    expected: tuple[BoundaryKind, str] | None,
) -> None:
    found = declared(code, Result(boundary=result), Telemetry(boundary=events))
    assert found == (Declared(kind=expected[0], how=expected[1]) if expected else None)
