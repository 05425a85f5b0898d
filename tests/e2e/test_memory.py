"""What an engine takes of the machine's memory, however much its children say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.executors.port import USAGE_RECORDS_MAX

WORKERS = 64
PEAK_MB = 150
"""The design's word for a daemon, whatever children print."""

LIMIT_S = 240
TELLING = """
import sys
from engine.cli.main import main
try:
    main()
finally:
    peak_kib = open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]
    print("peak", peak_kib, file=sys.stderr)
"""
TOGETHER = """
cp "$1/said" "$RUNOFF_EVENTS_FILE"
mkdir "$1/sampled" 2> /dev/null && exit
: > "$1/here/$$"
until [ "$(ls "$1/here" | wc -l)" -ge "$2" ]; do sleep 0.2; done
"""
"""A child that says what it has to, and ends when all others have; a sample ends at once."""


def plan(phases: int) -> str:
    of_each = {"tier": "T", "name": "n", "category": "docs", "complexity": "low"}
    made = [{"phase_id": f"p{number}", **of_each} for number in range(phases)]
    tiers = [{"tier_id": "T", "name": "T", "order": "free"}]
    return json.dumps({"run_id": "r", "tiers": tiers, "phases": made})


@pytest.mark.slow
@pytest.mark.timeout(2 * LIMIT_S)
def test_many_children_that_say_all_they_may_at_once_fit_into_memory(tmp_path: Path) -> None:
    said = {"type": "usage", "model": "m" * 60, "input_tokens": 1000, "output_tokens": 7}
    (tmp_path / "said").write_text((json.dumps(said) + "\n") * USAGE_RECORDS_MAX)
    (tmp_path / "here").mkdir()
    (tmp_path / "plan.json").write_text(plan(WORKERS + 1))
    environment = os.environ | {"DATABASE_URL": f"sqlite:///{tmp_path}/b.db"}

    def done(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", TELLING, *arguments]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
            check=True,
            timeout=LIMIT_S,
        )

    done("seed", "--plan", "plan.json")
    workers, all_of_them = str(WORKERS), str(WORKERS + 1)
    at_once = ("--workers", workers, "--max-per-run", workers, "--batch-size", all_of_them)
    drained = done(
        "drain", *at_once, "--json", "--", "sh", "-c", TOGETHER, "sh", str(tmp_path), workers
    )
    summary = json.loads(drained.stdout)
    assert summary["succeeded"] == WORKERS + 1
    assert summary["yield_events"] == (WORKERS + 1) * USAGE_RECORDS_MAX
    assert int(drained.stderr.split()[-1]) / 1024 < PEAK_MB
