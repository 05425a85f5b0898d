"""What is said of runs without a verdict while an open breaker lets one at a time through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.program import runoff

PLAN = {"run_id": "r", "phases": [{"phase_id": "p", "goal": "x"}]}
FAILS = [{"rc": 1, "reason": "The key was revoked."}]


def told(folder: Path, *arguments: str) -> Any:
    done = runoff(folder, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_run_that_waits_for_its_turn_as_a_probe_is_said_to(tmp_path: Path) -> None:
    """Nothing held back the third of them, it said, though two were to probe before it."""
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    (tmp_path / "script.json").write_text(json.dumps(FAILS))
    assert runoff(tmp_path, "seed", "--plan", "plan.json", "--repeat", "6").returncode == 0
    drain = ("drain", "--script", "script.json", "--virtual-time", "--workers", "1")
    assert runoff(tmp_path, *drain, "--batch-size", "3").returncode == 4
    (breaker,) = told(tmp_path, "breaker")
    assert breaker["held_back"] == 3
    probes = (
        f"goes as a probe of the open breaker of {breaker['fingerprint']} when its turn comes:"
        " runs without a verdict go one at a time, the last one first."
    )
    for run in ("r-r4", "r-r5", "r-r6"):
        found = told(tmp_path, "why", run)
        assert found["sentence"].endswith(f"the session has ended, and in a new one it {probes}")
        assert found["new_session"] == []
        of_phase = told(tmp_path, "why", run, "p")["sentence"]
        assert of_phase == (
            "The phase is QUEUED and was never attempted; the session has ended, and in a new one"
            f" it {probes}"
        )
    # The two probes that go at once fail: then it is the clock that holds the last one back.
    assert runoff(tmp_path, *drain).returncode == 4
    assert "the next probe is due at" in told(tmp_path, "why", "r-r4")["sentence"]
    shown = runoff(tmp_path, "log", "show", "--type", "session.coefficients_in_force", "--json")
    begun = str(json.loads(shown.stdout.splitlines()[-1])["pos"])
    at_first = told(tmp_path, "why", "r-r4", "--at", begun)["sentence"]
    assert at_first.endswith(f"and ready; it {probes}"), at_first
    judged = told(tmp_path, "why", "r", "--at", begun)["sentence"]
    assert judged.endswith("nothing holds it back: it goes when its turn comes.")
