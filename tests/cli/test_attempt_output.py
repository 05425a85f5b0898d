"""``runoff attempt output``: what an attempt wrote, byte by byte as the log's digest says."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.program import runoff

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="runs real children")

HOME = Path(__file__).parents[2]
CHILD = r"""
printf 'one\033[2J\377\n'
[ "$RUNOFF_PHASE_ID" = long ] && head -c 3000000 /dev/zero | tr '\0' 'x'
[ "$RUNOFF_PHASE_ID" = loud ] && echo 'to the other' >&2
exit 0
"""
KEPT = 1024 * 1024


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("output")
    each = {"category": "docs", "complexity": "low", "goal": "say something"}
    phases = [{"phase_id": name, **each} for name in ("short", "loud", "long")]
    (folder / "plan.json").write_text(json.dumps({"run_id": "r", "phases": phases}))
    assert runoff(folder, "seed", "--plan", "plan.json").returncode == 0
    drained = runoff(folder, "drain", "--workers", "1", "--", "sh", "-c", CHILD)
    assert drained.returncode == 0, drained.stderr
    return folder


def attempt_of(folder: Path, phase: str) -> str:
    (row,) = json.loads(runoff(folder, "attempt", "list", "--phase", phase, "--json").stdout)
    return str(row["attempt_id"])


def output(folder: Path, *arguments: str) -> tuple[bytes, str]:
    """The bytes themselves, as a pipe gets them."""
    done = subprocess.run(
        [sys.executable, "-m", "engine", "attempt", "output", *arguments],
        capture_output=True,
        check=False,
        cwd=HOME,
        env={**os.environ, "DATABASE_URL": f"sqlite:///{folder}/b.db"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.decode()


def recorded(folder: Path, attempt: str, name: str) -> dict[str, Any]:
    events = json.loads(runoff(folder, "attempt", "show", attempt, "--json").stdout)
    (end,) = [event for event in events if event["type"] == "attempt.finished"]
    stream: dict[str, Any] = end[name]
    return stream


def test_a_pipe_gets_the_very_bytes_whose_digest_the_log_has(log: Path) -> None:
    for phase in ("short", "long"):
        attempt = attempt_of(log, phase)
        data, told = output(log, attempt)
        assert hashlib.sha256(data).hexdigest() == recorded(log, attempt, "stdout")["digest"]
        assert data.startswith(b"one\033[2J\xff\n")
        assert ("were not kept" in told) == (phase == "long")


def test_what_was_not_kept_of_it_is_told(log: Path) -> None:
    data, told = output(log, attempt_of(log, "long"))
    left_out = 3_000_009 - 2 * KEPT
    assert len(data) == 2 * KEPT
    assert f"{left_out} bytes behind the first {KEPT} were not kept" in told


def test_each_stream_is_asked_for_by_itself(log: Path) -> None:
    assert output(log, attempt_of(log, "loud"), "--stderr")[0] == b"to the other\n"
    data, told = output(log, attempt_of(log, "short"), "--stderr")
    assert (data, "It wrote nothing to stderr." in told) == (b"", True)


def test_as_json_it_is_text_with_its_sizes(log: Path) -> None:
    attempt = attempt_of(log, "short")
    found = json.loads(runoff(log, "attempt", "output", attempt, "--json").stdout)
    kept = recorded(log, attempt, "stdout")
    assert found == {
        "attempt_id": attempt,
        "stream": "stdout",
        "total_bytes": 9,
        "head_bytes": 9,
        "tail_bytes": 0,
        "digest": kept["digest"],
        "text": "one\033[2J\ufffd\n",
    }


def test_a_terminal_is_not_driven_by_it(log: Path) -> None:
    mine, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "engine", "attempt", "output", attempt_of(log, "short")],
            stdout=theirs,
            check=True,
            cwd=HOME,
            env={**os.environ, "DATABASE_URL": f"sqlite:///{log}/b.db"},
        )
        assert os.read(mine, 1000) == rb"one\x1b[2J\xff" + b"\r\n\r\n"
    finally:
        os.close(mine)
        os.close(theirs)


def test_output_that_is_not_here_is_told_with_the_machine_that_kept_it(
    log: Path, tmp_path: Path
) -> None:
    shutil.copytree(log, tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / "b.db-files" / "blobs")
    missing = runoff(tmp_path / "moved", "attempt", "output", attempt_of(log, "long"))
    assert missing.returncode == 1
    assert f"kept on {os.uname().nodename}" in missing.stderr
    assert missing.stdout == ""


def test_an_attempt_that_is_none_is_refused(log: Path) -> None:
    refused = runoff(log, "attempt", "output", "att_none")
    assert refused.returncode == 2
    assert "there is no attempt 'att_none'" in refused.stderr


def test_before_its_end_an_attempt_has_no_output_yet(log: Path) -> None:
    attempt = attempt_of(log, "short")
    (row,) = json.loads(runoff(log, "attempt", "list", "--phase", "short", "--json").stdout)
    early = runoff(log, "attempt", "output", attempt, "--at", str(row["started_pos"]))
    assert early.returncode == 1
    assert "has not ended" in early.stderr
