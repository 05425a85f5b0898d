"""The mutants of the rules still apply, and a sample is killed; more: python -m tests.mutants."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.mutants import automatic
from tests.mutants.__main__ import WRONG, main
from tests.mutants.bench import results
from tests.mutants.catalogue import HOME, LISTS, Mutant, Stale, listed, modules_for, stale

SAMPLE = 12
LISTED_MIN = 120
TRIAGE = {"rules", "breaker", "provider", "cooling", "budgets", "eligible", "ordering", "select"}
RULES = {
    *(f"engine/triage/{name}.py" for name in TRIAGE),
    *(f"engine/triage/{name}.py" for name in ("picking", "decide", "beginning", "ending", "scope")),
    "engine/triage/hosts.py",
    "engine/daemon/resting.py",
    "engine/triage/fair_share.py",
    *(f"engine/triage/{name}.py" for name in ("case", "used_up", "schedule", "end_words")),
    *(f"engine/triage/{name}.py" for name in ("hindrance", "hindrances", "phase_hindrances")),
    *(f"engine/triage/{name}.py" for name in ("operating", "waking")),
    *(f"engine/triage/{name}.py" for name in ("policy_file", "policy_compare")),
    *(f"engine/audit/{name}.py" for name in ("session_ends", "whatif_found", "whatif")),
    *(
        f"engine/audit/{name}.py"
        for name in ("whatif_eyes", "whatif_order", "whatif_sessions", "whatif_world")
    ),
    *(
        f"engine/audit/{name}.py"
        for name in ("credible", "derived", "schema", "written", "anchored", "as_of")
    ),
    *(f"engine/audit/{name}.py" for name in ("redecide", "compared", "diagnoses", "histories")),
    *(f"engine/drain/{name}.py" for name in ("patience", "loop", "diagnose", "commands")),
    *(f"engine/drain/{name}.py" for name in ("attendance", "recovery", "sharing", "rerun")),
    *(f"engine/drain/{name}.py" for name in ("last_words", "joining", "intake")),
    *(f"engine/drain/{name}.py" for name in ("covered", "read_ahead", "drift_watch")),
    *(f"engine/audit/{name}.py" for name in ("casefile", "reclassify", "requests")),
    *(f"engine/audit/{name}.py" for name in ("why", "why_attempt", "histories")),
    *(f"engine/store/{name}.py" for name in ("same_files", "anchors", "log_time", "blobs")),
    "engine/audit/anchored.py",
    "engine/zones.py",
    "engine/toml_text.py",
    "engine/triage/typed.py",
    *(f"engine/audit/{name}.py" for name in ("origins", "decisions", "facts", "failures")),
    *(f"engine/audit/{name}.py" for name in ("ledger", "estimates")),
    *(f"engine/calibration/{name}.py" for name in ("calibrate", "patch", "report")),
    *(f"engine/store/{name}.py" for name in ("leaving", "pooler", "tables")),
    "engine/drain/tidying.py",
    *(f"engine/executors/{name}.py" for name in ("old_files", "begun", "holder", "outcome")),
    *(f"engine/executors/guarding/{name}.py" for name in ("attempt", "child")),
    *(f"engine/calibration/{name}.py" for name in ("samples", "verdict", "selection")),
    *(f"engine/calibration/{name}.py" for name in ("attempts", "survival", "budgets")),
    *(f"engine/calibration/{name}.py" for name in ("track_record", "estimator")),
    *(f"engine/calibration/{name}.py" for name in ("drift", "pooling", "documented", "in_words")),
    *(f"engine/triage/{name}.py" for name in ("policy", "reasons")),
    *(f"engine/detect/{name}.py" for name in ("resets", "diagnosis", "boundary", "candidates")),
    *(f"engine/detect/{name}.py" for name in ("suspects", "guards", "fingerprint", "masks")),
    *(
        f"engine/detect/{name}.py"
        for name in ("known", "seen", "words", "basis", "records", "contract", "zero_yield")
    ),
    "engine/detect/known_limits.py",
    *(f"engine/detect/{name}.py" for name in ("reclassification", "tongues", "traces", "folded")),
    *(f"engine/detect/{name}.py" for name in ("catalogue", "versions", "released", "examine")),
    *(f"engine/detect/{name}.py" for name in ("classic", "rules")),
    *(f"projections/{name}.py" for name in ("backlog", "run_triage", "fingerprints", "sessions")),
    *(f"projections/{name}.py" for name in ("breakers", "causes", "accounts", "days")),
    *(f"projections/{name}.py" for name in ("timeline", "zero_yield", "calibration")),
    *(f"projections/{name}.py" for name in ("fold", "board")),
}


def test_every_listed_mutant_still_applies() -> None:
    assert stale(listed()) == []


def test_every_file_of_rules_has_mutants_and_tests_that_answer_for_it() -> None:
    counts = Counter(mutant.path for mutant in listed())
    assert set(counts) == RULES
    assert sum(counts.values()) >= LISTED_MIN
    assert all(modules_for(path) for path in RULES)
    assert all((HOME / test).exists() for path in RULES for test in modules_for(path))


def test_a_sample_of_the_mutants_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--sample", str(SAMPLE), "--seed", "7", "--jobs", "2"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert f"{SAMPLE} mutants: {SAMPLE} killed" in said


def test_a_change_that_nobody_can_see_survives() -> None:
    """The bench tells a survivor from a kill, and leaves nothing behind."""
    path = "engine/triage/scope.py"
    harmless = Mutant("harmless", path, "class Scope:", "class Scope: ", _tests(path))
    broken = Mutant("broken", path, "phase_id is not None", "phase_id is None", _tests(path))
    found = {result.mutant.name: result.killed for result in results([harmless, broken], 1)}
    assert found == {"harmless": False, "broken": True}


def _tests(path: str) -> tuple[str, ...]:
    return modules_for(path)


@pytest.mark.parametrize("old", ["words that never stood there", "the"])
def test_words_that_do_not_stand_there_exactly_once_are_refused(old: str) -> None:
    mutant = Mutant("odd", "engine/triage/rules.py", old, "x", ())
    with pytest.raises(Stale, match=r"times in engine/triage/rules\.py"):
        mutant.made((HOME / mutant.path).read_text(encoding="utf-8"))
    assert len(stale([mutant])) == 1


def test_mutants_are_made_from_the_syntax_of_any_file_of_rules() -> None:
    made = automatic.mutants_of("engine/triage/cooling.py", ("x",))
    changes = {(mutant.old, mutant.new) for mutant in made}
    assert {(">=", ">"), ("1000", "1001"), ("and", "or"), ("is None", "is not None")} & changes
    names = [mutant.name for mutant in made]
    assert len(names) == len(set(names)) > 50
    source = (HOME / "engine/triage/cooling.py").read_text(encoding="utf-8")
    assert all(mutant.made(source) != source for mutant in made)


def test_what_is_called_equivalent_belongs_to_a_file_of_rules_and_has_its_reason() -> None:
    known = automatic.known_as_equivalent()
    assert {name.partition(" ")[0] for name in known} <= RULES
    sections = automatic.EQUIVALENT.read_text(encoding="utf-8").split("\n## ")[1:]
    assert sum(section.count("\n- ``") for section in sections) == len(known)
    for section in sections:
        reason = section.partition("\n\n")[2]
        assert reason[0].isupper(), section


def test_lists_stand_one_for_each_file_and_name_no_mutant_twice() -> None:
    paths = [Path(mutant.path).stem for mutant in listed()]
    # Where another file has the same name, the list of a detector or a statistic says so.
    named = (path.stem.removeprefix("detect_") for path in LISTS.glob("*.toml"))
    assert set(paths) == {name.removeprefix("calibration_") for name in named}


def test_a_pattern_that_no_mutant_has_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "cool_down: *"]) == WRONG
    assert "no mutant is called 'cool_down: *'" in capsys.readouterr().out
