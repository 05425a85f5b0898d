"""``runoff seed``, ``import``, ``drain`` as a person uses them: in a process, on a file."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.forgery import forge
from tests.program import runoff as run_in

Runoff = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def runoff(tmp_path: Path) -> Runoff:
    return partial(run_in, tmp_path)


def script(folder: Path, *rules: dict[str, object]) -> str:
    path = folder / "script.json"
    path.write_text(json.dumps(list(rules)))
    return str(path)


def rows(folder: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(folder / "b.db")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_a_seeded_run_is_drained_to_the_end_on_virtual_time(runoff: Runoff, tmp_path: Path) -> None:
    assert runoff("seed").returncode == 0
    outcomes = script(tmp_path, {"state": "COMPLETE", "rc": 0, "events": 2, "sleep": 600})
    drained = runoff(
        "drain", "--script", outcomes, "--virtual-time", "--batch-size", "20", "--json"
    )
    assert drained.returncode == 0, drained.stderr
    summary = json.loads(drained.stdout)
    assert summary["because"] == "nothing_eligible"
    assert (summary["attempts"], summary["succeeded"], summary["yield_events"]) == (10, 10, 20)
    assert summary["active_ms"] >= 600_000


def test_a_summary_counts_of_each_run_what_its_session_did(runoff: Runoff, tmp_path: Path) -> None:
    """A run keeps on counting; the second session is not to be told of the usage of the first."""
    runoff("seed", "--repeat", "2")
    outcomes = script(
        tmp_path,
        {"run": "*-r2", "state": "COMPLETE", "rc": 0, "events": 3},
        {"state": "COMPLETE", "rc": 0, "events": 2},
    )
    for size in ("3", "99"):
        drain = ("drain", "--script", outcomes, "--virtual-time", "--batch-size", size, "--json")
        summary = json.loads(runoff(*drain).stdout)
        attempts = {run["run_id"]: run["attempts"] for run in summary["runs"]}
        usage = {run["run_id"]: run["yield_events"] for run in summary["runs"]}
        each = {run_id: 3 if run_id.endswith("-r2") else 2 for run_id in attempts}
        assert usage == {run_id: attempts[run_id] * each[run_id] for run_id in attempts}
        assert sum(usage.values()) == summary["yield_events"]


def test_a_seed_names_five_runs_and_says_how_many_more(runoff: Runoff) -> None:
    said = runoff("seed", "--repeat", "7").stdout
    assert "Registered 70 phases in 7 runs: " in said
    assert said.partition("\n")[0].endswith("-r5 and 2 more.")
    assert "more" not in runoff("seed", "--repeat", "5", "--run-id", "other").stdout


def test_the_sample_gate_holds_until_the_verdict(runoff: Runoff, tmp_path: Path) -> None:
    runoff("seed", "--repeat", "3")
    outcomes = script(tmp_path, {"state": "COMPLETE", "rc": 0, "events": 1, "sleep": 1})
    runoff("drain", "--script", outcomes, "--virtual-time", "--batch-size", "99", "--workers", "8")
    for (run,) in rows(tmp_path, "SELECT DISTINCT run FROM events WHERE type='attempt.started'"):
        kinds = [
            kind
            for (kind,) in rows(
                tmp_path,
                f"SELECT type FROM events WHERE run='{run}' AND"
                " type IN ('attempt.started','attempt.finished','triage.run_judged') ORDER BY pos",
            )
        ]
        assert kinds[:3] == ["attempt.started", "attempt.finished", "triage.run_judged"]


def test_a_fault_that_all_runs_share_deprioritizes_them(runoff: Runoff, tmp_path: Path) -> None:
    runoff("seed", "--repeat", "5")
    outcomes = script(tmp_path, {"state": "FAILED", "rc": 1, "reason": "database is down"})
    summary = json.loads(
        runoff(
            "drain", "--script", outcomes, "--virtual-time", "--workers", "1", "--json",
            "--batch-size", "99",
        ).stdout
    )  # fmt: skip
    standings = [run["standing"] for run in summary["runs"]]
    assert standings.count("deprioritized") == 4
    assert standings[0] == "inconclusive"
    assert summary["zero_yield"]["execution_error"] == summary["attempts"]


def test_a_dry_run_prints_the_plan_and_writes_nothing(runoff: Runoff, tmp_path: Path) -> None:
    runoff("seed")
    before = (tmp_path / "b.db").read_bytes()
    plan = json.loads(runoff("drain", "--dry-run", "--json", "--batch-size", "20").stdout)
    assert [step["phase_id"] for step in plan][:2] == [
        "telemetry-p1-string-util",
        "telemetry-p2-number-util",
    ]
    assert len(plan) == 10
    assert all(step["sentence"] for step in plan)
    head, first, *_, last = runoff("drain", "--dry-run").stdout.splitlines()
    assert head.split() == ["run", "phase", "why"]
    assert first.split()[:3] == ["1", "telemetry-collection-v4", "telemetry-p1-string-util"]
    assert "by last failure (none known)" in first
    assert last.startswith("10 attempts would be made")
    assert (tmp_path / "b.db").read_bytes() == before


def test_real_children_get_the_phase_and_credit_their_usage(runoff: Runoff, tmp_path: Path) -> None:
    runoff("seed")
    child = (
        "import os, json; phase = json.load(open(os.environ['RUNOFF_PHASE_FILE']));"
        "open(os.environ['RUNOFF_EVENTS_FILE'], 'a').write(json.dumps("
        "{'type': 'usage', 'input_tokens': 3, 'output_tokens': 4}) + chr(10));"
        "print(phase['phase_id'])"
    )
    drained = runoff(
        "drain", "--json", "--batch-size", "3", "--ack-lines", "--", sys.executable, "-c", child
    )
    assert drained.returncode == 4, drained.stderr
    *lines, summary = drained.stdout.splitlines()
    assert json.loads(summary)["tokens"] == 21
    acknowledged = {line.split()[1] for line in lines if line.startswith("ACK ")}
    recorded = {name for (name,) in rows(tmp_path, "SELECT command_id FROM events")}
    assert acknowledged <= recorded
    assert sum(line.startswith("READY") for line in lines) == 1
    excerpts = rows(
        tmp_path,
        "SELECT json_extract(data,'$.stdout.excerpt'), phase FROM events"
        " WHERE type='attempt.finished'",
    )
    assert all(text == f"{phase}\n" for text, phase in excerpts)


def test_a_program_is_found_from_where_it_was_named(runoff: Runoff, tmp_path: Path) -> None:
    runoff("seed")
    (tmp_path / "agent.py").write_text("print('by path')")
    program = tmp_path / "agent.sh"
    program.write_text("#!/bin/sh\nexec true\n")
    program.chmod(0o755)
    for argv in (("./agent.sh",), (sys.executable, "agent.py"), ("true",)):
        drained = runoff("drain", "--batch-size", "1", "--json", "--", *argv)
        assert json.loads(drained.stdout)["succeeded"] == 1, drained.stderr


def test_a_single_phase_is_attempted_because_a_person_asked(runoff: Runoff, tmp_path: Path) -> None:
    runoff("seed")
    where = ("--run-id", "telemetry-collection-v4", "--phase-id", "telemetry-p9-readme")
    assert runoff("drain", *where, "--", "true").returncode == 0
    assert runoff("drain", *where, "--", "true").returncode == 1
    groups = rows(
        tmp_path, "SELECT json_extract(data,'$.group') FROM events WHERE type='attempt.started'"
    )
    assert groups == [("named",)]


def test_a_named_phase_is_attempted_once_however_it_ends(runoff: Runoff) -> None:
    runoff("seed")
    where = ("--run-id", "telemetry-collection-v4", "--phase-id", "telemetry-p9-readme")
    failed = runoff("drain", *where, "--json", "--", "false")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["attempts"] == 1
    assert runoff("verify").returncode == 0


def test_a_stopped_session_goes_on_where_it_stopped(runoff: Runoff, tmp_path: Path) -> None:
    runoff("seed")
    outcomes = script(tmp_path, {"state": "COMPLETE", "rc": 0, "events": 1})
    first = runoff("drain", "--script", outcomes, "--batch-size", "4")
    assert first.returncode == 4
    again = runoff("drain", "--script", outcomes, "--resume", "--batch-size", "20", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["attempts"] == 10
    assert len(rows(tmp_path, "SELECT DISTINCT session FROM events WHERE session NOT NULL")) == 1


def _of_an_early_program(row: dict[str, object]) -> None:
    """A policy as it was recorded when our own detectors were called otherwise."""
    event = json.loads(str(row["data"]))
    event["policy_json"] = event["policy_json"].replace("standard-1", "plain-1")
    event["policy_sha256"] = hashlib.sha256(event["policy_json"].encode()).hexdigest()
    row["data"] = json.dumps(event, separators=(",", ":"))


def test_a_session_of_detectors_that_are_gone_goes_on_by_those_that_came_after_them(
    runoff: Runoff, tmp_path: Path
) -> None:
    runoff("seed")
    outcomes = script(tmp_path, {"state": "FAILED", "rc": 1, "stderr": "KeyError: 'x'"})
    runoff("drain", "--script", outcomes, "--batch-size", "1")
    ((pos,),) = rows(tmp_path, "SELECT pos FROM events WHERE type = 'session.policy_adopted'")
    forge(tmp_path / "b.db", (int(str(pos)), _of_an_early_program))
    again = runoff("drain", "--script", outcomes, "--resume", "--batch-size", "3", "--json")
    assert json.loads(again.stdout)["attempts"] == 3, again.stderr
    adopted = "SELECT json_extract(json_extract(data, '$.policy_json'), '$.detectors') FROM events"
    found = rows(tmp_path, f"{adopted} WHERE type = 'session.policy_adopted' ORDER BY pos")
    assert found == [("plain-1",), ("standard-1",)]
    assert runoff("verify").returncode == 0


def test_a_new_log_in_place_of_a_lost_one_keeps_its_anchors_apart(
    runoff: Runoff, tmp_path: Path
) -> None:
    runoff("seed")
    for name in ("b.db", "b.db-wal", "b.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    again = runoff("seed")
    assert again.returncode == 0, again.stderr
    assert "An earlier log stood here" in again.stderr
    assert len(list(tmp_path.glob("b.db-anchors.before-*"))) == 1
    assert runoff("verify").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["drain"], 2, "no program was named"),
        (["drain", "--phase-id", "p", "--", "true"], 2, "--phase-id alone"),
        (["drain", "--run-id", "nope", "--", "true"], 2, "there is no run"),
        (["drain", "--run-id", "x" * 4096, "--", "true"], 2, "4096 bytes"),
        (["drain", "--run-id", "a\nb", "--", "true"], 2, "control character"),
        (["drain", "--workers", "0", "--", "true"], 2, "workers"),
        (["drain", "--phase-timeout-seconds", "nan", "--", "true"], 2, "not a finite number"),
        (["drain", "--grace-seconds", "nan", "--", "true"], 2, "not a finite number"),
        (["drain", "--lease-seconds", "nan", "--", "true"], 2, "not a finite number"),
        (["drain", "--max-total-minutes", "1e309", "--", "true"], 2, "not a finite number"),
        (["drain", "--skip-run-prefix", "\udc80", "--", "true"], 2, "not valid Unicode"),
        (["drain", "--skip-run-prefix", "", "--", "true"], 2, "every run would be skipped"),
        (["daemon", "--skip-run-prefix", "", "--", "true"], 2, "skip_run_prefix"),
        (["drain", "--account", "\udc80", "--", "true"], 2, "not valid Unicode"),
        (["drain", "--command", "agent 'open"], 2, "No closing quotation"),
        (["calibrate", "--confidence-threshold", "nan"], 2, "not a finite number"),
        (["drain", "--", "no-such-program"], 2, "there is no program"),
        (["drain", "--policy", "nope", "--", "true"], 2, "no policy named"),
        (["drain", "--resume", "--", "true"], 2, "no session to resume"),
        (["seed"], 2, "is in the log already"),
        (["collect_telemetry_data", "--anything"], 2, "runoff seed"),
        (["import", "missing.db"], 2, "there is no file"),
        (
            ["drain", "--virtual-time", "--script", "x", "--database", "postgresql://h/d"],
            2,
            "engines that share one",
        ),
        (["drain", "--database", "nonsense", "--", "true"], 2, "not a database URL"),
        (["drain", "--database", "sqlite:///missing.db", "--", "true"], 3, "no database"),
        (["drain", "--database", "sqlite:////", "--", "true"], 2, "names no file"),
        (["drain", "--database", "mysql://u:secret@h/d", "--", "true"], 3, "u:***@h"),
    ],
)
def test_bad_input_gets_one_clear_message_and_its_exit_code(
    runoff: Runoff, tmp_path: Path, arguments: list[str], code: int, text: str
) -> None:
    assert runoff("seed").returncode == 0
    refused = runoff(*arguments)
    assert refused.returncode == code, refused.stderr
    assert text in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "secret" not in refused.stderr
    assert not (tmp_path / "missing.db").exists()


@pytest.mark.parametrize(
    ("because", "larger", "limit"),
    [("batch_size", "--batch-size", 2), ("zero_yield_streak", "--max-consecutive-zero-yield", 2)],
)
def test_a_session_that_met_a_limit_says_which_one_has_to_be_raised(
    runoff: Runoff, tmp_path: Path, because: str, larger: str, limit: int
) -> None:
    runoff("seed", "--repeat", "4")
    outcomes = script(tmp_path, {"state": "COMPLETE", "rc": 0})
    drain = ("drain", "--script", outcomes, "--virtual-time", "--workers", "1")
    sentence = f"left; `runoff drain --resume {larger} N` with a larger N than it had goes on"
    for resumed in ((larger, str(limit)), ("--resume",)):
        stopped = runoff(*drain, *resumed)
        assert f"ended: {because} after" in stopped.stdout
        assert sentence in stopped.stdout
        assert f"drain --resume {larger} N -- PROGRAM` with a larger N" in runoff("why").stdout
    on = json.loads(runoff(*drain, "--resume", larger, "20", "--json").stdout)
    assert on["attempts"] > limit + 2
    assert runoff("audit").returncode == 0


def test_where_all_is_done_a_resume_says_so_and_what_to_do(runoff: Runoff) -> None:
    assert runoff("seed").returncode == 0
    done = runoff("drain", "--batch-size", "99", "--", "true")
    assert done.returncode == 0, done.stderr
    refused = runoff("drain", "--resume", "--", "true")
    assert refused.returncode == 2
    assert "each has ended with nothing left" in refused.stderr


def test_lines_of_a_drain_say_what_they_are_about_in_one_column(runoff: Runoff) -> None:
    assert runoff("seed").returncode == 0
    fails = "case $RUNOFF_PHASE_ID in *p1*) exit 1;; esac; exit 0"
    told = runoff("drain", "--batch-size", "5", "--", "sh", "-c", fails).stderr
    lines = told.partition("\nlog ")[2].splitlines()[1:]
    labels = {line[:10].strip() for line in lines}
    assert {"start", "failed", "succeeded", "verdict", "stop", ""} <= labels
    assert [line for line in lines if line[9:10] != " " or line[10:11] == " "] == []


@pytest.mark.parametrize("options", [("--policy", "classic"), ("--skip-run-prefix", "tele")])
def test_a_drain_that_could_attempt_nothing_says_so(
    runoff: Runoff, tmp_path: Path, options: tuple[str, str]
) -> None:
    runoff("seed")
    hint = "  nothing is left to attempt by this policy and these options: see `runoff why`.\n"
    assert hint in runoff("drain", "--dry-run", *options).stdout
    assert hint not in runoff("drain", "--dry-run").stdout
    ended = runoff("drain", "--script", script(tmp_path, {"rc": 0}), "--virtual-time", *options)
    assert (ended.returncode, hint in ended.stdout) == (0, True)


def test_what_befalls_a_phase_is_told_live_with_its_name(runoff: Runoff, tmp_path: Path) -> None:
    runoff("seed")
    limited: dict[str, object] = {
        "phase": "*-p2-*",
        "rc": 75,
        "stderr": "429 rate limit exceeded",
        "attempt": 1,
    }
    done: dict[str, object] = {"state": "COMPLETE", "usage": [{"output_tokens": 10}]}
    drain = ("drain", "--script", script(tmp_path, limited, done), "--virtual-time")
    told = runoff(*drain, "--workers", "1", "--budget", "phase:tokens=5").stderr
    run = "telemetry-collection-v4"
    assert f"budget    {run}/telemetry-p1-string-util: The phase has used 10 tokens" in told
    assert f"deferred  {run}/telemetry-p2-number-util: The provider's rate_limit" in told


@pytest.mark.parametrize(
    ("because", "option", "told"),
    [
        (
            "session_budget",
            "--max-total-tokens",
            (
                "with higher budgets of the session goes on, `runoff drain` begins",
                "PROGRAM` with higher budgets of the session goes on with it; `runoff drain",
            ),
        ),
        (
            "day_budget",
            "--max-day-tokens",
            (
                "with higher budgets of the day, or on another day, goes on.",
                "next in a session begun now: limit: This day has used",
            ),
        ),
    ],
)
def test_a_session_that_used_up_a_budget_says_that_it_has_to_be_raised(
    runoff: Runoff, tmp_path: Path, because: str, option: str, told: tuple[str, str]
) -> None:
    goes_on, change = told
    runoff("seed")
    outcomes = script(tmp_path, {"state": "COMPLETE", "usage": [{"output_tokens": 10}]})
    drain = ("drain", "--script", outcomes, "--virtual-time", "--workers", "1")
    spent = "`runoff budget` says what was spent"
    for resumed in ((option, "5"), ("--resume",)):
        stopped = runoff(*drain, *resumed)
        assert f"ended: {because} after" in stopped.stdout
        assert f"9 phases are left; {spent}, `runoff drain --resume` {goes_on}" in stopped.stdout
        assert stopped.stdout.count("  stop: ") == 1
        assert change in runoff("why").stdout
    on = json.loads(runoff(*drain, "--resume", option, "500", "--json").stdout)
    assert on["attempts"] == 10


def test_a_dry_run_goes_by_the_time_of_the_log_where_the_clock_is_behind_it(
    runoff: Runoff, tmp_path: Path
) -> None:
    """A pause of the account that is over by then holds no drain back, and no plan."""
    runoff("seed", "--repeat", "3")
    limited = {"stderr": "429 rate limit exceeded. Please try again in 5m.", "sleep": 60}
    outcomes = script(
        tmp_path,
        {"run": "telemetry-collection-v4", "state": "FAILED", "rc": 1, **limited},
        {"state": "COMPLETE", "rc": 0, "events": 2, "sleep": 800},
    )
    by_script = ("--script", outcomes, "--virtual-time", "--workers", "2", "--json")
    drained = runoff("drain", *by_script, "--batch-size", "2")
    assert json.loads(drained.stdout)["attempts"] == 2, drained.stderr
    planned = runoff("drain", "--dry-run", "--script", outcomes, "--json", "--batch-size", "1")
    (first,) = json.loads(planned.stdout)
    runoff("drain", *by_script, "--batch-size", "1")
    *_, begun = rows(tmp_path, "SELECT run, phase FROM events WHERE type = 'attempt.started'")
    assert begun == (first["run_id"], first["phase_id"])
