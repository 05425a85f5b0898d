"""``runoff detect``: line by line for programs, and in words for people."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.program import runoff

LIMIT = "Error: prompt is too long: 9 tokens > 8 maximum"


def asked(
    kind: str, *lines: str | dict[str, Any]
) -> tuple[list[dict[str, Any]], subprocess.CompletedProcess[str]]:
    """The answers to some lines, and the whole conversation."""
    sent = "".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in lines)
    done = subprocess.run(
        [sys.executable, "-m", "engine", "detect", kind, "--jsonl"],
        input=sent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={name: value for name, value in os.environ.items() if "DATABASE" not in name},
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done


def test_a_stop_is_answered_with_its_evidence() -> None:
    asked_of: dict[str, Any] = {
        "id": "a",
        "stdout": "ok\n",
        "stderr": f"é🎉\n{LIMIT}\n",
        "exit_code": 1,
    }
    (told,), done = asked("boundary", asked_of)
    evidence = told.pop("evidence")
    assert told == {"id": "a", "kind": "context_window", "disposition": "stopped_by"}
    assert asked_of["stderr"][evidence["start"] : evidence["end"]] == evidence["text"]
    assert (evidence["stream"], evidence["text"]) == ("stderr", "prompt is too long")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_was_only_met_or_suspected_is_noticed_and_no_kind() -> None:
    told, _ = asked(
        "boundary",
        {"id": 1, "stdout": f"{LIMIT}\nPhase completed successfully\n", "exit_code": 1},
        {"id": 2, "stderr": LIMIT, "exit_code": 0},
        {"id": 3, "stderr": "fatal: the maximum of this context is behind us"},
        {"id": 4, "stdout": "all is well"},
    )
    assert [(one["kind"], one["disposition"], one.get("noticed")) for one in told] == [
        ("none", "encountered", "context_window"),
        ("none", "encountered", "context_window"),
        ("none", "suspected", "context_window"),
        ("none", None, None),
    ]


def test_a_record_with_the_last_word_outvotes_a_good_exit_code() -> None:
    cut = '{"type":"step_finish","part":{"reason":"stop"}}\n{"finish_reason":"length"}\n'
    told, _ = asked(
        "boundary",
        {"id": 1, "stdout": cut, "exit_code": 0},
        {"id": 2, "stdout": f"{cut}and so on\n", "exit_code": 0},
    )
    assert [one["disposition"] for one in told] == ["stopped_by", "encountered"]


def test_nulls_stand_for_nothing() -> None:
    nothing = {"id": 1, "stdout": None, "stderr": None, "exit_code": None}
    for kind in ("boundary", "fingerprint", "zero-yield"):
        told, done = asked(kind, nothing, {"id": 2})
        assert ([one["id"] for one in told], done.returncode) == ([1, 2], 0)


@pytest.mark.parametrize("text", ["\ud800 a", "a\x00b", "a\r\nb", "\x1b[31ma", "\udfff🎉"])
def test_text_of_any_kind_keeps_its_offsets(text: str) -> None:
    stdout = f"{text}\r\n{LIMIT}\r\n{text}"
    (told,), done = asked("boundary", {"id": 1, "stdout": stdout})
    evidence = told["evidence"]
    assert stdout[evidence["start"] : evidence["end"]] == evidence["text"] == "prompt is too long"
    assert done.returncode == 0


def test_bad_lines_are_told_and_skipped_and_lead_to_exit_2() -> None:
    told, done = asked("boundary", "nonsense", {"exit_code": 1}, "", {"id": 1}, "[" * 100_000)
    assert [one["id"] for one in told] == [1]
    assert done.returncode == 2
    said = done.stderr.splitlines()
    assert [line.split(" is skipped")[0] for line in said[:3]] == [
        "runoff: line 1",
        "runoff: line 2",
        "runoff: line 5",
    ]
    assert said[3].startswith("runoff: 3 of 4 lines could not be read")


def test_fingerprints_and_reasons_are_answered_too() -> None:
    failure = {"id": "f", "error_text": "KeyError: 'a'", "exit_code": 1, "final_state": "FAILED"}
    (told,), _ = asked("fingerprint", failure)
    assert (told["id"], told["family"]) == ("f", "KeyError/1")
    (first, second), _ = asked(
        "zero-yield",
        {"id": 1, "success": False, "telemetry_events": None, "exit_code": 1, "stderr": LIMIT},
        {"id": 2, "success": False, "telemetry_events": 2, "exit_code": 1},
    )
    assert (first["reason"], second["reason"]) == ("llm_boundary_hit", None)


def test_the_rule_sets_are_listed_with_their_digests(tmp_path: Path) -> None:
    told = json.loads(runoff(tmp_path, "detect", "list", "--json").stdout)
    assert [one["name"] for one in told["rule_sets"]] == ["fp-1", "boundary-1", "zero-yield-1"]
    assert all(len(one["sha256"]) == 64 and one["rules"] for one in told["rule_sets"])
    named = runoff(tmp_path, "detect", "list", "--rules").stdout
    assert "stop_reason=max_tokens" in named


def test_a_rule_is_explained_by_its_name(tmp_path: Path) -> None:
    told = json.loads(runoff(tmp_path, "detect", "explain", "text too long", "--json").stdout)
    assert (told["kind"], told["tier"], told["rule_set"]) == (
        "context_window",
        "phrase",
        "boundary-1",
    )
    assert told["source"]
    assert told["date"]
    assert "kind" in runoff(tmp_path, "detect", "explain", "stop_reason=max_tokens").stdout
    unknown = runoff(tmp_path, "detect", "explain", "text too")
    assert unknown.returncode == 2
    assert "did you mean text too long?" in unknown.stderr


def test_a_file_is_tried_and_every_tier_says_what_it_saw(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("start\n# rate limit exceeded\n\x1b[31mstop\n")
    (tmp_path / "err.txt").write_text(f"a\n{LIMIT}\n")
    done = runoff(tmp_path, "detect", "try", "out.txt", "--stderr", "err.txt")
    assert done.returncode == 0
    assert "stopped_by context_window" in done.stdout
    assert "stderr     line 2" in done.stdout
    assert "held back: line: rate limit exceeded" in done.stdout
    assert "llm_boundary_hit" in done.stdout
    assert "\x1b" not in done.stdout
    told = json.loads(runoff(tmp_path, "detect", "try", "err.txt", "--json").stdout)
    assert told["evidence"]["text"] == "prompt is too long"
    fine = runoff(tmp_path, "detect", "try", "err.txt", "--exit-code", "0").stdout
    assert "encountered context_window" in fine
    missing = runoff(tmp_path, "detect", "try", "none.txt")
    assert (missing.returncode, missing.stdout) == (2, "")
