"""``runoff session decisions`` after the recorded drains, all of it through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

import anyio
import msgspec
import pytest

from engine.amounts import counted
from engine.audit.decisions import decisions_of
from engine.store.boards import load_board
from engine.store.database import open_reader
from engine.store.location import locate
from projections.board import Board
from tests.golden import original
from tests.golden.drains import (
    LEGACY,
    SESSION,
    Made,
    drain,
    final_of,
    needs_golden,
    scenarios,
)
from tests.golden.test_original import altered, shuffled, some_rules
from tests.program import runoff

pytestmark = needs_golden

OF_OURS = {"rule", "version", "policy", "attempt", "positions", "stops"}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the legacy backlog imported, to be copied."""
    folder = tmp_path_factory.mktemp("imported")
    done = runoff(folder, "import", str(LEGACY), "--database", f"sqlite:///{folder}/b.db")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def backlog(imported: Path, tmp_path: Path) -> Path:
    shutil.copytree(imported, tmp_path, dirs_exist_ok=True)
    return tmp_path


def drained(folder: Path, rules: list[Any], arguments: list[str]) -> list[dict[str, Any]]:
    (folder / "rules.json").write_text(json.dumps(rules))
    fixed = "--policy classic --workers 1 --executor scripted --script rules.json --virtual-time"
    done = runoff(folder, "drain", *fixed.split(), *arguments)
    assert done.returncode in (0, 4), done.stderr
    shown = runoff(folder, "session", "decisions", "--json")
    assert shown.returncode == 0, shown.stderr
    return [json.loads(line) for line in shown.stdout.splitlines()]


async def board_of(folder: Path) -> Board:
    store = await open_reader(locate(f"sqlite:///{folder}/b.db"))
    try:
        return await load_board(store)
    finally:
        await store.close()


@pytest.mark.parametrize("scenario", scenarios())
def test_every_key_of_every_decision_is_the_recorded_one(scenario: Any, backlog: Path) -> None:
    found = drained(backlog, scenario["rules"], scenario["args"])
    ours = [{k: v for k, v in each.items() if k not in OF_OURS} for each in found]
    assert ours == scenario["decisions"]
    final = final_of(found, anyio.run(board_of, backlog))
    assert final == {key: scenario["final"][key] for key in final}
    assert stop_lines(found) == [line for line in scenario["stop_lines"] if "[STOP]" in line]


def stop_lines(found: list[dict[str, Any]]) -> list[str]:
    """The original's lines, from what each decision says it stopped."""
    lines: list[str] = []
    for number, decision in enumerate(found, 1):
        for stop in decision["stops"]:
            if stop["because"] == "zero_yield_streak":
                streak = stop["sentence"].split()[0]
                lines.append(
                    f"[STOP] {streak} consecutive phases with 0 telemetry (limit: {streak})"
                )
            elif stop["because"] == "fingerprint_repeats" and stop["stopped"] == "run":
                carriers = [each["fingerprint"] for each in found[:number]]
                seen = carriers.count(decision["fingerprint"])
                assert f"seen {counted(seen, 'time')} in" in stop["sentence"]
                lines.append(
                    f"[STOP] Fingerprint repeated {seen}x - deprioritizing run {stop['id']}"
                )
    return lines


def test_another_backlog_is_drained_as_the_original_would_have(tmp_path: Path) -> None:
    random = Random(139)
    database = altered(shuffled, random, tmp_path / "other.db")
    rules = some_rules(random)
    assert runoff(tmp_path, "import", "other.db").returncode == 0
    told = original.drained(database, rules, ["--batch-size", "80"])
    found = drained(tmp_path, rules, ["--batch-size", "80"])
    assert [{key: each[key] for key in told.decisions[0]} for each in found] == told.decisions


def test_a_decision_says_where_it_stands_in_the_log(backlog: Path) -> None:
    rules = [{"state": "FAILED", "rc": 1, "reason": "PATCH_FAILED"}]
    found = drained(backlog, rules, ["--batch-size", "4", "--max-fingerprint-repeats", "2"])
    session = json.loads(runoff(backlog, "session", "--json").stdout)[0]["session_id"]
    shown = runoff(backlog, "session", "decisions", session, "--json").stdout
    assert [json.loads(line) for line in shown.splitlines()] == found
    listed = runoff(backlog, "log", "show", "--session", session, "--after", "0", "--json").stdout
    types = {row["pos"]: row["type"] for row in map(json.loads, listed.splitlines())}
    second = found[1]
    assert [stop["stopped"] for stop in second["stops"]] == ["fingerprint", "run"]
    assert (second["rule"], second["version"]) == ("verdict/classic-1", 1)
    assert second["policy"].startswith("classic@")
    places = second["positions"] | {s["stopped"]: s["position"] for s in second["stops"]}
    assert {name: types[pos] for name, pos in places.items()} == {
        "started": "attempt.started",
        "estimated": "attempt.estimated",
        "finished": "attempt.finished",
        "fingerprinted": "diagnosis.fingerprinted",
        "zero_yield_explained": "diagnosis.zero_yield_explained",
        "judged": "triage.run_judged",
        "fingerprint": "triage.fingerprint_stopped",
        "run": "triage.run_stopped",
    }


def test_decisions_are_a_table_for_people_and_a_named_session_must_exist(backlog: Path) -> None:
    none = runoff(backlog, "session", "decisions")
    assert (none.returncode, none.stdout) == (2, "")
    assert "there is no session yet" in none.stderr
    drained(backlog, [{"state": "FAILED", "rc": 0, "reason": "x"}], ["--batch-size", "2"])
    lines = runoff(backlog, "session", "decisions").stdout.splitlines()
    assert lines[0].split()[:4] == ["seq", "run", "phase", "group"]
    assert lines[1].split()[-5:] == ["FAILED", "0", "0", "unknown", "1"]
    assert len(lines) == 3
    unknown = runoff(backlog, "session", "decisions", "ses_x", "--json")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "there is no session 'ses_x'" in unknown.stderr


async def test_an_open_attempt_has_not_come_to_anything(tmp_path: Path) -> None:
    rules = [{"state": "FAILED", "rc": 1, "reason": "x"}]
    made: Made = await drain(LEGACY, rules, ["--batch-size", "2"], tmp_path)
    started = made.decisions[1]["positions"]["started"]
    first, second = msgspec.to_builtins(await decisions_of(made.store, SESSION, started))
    assert first == made.decisions[0]
    unknown = {key for key, value in second.items() if value is None}
    assert unknown == {
        "verdict",
        "final_state",
        "returncode",
        "error",
        "fingerprint",
        "events",
        "boundary",
        "zero_yield",
        "success",
    }
    assert (second["rule"], second["positions"]) == ("pick", {"started": started})
