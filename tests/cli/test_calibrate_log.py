"""Calibration of a log that was drained with estimates: reports, drift, adopted coefficients."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.store.location import locate
from engine.store.opening import held
from tests.program import runoff

REAL = Path(__file__).parents[3] / "shared" / "data" / "autopack_legacy.db"
PHASES = 140
STEP = 80
"""From this phase on documentation takes more than twice as much."""

DRAIN = ("drain", "--script", "script.json", "--virtual-time", "--batch-size", "200")
ONCE = ("--workers", "1", "--max-attempts-per-phase", "1")


def work(folder: Path) -> None:
    """A plan of two groups, and how each of its phases will go."""
    rng = random.Random(3)
    phases: list[dict[str, Any]] = []
    script: list[dict[str, Any]] = []
    for at in range(PHASES):
        is_docs = at % 2 == 1
        estimate, factor = (3500, 2.0 if at < STEP else 5.0) if is_docs else (5000, 0.5)
        tokens = int(estimate * factor * rng.lognormvariate(0, 0.25))
        name = f"p{at:03d}"
        phases.append(
            {
                "phase_id": name,
                "name": name,
                "tier": "T1",
                "category": "Documentation" if is_docs else "tests",
                "complexity": "low" if is_docs else "medium",
                "deliverables": [{"path": f"{name}.py"}],
            }
        )
        finish = "length" if at % 11 == 3 else "stop"
        usage = [{"output_tokens": tokens // 2}, {"output_tokens": tokens - tokens // 2}]
        usage[1]["finish_reason"] = finish  # type: ignore[assignment]
        script.append({"phase": name, "usage": usage, "rc": 0 if at % 17 else 1})
    tiers = [{"tier_id": "T1", "name": "t", "order": "free"}]
    plan = {"run_id": "work", "tiers": tiers, "phases": phases}
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "script.json").write_text(json.dumps(script))


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibration")
    work(folder)
    assert runoff(folder, "seed", "--plan", "plan.json").returncode == 0
    found = runoff(folder, *DRAIN, *ONCE, "--calibrate-every", "20")
    assert found.returncode == 0, found.stderr
    assert found.stderr.count("Estimates drift: docs/low comes out larger than before") == 1
    return folder


def told(folder: Path, *arguments: str) -> Any:
    found = runoff(folder, *arguments, "--json")
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def events(folder: Path, kind: str) -> list[Any]:
    found = runoff(folder, "log", "show", "--type", kind, "--json", "--limit", "1000")
    return [json.loads(line) for line in found.stdout.splitlines()]


def test_every_attempt_records_estimate_budget_and_coefficients(drained: Path) -> None:
    started = events(drained, "attempt.started")
    estimated = events(drained, "attempt.estimated")
    assert len(started) == len(estimated) == PHASES
    assert [each["pos"] - 1 for each in estimated] == [each["pos"] for each in started]
    data = {each["data"]["phase_id"]: each["data"] for each in estimated}
    assert data["p001"]["estimated_tokens"] == 1500 + 2000
    assert data["p001"]["budget_tokens"] == 8192
    assert data["p002"]["estimated_tokens"] == 2500 + 2500
    assert {each["coefficient_version"] for each in data.values()} == {"1"}
    (in_force,) = events(drained, "session.coefficients_in_force")
    assert json.loads(in_force["data"]["coefficients_json"])["version"] == "1"


def test_logs_with_estimates_audit_and_verify(drained: Path) -> None:
    assert runoff(drained, "audit").returncode == 0
    assert runoff(drained, "verify").returncode == 0
    assert runoff(drained, "projection", "check").returncode == 0


def test_reports_leave_the_database_as_it_is_unless_asked_to_record(
    drained: Path, tmp_path: Path
) -> None:
    def contents() -> tuple[bytes, ...]:
        return tuple((drained / name).read_bytes() for name in ("b.db", "b.db-anchors"))

    before = contents()
    out = ("--output-dir", str(tmp_path))
    for command in (("calibrate", *out), ("calibrate", "samples"), ("drift",), ("coefficients",)):
        assert runoff(drained, *command).returncode == 0
    assert runoff(drained, "estimate", "work/p001").returncode == 0
    assert contents() == before
    head = told(drained, "identity")["head"]
    assert runoff(drained, "calibrate", "--record", "--json").returncode == 0
    appended = events(drained, "calibration.proposed")
    assert len(appended) == 1
    # The program that writes says that it started, as every writer does.
    assert told(drained, "identity")["head"] == head + 2
    assert appended[0]["data"]["position"] == head
    assert [each["category"] for each in appended[0]["data"]["proposals"]] == ["tests"]


def test_a_log_that_somebody_else_holds_records_no_proposal_and_gets_no_report(
    drained: Path, tmp_path: Path
) -> None:
    with held(locate(f"sqlite:///{drained}/b.db"), "runoff drain"):
        refused = runoff(drained, "calibrate", "--record", "--output-dir", str(tmp_path))
    assert (refused.returncode, refused.stdout) == (75, "")
    assert list(tmp_path.iterdir()) == []


def test_the_report_is_of_the_log_and_reconciles(drained: Path) -> None:
    result = told(drained, "calibrate")
    totals = result["totals"]
    assert totals["read"] == PHASES == sum(totals["counts"].values()) + totals["stale"]
    assert result["patch"]["metadata"]["log_hash"] == result["log"]["hash"]
    groups = {f"{each['category']}/{each['complexity']}": each for each in result["groups"]}
    assert groups["docs/low"]["verdict"] == "drifting"
    assert groups["tests/medium"]["action"] == "decrease"
    alarm = groups["docs/low"]["drift"]["alarms"][-1]["pos"]
    since = told(drained, "calibrate", "--since", str(alarm))
    verdicts = {each["category"]: each["verdict"] for each in since["groups"]}
    assert verdicts["docs"] in {"recommended", "below_min_samples"}
    early = told(drained, "calibrate", "--at", str(alarm))
    assert early["totals"]["read"] < PHASES
    assert early["log"]["position"] == alarm
    assert told(drained, "calibrate", "--include-run-id", "x")["totals"]["outside"] == PHASES


def test_alarms_are_in_the_log_once_and_drift_shows_them(drained: Path) -> None:
    (alarm,) = events(drained, "calibration.drift_alarmed")
    found = {each["category"]: each["drift"] for each in told(drained, "drift")}
    assert found["docs"]["alarms"][0]["pos"] == alarm["data"]["position"]
    assert found["tests"]["status"] == "steady"
    words = runoff(drained, "drift").stdout
    assert words.startswith("1 of 2 groups changed at some time")
    none = runoff(drained, "drift", "--at", "30").stdout
    assert "have too few phases to watch" in none


def test_samples_of_a_log_are_a_table_that_calibrates_alike(drained: Path) -> None:
    table = runoff(drained, "calibrate", "samples").stdout
    (drained / "samples.csv").write_text(table)
    again = told(drained, "calibrate", "--from-csv", "samples.csv")
    whole = told(drained, "calibrate")
    for mine, theirs in zip(again["groups"], whole["groups"], strict=True):
        assert mine["km_log_median"] == theirs["km_log_median"]
        assert mine["counts"] == theirs["counts"]
    lines = runoff(drained, "calibrate", "samples", "--json").stdout.splitlines()
    assert {json.loads(line)["class"] for line in lines} == {"clean", "censored", "failed"}


def test_a_phase_s_estimate_is_explained_with_what_came_before(drained: Path) -> None:
    found = told(drained, "estimate", "work/p001")
    assert found == told(drained, "estimate", "work", "p001")
    assert (found["base_tokens"], found["per_deliverable_tokens"]) == (1500, 2000)
    assert found["estimated_tokens"] == found["samples"][0]["estimated_tokens"] == 3500
    assert found["sentence"].startswith("3500 tokens: 1500 for complexity low, and 1 × 2000")
    missing = runoff(drained, "estimate", "work/nope")
    assert (missing.returncode, "there is no phase" in missing.stderr) == (2, True)


def test_a_phase_to_estimate_is_cut_at_the_last_slash_that_leaves_one(tmp_path: Path) -> None:
    for run_id, phase_id in (("a", "b/c"), ("a/b", "c")):
        tier = {"tier_id": "T1", "name": "t"}
        phase = {"phase_id": phase_id, "name": "p", "tier": "T1", "category": "docs"}
        plan = {"run_id": run_id, "tiers": [tier], "phases": [phase]}
        (tmp_path / "plan.json").write_text(json.dumps(plan))
        assert runoff(tmp_path, "seed", "--plan", "plan.json").returncode == 0
    found = told(tmp_path, "estimate", "a/b/c")
    assert (found["run_id"], found["phase_id"]) == ("a/b", "c")


def test_adopted_coefficients_are_gone_by_and_earlier_proposals_are_scored(tmp_path: Path) -> None:
    work(tmp_path)
    runoff(tmp_path, "seed", "--plan", "plan.json")
    half = ("--batch-size", "60", *ONCE, "--calibrate-every", "0")
    assert runoff(tmp_path, *DRAIN, *half).returncode == 4
    runoff(tmp_path, "calibrate", "--record", "--json")
    assert runoff(tmp_path, *DRAIN, *half).returncode == 4
    runoff(tmp_path, "calibrate", "--output-dir", "out")
    markdown = next((tmp_path / "out").glob("*.md")).read_text()
    assert "What became of earlier proposals" in markdown
    assert "(better)" in markdown
    toml = runoff(tmp_path, "coefficients", "show", "--toml").stdout
    (tmp_path / "mine.toml").write_text(toml + '"docs/low" = 2.0\n')
    adopt = ("coefficients", "adopt", "mine.toml", "--by", "ann", "--why", "measured")
    refused = runoff(tmp_path, *adopt)
    assert refused.returncode == 2
    assert "there are other coefficients with version 1" in refused.stderr
    own = toml.replace('version = "1"', 'version = "2"') + '"docs/low" = 2.0\n'
    (tmp_path / "mine.toml").write_text(own)
    assert runoff(tmp_path, *adopt).returncode == 0
    assert runoff(tmp_path, *adopt).returncode == 2
    assert (tmp_path / "mine.toml").read_text() == own
    (event,) = events(tmp_path, "calibration.coefficients_adopted")
    assert (event["data"]["by"], event["data"]["replaces"]) == ("ann", "1")
    assert told(tmp_path, "estimate", "work/p001")["estimated_tokens"] == 7000
    then = told(tmp_path, "estimate", "work/p001", "--at", str(event["pos"] - 1))
    assert (then["estimated_tokens"], then["coefficient_version"]) == (3500, "1")
    assert told(tmp_path, "coefficients", "check", "mine.toml")["differs"] == [
        {"key": "multipliers.docs/low", "shipped": None, "file": 2.0}
    ]
    runoff(tmp_path, *DRAIN, *ONCE, "--batch-size", "15")
    (tmp_path / "trial.toml").write_text(toml.replace('version = "1"', 'version = "3"'))
    runoff(tmp_path, *DRAIN, *ONCE, "--coefficients", "trial.toml")
    result = told(tmp_path, "calibrate")
    assert result["settings"]["coefficient_version"] == "2", "a trial changes nothing for good"
    assert result["totals"]["stale_versions"] == {"1": 120, "3": 5}
    assert told(tmp_path, "coefficients", "show")["version"] == "2"
    assert runoff(tmp_path, "audit").returncode == 0


def test_a_file_of_coefficients_is_checked_before_anything_is_drained(tmp_path: Path) -> None:
    work(tmp_path)
    runoff(tmp_path, "seed", "--plan", "plan.json")
    (tmp_path / "bad.toml").write_text("version = 1")
    found = runoff(tmp_path, *DRAIN, "--coefficients", "bad.toml")
    assert (found.returncode, "bad.toml: " in found.stderr) == (2, True)
    missing = runoff(tmp_path, "coefficients", "show", "nope.toml")
    assert (missing.returncode, "there is no file" in missing.stderr) == (2, True)


def test_one_version_never_means_two_sets_of_numbers(tmp_path: Path) -> None:
    """Samples are told apart by the version alone, so whoever estimates refuses another meaning."""
    work(tmp_path)
    runoff(tmp_path, "seed", "--plan", "plan.json")
    toml = runoff(tmp_path, "coefficients", "show", "--toml").stdout
    own, mine = toml.replace('version = "1"', 'version = "2"'), tmp_path / "mine.toml"
    mine.write_text(own)
    drain = (*DRAIN, "--coefficients", "mine.toml")
    assert runoff(tmp_path, *drain, "--batch-size", "1").returncode == 4
    daemon = ("daemon", "--coefficients", "mine.toml", "--", sys.executable, "-c", "")
    adopt = ("coefficients", "adopt", "mine.toml", "--why", "measured")
    for version, text, programs in (("2", own, (drain, daemon, adopt)), ("1", toml, (drain,))):
        mine.write_text(text + '"docs/low" = 2.0\n')
        for program in programs:
            refused = runoff(tmp_path, *program)
            assert refused.returncode == 2, program
            assert f"there are other coefficients with version {version}." in refused.stderr
    assert len(events(tmp_path, "attempt.estimated")) == 1


def test_a_log_without_samples_is_answered_gracefully(tmp_path: Path) -> None:
    runoff(tmp_path, "seed")
    found = runoff(tmp_path, "calibrate")
    assert found.returncode == 0
    assert "There are no samples" in found.stdout
    assert len(list(tmp_path.glob("token_estimator_calibration_*"))) == 3
    assert runoff(tmp_path, "drift").returncode == 0
    both = runoff(tmp_path, "calibrate", "--record", "--at", "3")
    assert both.returncode == 2


@pytest.mark.skipif(not REAL.exists(), reason="needs the shared data")
def test_imported_estimation_rows_are_samples_of_their_own(tmp_path: Path) -> None:
    assert runoff(tmp_path, "import", str(REAL)).returncode == 0
    result = told(tmp_path, "calibrate", "--min-samples", "3")
    assert result["settings"]["coefficient_version"] == "imported"
    assert result["totals"]["read"] == 28
    counts = result["totals"]["counts"]
    assert (counts["clean"], counts["censored"], counts["failed"]) == (11, 14, 3)
    groups = {f"{each['category']}/{each['complexity']}": each for each in result["groups"]}
    # Two spellings in one group, which the original kept apart.
    assert groups["implementation/high"]["sample_count"] == 4
    assert groups["implementation/high"]["median_ratio"] == pytest.approx(0.970704, abs=1e-6)
    assert groups["docs/low"]["truncation_rate"] == pytest.approx(0.9)
