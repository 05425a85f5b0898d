"""``runoff budget``: the ledger against the limits in force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UsageProblem
from tests.program import runoff

RUN = "telemetry-collection-v4"
USAGE = [{"input_tokens": 600, "output_tokens": 400}]
DRAIN = ("drain", "--script", "script.json", "--virtual-time", "--workers", "1")


@pytest.fixture(scope="module")
def spent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sessions: five attempts without budgets; then two until a budget ends it."""
    folder = tmp_path_factory.mktemp("spent")
    rule = {"usage": USAGE, "sleep": 60}
    (folder / "script.json").write_text(json.dumps([rule]))
    assert runoff(folder, "seed", "--repeat", "3").returncode == 0
    assert runoff(folder, *DRAIN, "--batch-size", "5").returncode == 4
    bounds = ("--max-total-tokens", "2000", "--budget", "run:minutes=60", "--budget")
    ended = runoff(folder, *DRAIN, "--batch-size", "9", *bounds, "day:attempts=999", "--json")
    assert json.loads(ended.stdout)["because"] == "session_budget"
    return folder


def ledger(folder: Path, *arguments: str) -> Any:
    found = runoff(folder, "budget", *arguments, "--json")
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def lines(found: Any, scope: str) -> list[dict[str, Any]]:
    return [line for line in found["lines"] if line["scope"] == scope]


def test_the_newest_session_is_held_against_its_own_limits(spent: Path) -> None:
    found = ledger(spent)
    (session,) = lines(found, "session")
    assert session["id"] == found["session_id"]
    assert (session["tokens"], session["ms"], session["attempts"]) == (2000, 120_000, 2)
    assert (session["limits"], session["reached"]) == ({"tokens": 2000}, ["tokens"])
    assert found["reached"]["session"] == 1
    limits = {(b["scope"], b["measure"]): b["limit"] for b in found["budgets"]}
    assert limits == {
        ("session", "tokens"): 2000,
        ("run", "ms"): 3_600_000,
        ("day", "attempts"): 999,
    }
    assert all(line["limits"] == {"ms": 3_600_000} for line in lines(found, "run"))


def test_the_sums_of_every_scope_agree(spent: Path) -> None:
    found = ledger(spent, "--top", "1000")
    for scope in ("day", "run", "phase"):
        rows = lines(found, scope)
        assert sum(row["tokens"] for row in rows) == 7000
        assert sum(row["ms"] for row in rows) == 7 * 60_000
        assert sum(row["attempts"] for row in rows) == 7
        assert found["counted"][scope] == len(rows)


def test_another_session_has_other_limits(spent: Path) -> None:
    sessions = json.loads(runoff(spent, "session", "list", "--json").stdout)
    found = ledger(spent, "--session", sessions[0]["session_id"])
    (session,) = lines(found, "session")
    assert (session["tokens"], session["attempts"], session["limits"]) == (5000, 5, {})
    assert found["budgets"] == []


def test_a_phases_own_cap_is_a_limit_where_it_is_heeded(spent: Path) -> None:
    caps = {line["limits"].get("tokens") for line in lines(ledger(spent), "phase")}
    assert caps == {50_000}


def test_top_shows_those_that_spent_most(spent: Path) -> None:
    found = ledger(spent, "--top", "2")
    assert [len(lines(found, scope)) for scope in ("run", "phase")] == [2, 2]
    tokens = [line["tokens"] for line in lines(ledger(spent, "--top", "99"), "run")]
    assert tokens == sorted(tokens, reverse=True)
    assert found["counted"]["phase"] == 7


def test_as_of_the_first_end_only_its_attempt_was_paid_for(spent: Path) -> None:
    shown = runoff(spent, "log", "show", "--type", "attempt.finished", "--after", "0", "--json")
    first = json.loads(shown.stdout.splitlines()[0])
    found = ledger(spent, "--at", str(first["pos"]))
    assert [line["tokens"] for line in lines(found, "run")] == [1000]
    assert ledger(spent, "--at", "5")["lines"] == []


def test_words_give_minutes_and_what_is_reached(spent: Path) -> None:
    words = runoff(spent, "budget").stdout
    head, _, rows = words.partition("\n")
    assert "session at most 2000 tokens" in head
    assert "run at most 60.0 minutes" in head
    session = next(line for line in rows.splitlines() if line.startswith("session"))
    assert session.split()[2:] == ["2000", "2.0", "2", "2000", "tokens", "tokens"]


def test_before_any_drain_nothing_is_spent(tmp_path: Path) -> None:
    assert runoff(tmp_path, "seed").returncode == 0
    found = ledger(tmp_path)
    assert (found["session_id"], found["lines"]) == (None, [])
    assert "No drain has begun yet" in runoff(tmp_path, "budget").stdout


def test_a_drain_that_budgets_of_runs_hold_back_says_so_and_goes_on_with_higher_ones(
    tmp_path: Path,
) -> None:
    (tmp_path / "script.json").write_text(json.dumps([{"usage": USAGE}]))
    assert runoff(tmp_path, "seed", "--repeat", "3").returncode == 0

    def drained(*arguments: str) -> Any:
        ended = runoff(tmp_path, *DRAIN, *arguments, "--batch-size", "999", "--json")
        return ended.returncode, json.loads(ended.stdout)

    code, first = drained("--max-run-tokens", "1000")
    assert (code, first["because"]) == (4, "run_budgets")
    assert first["work_left"] > 0
    assert "has used 1000 tokens of the 1000 that it may use" in first["stops"][-1]
    code, again = drained("--resume")
    assert (code, again["because"], again["attempts"]) == (4, "run_budgets", first["attempts"])
    code, other = drained("--max-run-tokens", "999")
    assert (code, other["because"], other["attempts"]) == (4, "run_budgets", 0)
    assert other["stops"] == [other["stops"][0].replace("of the 1000", "of the 999")]
    code, more = drained("--resume", "--max-run-tokens", "1000000")
    assert (code, more["because"]) == (0, "nothing_eligible")
    assert (more["session_id"], more["work_left"]) == (other["session_id"], 0)
    assert runoff(tmp_path, "audit").returncode == 0
    assert runoff(tmp_path, "verify").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(("--session", "nope"), "there is no session 'nope'"), (("--top", "0"), "--top")],
)
def test_what_cannot_be_meant_is_refused(
    spent: Path, arguments: tuple[str, ...], text: str
) -> None:
    refused = runoff(spent, "budget", *arguments)
    assert refused.returncode == UsageProblem.exit_code
    assert text in refused.stderr
