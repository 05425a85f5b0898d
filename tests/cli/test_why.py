"""``runoff why``: a run, a phase, an attempt, or why nothing runs, as a person asks it."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from engine.cli.main import runoff as tree
from engine.errors import UsageProblem
from engine.store.database import open_reader, open_writer
from engine.store.location import locate
from engine.store.lock import DAEMON, WriterLock
from engine.store.protocol import Query
from projections.board import FOLDS
from tests.program import runoff

RUN = "telemetry-collection-v4"
PHASE = "telemetry-p1-string-util"
KEY = "\x1b[31mError: invalid api key\u202e"


def asked(database: Path, *arguments: str) -> Result:
    return CliRunner().invoke(tree, ["why", *arguments, "--database", f"sqlite:///{database}"])


def told(database: Path, *arguments: str) -> Any:
    found = asked(database, *arguments, "--json")
    assert found.exit_code == 0, (found.output, found.exception)
    return json.loads(found.stdout)


def rows(database: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def drained(folder: Path, rules: list[dict[str, object]], *more: str, runs: int = 8) -> Path:
    (folder / "script.json").write_text(json.dumps(rules))
    assert runoff(folder, "seed", "--repeat", str(runs)).returncode == 0
    drain = ("drain", "--script", "script.json", "--virtual-time", *more)
    ended = runoff(folder, *drain)
    assert ended.returncode in (0, 4), ended.stderr
    return folder / "b.db"


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key that does not work fails sample after sample, until a breaker opens."""
    folder = tmp_path_factory.mktemp("broken")
    rules: list[dict[str, object]] = [{"state": "FAILED", "rc": 1, "stderr": KEY, "sleep": 3}]
    return drained(folder, rules, "--workers", "1", "--batch-size", "99")


def kinds(hindrances: list[dict[str, Any]]) -> set[str]:
    return {hindrance["kind"] for hindrance in hindrances}


def test_a_run_that_was_set_aside_says_why_by_which_rule_and_what_would_change_it(
    broken: Path,
) -> None:
    found = told(broken, f"{RUN}-r2")
    assert found["judged"]["rule"] == {
        "rule": "verdict/three-way-1",
        "version": 1,
        "policy": "default@2",
    }
    assert found["judged"]["sentence"].startswith("The run is deprioritized because")
    assert found["ran"]["sentence"].startswith("Its run is unsampled")
    assert kinds(found["hindrances"]) >= {"deprioritized", "session_ended"}
    assert kinds(found["new_session"]) == {"deprioritized"}
    (aside,) = found["new_session"]
    assert aside["pos"] == found["judged"]["pos"]
    assert aside["until_us"] > found["now_us"]
    assert f"runoff run reinstate {RUN}-r2" in found["change"]


def test_what_would_change_it_changes_it(broken: Path, tmp_path: Path) -> None:
    copy = tmp_path / "b.db"
    copy.write_bytes(broken.read_bytes())
    assert runoff(tmp_path, "run", "reinstate", f"{RUN}-r2", "--why", "new key").returncode == 0
    found = told(copy, f"{RUN}-r2", PHASE)
    assert kinds(found["new_session"]) == {"breaker_open"}
    assert any("reinstated by" in fact["text"] for fact in found["facts"])
    (held,) = found["new_session"]
    reset = ("breaker", "reset", held["id"], "--why", "the key works again")
    assert runoff(tmp_path, *reset).returncode == 0
    found = told(copy, f"{RUN}-r2/{PHASE}")
    assert found["new_session"] == []
    assert "`runoff drain`" in found["change"]


def test_the_evidence_is_the_template_and_the_very_bytes(broken: Path) -> None:
    found = told(broken, f"{RUN}-r3/{PHASE}")
    failure, zero = (
        next(each for each in found["evidence"] if each["kind"] == kind)
        for kind in ("failure", "zero_yield")
    )
    assert failure["name"] == found["fingerprint"]
    assert failure["text"].startswith("invalid api key")
    # Little output stands whole in the log.
    ends = rows(broken, "SELECT data FROM events WHERE type = 'attempt.finished'")
    (blob,) = {json.loads(data)["stderr"]["excerpt"].encode() for (data,) in ends}
    assert hashlib.sha256(blob).hexdigest() == failure["digest"]
    assert blob[failure["byte_start"] : failure["byte_end"]].decode() == failure["excerpt"] == KEY
    assert (zero["name"], zero["text"]) == ("execution_error", "exit code 1")


def test_it_names_where_the_failure_was_seen_before(broken: Path) -> None:
    last = told(broken, f"{RUN}")
    sql = "SELECT pos, run, phase, attempt FROM events WHERE type = 'diagnosis.fingerprinted'"
    places = rows(broken, f"{sql} ORDER BY pos")
    assert len(places) > 5
    assert last["seen"] == []
    phase = told(broken, *places[-1][1:3])
    assert [seen["pos"] for seen in phase["seen"]] == [place[0] for place in places[:5]]
    assert [seen["run_id"] for seen in phase["seen"]] == [place[1] for place in places[:5]]


def test_without_its_stored_row_the_sightings_are_the_same(broken: Path, tmp_path: Path) -> None:
    copy = tmp_path / "b.db"
    copy.write_bytes(broken.read_bytes())
    connection = sqlite3.connect(copy)
    fingerprints, sessions = FOLDS["fingerprints"].table, FOLDS["sessions"].table
    connection.execute(f"UPDATE {fingerprints} SET data = '{{}}'")
    connection.execute(f"UPDATE {sessions} SET data = replace(data, 'held', 'hold')")
    connection.commit()
    connection.close()
    for what in (f"{RUN}-r7", f"{RUN}/{PHASE}"):
        then, now = told(broken, what, "--at", "130"), told(copy, what, "--at", "130")
        assert now == then
        assert told(copy, what)["session"]["because"] == "held_back"


def test_an_attempt_says_why_it_started_how_it_ended_and_what_followed(broken: Path) -> None:
    ((attempt_id, pos),) = rows(
        broken,
        "SELECT attempt, pos FROM events WHERE type = 'triage.run_judged'"
        " AND json_extract(data, '$.verdict') = 'deprioritized' ORDER BY pos LIMIT 1",
    )
    found = told(broken, attempt_id)
    assert found["rule"]["rule"] == "pick"
    assert found["ending"] == "failed"
    assert found["open_us"] is None
    assert [fact["pos"] for fact in found["decided"]][:1] == [pos]
    assert "It failed after 3.0 s. The run is deprioritized because" in found["sentence"]
    begun = found["started"]["pos"]
    words = asked(broken, attempt_id).stdout
    assert "\n  why it was started: Its run is unsampled, so " in words
    assert f" (@{begun}, pick version 1, default@2)\n" in words
    assert re.search(r"  fingerprint fp-1:\w{16}, seen \d+ times? before in its session\n", words)
    before = told(broken, attempt_id, "--at", str(found["started"]["pos"] + 1))
    assert before["ended"] is None or before["ended"]["pos"] <= before["position"]
    open_then = told(broken, attempt_id, "--at", str(found["started"]["pos"]))
    assert (open_then["ended"], open_then["decided"], open_then["open_us"]) == (None, [], 0)


def test_an_attempt_with_usage_without_end_is_explained_to_its_end(tmp_path: Path) -> None:
    database = drained(tmp_path, [{"events": 2500}], "--batch-size", "1", runs=1)
    ((attempt_id,),) = rows(database, "SELECT attempt FROM events WHERE type = 'attempt.started'")
    found = told(database, attempt_id)
    assert found["ending"] == "succeeded"
    assert "The run is promising" in found["sentence"]


def test_nothing_runs_because_a_breaker_holds_the_rest(broken: Path) -> None:
    found = told(broken)
    assert found["seen_from"] == "new_session"
    assert found["holder"] == ""
    assert "an open breaker held back all that was left" in found["sentence"]
    assert "breaker_open" in found["phases"]
    assert sum(found["phases"].values()) == 80
    assert kinds(found["gates"]) == {"breaker_open"}
    assert found["next"]["what"] == "attempt"
    words = asked(broken).stdout
    assert words.startswith("Nothing is running: session ses_")
    assert "next in a session begun now: attempt" in words


def test_what_a_policy_does_not_drain_is_drained_by_the_one_that_is_named(tmp_path: Path) -> None:
    database = drained(tmp_path, [{"rc": 0}], "--policy", "classic", runs=1)
    over = told(database)
    assert (over["phases"], over["open"]) == ({"not_drained": 10}, 0)
    assert over["change"].startswith(f"`runoff why {RUN} ")
    assert "`runoff drain --policy default" in told(database, RUN, PHASE)["change"]
    drain = ("drain", "--script", "script.json", "--virtual-time", "--policy", "default")
    assert runoff(tmp_path, *drain).returncode == 0
    assert told(database, RUN, PHASE)["state"] == "COMPLETE"


def test_a_run_that_a_stop_demoted_is_said_to_have_been_promising(tmp_path: Path) -> None:
    database = drained(tmp_path, [{"sleep": 5000}], "--batch-size", "2", runs=1)
    found = told(database, RUN)
    assert found["standing"] == "inconclusive"
    pos = found["judged"]["pos"]
    promising = f"it was promising (timeout, decided at position {pos}) until it was stopped;"
    assert found["sentence"].startswith(f"The run is inconclusive: {promising} all of its 10")
    before = told(database, RUN, "--at", str(pos))["sentence"]
    assert before.startswith(f"The run is promising (timeout, decided at position {pos}); all of")


def test_what_it_says_comes_next_is_what_a_dry_run_plans(broken: Path) -> None:
    plan = runoff(broken.parent, "drain", "--dry-run", "--json", "--batch-size", "1").stdout
    (step,) = json.loads(plan)
    found = told(broken)["next"]
    assert (found["run_id"], found["phase_id"]) == (step["run_id"], step["phase_id"])


def test_before_any_drain_it_says_that_none_has_begun(tmp_path: Path) -> None:
    assert runoff(tmp_path, "seed").returncode == 0
    found = told(tmp_path / "b.db")
    assert found["session"] is None
    assert found["sentence"].startswith("No drain has begun yet")
    assert found["phases"]["ready"] > 0
    phase = told(tmp_path / "b.db", f"{RUN}/telemetry-p6-string-tests")
    assert kinds(phase["new_session"]) == kinds(phase["hindrances"]) == {"waits"}


def test_what_nothing_holds_back_is_attempted_by_a_drain_or_a_daemon(tmp_path: Path) -> None:
    assert runoff(tmp_path, "seed").returncode == 0
    change = told(tmp_path / "b.db", RUN, "telemetry-p2-number-util")["change"]
    assert change == "`runoff drain`, or a daemon, attempts it when its turn comes."


def test_all_done_leaves_nothing_to_run(tmp_path: Path) -> None:
    database = drained(tmp_path, [{"events": 1}], "--batch-size", "99", runs=1)
    found = told(database)
    assert "all 10 phases are finished" in found["sentence"]
    assert (found["change"], found["unfinished"], found["next"]) == (None, 0, None)
    assert "all of its 10 phases are finished" in told(database, RUN)["sentence"]
    assert "nothing is left to do" in told(database, RUN, PHASE)["sentence"]


async def cut(source: Path, target: Path, kind: str) -> int:
    """A log that ends with the first event of a type, as a dead engine leaves it."""
    reader = await open_reader(locate(f"sqlite:///{source}"))
    records = await reader.records(Query())
    await reader.close()
    pos = next(record.pos for record in records if record.type == kind)
    store = await open_writer(locate(f"sqlite:///{target}"), create=True)
    async with store.transaction() as transaction:
        await transaction.append(records[:pos])
    await store.close()
    return pos


def test_what_a_dead_engine_left_is_said_and_how_to_go_on(broken: Path, tmp_path: Path) -> None:
    import anyio  # noqa: PLC0415  commands start event loops of their own

    pos = anyio.run(cut, broken, tmp_path / "b.db", "attempt.started")
    found = told(tmp_path / "b.db")
    assert "was left by an engine that is gone, with 1 attempt open" in found["sentence"]
    assert "--resume" in found["change"]
    (attempt,) = found["open_attempts"]
    assert (attempt["started_pos"], attempt["run_id"]) == (pos, RUN)
    assert attempt["age_us"] >= 0
    then = told(tmp_path / "b.db", "--at", str(pos))
    assert (then["seen_from"], then["holder"]) == ("session", None)
    assert "is running with 1 attempt open" in then["sentence"]
    assert kinds(then["gates"]) == {"workers_full"}
    phase = told(tmp_path / "b.db", RUN, PHASE)
    assert phase["sentence"].startswith(f"An engine that is gone left {attempt['attempt_id']} open")
    assert kinds(phase["hindrances"]) == {"open", "sample_in_flight", "session_ended"}
    sibling = told(tmp_path / "b.db", RUN, "telemetry-p2-number-util")
    assert kinds(sibling["hindrances"]) == {"sample_in_flight", "session_ended"}
    of_run = told(tmp_path / "b.db", RUN)
    for answer in (sibling, of_run):
        assert "; the engine of the session has died, and a new one would not" in answer["sentence"]
    itself = told(tmp_path / "b.db", attempt["attempt_id"])
    assert "An engine that is gone left it open" in itself["sentence"]
    for answer in (phase, sibling, of_run, itself):
        assert answer["change"].startswith("`runoff drain --resume -- PROGRAM` takes over")
    assert {answer["session"]["status"] for answer in (phase, sibling, of_run)} == {"lost"}
    then = told(tmp_path / "b.db", RUN, PHASE, "--at", str(pos))
    assert then["sentence"].startswith("The phase is running")


def test_what_waits_for_what_runs_is_said_to_wait_for_its_end(tmp_path: Path) -> None:
    database = drained(tmp_path, [{"events": 1}], runs=1)
    ((pos,),) = rows(database, "SELECT min(pos) FROM events WHERE type = 'attempt.started'")
    found = told(database, "--at", str(pos))
    assert (found["open"], found["phases"].get("ready")) == (1, None)
    assert found["change"] == "The end of an attempt."


def told_while_held(database: Path, program: str) -> Any:
    lock = WriterLock(locate(f"sqlite:///{database}").beside("lock"), program)
    try:
        return told(database)
    finally:
        lock.close()


@pytest.mark.parametrize("left", ["seeded", "ended", "draining"])
def test_while_a_daemon_holds_the_log_nobody_is_sent_to_a_drain_that_it_would_keep_out(
    broken: Path, tmp_path: Path, left: str
) -> None:
    import anyio  # noqa: PLC0415  commands start event loops of their own

    database = tmp_path / "b.db"
    if left == "seeded":
        assert runoff(tmp_path, "seed").returncode == 0
    elif left == "ended":
        anyio.run(cut, broken, database, "session.ended")
    else:
        (tmp_path / "whole").mkdir()
        whole = drained(tmp_path / "whole", [{"events": 1}], "--batch-size", "3", runs=1)
        anyio.run(cut, whole, database, "session.draining")
    by_a_drain, found = (told_while_held(database, program) for program in ("runoff drain", DAEMON))
    assert "`runoff drain" in by_a_drain["change"]
    assert "runoff drain" not in found["change"]
    assert "`runoff daemon status` says what it waits for" in found["change"]
    assert f"{found['holder']}, holds the log" in found["sentence"]


def test_time_goes_by_the_last_event_with_at_and_by_the_clock_without(broken: Path) -> None:
    (last,) = rows(broken, "SELECT pos, recorded_us FROM events ORDER BY pos DESC LIMIT 1")
    assert told(broken, RUN, "--at", str(last[0]))["now_us"] == last[1]
    assert told(broken, RUN)["now_us"] >= last[1]


@pytest.mark.parametrize("what", [(), (RUN,), (f"{RUN}-r2", PHASE), ("attempt",)])
def test_words_never_carry_what_drives_a_terminal(broken: Path, what: tuple[str, ...]) -> None:
    if what == ("attempt",):
        sql = "SELECT attempt FROM events WHERE type = 'diagnosis.fingerprinted' LIMIT 1"
        what = tuple(rows(broken, sql)[0])
    shown = asked(broken, *what)
    assert shown.exit_code == 0
    assert shown.stdout
    assert "\x1b" not in shown.stdout
    assert "\u202e" not in shown.stdout


@pytest.mark.parametrize(
    ("what", "text"),
    [
        (("nope",), "there is no run 'nope'"),
        (("att_nope",), "there is no run and no attempt"),
        ((RUN, "nope"), "the run has no phase 'nope'"),
        ((f"{RUN}/nope",), "the run has no phase 'nope'"),
        (("x" * 3000,), "RUN has 3000 characters"),
        ((RUN, "--at", "99999"), "there is no position 99999"),
        ((RUN, "--at", "0"), "there is no run"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(
    broken: Path, what: tuple[str, ...], text: str
) -> None:
    refused = asked(broken, *what)
    assert isinstance(refused.exception, UsageProblem)
    assert text in refused.exception.problem
    assert refused.stdout == ""


def test_one_run_is_explained_without_reading_the_backlog(
    broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.store import direct  # noqa: PLC0415

    read: list[str] = []
    real = direct.DirectReader.read_projection

    async def counted(self: Any, name: str, version: int, by: Any) -> Any:
        read.append(name)
        return await real(self, name, version, by)

    monkeypatch.setattr(direct.DirectReader, "read_projection", counted)
    told(broken, RUN)
    assert set(read) == {"sessions", "breakers", "accounts", "days"}


def test_a_run_without_a_phase_to_sample_keeps_its_verdict_and_says_what_helps(
    tmp_path: Path,
) -> None:
    rules = [{"state": "FAILED", "rc": 1, "reason": "down"}]
    (tmp_path / "script.json").write_text(json.dumps(rules))
    (tmp_path / "p.toml").write_text(
        'name = "mine"\nversion = 1\nbase = "default"\ncool_down_ms = 1\n'
        "breaker_runs = 0\nfingerprint_repeats_max = 0\nattempts_per_phase_max = 1\n"
    )
    tiers = [{"tier_id": "T1", "name": "Only"}]
    phase = {
        "phase_id": "only",
        "tier": "T1",
        "category": "tests",
        "complexity": "low",
        "deliverables": [{"path": "x.py"}],
    }
    (tmp_path / "plan.json").write_text(
        json.dumps({"run_id": "r", "tiers": tiers, "phases": [phase]})
    )
    for run_id in ("r1", "r2"):
        seeded = runoff(tmp_path, "seed", "--plan", "plan.json", "--run-id", run_id)
        assert seeded.returncode == 0, seeded.stderr
    drain = ("drain", "--script", "script.json", "--virtual-time", "--workers", "1")
    for _ in range(2):
        drained = runoff(tmp_path, *drain, "--policy", "p.toml")
        assert "cooled" not in drained.stderr
    run_id = "r2"
    found = told(tmp_path / "b.db", run_id)
    assert "is exhausted" in found["sentence"]
    assert "runoff phase requeue" in found["change"]
    again = runoff(tmp_path, "run", "reinstate", run_id, "--why", "fixed")
    assert "is exhausted" in again.stdout
    assert "runoff phase requeue" in again.stdout
    refused = runoff(tmp_path, "run", "reinstate", run_id, "--why", "fixed")
    assert refused.returncode == 2
    assert "is exhausted" in refused.stderr
    assert "runoff phase requeue" in refused.stderr
