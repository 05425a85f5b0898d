"""Looking at a drained log: every noun, as words and as JSON, with hostile text in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.backlog.sample import write_sample
from engine.errors import WrongDatabase
from engine.store.database import open_writer
from engine.store.location import locate
from tests.program import runoff

HOSTILE = "\x1b[31mred\x1b[0m [bold]x[/bold] \u202egnp"


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drained")
    rules = [
        {"run": "*-r2", "state": "FAILED", "rc": 1, "reason": HOSTILE, "stderr": HOSTILE},
        {"state": "COMPLETE", "rc": 0, "events": 2},
    ]
    (folder / "script.json").write_text(json.dumps(rules))
    assert runoff(folder, "seed", "--repeat", "2").returncode == 0
    drain = ("drain", "--script", "script.json", "--virtual-time", "--batch-size", "99")
    assert runoff(folder, *drain).returncode == 0
    return folder


def shown(folder: Path, *arguments: str) -> Any:
    found = runoff(folder, *arguments, "--json")
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


RUN = "telemetry-collection-v4"
PHASE = "telemetry-p1-string-util"


def test_a_phase_that_is_not_there_is_named_with_its_run(drained: Path) -> None:
    refused = runoff(drained, "phase", "show", RUN, "nowhere")
    assert refused.returncode == 2
    assert f"there is no phase '{RUN}/nowhere'" in refused.stderr


@pytest.mark.parametrize("verb", [("show",), ("requeue", "--why", "again")], ids=lambda v: v[0])
def test_a_run_alone_is_no_name_of_a_phase(drained: Path, verb: tuple[str, ...]) -> None:
    refused = runoff(drained, "phase", *verb, RUN)
    assert refused.returncode == 2
    assert f"there is no phase '{RUN}'" in refused.stderr
    assert "name it as RUN/PHASE" in refused.stderr


def test_every_noun_lists_and_shows(drained: Path) -> None:
    assert {run["run_id"] for run in shown(drained, "run", "list")} == {RUN, f"{RUN}-r2"}
    assert shown(drained, "run", "show", RUN)["standing"] == "promising"
    assert len(shown(drained, "phase", "list")) == 20
    assert shown(drained, "phase", "show", RUN, PHASE)["state"] == "COMPLETE"
    (session,) = shown(drained, "session", "list")
    assert shown(drained, "session", "show", session["session_id"])["attempts"] >= 10
    assert shown(drained, "session", "show") == shown(
        drained, "session", "show", session["session_id"]
    )
    attempt = shown(drained, "attempt", "list", "--limit", "1")[0]
    assert shown(drained, "attempt", "show", attempt["attempt_id"])


def test_a_run_and_a_session_sum_up_why_no_usage_came_and_what_limits_were_hit(
    tmp_path: Path,
) -> None:
    rules = [
        {"run": "*-r2", "rc": 1, "stderr": "prompt is too long: 210000 tokens > 200000 maximum"},
        {"phase": "*-string-*", "events": 1},
        {"rc": 0},
    ]
    (tmp_path / "script.json").write_text(json.dumps(rules))
    assert runoff(tmp_path, "seed", "--repeat", "2").returncode == 0
    drain = ("drain", "--script", "script.json", "--virtual-time", "--batch-size", "99")
    assert runoff(tmp_path, *drain, "--workers", "1").returncode == 0
    names = ("zero_yield", "boundaries")
    session, good, bad = (
        [found[name] for name in names]
        for found in (
            shown(tmp_path, "session", "show"),
            shown(tmp_path, "run", "show", RUN),
            shown(tmp_path, "run", "show", f"{RUN}-r2"),
        )
    )
    assert good == [{"success_no_llm_calls": 8}, {}]
    assert bad == [{"llm_boundary_hit": 3}, {"context_window": 3}]
    assert session == [good[0] | bad[0], good[1] | bad[1]]
    told = runoff(tmp_path, "run", "show", RUN).stdout
    assert re.search(r"^zero_yield\.success_no_llm_calls +8$", told, re.MULTILINE)


def test_a_phase_is_named_as_other_commands_name_it(drained: Path, tmp_path: Path) -> None:
    whole = shown(drained, "phase", "show", RUN, PHASE)
    assert shown(drained, "phase", "show", f"{RUN}/{PHASE}") == whole
    shutil.copytree(drained, tmp_path / "copy")
    back = shown(tmp_path / "copy", "phase", "requeue", f"{RUN}/{PHASE}", "--why", "again")
    assert (back["run_id"], back["phase_id"]) == (RUN, PHASE)


def test_a_session_in_words_has_no_line_of_all_its_policy_and_times_to_read(drained: Path) -> None:
    text = runoff(drained, "session", "show").stdout
    assert max(map(len, text.splitlines())) < 80
    assert re.search(r"^started_at +\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ$", text, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "list"),
        ("run", "show", f"{RUN}-r2"),
        ("phase", "list"),
        ("attempt", "list"),
        ("session", "list"),
        ("log", "show", "--limit", "500"),
        ("log", "--limit", "500"),
        ("why", f"{RUN}-r2"),
        ("projection", "list"),
        ("identity",),
    ],
)
def test_agent_text_never_reaches_the_terminal_unescaped(
    drained: Path, arguments: tuple[str, ...]
) -> None:
    found = runoff(drained, *arguments)
    assert found.returncode == 0, found.stderr
    assert found.stdout
    for character in ("\x1b", "\u202e"):
        assert character not in found.stdout + found.stderr


def test_reading_changes_no_byte(drained: Path) -> None:
    before = (drained / "b.db").read_bytes()
    for arguments in (("run", "list"), ("log", "show"), ("why", RUN), ("projection", "check")):
        assert runoff(drained, *arguments).returncode == 0
    assert (drained / "b.db").read_bytes() == before


def test_the_log_is_shown_by_position_type_and_tag(drained: Path) -> None:
    lines = runoff(drained, "log", "show", "--type", "triage.*", "--json").stdout.splitlines()
    assert {json.loads(line)["type"].split(".")[0] for line in lines} == {"triage"}
    (line,) = runoff(drained, "log", "show", "--at", "3", "--json").stdout.splitlines()
    assert json.loads(line)["pos"] == 3
    of_run = runoff(drained, "log", "show", "--run", RUN, "--limit", "5", "--json").stdout
    assert {json.loads(line)["run"] for line in of_run.splitlines()} == {RUN}


def test_identity_has_exactly_the_documented_keys(drained: Path) -> None:
    assert set(shown(drained, "identity")) == {
        "url", "file", "modified", "runs", "phases", "phases_by_state", "usage_events", "events",
        "head", "digest",
    }  # fmt: skip


def test_why_names_the_rule_and_the_positions(drained: Path) -> None:
    found = shown(drained, "why", f"{RUN}-r2")
    assert found["judged"]["rule"]["rule"] == "verdict/three-way-1"
    assert found["rule"]["policy"] == "default@2"
    assert found["facts"]
    assert all(fact["pos"] > 0 for fact in found["facts"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "show", "nope"),
        ("phase", "show", RUN, "nope"),
        ("phase", "show", f"{RUN}/nope"),
        ("phase", "show", RUN),
        ("session", "show", "nope"),
        ("attempt", "show", "nope"),
        ("why", "nope"),
        ("run", "reinstate", "nope", "--why", "x"),
        ("phase", "requeue", RUN, "nope", "--why", "x"),
    ],
)
def test_an_unknown_id_is_refused_with_a_remedy(drained: Path, arguments: tuple[str, ...]) -> None:
    refused = runoff(drained, *arguments)
    assert refused.returncode == 2
    assert "try:" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "reinstate", "\udcff"),
        ("phase", "requeue", "\udcff", PHASE),
        ("phase", "requeue", RUN, "\udcff"),
        ("phase", "requeue", RUN, "x" * 20_000),
    ],
)
def test_what_no_event_can_carry_is_refused_before_it_is_handed_to_anybody(
    drained: Path, arguments: tuple[str, ...]
) -> None:
    refused = runoff(drained, *arguments, "--why", "x")
    assert refused.returncode == 2
    assert "of UTF-8" in refused.stderr


async def test_an_empty_log_is_refused_unless_it_is_meant(tmp_path: Path) -> None:
    await (await open_writer(locate(f"sqlite:///{tmp_path}/b.db"), create=True)).close()
    for arguments in (("run", "list"), ("why", "x"), ("drain", "--", "true"), ("identity",)):
        refused = runoff(tmp_path, *arguments)
        assert refused.returncode == WrongDatabase.exit_code, refused.stderr
        assert "0 runs and 0 phases" in refused.stderr
    for noun in (("run", "list"), ("identity",), ("drain", "--command", "true")):
        assert runoff(tmp_path, *noun, "--allow-empty-db").returncode == 0


def test_a_missing_log_is_refused_and_not_made(tmp_path: Path) -> None:
    refused = runoff(tmp_path, "run", "list", database="missing.db")
    assert refused.returncode == WrongDatabase.exit_code
    assert list(tmp_path.iterdir()) == []


def test_following_the_log_shows_what_is_appended_meanwhile(drained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(drained, tmp_path / "copy"))
    follower = subprocess.Popen(
        [sys.executable, "-m", "engine", "log", "show", "--follow", "--type", "operator.*"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "DATABASE_URL": f"sqlite:///{folder}/b.db"},
    )
    try:
        assert runoff(folder, "run", "reinstate", RUN, "--why", "seen live").returncode == 0
        assert follower.stdout is not None
        assert "seen live" in follower.stdout.readline()
        follower.send_signal(signal.SIGINT)
        assert follower.wait(20) in (0, 130)
    finally:
        follower.kill()
        follower.wait()
        assert follower.stdout is not None
        follower.stdout.close()


def test_what_a_source_dates_occurred_then_and_was_recorded_now(tmp_path: Path) -> None:
    write_sample(tmp_path / "old.db")
    assert runoff(tmp_path, "import", "old.db").returncode == 0
    shown_log = runoff(tmp_path, "log", "show", "--type", "usage.imported", "--json").stdout
    rows = [json.loads(line) for line in shown_log.splitlines()]
    assert rows
    for row in rows:
        assert row["occurred_us"] == row["data"]["created_us"] < row["recorded_us"]


def test_a_reinstated_run_is_sampled_again(tmp_path: Path) -> None:
    rules = [{"state": "FAILED", "rc": 1, "reason": "down"}]
    (tmp_path / "script.json").write_text(json.dumps(rules))
    runoff(tmp_path, "seed", "--repeat", "2")
    drain = ("drain", "--script", "script.json", "--virtual-time", "--workers", "1")
    assert runoff(tmp_path, *drain).returncode in (0, 4)
    standings = {run["run_id"]: run["standing"] for run in shown(tmp_path, "run", "list")}
    assert standings[f"{RUN}-r2"] == "deprioritized"
    assert runoff(tmp_path, "run", "reinstate", f"{RUN}-r2", "--why", "fixed").returncode == 0
    assert runoff(tmp_path, "phase", "requeue", RUN, PHASE, "--why", "again").returncode == 0
    state = shown(tmp_path, "run", "show", f"{RUN}-r2")
    assert (state["standing"], state["generation"]) == ("unsampled", 2)
    assert shown(tmp_path, "phase", "show", RUN, PHASE)["attempts"] == 0
    assert runoff(tmp_path, *drain).returncode in (0, 4)
    assert runoff(tmp_path, "verify").returncode == 0
