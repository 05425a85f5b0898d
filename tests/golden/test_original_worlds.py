"""``classic`` against the retold original on small backlogs that nobody has seen: all is made up.

Texts lie at and just beside whatever the original looked for.  Some seeds are new every time; a
failing one stands in the message.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import pytest

from tests.golden import original
from tests.golden.drains import drain, final_of

FIXED, FRESH = 100, 20
KEYS = (
    *("seq", "run", "phase", "phase_index", "group", "category", "verdict", "success"),
    *("initial_state", "final_state", "returncode", "error", "fingerprint", "events"),
    *("boundary", "zero_yield"),
)
OTHER_STATES = ("QUEUED", "EXECUTING", "GATE", "CI_RUNNING", "COMPLETE", "SKIPPED")
# The text of an error is kept to 1000 characters; what it is recognised by is worked out before.
KEPT_CHARS = 900

WORDS = """
    |Collection ERROR|imports|imp ort|Deliverable|MISSING|mis-sing|Dispatch|no-op|no op|Manifest
    |timeout|time out|Timed Out|timed  out|İmport|ﬁle|straße|ΣΊΣΥΦΟΣ|max_turns|max turns
    |Message Limit|message  limit|context_length_exceeded|maximum context|token limit exceeded
    |token limit|max tokens|max_tokens|context window exceeded|conversation too long
    |exceeded maximum|exceeds maximum|Validation Error|schema error|missing required field
    |invalid phase|phase not found|run not found|database error|connection error
    |connection  error|permission denied|2025-12-07|12025-12-071|2025-1-07|16:22:03|6:22:03
    |116:22:033|c:\\dev\\x.py|C:\\|c:\\a b|D:\\x-y.z\\w|/tmp/a.log|/|//|/é/ü|/a:40|a/b
    |0x7F3aZ|0x|x0x1|line 40|line  40|LINE ४०|line x|:40|: 40|:40x|:٣|session-20251207-101112
    |Session-20251207-1011123|runx-20251207-101112|batch-2025120-101112|drain-20251207-101112
    |12|a12|12a|1_2|١٢|1.5|-3|{run}|{phase}|%|é|é|😀||rc1|timeout143""".replace("\n    ", "").split(
    "|"
)
SAID = WORDS[WORDS.index("max_turns") : WORDS.index("permission denied") + 1]


def text(random: Random, words_max: int) -> str:
    joint = random.choice((" ", " ", "  ", "\t\n", "-", ""))
    found = joint.join(random.choice(WORDS) for _ in range(random.randint(0, words_max)))
    if random.random() < 0.1:
        found += random.choice(("x", "é", "1 ", "/a", "12:")) * random.choice((60, 199, 200, 201))
    return found


def backlog(random: Random, path: Path) -> list[str]:
    """A database with few runs and many ties; the ids of its runs."""
    runs = [f"{random.choice(('run-', 'Run-', 'é-', 'a'))}{n}" for n in range(random.randint(1, 9))]
    states = ("FAILED",) * random.choice((2, 12, 60)) + OTHER_STATES
    reasons = (None, "", *(text(random, 5) for _ in range(4)))
    rows: list[tuple[Any, ...]] = [
        (run, f"p{n}", random.choice((None, 0, 0, 1, 2, 9)), random.choice(states),
         random.choice(reasons))
        for run in runs
        for n in range(random.choice((1, 2, 3, 6)))
    ]  # fmt: skip
    random.shuffle(rows)
    numbers = random.sample(range(1, 1000), len(rows))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE runs (id)")
        connection.execute(
            "CREATE TABLE phases (id INTEGER PRIMARY KEY, run_id, phase_id, phase_index, state,"
            " last_failure_reason)"
        )
        connection.executemany("INSERT INTO runs VALUES (?)", [(run,) for run in runs])
        connection.executemany(
            "INSERT INTO phases VALUES (?, ?, ?, ?, ?, ?)",
            [(number, *row) for number, row in zip(numbers, rows, strict=True)],
        )
    return runs


def rule(random: Random, runs: list[str]) -> dict[str, Any]:
    # To the original, code 143 was a timeout of the run even where the phase was complete.
    state = random.choice(("FAILED", "FAILED", "FAILED", "COMPLETE", *OTHER_STATES))
    codes = (0, 1, 1, 2, 137, 255, -9, -1, *((143, 143) if state != "COMPLETE" else ()))
    made: dict[str, Any] = {"state": state, "rc": random.choice(codes)}
    may_be = {
        "reason": (None, "", text(random, 3), text(random, 9)),
        "events": (1, 3),
        "stdout": (text(random, 6), random.choice(SAID)),
        "stderr": (text(random, 6), f" {random.choice(SAID)}\n"),
        "sleep": (0.5, 30, 60, 61, 3600),
        "run": (random.choice(runs), f"{random.choice(runs)[:2]}*", "*[0-4]"),
        "phase": ("p0", "*[1-3]"),
    }
    return made | {k: random.choice(v) for k, v in may_be.items() if random.random() < 0.5}


def arguments(random: Random, runs: list[str]) -> list[str]:
    found = ["--batch-size", str(random.choice((2, 60, 60)))]
    found += ["--phase-timeout-seconds", str(random.choice((4, 60)))]
    for flag, values in (
        ("--max-fingerprint-repeats", (1, 2, 5)),
        ("--max-timeouts-per-run", (1, 3)),
        ("--max-consecutive-zero-yield", (1, 3, 6)),
        ("--max-total-minutes", (1, 5)),
        ("--skip-run-prefix", (runs[0][:2], runs[-1])),
        ("--run-id", (runs[0],)),
    ):
        if random.random() < 1 / (3 + len(flag) % 3):
            found += [flag, str(random.choice(values))]
    return found


@pytest.mark.parametrize("first", range(0, FIXED, 20))
async def test_classic_decides_as_the_original_on_made_up_backlogs(
    first: int, tmp_path: Path
) -> None:
    for seed in range(first, first + 20):
        await compare(seed, tmp_path)


async def test_classic_decides_as_the_original_on_backlogs_made_up_now(tmp_path: Path) -> None:
    for _ in range(FRESH):
        await compare(SystemRandom().randrange(10**6, 10**9), tmp_path)


async def compare(seed: int, folder: Path) -> None:
    random = Random(seed)
    database = folder / f"{seed}.db"
    runs = backlog(random, database)
    rules = [*(rule(random, runs) for _ in range(5)), {"state": "FAILED", "rc": 1}]
    given = arguments(random, runs)
    told = original.drained(database, rules, given)
    made = await drain(database, rules, given, folder)
    found, expected = map(shortened, made.decisions), map(shortened, told.decisions)
    assert list(found) == list(expected), seed
    final = final_of(made.decisions, made.board)
    # What was used before a deadline is in our log; the original lost it.
    final["events"] = sum(each["events"] or 0 for each in made.decisions)
    assert final == told.final, seed


def shortened(decision: dict[str, Any]) -> dict[str, Any]:
    kept = {key: decision[key] for key in KEYS}
    return kept | {"error": kept["error"] and kept["error"][:KEPT_CHARS]}
