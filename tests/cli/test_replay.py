"""``runoff replay``: a moment in short, a walk event by event, and how two moments differ."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from engine.cli.main import runoff as tree
from engine.errors import UsageProblem
from projections.board import FOLDS
from tests.program import runoff

HOSTILE = "\x1b[31mred\x1b[0m [bold]x[/bold] \u202egnp"


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drained")
    rules = [
        {"run": "*-r2", "state": "FAILED", "rc": 1, "reason": HOSTILE, "stderr": HOSTILE},
        {"events": 2},
    ]
    (folder / "script.json").write_text(json.dumps(rules))
    assert runoff(folder, "seed", "--repeat", "2").returncode == 0
    drain = ("drain", "--script", "script.json", "--virtual-time", "--batch-size", "5")
    assert runoff(folder, *drain).returncode in (0, 4)
    return folder


def replay(folder: Path, *arguments: str) -> Result:
    """In this process, because there are many."""
    where = ("--database", f"sqlite:///{folder}/b.db")
    return CliRunner().invoke(tree, ["replay", *arguments, *where])


def lines(found: Result) -> list[Any]:
    assert found.exit_code == 0, found.output
    return [json.loads(line) for line in found.stdout.splitlines()]


def head(folder: Path) -> int:
    (found,) = lines(replay(folder, "--json"))
    return int(found["position"])


def test_the_state_has_exactly_the_documented_keys_and_counts_what_there_is(drained: Path) -> None:
    (found,) = lines(replay(drained, "--json"))
    assert set(found) == {
        "position", "recorded_us", "runs", "phases", "sessions", "newest_sessions",
        "open_attempts", "zero_yield", "fingerprints", "open_breakers", "accounts",
    }  # fmt: skip
    assert sum(found["runs"].values()) == 2
    assert sum(found["phases"].values()) == 20
    assert found["sessions"] == {"ended": 1}
    (session,) = found["newest_sessions"]
    assert (session["attempts"], session["open"]) == (5, 0)
    assert sum(found["zero_yield"].values()) == session["failed"] >= 1
    assert found["fingerprints"][0]["count"] == session["failed"]
    assert found["open_attempts"] == []


def test_the_state_in_words_is_that_of_the_moment(drained: Path) -> None:
    begun = next(
        step["event"]
        for step in lines(replay(drained, "--step", "--json"))
        if step["event"]["type"] == "attempt.started"
    )
    words = replay(drained, "--at", str(begun["pos"])).stdout
    assert f"As of position {begun['pos']} (" in words
    assert "open          1 attempt\n" in words
    assert begun["attempt"] in words
    assert begun["attempt"] not in replay(drained, "--at", str(begun["pos"] - 1)).stdout
    assert "runs          2: 2 unsampled" in words
    assert "phases        20: 1 EXECUTING, 19 QUEUED" in words


def test_a_walk_begins_with_the_first_event_and_goes_to_the_limit(drained: Path) -> None:
    assert [step["event"]["pos"] for step in lines(replay(drained, "--step", "--json"))] == list(
        range(1, head(drained) + 1)
    )
    short = replay(drained, "--step", "--json", "--limit", "3")
    assert [step["event"]["pos"] for step in lines(short)] == [1, 2, 3]
    assert f"{head(drained) - 3} more events; go on with --from 3" in short.stderr
    onward = lines(replay(drained, "--step", "--json", "--from", "3", "--limit", "2"))
    assert [step["event"]["pos"] for step in onward] == [4, 5]
    assert lines(replay(drained, "--step", "--json", "--from", str(head(drained)))) == []


def test_a_step_says_what_happened_and_what_changed_because_of_it(drained: Path) -> None:
    steps = lines(replay(drained, "--step", "--json"))
    judged = next(step for step in steps if step["event"]["type"] == "triage.run_judged")
    (change,) = [row for row in judged["changes"] if row["projection"] == "run_triage"]
    fields = {field["field"]: (field["old"], field["new"]) for field in change["fields"]}
    assert change["key"] == [judged["event"]["run"]]
    assert not change["added"]
    assert fields["standing"][0] == "unsampled"
    pos = judged["event"]["pos"]
    assert fields["verdict_pos"] == (None, pos)
    words = replay(drained, "--step", "--from", str(pos - 1), "--limit", "1").stdout
    assert words.startswith(f"@{pos}  ")
    assert judged["event"]["data"]["reason"]["sentence"] in words
    assert f"standing unsampled -> {fields['standing'][1]}" in words


def test_all_steps_together_make_the_difference(drained: Path) -> None:
    steps = lines(replay(drained, "--step", "--json", "--from", "7"))
    (found,) = lines(replay(drained, "--from", "7", "--diff", str(head(drained)), "--json"))
    touched = {
        (row["projection"], *row["key"]): row["added"] for row in _rows(steps, "changes")[::-1]
    }
    differing = {
        (row["projection"], *row["key"]): row["added"]
        for row in _rows(found["projections"], "rows")
    }
    assert differing == touched


def _rows(found: list[Any], name: str) -> list[Any]:
    return [row for one in found for row in one[name]]


def test_a_difference_has_exactly_the_documented_shape(drained: Path) -> None:
    (found,) = lines(replay(drained, "--at", "7", "--diff", "30", "--json"))
    assert set(found) == {"from", "to", "events", "projections"}
    assert (found["from"]["position"], found["to"]["position"], found["events"]) == (7, 30, 23)
    assert set(found["from"]) == {"position", "recorded_us"}
    assert [projection["name"] for projection in found["projections"]] == list(FOLDS)
    for projection in found["projections"]:
        assert set(projection) == {
            "name", "version", "rows_before", "rows_after", "added", "changed", "rows",
        }  # fmt: skip
        for row in projection["rows"]:
            assert set(row) == {"projection", "key", "added", "fields"}
            assert all(set(field) == {"field", "old", "new"} for field in row["fields"])
        assert sum(row["added"] for row in projection["rows"]) == projection["added"]


def test_a_difference_runs_forward_whichever_moment_is_named_first(drained: Path) -> None:
    one = replay(drained, "--at", "7", "--diff", "30", "--json").stdout
    assert replay(drained, "--at", "30", "--diff", "7", "--json").stdout == one
    to_now = replay(drained, "--diff", "30", "--json").stdout
    assert to_now == replay(drained, "--at", "30", "--diff", str(head(drained)), "--json").stdout
    since_ever = lines(replay(drained, "--diff", "-1h", "--json"))[0]
    assert since_ever["from"] == {"position": 0, "recorded_us": None}
    none = lines(replay(drained, "--at", "30", "--diff", "30", "--json"))[0]
    assert (none["events"], _rows(none["projections"], "rows")) == (0, [])


def test_a_difference_in_words_is_cut_and_says_so(drained: Path) -> None:
    words = replay(drained, "--diff", "0", "--limit", "2").stdout
    assert words.startswith("From position 0 (before the first event) to position ")
    assert "backlog: 20 rows added, 0 changed, 20 now" in words
    assert "and 18 more (--limit, or --json for all)" in words
    (found,) = lines(replay(drained, "--diff", "0", "--limit", "2", "--json"))
    assert max(len(projection["rows"]) for projection in found["projections"]) == 2
    assert found["projections"][0]["added"] == 20


@pytest.mark.parametrize("arguments", [(), ("--step",), ("--diff", "0"), ("--at", "40")])
def test_agent_text_never_reaches_the_terminal_unescaped(
    drained: Path, arguments: tuple[str, ...]
) -> None:
    found = runoff(drained, "replay", *arguments)
    assert found.returncode == 0, found.stderr
    assert found.stdout
    for character in ("\x1b", "\u202e"):
        assert character not in found.stdout + found.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--step", "--diff", "3"),
        ("--limit", "3"),
        ("--diff", "nonsense"),
        ("--diff", "999999"),
        ("--from", "999999", "--step"),
        ("--at", "x"),
    ],
)
def test_what_cannot_be_meant_is_refused(drained: Path, arguments: tuple[str, ...]) -> None:
    refused = replay(drained, *arguments)
    assert isinstance(refused.exception, UsageProblem)
    assert refused.stdout == ""


def test_a_replay_changes_no_byte(drained: Path) -> None:
    before = (drained / "b.db").read_bytes()
    for arguments in ((), ("--step",), ("--diff", "9"), ("--at", "9", "--json")):
        assert replay(drained, *arguments).exit_code == 0
    assert (drained / "b.db").read_bytes() == before


class Terminal:
    """The program's terminal, from the side of the person."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self._descriptor, self._process, self.shown = descriptor, process, ""

    def press(self, key: str) -> None:
        os.write(self._descriptor, key.encode())

    def read_until(self, text: str) -> None:
        while text not in self.shown:
            self.shown += os.read(self._descriptor, 65536).decode()

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def echoes(self) -> bool:
        """Whether the terminal shows what is typed, as it does outside the walk."""
        return bool(termios.tcgetattr(self._descriptor)[3] & termios.ECHO)

    def ended(self) -> int:
        return self._process.wait(30)


@contextmanager
def terminal(folder: Path, *arguments: str) -> Generator[Terminal]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", "replay", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env={**os.environ, "DATABASE_URL": f"sqlite:///{folder}/b.db"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_on_a_terminal_each_key_shows_one_event_until_q(drained: Path) -> None:
    with terminal(drained, "--step", "--from", "4") as seen:
        seen.read_until("@5 ")
        seen.press("\r")
        seen.read_until("@6 ")
        seen.press(" ")
        seen.read_until("@7 ")
        assert "@8 " not in seen.shown
        seen.press("q")
        assert seen.ended() == 0


@pytest.mark.parametrize("key", ["q", "Q", "\x1b", "\x04"])
def test_on_a_terminal_q_escape_and_end_of_input_end_the_walk(drained: Path, key: str) -> None:
    with terminal(drained, "--step") as seen:
        seen.read_until("@1 ")
        seen.press(key)
        assert seen.ended() == 0


def test_on_a_terminal_an_interrupt_ends_the_walk_and_leaves_the_terminal_as_it_was(
    drained: Path,
) -> None:
    with terminal(drained, "--step") as seen:
        seen.read_until("@1 ")
        assert not seen.echoes()
        seen.interrupt()
        assert seen.ended() == 130
        assert seen.echoes()
        seen.read_until("runoff: interrupted.")
        assert "Traceback" not in seen.shown


def test_on_a_terminal_the_walk_ends_with_the_log(drained: Path) -> None:
    with terminal(drained, "--step", "--from", str(head(drained) - 1)) as seen:
        seen.read_until("Here the log ends.")
        assert seen.ended() == 0


def test_failures_are_counted_as_rules_count_them_and_it_says_so(tmp_path: Path) -> None:
    limited = {"rc": 1, "stderr": "429 rate limit exceeded, retry after 20 s"}
    (tmp_path / "script.json").write_text(json.dumps([limited]))
    assert runoff(tmp_path, "seed").returncode == 0
    drain = ("drain", "--script", "script.json", "--virtual-time", "--workers", "1")
    # Of the attempts of a phase that a limit ended, the sixth counts.
    assert runoff(tmp_path, *drain, "--batch-size", "6").returncode == 4
    (listed,) = json.loads(runoff(tmp_path, "fingerprint", "list", "--json").stdout)
    (counted,) = json.loads(replay(tmp_path, "--json").stdout)["fingerprints"]
    assert (listed["count"], counted["count"]) == (6, 1)
    assert "(without deferred attempts):" in replay(tmp_path).stdout
    (session,) = json.loads(replay(tmp_path, "--json").stdout)["newest_sessions"]
    ways = ("open", "succeeded", "failed", "timed_out", "abandoned", "orphaned", "deferred")
    assert session["attempts"] == sum(session[way] for way in ways) == 6
    assert "6 attempts, 0 succeeded, 1 failed, 0 timed out, 5 deferred, 0 open" in (
        replay(tmp_path).stdout
    )
    header, line = runoff(tmp_path, "session", "list").stdout.splitlines()
    assert dict(zip(header.split(), line.split(), strict=True))["deferred"] == "5"
    header, line = runoff(tmp_path, "run", "list").stdout.splitlines()
    assert dict(zip(header.split(), line.split(), strict=True))["deferred"] == "5"
