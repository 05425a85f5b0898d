"""standard-1 boundaries: which parts of a record are evidence, row by row."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from engine.detect import Boundary, Outcome, detectors
from engine.detect.folded import Folded
from engine.detect.records import read

plain = detectors("standard-1")


def hits_in(stdout: str) -> tuple[Boundary, ...]:
    return plain.boundary(
        Outcome(ended="exited", succeeded=False, final_state="FAILED", stdout=stdout)
    )


CUT = '"stop_reason":"max_tokens"'
SAID = "Error: prompt is too long"


def nested(depth: int) -> str:
    return '{"a":' * (depth - 1) + f"{{{CUT}}}" + "}" * (depth - 1)


def padded(length: int) -> str:
    line = f'{{"content":"{SAID}","pad":""}}'
    return line.replace('""', '"' + "x" * (length - len(line)) + '"')


ANSWERS = ["content", "text", "result", "output_text", "arguments", "input", "thinking"]
MESSAGES = ["message", "errorMessage", "error_message", "detail", "error", "err", "msg", "reason"]
SIGNS = ["type", "level", "status", "event", "severity"]
FAILED = ["error", "fatal", "failed", "failure", "critical", "exception", "ERROR"]
SPOKEN = ["result", "data", "text", "content", "output", "description", "stderr"]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        *((f'{{"{key}":{{{CUT}}}}}', []) for key in ANSWERS),  # a model's answer says nothing
        (f'{{"other":{{{CUT}}}}}', ["max_output_tokens"]),
        (nested(6), ["max_output_tokens"]),
        (nested(7), []),
        (f'{{"a":{[0] * 1997},{CUT}}}', ["max_output_tokens"]),
        (f'{{"a":{[0] * 1998},{CUT}}}', []),
        (padded(64 * 1024), []),
        (padded(64 * 1024 + 1), ["context_window"]),  # too long for JSON, so it is only text
        (f'{{"content":"{SAID}', ["context_window"]),
        (f'{{"content":"“{SAID}” it said"}}', []),
        *((f'{{"{key}":"{SAID}"}}', ["context_window"]) for key in MESSAGES),
        (f'{{"message":["{SAID}"]}}', ["context_window"]),
        (f'{{"message":"x","content":"{SAID}"}}', []),
        (f'{{"message":"é {SAID}"}}', ["context_window"]),
        (f'{{"message":"\\u00e9 {SAID}"}}', ["context_window"]),
        *((json.dumps({key: f"x {{{CUT}}} y"}), ["max_output_tokens"]) for key in MESSAGES),
        (json.dumps({"note": f"x {{{CUT}}} y"}), []),
        *((f'{{"{sign}":"error","text":"{SAID}"}}', ["context_window"]) for sign in SIGNS),
        *((f'{{"type":"{failed}","text":"{SAID}"}}', ["context_window"]) for failed in FAILED),
        *((f'{{"type":"error","{key}":"{SAID}"}}', ["context_window"]) for key in SPOKEN),
        *((f'{{"is_error":true,"{key}":"{SAID}"}}', ["context_window"]) for key in SPOKEN),
        (f'{{"is_error":1,"text":"{SAID}"}}', []),
        (f'data: {{"content":"{SAID}"}}', []),
        (f'data:{{"content":"{SAID}"}}', []),
        (" " * 40 + f'{{"content":"{SAID}"}}', []),
        (f'{{"content":"x"}}\nit says {CUT}\n{{"content":"x"}}', ["max_output_tokens"]),
        (f'{{"content":"x"}}\nit says {CUT}', ["max_output_tokens"]),
        (r"it says \\\"stop_reason\\\": \\\"max_tokens\\\"", ["max_output_tokens"]),
        ("it says stop_reason:        max_tokens", ["max_output_tokens"]),
        ("it says stop_reason:         max_tokens", []),
        ("it says stop_reason=max_tokens(4)", []),
        ("it says stop_reason=max_tokens.x", []),
        ("it says my_stop_reason=max_tokens", []),
    ],
)
def test_what_counts_of_a_record(text: str, kinds: list[str]) -> None:
    found = [hit.kind for hit in hits_in(f"start\n{text}\nend") if hit.disposition != "suspected"]
    assert found[:1] == kinds


def test_evidence_of_a_record_is_the_value_as_it_is_written() -> None:
    for value in ("max_tokens", "MAX_TOKENS"):
        text = f'{{"note":"max_tokens_left","stop_reason":"{value}"}}'
        (hit,) = hits_in(text)
        assert (text[hit.start : hit.end], hit.start) == (value, text.rindex(value))


@pytest.mark.parametrize("before", ["", "\n", "all is well\n"])
def test_evidence_of_a_value_that_is_escaped_is_the_whole_record(before: str) -> None:
    line = '{"a":1,"stop_reason":"max\\u005ftokens"}'
    (hit,) = hits_in(f"{before}{line}\n")
    assert hit.kind == "max_output_tokens"
    assert (hit.start, hit.end) == (len(before), len(before) + len(line))


@pytest.mark.parametrize(
    ("text", "opened"),
    [
        ('{"message":"abc","x":"y"}', ["abc"]),
        ('{"x":"y","message":"abc","error":"def"}', ["abc", "def"]),
        ('it began\n{"message":"abc"}\nit ended', ["abc"]),
        ('{"message":"abc","error":"b"}', ["abc"]),  # found inside of the other one
        ('{"message":"abc","error":"abc"}', ["abc"]),
        ('{"note":"abcd","message":"ab","error":"cd"}', ["ab", "cd"]),  # one behind the other
        ('{"message":""}', []),
    ],
)
def test_all_of_a_record_is_closed_but_its_messages(text: str, opened: list[str]) -> None:
    start, end = text.index("{"), text.index("}") + 1
    closed = read(Folded(text)).closed
    assert all(first < last for first, last in closed), "no stretch is empty"
    assert (closed[0][0], closed[-1][1]) == (start, end)
    gaps = [(one[1], other[0]) for one, other in pairwise(closed)]
    assert "".join(text[first:last] for first, last in gaps) == "".join(opened)
    assert all(first <= last for first, last in gaps)


def test_an_error_is_one_only_if_its_record_says_true() -> None:
    good = '{"is_error":"no","subtype":"success"}'
    assert [hit.disposition for hit in hits_in(f"{SAID}\n{good}")] == ["encountered"]
    bad = good.replace('"no"', "true")
    assert [hit.disposition for hit in hits_in(f"{SAID}\n{bad}")] == ["stopped_by"]
