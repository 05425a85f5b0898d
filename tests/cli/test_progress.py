"""How far long work has come: a line that leaves nothing on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.cli import progress
from engine.cli.main import runoff as tree
from engine.cli.progress import FIRST_S, PLAIN_S, TERMINAL_S, Progress
from tests.program import runoff

RULES = [{"run": "*-r2", "rc": 1, "stderr": "KeyError: 'x'\n"}, {"state": "COMPLETE", "rc": 0}]


class Hands:
    """A clock."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_terminal_shows_one_line_that_is_gone_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    clock = Hands()
    with Progress("Reading", clock) as pace:
        clock.now_s = 100 + FIRST_S - 0.01
        pace(10, 2000)
        assert capsys.readouterr().err == "", "what is done soon needs no telling"
        clock.now_s = 100 + FIRST_S
        pace(1000, 2000)
        clock.now_s = 100 + FIRST_S + TERMINAL_S - 0.01
        pace(1001, 2000)
        clock.now_s = 100 + FIRST_S + TERMINAL_S + 0.01
        pace(11, 2000)
    first, second, blank, last = capsys.readouterr().err.split("\r")[1:]
    assert (first, second.rstrip()) == (
        "Reading: 1000 of 2000 events",
        "Reading: 11 of 2000 events",
    )
    assert len(first) == len(second), "what was longer is covered"
    assert len(blank) == len(second.rstrip())
    assert (blank.strip(), last) == ("", "")


def test_a_terminal_is_clean_before_what_comes_next(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    clock = Hands()
    with Progress("Reading", clock) as pace:
        clock.now_s += FIRST_S
        pace(1, 2)
        pace(2, 2)
        assert capsys.readouterr().err.endswith("\r")
    assert capsys.readouterr().err == ""


def test_without_a_terminal_there_is_a_plain_line_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Hands()
    with Progress("Reading", clock) as pace:
        for reached in range(21):
            pace(reached, 100)
            clock.now_s += PLAIN_S / 10
        pace(100, 100)
    assert capsys.readouterr().err == "Reading: 10 of 100 events\nReading: 20 of 100 events\n"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("progress")
    (folder / "script.json").write_text(json.dumps(RULES))
    assert runoff(folder, "seed", "--repeat", "3").returncode == 0
    arguments = ["--virtual-time", "--batch-size", "20", "--script", "script.json"]
    assert "Traceback" not in runoff(folder, "drain", *arguments).stderr
    return folder / "b.db"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["audit"], "Auditing"),
        (["whatif", "--policy", "classic"], "Reading the log"),
        (["whatif", "--policy", "classic"], "Deciding again"),
        (["replay", "--at", "90"], "Reading the log"),
        (["replay", "--at", "90", "--diff", "95"], "Reading the log"),
        (["why", "--at", "90"], "Reading the log"),
        (["budget", "--at", "90"], "Reading the log"),
        (["run", "list", "--at", "90"], "Reading the log"),
    ],
)
def test_what_goes_through_a_long_log_says_how_far_it_is(
    log: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.setattr(progress, "PLAIN_S", 0.0)
    monkeypatch.setattr("engine.store.sqlite.PAGE_ROWS", 40)
    done = CliRunner().invoke(tree, [*arguments, "--database", f"sqlite:///{log}"])
    assert done.exit_code == 0, done.output
    assert f"{words}: " in done.stderr
