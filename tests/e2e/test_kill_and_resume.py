"""A drain is killed in the middle and resumed: nothing acknowledged is lost, nothing runs on."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.harness.processes import wait_until

CHILD = (
    "import os, time; time.sleep(0.4);"
    'open(os.environ["RUNOFF_EVENTS_FILE"], "a").write(\'{"type":"usage","output_tokens":7}\\n\')'
)


def start(folder: Path, *arguments: str, output: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "DATABASE_URL": f"sqlite:///{folder}/b.db"}
    with output.open("wb") as out, (folder / "err.txt").open("ab") as err:
        return subprocess.Popen(
            [sys.executable, "-m", "engine", *arguments],
            stdout=out,
            stderr=err,
            cwd=folder,
            env=environment,
        )


def drain(folder: Path, name: str, *more: str) -> tuple[subprocess.Popen[bytes], Path]:
    output = folder / name
    arguments = ["drain", "--ack-lines", "--batch-size", "60", "--workers", "4", *more]
    return start(folder, *arguments, "--", sys.executable, "-c", CHILD, output=output), output


def verified(folder: Path) -> bool:
    """Whether the history keeps its invariants, and every decision is taken again alike."""
    checks = ("verify", "audit")
    return all(start(folder, name, output=folder / "verified").wait(60) == 0 for name in checks)


def test_a_killed_drain_resumes_without_loss_or_double_execution(tmp_path: Path) -> None:
    assert start(tmp_path, "seed", "--repeat", "2", output=tmp_path / "seed").wait(60) == 0
    process, first = drain(tmp_path, "first")
    while b".spawned" not in first.read_bytes():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    resumed, second = drain(tmp_path, "second", "--resume")
    assert resumed.wait(90) == 0, (tmp_path / "err.txt").read_text()

    connection = sqlite3.connect(tmp_path / "b.db")
    recorded = {name for (name,) in connection.execute("SELECT command_id FROM events")}
    for output in (first, second):
        lines = output.read_text().splitlines()
        assert {line.split()[1] for line in lines if line.startswith("ACK ")} <= recorded
    left = connection.execute("SELECT count(*) FROM open_attempts WHERE closed_pos IS NULL")
    assert left.fetchone() == (0,)
    done = connection.execute(
        "SELECT count(*), count(DISTINCT run || phase) FROM events WHERE type='attempt.finished'"
        " AND json_extract(data, '$.ending') = 'succeeded'"
    ).fetchone()
    assert done == (20, 20)
    connection.close()
    assert verified(tmp_path), (tmp_path / "verified").read_text()


def test_a_second_drain_is_refused_and_told_who_holds_the_log(tmp_path: Path) -> None:
    assert start(tmp_path, "seed", output=tmp_path / "seed").wait(60) == 0
    process, first = drain(tmp_path, "first")
    while b"READY" not in first.read_bytes():
        assert process.poll() is None
    other, _ = drain(tmp_path, "second")
    assert other.wait(30) == 75
    assert f"pid {process.pid}" in (tmp_path / "err.txt").read_text()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert verified(tmp_path), (tmp_path / "verified").read_text()


LATE = """
import os, signal, sys
import engine.cli.drain as drain
from engine.cli.main import main
times, summed_up = int(sys.argv.pop(1)), drain.summarise
async def late(*arguments):
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGTERM)
    return await summed_up(*arguments)
drain.summarise = late
main()
"""
"""A drain that is told to stop when its session is over and it only has to say so."""


def test_a_signal_behind_the_end_of_the_session_costs_no_summary(tmp_path: Path) -> None:
    assert start(tmp_path, "seed", output=tmp_path / "seed").wait(60) == 0
    for times, code in (("1", 4), ("2", -signal.SIGTERM)):
        ended = subprocess.run(
            [sys.executable, "-c", LATE, times, "drain", "--batch-size", "1", "--", "true"],
            env={**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/b.db"},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == code, ended.stderr
        assert (b"1 succeeded" in ended.stdout) == (times == "1")


AT_THE_LAST = """
import os, signal, sys
from engine.cli.main import main
class Last:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.SIGTERM):
        kill(pid, number)
sys.modules["last"] = Last()
main()
"""
"""A drain that is told to stop while its interpreter is taken down."""


def test_a_signal_while_the_interpreter_is_taken_down_changes_no_exit_code(tmp_path: Path) -> None:
    assert start(tmp_path, "seed", output=tmp_path / "seed").wait(60) == 0
    ended = subprocess.run(
        [sys.executable, "-c", AT_THE_LAST, "drain", "--batch-size", "1", "--", "true"],
        env={**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/b.db"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 4, ended.stderr


FAR_AWAY = """
import engine.executors.command as command
from engine.cli.main import main
command.gethostname, command.boot_id = lambda: "far-away", lambda: "another boot"
main()
"""
"""An engine as if on another machine."""
END_WITH_IT = ("--on-restart", "end")


@pytest.mark.parametrize("verb", ["drain", "daemon"])
def test_a_log_whose_machine_is_gone_goes_on_once_a_person_says_so(
    tmp_path: Path, verb: str
) -> None:
    assert start(tmp_path, "seed", output=tmp_path / "seed").wait(60) == 0
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            FAR_AWAY,
            "drain",
            "--ack-lines",
            *END_WITH_IT,
            "--",
            "sleep",
            "600",
        ],
        env={**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/b.db"},
        stdout=subprocess.PIPE,
    ) as engine:
        assert engine.stdout is not None
        assert any(b".spawned" in line for line in engine.stdout)
        engine.kill()
    (tmp_path / "b.db-files").rename(tmp_path / "on-the-other-machine")

    refused = start(tmp_path, verb, "--", "true", output=tmp_path / "refused")
    assert refused.wait(60) == 75
    assert "--presume-lost far-away closes it" in (tmp_path / "err.txt").read_text()
    output = tmp_path / "resumed"
    resumed = start(tmp_path, verb, "--presume-lost", "far-away", "--", "true", output=output)
    why = "lost: a person said that its machine, far-away, is gone"
    assert wait_until(lambda: lost(tmp_path) == [why], limit_s=60)
    resumed.terminate()
    assert resumed.wait(60) in (0, 4)
    assert verified(tmp_path), (tmp_path / "verified").read_text()


def lost(folder: Path) -> list[str]:
    """Why attempts were orphaned."""
    with closing(sqlite3.connect(folder / "b.db")) as connection:
        rows = connection.execute(
            "SELECT json_extract(data, '$.error') FROM events WHERE type='attempt.finished'"
            " AND json_extract(data, '$.ending') = 'orphaned'"
        ).fetchall()
    return [error for (error,) in rows]


def test_two_signals_abandon_what_runs(tmp_path: Path) -> None:
    assert start(tmp_path, "seed", output=tmp_path / "seed").wait(60) == 0
    output = tmp_path / "out"
    process = start(tmp_path, "drain", "--ack-lines", "--", "sleep", "600", output=output)
    while b".spawned" not in output.read_bytes():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    while "once more abandons" not in (tmp_path / "err.txt").read_text():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    connection = sqlite3.connect(tmp_path / "b.db")
    endings = connection.execute(
        "SELECT json_extract(data, '$.ending') FROM events WHERE type='attempt.finished'"
    ).fetchall()
    connection.close()
    assert endings == [("abandoned",)]
    assert verified(tmp_path), (tmp_path / "verified").read_text()
