"""One is said as one: what people read is right in number, and its times name their zone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.amounts import counted, lasting
from engine.cli.render import when
from tests.program import runoff


def test_a_noun_fits_its_count() -> None:
    assert [counted(n, "run") for n in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
    assert counted(1, "success", "successes") == "1 success"
    assert counted(3, "success", "successes") == "3 successes"


@pytest.mark.parametrize(
    ("duration_ms", "said"),
    [
        (0, "0.0 seconds"),
        (49, "0.0 seconds"),
        (51, "0.1 seconds"),
        (59_949, "59.9 seconds"),
        (59_951, "1.0 minutes"),
        (204_000, "3.4 minutes"),
        (59.94 * 60_000, "59.9 minutes"),
        (59.96 * 60_000, "1.0 hours"),
        (23.94 * 3_600_000, "23.9 hours"),
        (23.96 * 3_600_000, "1.0 days"),
        (700 * 86_400_000, "700.0 days"),
    ],
)
def test_a_duration_is_told_in_the_unit_that_a_person_would_take(
    duration_ms: float, said: str
) -> None:
    assert lasting(duration_ms) == said


def test_a_time_names_its_zone() -> None:
    assert when(1_795_662_003_000_000) == "2026-11-26 03:00:03Z"


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of one run with one phase, attempted once with one usage record."""
    folder = tmp_path_factory.mktemp("single")
    (folder / "plan.json").write_text('{"run_id": "r", "phases": [{"phase_id": "p"}]}')
    rule = {"state": "COMPLETE", "rc": 0, "events": 1}
    (folder / "script.json").write_text(json.dumps([rule]))
    assert runoff(folder, "seed", "--plan", "plan.json").returncode == 0
    return folder


def test_one_is_never_said_as_many(single: Path) -> None:
    drain = ("drain", "--script", "script.json", "--virtual-time")
    asked = (
        ("drain", "--dry-run"),
        ("why",),
        ("why", "r"),
        drain,
        ("why",),
        ("why", "r"),
        ("replay",),
        ("whatif", "--simulate"),
        ("verify",),
        ("log", "show"),
    )
    said = [runoff(single, *arguments) for arguments in asked]
    text = "\n".join(each.stdout + each.stderr for each in said)
    assert all(each.returncode == 0 for each in said), text
    nouns = ("run", "phase", "attempt", "event", "usage event", "usage record", "time", "success")
    wrong = [f" 1 {noun}{end}" for noun in nouns for end in ("s ", "s,", "s;", "s.", "s\n", "es,")]
    assert [each for each in wrong if each in text] == []
    assert "holds     1 run, 1 phase (1 QUEUED)" in text
    assert "1 attempt would be made" in text
    assert "its one phase is unfinished, and ready; " in text
    assert "its one phase is finished" in text


def test_one_phase_that_cannot_go_on_is_not_one_of_them(tmp_path: Path) -> None:
    plan = {"run_id": "r", "phases": [{"phase_id": "p"}, {"phase_id": "q", "needs": ["gpu"]}]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert runoff(tmp_path, "seed", "--plan", "plan.json").returncode == 0
    (tmp_path / "script.json").write_text(json.dumps([{"rc": 0, "events": 1}]))
    drain = ("drain", "--script", "script.json", "--virtual-time")
    assert runoff(tmp_path, *drain, "--batch-size", "1").returncode == 4
    said = json.loads(runoff(tmp_path, "why", "r", "--json").stdout)
    cannot = "1 of its 2 phases is unfinished, and cannot go on (1 for want of a label)."
    assert said["sentence"].endswith(cannot)
    assert said["change"] == "`runoff why r q` says more of it."
