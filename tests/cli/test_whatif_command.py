"""``runoff whatif`` on small logs whose answers are known by hand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.program import runoff

PLAN = """
run_id = "r1"
[[tiers]]
tier_id = "T"
name = "t"
order = "free"
[[phases]]
phase_id = "a"
name = "a"
goal = "a"
tier = "T"
category = "tests"
complexity = "low"
deliverables = [{ path = "a.py" }]
[[phases]]
phase_id = "b"
name = "b"
goal = "b"
tier = "T"
category = "tests"
complexity = "low"
deliverables = [{ path = "b.py" }]
"""
RULES = [
    {"run": "r[1-4]", "rc": 1, "state": "FAILED", "reason": "KeyError: x", "sleep": 60},
    {"state": "COMPLETE", "rc": 0, "usage": [{"output_tokens": 100}], "sleep": 60},
]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six runs of two phases, no breaker: r1 to r4 fail alike, r5 and r6 do well."""
    folder = tmp_path_factory.mktemp("whatif")
    (folder / "script.json").write_text(json.dumps(RULES))
    (folder / "open.toml").write_text(
        'name = "open"\nversion = 1\nbreaker_runs = 0\nsamples_at_first = 0\n'
    )
    (folder / "plan.toml").write_text(PLAN)
    for number in range(1, 7):
        seeded = runoff(folder, "seed", "--plan", "plan.toml", "--run-id", f"r{number}")
        assert seeded.returncode == 0, seeded.stderr
    done = runoff(
        folder,
        *("drain", "--policy", "open.toml", "--script", "script.json", "--virtual-time"),
        *("--workers", "1", "--batch-size", "50"),
    )
    assert done.returncode == 0, done.stderr
    return folder


def asked(folder: Path, *arguments: str) -> dict[str, Any]:
    done = runoff(folder, "whatif", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_log_of_several_policies_says_that_the_newest_is_held_against_all(
    tmp_path: Path,
) -> None:
    """A limit of its own gives a session a policy of its own."""
    (tmp_path / "script.json").write_text(json.dumps(RULES))
    (tmp_path / "plan.toml").write_text(PLAN)
    drain = ("drain", "--script", "script.json", "--virtual-time", "--batch-size", "1")
    assert runoff(tmp_path, "seed", "--plan", "plan.toml").returncode == 0
    assert runoff(tmp_path, *drain).returncode == 4
    assert asked(tmp_path)["whatif"]["notes"] == []
    assert runoff(tmp_path, *drain, "--max-attempts-per-phase", "7").returncode == 4
    note = "the log's sessions went by 2 policies; the newest is held against them all"
    assert asked(tmp_path)["whatif"]["notes"] == [note]
    assert asked(tmp_path, "--policy", "default")["whatif"]["notes"] == []
    (one,) = asked(tmp_path, "--sweep", "attempts_per_phase_max=1")["values"]
    assert one["whatif"]["notes"] == [note]
    for arguments in ((), ("--sweep", "attempts_per_phase_max=1")):
        assert f"note: {note}" in runoff(tmp_path, "whatif", *arguments).stdout


def test_the_recorded_policy_changes_nothing_and_no_byte(log: Path) -> None:
    before = hashlib.sha256((log / "b.db").read_bytes()).hexdigest()
    found = asked(log)["whatif"]
    # r1 is tried twice (its second phase fails, too, as the third of its kind), r2 to r4 once.
    assert (found["attempts"], found["attempts_made"]) == (9, 9)
    assert (found["differing"], found["not_made"], found["horizons"]) == ([], [], [])
    assert hashlib.sha256((log / "b.db").read_bytes()).hexdigest() == before


def places(folder: Path, found: dict[str, Any]) -> list[str]:
    """The phases whose ends would have been decided otherwise, in order."""
    decided = runoff(folder, "session", "decisions", "--json").stdout.splitlines()
    named = {
        each["positions"]["finished"]: f"{each['run']}/{each['phase']}"
        for each in map(json.loads, decided)
    }
    return [named[each["pos"]] for each in found["differing"]]


@pytest.mark.parametrize(
    ("settings", "differing", "not_made", "horizons"),
    [
        (["fingerprint_repeats_max=2"], ["r2/a", "r3/a"], [], []),
        (["fingerprint_repeats_max=1"], ["r1/a", "r2/a", "r3/a"], ["r1/b"], []),
        (["fingerprint_repeats_max=none"], ["r3/a", "r4/a", "r1/b"], [], ["r1"]),
        (["verdict_rule=classic-1"], ["r1/a"], [], []),
        (["breaker_runs=3"], ["r3/a", "r4/a", "r5/a"], [], []),
        (["breaker_runs=3", "breaker_probes_max=0"], ["r3/a"], ["r4/a", "r5/a", "r6/a"], []),
        (["drains=['FAILED']"], [], ["r1/a", "r2/a", "r3/a", "r4/a", "r5/a", "r6/a"], []),
    ],
)
def test_what_differs_is_exactly_what_must(
    log: Path,
    settings: list[str],
    differing: list[str],
    not_made: list[str],
    horizons: list[str],
) -> None:
    changes = [part for setting in settings for part in ("--set", setting)]
    found = asked(log, *changes)["whatif"]
    assert places(log, found) == differing
    left_out = [f"{each['run_id']}/{each['phase_id']}" for each in found["not_made"]]
    assert left_out[: len(not_made)] == not_made
    assert {each["run_id"] for each in found["horizons"]} >= set(horizons)
    assert found["attempts_made"] == 9 - len(left_out)
    assert found["attempts_saved"] + found["attempts_unknown"] == len(left_out)


def test_what_is_saved_and_lost_adds_up(log: Path) -> None:
    found = asked(log, "--set", "drains=['FAILED']")["whatif"]
    assert (found["attempts_made"], found["attempts_saved"]) == (0, 9)
    assert (found["successes_lost"], found["usage_lost"], found["tokens_saved"]) == (4, 4, 400)
    assert found["minutes_saved"] == pytest.approx(9.0, abs=0.1)


def test_beyond_the_horizon_is_unknown_and_counted_apart(log: Path) -> None:
    found = asked(log, "--set", "breaker_runs=3", "--set", "breaker_probes_max=0")["whatif"]
    held = {each["run_id"] for each in found["horizons"]}
    assert {"r4", "r5", "r6"} <= held
    assert (found["attempts_saved"], found["successes_lost"]) == (0, 0)
    assert found["attempts_unknown"] == 5


def test_simulating_goes_on_and_says_where_its_outcomes_come_from(log: Path) -> None:
    found = asked(log, "--set", "fingerprint_repeats_max=none", "--simulate")["simulated"]
    assert found["attempts"] > 9
    assert sum(found["sources"].values()) == found["attempts"]
    told = runoff(log, "whatif", "--set", "fingerprint_repeats_max=none", "--simulate").stdout
    assert "not known, only likely" in told


def test_a_script_tells_what_the_record_cannot(log: Path) -> None:
    (log / "more.json").write_text(json.dumps([{"rc": 1, "state": "FAILED", "reason": "more"}]))
    more = ("attempts_per_phase_max=3", "fingerprint_repeats_max=none", "breaker_runs=none")
    simulated = ("--simulate", *(part for each in more for part in ("--set", each)))
    told = asked(log, *simulated, "--script", "more.json")["simulated"]["sources"]
    assert set(told) == {"its own outcome", "a script"}
    alone = asked(log, *simulated)["simulated"]["sources"]
    assert set(alone) >= {"its own outcome", "its last outcome"}


def test_as_of_a_moment_it_knows_no_more_than_was_known_then(log: Path) -> None:
    shown = runoff(log, "log", "show", "--after", "0", "--limit", "1000", "--json").stdout
    rows = [json.loads(line) for line in shown.splitlines()]
    second = [row["pos"] for row in rows if row["type"] == "attempt.started"][1]
    found = asked(log, "--set", "drains=['FAILED']", "--at", str(second))["whatif"]
    assert [each["ending"] for each in found["not_made"]] == ["failed", None]
    words = runoff(log, "whatif", "--set", "drains=['FAILED']", "--at", str(second)).stdout
    assert "not attempted: not_drained (it failed; saved)" in words
    assert "not attempted: not_drained (it is still open; saved)" in words
    told = runoff(log, "whatif", "--at", str(second))
    assert f"as of position {second} (" in told.stderr


def test_what_was_decided_stands_before_what_would_have_been(log: Path) -> None:
    other = ("--set", "fingerprint_repeats_max=2")
    first = asked(log, *other)["whatif"]["differing"][0]
    recorded, instead = ("; ".join(first[key]) or "nothing" for key in ("recorded", "instead"))
    words = runoff(log, "whatif", *other).stdout
    assert f"    @{first['pos']} {first['run_id']}: {recorded} -> {instead}\n" in words


def test_a_sweep_gives_a_line_a_value_and_a_chart(log: Path) -> None:
    done = runoff(log, "whatif", "--sweep", "fingerprint_repeats_max=1..4")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith("  differing  horizons")
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["1", "8"],
        ["2", "9"],
        ["3", "9"],
        ["4", "9"],
    ]
    assert sum("|#" in line for line in lines) == 4


def test_what_is_wrong_with_a_sweep_is_told_of_the_sweep(log: Path) -> None:
    for sweep, said in (
        ("no_such_key=1..2", "--sweep"),
        ("fingerprint_repeats_max=many", "--sweep"),
        ("fingerprint_repeats_max=1..999999999999", "names 999999999999 values"),
        ("fingerprint_repeats_max=9..1", "names no values"),
        ("fingerprint_repeats_max=1..9:0", "names no values"),
    ):
        done = runoff(log, "whatif", "--sweep", sweep)
        assert done.returncode == 2
        assert said in done.stderr
        assert "--set" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--set", "no_such_key=1"],
        ["--set", "fingerprint_repeats_max=many"],
        ["--sweep", "fingerprint_repeats_max"],
        ["--sweep", "fingerprint_repeats_max=9..1"],
        ["--policy", "nobody"],
        ["--policy", "./nowhere.toml"],
        ["--script", "script.json"],
        ["--script", "nowhere.json"],
        ["--script", "script.json", "--simulate", "--sweep", "fingerprint_repeats_max=1..2"],
        ["--at", "99999"],
        ["--at", "1"],
    ],
)
def test_what_cannot_be_meant_is_one_clear_line(log: Path, arguments: list[str]) -> None:
    done = runoff(log, "whatif", *arguments)
    assert done.returncode == 2
    assert "try:" in done.stderr
    assert "Traceback" not in done.stderr
