"""What is wrong with a command line is told in lines that a person can read, whatever it holds."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.backlog.sample import write_sample
from tests.program import runoff

EVIL = "\x1b31m\x9b\u202e"


@pytest.mark.parametrize(
    "argv",
    [
        (EVIL,),
        (f"--{EVIL}",),
        ("run", "list", EVIL),
        ("run", "show", "r", EVIL),
        ("run", "list", "--limit", EVIL),
        ("drain", "--executor", EVIL),
        ("detect", "boundary", f"--jsonl={EVIL}"),
    ],
)
def test_an_argument_that_is_quoted_drives_no_terminal(
    tmp_path: Path, argv: tuple[str, ...]
) -> None:
    done = runoff(tmp_path, *argv)
    assert done.returncode == 2, done.stderr
    assert done.stderr.replace("\n", "").isprintable(), done.stderr


def test_an_argument_of_a_hundred_kilobytes_is_not_quoted_whole(tmp_path: Path) -> None:
    for argv in (("run", "list", "--limit"), ("drain", "--policy"), ("why", "--database")):
        done = runoff(tmp_path, *argv, "x" * 60_000)
        assert done.returncode == 2, done.stderr
        assert len(done.stderr) < 10_000


def test_a_run_that_is_there_is_not_seeded_from_a_changed_plan(tmp_path: Path) -> None:
    def seed(*goals: str) -> subprocess.CompletedProcess[str]:
        phases = [{"phase_id": f"p{number}", "goal": goal} for number, goal in enumerate(goals)]
        (tmp_path / "plan.json").write_text(json.dumps({"run_id": "r", "phases": phases}))
        return runoff(tmp_path, "seed", "--plan", "plan.json")

    assert seed("one").returncode == 0
    for goals in (("one",), ("other",), ("one", "two")):
        done = seed(*goals)
        assert done.returncode == 2
        assert "the run r is in the log already" in done.stderr
        assert "--run-id NEW-ID" in done.stderr
    assert len(json.loads(runoff(tmp_path, "phase", "list", "--json").stdout)) == 1


def test_what_takes_in_a_backlog_shows_first_which_log_it_is(tmp_path: Path) -> None:
    """Whoever named the wrong one sees that, and what it held, before anything is in it."""
    write_sample(tmp_path / "old.db")
    for held, argv in (
        ("0 runs, 0 phases", ("seed",)),
        ("1 run, 10 phases", ("import", "old.db")),
        ("15 runs, 55 phases", ("seed", "--run-id", "more")),
    ):
        done = runoff(tmp_path, *argv)
        assert done.returncode == 0, done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("holds")]
        assert held in line


def test_an_imported_run_is_not_seeded_once_more(tmp_path: Path) -> None:
    write_sample(tmp_path / "old.db")
    assert runoff(tmp_path, "import", "old.db").returncode == 0
    before = json.loads(runoff(tmp_path, "run", "list", "--json").stdout)
    plan = {"run_id": before[0]["run_id"], "phases": [{"phase_id": "new"}]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    done = runoff(tmp_path, "seed", "--plan", "plan.json")
    assert done.returncode == 2
    assert f"the run {before[0]['run_id']} is in the log already" in done.stderr
    assert json.loads(runoff(tmp_path, "run", "list", "--json").stdout) == before


@pytest.mark.parametrize("command", ["report", "samples"])
@pytest.mark.parametrize("source", [(), ("--from-csv", "t.csv")])
def test_a_version_of_coefficients_that_is_no_text_is_refused(
    tmp_path: Path, command: str, source: tuple[str, ...]
) -> None:
    (tmp_path / "t.csv").write_text("category,complexity,predicted,actual,success,truncated\n")
    assert runoff(tmp_path, "seed").returncode == 0
    name = os.fsdecode(b"a\xc3")
    done = runoff(tmp_path, "calibrate", command, *source, "--coefficients", name, "--json")
    assert done.returncode == 2, done.stderr
    assert "--coefficients is not valid Unicode" in done.stderr


def test_samples_of_a_foreign_table_drive_no_terminal(tmp_path: Path) -> None:
    header = "run_id,phase_id,category,complexity,predicted,actual,success,truncated"
    (tmp_path / "t.csv").write_text(f"{header}\nr{EVIL},p,docs,low,1,2,true,false\n")
    argv = ("calibrate", "samples", "--from-csv", "t.csv")
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb") as terminal:
        command = [sys.executable, "-m", "engine", *argv]
        with os.fdopen(theirs, "wb") as out:
            subprocess.run(command, cwd=tmp_path, stdout=out, check=True)
        shown = terminal.read1().decode()
    assert "\\x1b31m\\x9b\\u202e,p,docs" in shown
    assert shown.replace("\r\n", "").isprintable()
    assert EVIL in runoff(tmp_path, *argv).stdout
    assert json.loads(runoff(tmp_path, *argv, "--json").stdout)["run_id"] == f"r{EVIL}"


def test_the_name_of_a_folder_drives_no_terminal(tmp_path: Path) -> None:
    folder = tmp_path / EVIL
    folder.mkdir()
    for argv in (("seed",), ("drain", "--dry-run", "--", "true"), ("why",), ("audit",)):
        done = runoff(folder, *argv, database="\x1b.db")
        assert done.returncode == 0, done.stderr
        assert done.stderr.replace("\n", "").isprintable(), done.stderr
    for name in (".db", ".db-wal", ".db-shm"):
        (folder / f"\x1b{name}").unlink(missing_ok=True)
    again = runoff(folder, "seed", database="\x1b.db")
    assert "An earlier log stood here" in again.stderr
    assert again.stderr.replace("\n", "").isprintable(), again.stderr


def test_what_answers_as_a_daemon_without_a_status_is_told_in_a_line(tmp_path: Path) -> None:
    assert runoff(tmp_path, "seed").returncode == 0
    with contextlib.chdir(tmp_path), socket.socket(socket.AF_UNIX) as door:
        door.bind("b.db-control")  # a socket's name has to be short
        door.listen()

        def answer() -> None:
            while True:
                caller, _ = door.accept()
                with caller, contextlib.suppress(ConnectionError):  # one only looks who is there
                    caller.recv(1000)
                    caller.sendall(b'{"ok":true}\n')

        with ThreadPoolExecutor(1) as thread:
            thread.submit(answer)
            try:
                done = runoff(tmp_path, "daemon", "status")
            finally:
                door.shutdown(socket.SHUT_RDWR)
    assert done.returncode == 2, done.stderr
    assert "the daemon's answer cannot be read: it has no status" in done.stderr
