"""The retold original against its recordings, then ``classic`` against it on other backlogs."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.golden import original
from tests.golden.drains import LEGACY, drain, final_of, needs_golden, scenarios

pytestmark = needs_golden

OTHER_STATES = ("QUEUED", "EXECUTING", "GATE", "CI_RUNNING", "COMPLETE", "SKIPPED")

Alter = Callable[[sqlite3.Connection, Random], None]

REASONS = (
    None,
    "",
    "Collection ERROR in suite 3",
    "ModuleNotFound: Import Error at /srv/app/main.py line 40",
    "DELIVERABLES_VALIDATION_FAILED",
    "files Missing",
    "Patch failed: No-Op",
    "manifest differs, 12:30:01 on 2025-12-07",
    "Timed Out after 900 s",
    "TIMEOUT while importing a manifest",
    "TIMEOUT",
    "PATCH_FAILED",
    "MAX_ATTEMPTS_EXHAUSTED",
    "segfault at 0x7F3A in session-20251207-101112",
    "at C:\\work\\x.py:7 " + "and so on " * 30,
)
RULES: tuple[dict[str, Any], ...] = (
    {"state": "FAILED", "rc": 1},
    {"state": "FAILED", "rc": 137, "reason": None, "stderr": "  Killed: Connection Error\n"},
    {"state": "FAILED", "rc": -9, "reason": "{phase} of {run} broke at 10:11:12"},
    {"state": "FAILED", "rc": 143},
    {"state": "FAILED", "rc": 0, "reason": "", "stdout": "Conversation too long"},
    {"state": "FAILED", "rc": 0, "reason": None},
    {"state": "FAILED", "rc": 255, "stderr": "y" * 900, "events": 2},
    {"state": "FAILED", "rc": 2, "reason": "build 7 failed", "sleep": 60},
    {"state": "EXECUTING", "rc": 1, "reason": None, "stdout": "Permission denied"},
    {"state": "GATE", "rc": 0, "reason": None, "stderr": "schema error"},
    {"state": "QUEUED", "rc": 2},
    {"state": "COMPLETE", "rc": 0, "events": 1},
    {"state": "COMPLETE", "rc": 1, "stdout": "max tokens = 4096"},
    {"state": "SKIPPED", "rc": 0, "reason": "set aside"},
)
RUNS = ("research-*", "fileorg-*[a-m]", "*[0-4]", "*[5-9]", "build*", "lovable*", "*-v1?", "*")
PHASES = ("*", "*", "*", "*test*", "*a*", "*[1-5]")


@pytest.mark.parametrize("scenario", scenarios())
def test_the_original_is_retold_as_it_was_recorded(scenario: Any) -> None:
    told = original.drained(LEGACY, scenario["rules"], scenario["args"])
    assert told.decisions == [without_class(each) for each in scenario["decisions"]]
    assert told.final == {key: scenario["final"][key] for key in told.final}


def without_class(decision: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in decision.items() if key != "fp_class"}


def with_reasons(connection: sqlite3.Connection, random: Random) -> None:
    for (number,) in connection.execute("SELECT id FROM phases").fetchall():
        values = (random.choice(REASONS), number)
        connection.execute("UPDATE phases SET last_failure_reason = ? WHERE id = ?", values)


def renumbered(connection: sqlite3.Connection, random: Random) -> None:
    with_reasons(connection, random)
    for (number,) in connection.execute("SELECT id FROM phases").fetchall():
        state = random.choice(("FAILED", "FAILED", "FAILED", *OTHER_STATES))
        values = (random.choice((0, 1, 2, 7)), state, number)
        connection.execute("UPDATE phases SET phase_index = ?, state = ? WHERE id = ?", values)


def of_other_names(connection: sqlite3.Connection, random: Random) -> None:
    with_reasons(connection, random)
    for table, column in (("runs", "id"), ("tiers", "run_id"), ("phases", "run_id")):
        connection.execute(
            f"UPDATE {table} SET {column} = 'Job ' || upper({column}) WHERE {column} LIKE '%1%'"
        )


def bare(connection: sqlite3.Connection, random: Random) -> None:
    remade(connection, random, "id INTEGER PRIMARY KEY, run_id, phase_id, state, phase_index")


def shuffled(connection: sqlite3.Connection, random: Random) -> None:
    columns = "id INTEGER PRIMARY KEY, phase_index, last_failure_reason, state, phase_id, run_id"
    remade(connection, random, columns)
    connection.execute("UPDATE phases SET phase_index = NULL WHERE id % 3 = 0")
    with_reasons(connection, random)


def remade(connection: sqlite3.Connection, random: Random, columns: str) -> None:
    """Only these columns of the phases, their rows in another order, and no other table's need."""
    names = [column.split()[0] for column in columns.split(", ")][1:]
    rows = connection.execute(f"SELECT {', '.join(names)} FROM phases").fetchall()
    random.shuffle(rows)
    for table in ("token_estimation_v2_events", "llm_usage_events", "tiers", "phases"):
        connection.execute(f"DROP TABLE {table}")
    connection.execute(f"CREATE TABLE phases ({columns})")
    marks = ", ".join("?" * len(names))
    connection.executemany(
        f"INSERT INTO phases ({', '.join(names)}) VALUES ({marks})",
        [tuple(row) for row in rows],
    )


def altered(alter: Alter, random: Random, path: Path) -> Path:
    shutil.copyfile(LEGACY, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        alter(connection, random)
    return path


def some_rules(random: Random) -> list[dict[str, Any]]:
    chosen = random.sample(RULES, 7)
    rules = [{**r, "run": random.choice(RUNS), "phase": random.choice(PHASES)} for r in chosen]
    return [*rules, random.choice(RULES)]


def some_arguments(random: Random) -> list[str]:
    found = ["--batch-size", str(random.choice((25, 60, 90))), "--phase-timeout-seconds", "5"]
    for flag, values in (
        ("--max-fingerprint-repeats", (1, 2, 4)),
        ("--max-timeouts-per-run", (1, 3)),
        ("--max-consecutive-zero-yield", (8, 20)),
        ("--skip-run-prefix", ("fileorg", "Job R")),
        ("--run-id", ("research-system-v2",)),
    ):
        if random.random() < 1 / len((flag, *values)):
            found += [flag, str(random.choice(values))]
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("alter", [with_reasons, renumbered, of_other_names, bare, shuffled])
async def test_classic_decides_as_the_original_on_other_backlogs(
    alter: Alter, seed: int, tmp_path: Path
) -> None:
    random = Random(f"{alter.__name__} {seed}")
    database = altered(alter, random, tmp_path / "other.db")
    rules, arguments = some_rules(random), some_arguments(random)
    told = original.drained(database, rules, arguments)
    made = await drain(database, rules, arguments, tmp_path)
    assert [{key: each[key] for key in told.decisions[0]} for each in made.decisions] == (
        told.decisions
    )
    assert final_of(made.decisions, made.board) == told.final


async def test_what_an_attempt_used_before_its_deadline_ends_no_streak(tmp_path: Path) -> None:
    late = {"state": "FAILED", "rc": 1, "events": 2, "sleep": 60}
    arguments = ["--phase-timeout-seconds", "5", "--max-consecutive-zero-yield", "3"]
    told = original.drained(LEGACY, [late], arguments)
    made = await drain(LEGACY, [late], arguments, tmp_path)
    assert [each["phase"] for each in made.decisions] == [each["phase"] for each in told.decisions]
    assert len(told.decisions) == 3


@pytest.mark.parametrize(
    ("rule", "errors"),
    [
        ({}, {"TIMEOUT", "files Missing", "Patch failed: No-Op", "PATCH_FAILED"}),
        ({"reason": "new"}, {"new"}),
        ({"reason": None, "stderr": "boom"}, {"subprocess exit 1 (stderr: /logs/R__P) | boom"}),
    ],
)
async def test_a_reason_that_is_left_alone_stays_the_error(
    rule: dict[str, Any], errors: set[str], tmp_path: Path
) -> None:
    database = altered(with_reasons, Random("stale"), tmp_path / "other.db")
    rules = [{"state": "FAILED", "rc": 1, "events": 1} | rule]
    made = await drain(database, rules, ["--batch-size", "300"], tmp_path)
    found = {
        each["error"].replace(f"{each['run']}__{each['phase']}.stderr.txt", "R__P")
        for each in made.decisions
    }
    assert found >= errors
    assert len({each["category"] for each in made.decisions}) == 6
