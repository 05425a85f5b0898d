"""Leftovers: what runs on of attempts that the log holds closed is found and ended, no more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from engine.errors import StorageFailed
from engine.executors import processes
from engine.executors.command import attempt_directory
from engine.executors.guardian_process import Guardians
from engine.executors.leftovers import end_leftovers, leftovers
from engine.executors.outcome import Spec
from engine.executors.processes import process_start_ticks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

LIMIT_S = 30


@contextmanager
def child_of(root: Path, attempt_id: str) -> Generator[subprocess.Popen[bytes], None, None]:
    """A process with the environment of an attempt, whose guardian is gone."""
    phase_file = attempt_directory(root, attempt_id) / "phase.json"
    environment = {**os.environ, "RUNOFF_PHASE_FILE": str(phase_file)}
    with subprocess.Popen(["sleep", "60"], env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def test_only_processes_of_closed_attempts_of_this_log_are_ended(tmp_path: Path) -> None:
    here, there = tmp_path / "b.db-files", tmp_path / "other.db-files"
    with (
        child_of(here, "closed") as closed,
        child_of(here, "open") as still_open,
        child_of(there, "closed") as of_another_log,
    ):
        assert [one.pid for one in leftovers(here, ["open"])] == [closed.pid]
        ended = end_leftovers(here, ["open"])
        assert [one.pid for one in ended] == [closed.pid]
        assert closed.wait(LIMIT_S) == -signal.SIGKILL
        assert (still_open.poll(), of_another_log.poll()) == (None, None)
        assert end_leftovers(here, ["open"]) == []


def test_a_guardian_of_a_closed_attempt_is_a_leftover_even_when_it_was_stopped(
    tmp_path: Path,
) -> None:
    directory = attempt_directory(tmp_path, "closed")
    directory.mkdir(parents=True)
    spec = Spec(attempt_id="closed", cwd="/", timeout_s=60, grace_s=1, kill_budget_s=1)
    spec.write(directory)
    guardian = anyio.run(Guardians().start, directory, anyio.Event())
    os.kill(guardian.pid, signal.SIGSTOP)
    assert leftovers(tmp_path, ["closed"]) == []
    assert [one.pid for one in end_leftovers(tmp_path, [])] == [guardian.pid]
    assert process_start_ticks(guardian.pid) is None
    guardian.leave()


def test_nothing_is_left_where_nothing_ever_ran(tmp_path: Path) -> None:
    assert end_leftovers(tmp_path, []) == []


def test_a_system_that_shows_no_processes_is_told_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container without /proc there is no proof that anything is dead."""
    monkeypatch.setattr(processes, "PROC", tmp_path / "proc")
    with pytest.raises(StorageFailed, match="is not there") as told:
        processes.boot_id.__wrapped__()
    assert "mount -t proc" in told.value.remedy
