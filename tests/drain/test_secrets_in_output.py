"""A child that prints secrets of every kind: none of them is stored anywhere."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from pathlib import Path

import pytest

from tests.program import runoff
from tests.secrets import AFTER, SECRETS, printed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a guardian")

CHILD = """
import json, os, sys
lines = json.loads({lines!r})
for number, line in enumerate(lines):
    data = line.encode()
    middle = len(data) // 2
    os.write(1 + number % 2, data[:middle])
    os.write(1 + number % 2, data[middle:])
result = {{"success": False, "reason": "cannot go on: " + lines[{stated}].strip()}}
open(os.environ["RUNOFF_RESULT_FILE"], "w").write(json.dumps(result))
usage = {{"type": "usage", "model": lines[{labelled}].strip(), "input_tokens": 1}}
with open(os.environ["RUNOFF_EVENTS_FILE"], "w") as events:
    events.write(json.dumps(usage) + "\\n" + "no json: " + lines[{labelled}] + "\\n")
sys.exit(1)
"""
CASES = [(kind, *case) for kind, cases in SECRETS.items() for case in cases]
STATED = next(n for n, case in enumerate(CASES) if case[0] == "groq_key")
LABELLED = next(n for n, case in enumerate(CASES) if case[0] == "xai_key")
OWN_FILES = {"events.ndjson", "result.json", "spec.json", "child.py"}
"""What the child wrote itself, and its program with the secrets in it."""


def drained(folder: Path) -> None:
    lines = json.dumps([printed(*case) for case in CASES])
    child = CHILD.format(lines=lines, stated=STATED, labelled=LABELLED)
    (folder / "child.py").write_text(child)
    assert runoff(folder, "seed").returncode == 0
    told = runoff(
        folder, "drain", "--batch-size", "2", "--executor", "command", "--",
        sys.executable, str(folder / "child.py"),
    )  # fmt: skip
    assert told.returncode in (0, 4), told.stderr
    assert not any(secret in told.stdout + told.stderr for _, _, secret in CASES)


def stored_files(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for root, _, names in os.walk(folder)
        for path in (Path(root) / name for name in names)
        if path.name not in OWN_FILES
    }


def test_no_stored_byte_shows_a_secret(tmp_path: Path) -> None:
    drained(tmp_path)
    stored = stored_files(tmp_path)
    for kind, _, secret in CASES:
        core = secret.strip("-").replace("\\n", "\n").split("\n")
        shown = core[1] if len(core) > 1 else secret
        needle = shown.strip().encode()
        assert [name for name, data in stored.items() if needle in data] == [], kind
    assert any(b"[redacted:openai_key" in data for data in stored.values())


def test_kinds_and_counts_are_recorded_and_the_output_keeps_its_length(tmp_path: Path) -> None:
    drained(tmp_path)
    connection = sqlite3.connect(tmp_path / "b.db")
    [(data,), *_] = connection.execute(
        "SELECT data FROM events WHERE type = 'attempt.finished' ORDER BY pos"
    ).fetchall()
    connection.close()
    finished = json.loads(data)
    counts = {each["kind"]: each["count"] for each in finished["redacted"]}
    expected = {kind: len(cases) for kind, cases in SECRETS.items()}
    assert counts == expected | {"groq_key": 2, "xai_key": 3}
    printed_bytes = [len(printed(*case).encode()) for case in CASES]
    assert finished["stdout"]["total_bytes"] == sum(printed_bytes[::2])
    assert finished["stderr"]["total_bytes"] == sum(printed_bytes[1::2])
    assert "[redacted:groq_key" in finished["told"]["reason"]
    assert set(AFTER) <= set(SECRETS)


def test_an_audit_of_such_a_log_finds_no_difference(tmp_path: Path) -> None:
    drained(tmp_path)
    told = runoff(tmp_path, "audit")
    assert told.returncode == 0, told.stdout + told.stderr
