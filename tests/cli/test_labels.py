"""Labels as a person uses them: work goes only where what it needs is offered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.program import runoff

PLAN = {
    "run_id": "r",
    "tiers": [{"tier_id": "T", "order": "free"}],
    "phases": [
        {"phase_id": "train", "needs": ["gpu", "linux"]},
        {"phase_id": "test", "after": ["train"]},
        {"phase_id": "lint"},
    ],
}
DONE = [{"state": "COMPLETE", "rc": 0, "events": 1, "sleep": 1}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    (tmp_path / "script.json").write_text(json.dumps(DONE))
    assert runoff(tmp_path, "seed", "--plan", "plan.json").returncode == 0
    return tmp_path


def told(folder: Path, *arguments: str) -> Any:
    done = runoff(folder, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def drain(folder: Path, *more: str, code: int = 0) -> Any:
    script = ("--script", "script.json", "--virtual-time", "--json")
    done = runoff(folder, "drain", *script, *more)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def limits_of_sessions(folder: Path) -> list[Any]:
    records = map(json.loads, runoff(folder, "log", "show", "--json").stdout.splitlines())
    begun = [r for r in records if r["type"] in ("session.started", "session.resumed")]
    return [record["data"]["limits"] for record in begun]


def states(folder: Path) -> dict[str, str]:
    return {phase["phase_id"]: phase["state"] for phase in told(folder, "phase", "list")}


def test_a_phase_waits_for_an_engine_that_offers_all_that_it_needs(folder: Path) -> None:
    ended = drain(folder, "--label", "gpu")
    assert (ended["because"], ended["work_left"]) == ("nothing_eligible", 2)
    assert states(folder) == {"train": "QUEUED", "test": "QUEUED", "lint": "COMPLETE"}
    assert drain(folder, "--label", "linux", "--label", "gpu")["succeeded"] == 2
    assert set(states(folder).values()) == {"COMPLETE"}
    assert told(folder, "audit")["ok"]
    assert told(folder, "verify")["ok"]


def test_a_resumed_session_keeps_its_labels_unless_told_others(folder: Path) -> None:
    drain(folder, "--label", "gpu", "--label", "linux", "--batch-size", "1", code=4)
    assert states(folder)["train"] == "COMPLETE"
    drain(folder, "--resume", "--batch-size", "9", "--label", "gpu")
    assert set(states(folder).values()) == {"COMPLETE"}
    labels = [limits["labels"] for limits in limits_of_sessions(folder)]
    assert labels == [["gpu", "linux"], ["gpu"]]


def test_why_names_the_label_that_is_missing_and_what_would_change_it(folder: Path) -> None:
    drain(folder, "--label", "linux")
    (held,) = told(folder, "why", "r/train")["new_session"]
    assert (held["kind"], held["of"], held["id"]) == ("label_missing", "phase", "gpu")
    assert held["text"] == "it needs the label gpu, which the session's engine does not offer"
    assert "`--label gpu --label linux`" in held["change"]
    found = told(folder, "why")
    assert found["phases"] == {"label_missing": 1, "waits": 1, "done": 1}
    assert "1 for want of a label" in found["sentence"]
    assert found["change"] == "`runoff why r train` says which label one of them needs."
    assert "label_missing" in told(folder, "why", "r/test")["hindrances"][0]["text"]


def test_a_phase_that_is_named_needs_its_labels_all_the_same(folder: Path) -> None:
    named = ("--script", "script.json", "--run-id", "r", "--phase-id", "train")
    assert runoff(folder, "drain", *named).returncode == 1
    assert states(folder)["train"] == "QUEUED"
    assert runoff(folder, "drain", *named, "--label", "gpu", "--label", "linux").returncode == 0


def test_a_host_has_no_more_attempts_than_it_may_and_why_says_when_it_is_full(
    folder: Path,
) -> None:
    assert runoff(folder, "seed", "--repeat", "3").returncode == 0
    drain(folder, "--workers", "4", "--host-workers", "2", "--batch-size", "9", code=4)
    lines = runoff(folder, "log", "show", "--json", "--limit", "999").stdout.splitlines()
    records = [r for r in map(json.loads, lines) if r["type"].startswith("attempt.")]
    open_now = 0
    for record in records:
        open_now += {"attempt.started": 1, "attempt.finished": -1}.get(record["type"], 0)
        assert open_now <= 2
    second = [r["pos"] for r in records if r["type"] == "attempt.started"][1]
    found = told(folder, "why", "--at", str(second))
    assert [gate["kind"] for gate in found["gates"]] == ["host_full"]
    assert "but the host is full (2 of 2 attempts)" in found["sentence"]
    assert limits_of_sessions(folder)[0]["host_workers"] == 2
    assert told(folder, "audit")["ok"]


def test_what_phases_need_is_shown(folder: Path) -> None:
    listed = runoff(folder, "phase", "list").stdout
    assert "gpu, linux" in listed
    assert "needs gpu, linux" in runoff(folder, "log", "show").stdout
    assert runoff(folder, "seed", "--needs", "big", "--run-id", "other").returncode == 0
    needs = [phase["needs"] for phase in told(folder, "phase", "list", "--run", "other")]
    assert needs == [["big"]] * 10


@pytest.mark.parametrize(
    "command",
    [
        ("seed", "--needs", "GPU", "--run-id", "other"),
        ("drain", "--script", "script.json", "--label", "GPU"),
        ("daemon", "--script", "script.json", "--label", "GPU"),
    ],
)
def test_what_cannot_be_a_label_is_refused(folder: Path, command: tuple[str, ...]) -> None:
    done = runoff(folder, *command)
    assert done.returncode == 2
    assert "cannot be one: 'GPU'" in done.stderr
