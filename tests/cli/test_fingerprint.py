"""``runoff fingerprint``: what failures there are, what they touched, and which look alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.program import runoff

LONG = "more than stands in the log itself\n" * 20
RULES = [
    {"run": "*-r2", "rc": 1, "state": "FAILED", "stderr": "log\nKeyError: 'one \x1b[31m'\n"},
    {"run": "*-r3", "rc": 1, "state": "FAILED", "stderr": "log\nKeyError: 'one \x1b[31m'\n"},
    {
        "run": "*-r4",
        "rc": 1,
        "stdout": LONG,
        "stderr": "ValueError: the field alpha of the plan is not a number",
    },
    {"run": "*-r5", "rc": 1, "stderr": "ValueError: the field gamma of the plan is not a number"},
    {"state": "COMPLETE", "rc": 0, "events": 1},
]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fingerprint")
    (folder / "script.json").write_text(json.dumps(RULES))
    assert runoff(folder, "seed", "--repeat", "5").returncode == 0
    arguments = ["--virtual-time", "--batch-size", "60", "--workers", "1"]
    drain = runoff(folder, "drain", "--script", "script.json", *arguments)
    assert "Traceback" not in drain.stderr
    return folder


def told(folder: Path, *arguments: str) -> Any:
    done = runoff(folder, "fingerprint", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    arguments = ("--after", "0", "--limit", "100000", "--type", kind, "--json")
    done = runoff(folder, "log", "show", *arguments)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_failure_is_listed_with_its_counts_runs_and_verdicts(log: Path) -> None:
    found = {each["fingerprint"]: each for each in told(log)}
    seen = [row["data"] for row in events(log, "diagnosis.fingerprinted")]
    assert sum(each["count"] for each in found.values()) == len(seen)
    for name, each in found.items():
        mine = [row for row in seen if row["fingerprint"] == name]
        assert each["count"] == len(mine)
        assert each["runs"] == sorted({row["run_id"] for row in mine})
        assert each["run_count"] == len(each["runs"])
        assert each["sample"] == mine[-1]["attempt_id"]
    verdicts = [row["data"]["because"] for row in events(log, "triage.run_judged")]
    counted = [f"{n} {what}" for each in found.values() for what, n in each["verdicts"].items()]
    assert sum(int(line.split()[0]) for line in counted) == verdicts.count(
        "new_failure"
    ) + verdicts.count("repeated_failure")


def test_the_most_frequent_stands_first(log: Path) -> None:
    counts = [each["count"] for each in told(log, "list")]
    assert counts == sorted(counts, reverse=True)


def test_template_and_raw_sample_stand_side_by_side(log: Path) -> None:
    (key,) = [each for each in told(log) if "KeyError" in each["template"]]
    found = told(log, "show", key["fingerprint"])
    assert found["sample_text"] == "log\nKeyError: 'one \x1b[31m'"
    assert "\x1b" not in found["failure"]["template"]
    words = runoff(log, "fingerprint", "show", key["fingerprint"]).stdout
    assert "  | KeyError: 'one \\x1b[31m'" in words
    assert "deprioritized (repeated_failure)" in words


def test_the_beginning_of_a_name_is_enough(log: Path) -> None:
    first = told(log)[0]["fingerprint"]
    assert told(log, "show", first[:-3])["failure"]["fingerprint"] == first
    for name, word in (("nothing-like-it", "no fingerprint begins"), ("", "not one fingerprint")):
        done = runoff(log, "fingerprint", "show", name)
        assert (done.returncode, word in done.stderr) == (2, True), done.stderr


def test_two_that_look_alike_are_shown_for_a_person_to_judge(log: Path) -> None:
    (pair,) = told(log, "list", "--alike")
    templates = {pair["template"], pair["alike"]["template"]}
    assert {"alpha" in text for text in templates} == {True, False}
    assert all("the field" in text for text in templates)
    assert 0.75 <= pair["alike"]["likeness"] < 1
    looked = told(log, "show", pair["fingerprint"])["failure"]["alike"]
    assert [each["fingerprint"] for each in looked] == [pair["alike"]["fingerprint"]]
    assert "gamma" in runoff(log, "fingerprint", "list", "--alike").stdout


def test_as_of_before_it_was_seen_there_was_none(log: Path) -> None:
    first = min(each["first_pos"] for each in told(log))
    assert told(log, "list", "--at", str(first - 1)) == []
    assert len(told(log, "list", "--at", str(first))) == 1


def test_it_can_be_kept_to_a_run(log: Path) -> None:
    (run,) = {each["runs"][0] for each in told(log) if "alpha" in each["template"]}
    assert [each["runs"] for each in told(log, "list", "--run", run)] == [[run]]


def test_what_a_run_caused_is_counted_when_it_is_kept_to_that_run(log: Path) -> None:
    every = {each["fingerprint"]: each for each in told(log) if each["stops"]}
    assert any("fingerprint" in each["stops"] for each in every.values())
    for name, each in every.items():
        by_run = [
            found["stops"]
            for run in each["runs"]
            for found in told(log, "list", "--run", run)
            if found["fingerprint"] == name
        ]
        summed = {what: sum(one.get(what, 0) for one in by_run) for what in each["stops"]}
        assert summed == each["stops"]


def test_a_sample_whose_output_is_gone_says_so(log: Path, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    shutil.copytree(log, folder)
    shutil.rmtree(folder / "b.db-files" / "blobs")
    name = told(folder)[0]["fingerprint"]
    done = runoff(folder, "fingerprint", "show", name)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
