"""Attempts of which a dead engine had not said who guards them: what their directories tell."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from engine.errors import DiskFull, StorageFailed
from engine.executors import begun, holder
from engine.executors.begun import NEVER_SPAWNED, Trace, report_of
from engine.executors.guarding.attempt import CLOSED
from engine.executors.outcome import GUARDIAN_LOCK, OUTCOME_FILE, read_outcome
from engine.executors.processes import is_alive, process_start_ticks
from tests.drain.test_guardian import Guarded, shell, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a subreaper")

ALONE = f"attempt-{os.getpid()}"
"""One without a lock is looked for by its name on the whole machine, where other tests run, too."""
NOTHING = Trace(None, has_begun=False)
BEGUN = Trace(None, has_begun=True)
SLEEPING = shell("touch started; exec sleep 60")
ENDED = {"exit_code": 0, "signal": None}
HOLD = """import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
print(flush=True)
input()"""
NUMBERS = {"duration_ms": 1, "killed": 0, "survivors": 0}


def outcome(ended: str, spawn_error: str | None = None) -> str:
    return json.dumps({"ended": ended, **ENDED, "spawn_error": spawn_error, **NUMBERS})


def trace_of(directory: Path) -> Trace:
    """As for the first attempt that is looked at."""
    return begun.trace_of(directory, are_files_here=directory.parent.is_dir())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The directory of an attempt as an engine lays it out, of which no guardian has come up."""
    made = tmp_path / "attempt"
    made.mkdir()
    (made / GUARDIAN_LOCK).touch(0o600)
    return made


def test_without_a_directory_nothing_has_begun_and_nothing_can_any_more(tmp_path: Path) -> None:
    (tmp_path / "attempts").mkdir()
    directory = tmp_path / "attempts" / ALONE
    assert trace_of(directory) == NOTHING
    with pytest.raises(FileExistsError):
        directory.mkdir(mode=0o700)  # as an engine would that is not quite dead
    assert trace_of(directory) == NOTHING


def test_a_lock_that_was_let_go_of_since_it_was_asked_for_is_nobodys(directory: Path) -> None:
    with (directory / GUARDIAN_LOCK).open("r+") as lock:
        assert holder.holder_of(lock.fileno(), directory) is None


def test_without_a_guardian_nothing_has_begun(directory: Path) -> None:
    assert trace_of(directory) == NOTHING
    left = read_outcome(directory)
    assert (left.ended, left.spawn_error) == ("never_spawned", CLOSED)
    assert trace_of(directory) == NOTHING, "as often as it is asked"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (outcome("exited"), BEGUN),
        (outcome("timed_out"), BEGUN),
        (outcome("abandoned"), BEGUN),
        (outcome("never_spawned"), NOTHING),
        ("garbage", BEGUN),
        ("", BEGUN),
    ],
)
def test_an_outcome_tells_whether_anything_had_begun(
    directory: Path, text: str, expected: Trace
) -> None:
    (directory / OUTCOME_FILE).write_text(text)
    assert trace_of(directory) == expected
    assert (directory / OUTCOME_FILE).read_text() == text


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_guardian_that_lives_is_known_by_its_lock(tmp_path: Path, has_begun: bool) -> None:
    guarded = Guarded(tmp_path, SLEEPING)
    if has_begun:
        guarded.process.go()
        until(tmp_path / "started")
    found = trace_of(guarded.directory)
    assert found.has_begun
    assert found.guardian is not None
    assert (found.guardian.pid, found.guardian.start_ticks) == (
        guarded.process.pid,
        process_start_ticks(guarded.process.pid),
    )
    assert found.guardian.directory == str(guarded.directory)
    assert trace_of(guarded.directory) == found, "a look takes nothing from it"
    guarded.process.end()
    assert guarded.finished()["ended"] == ("abandoned" if has_begun else "never_spawned")
    assert trace_of(guarded.directory) == (BEGUN if has_begun else NOTHING)


def test_a_guardian_that_was_killed_over_its_child_had_begun(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, SLEEPING)
    guarded.process.go()
    until(tmp_path / "started")
    guarded.process.kill()
    guarded.await_end()
    assert trace_of(guarded.directory) == BEGUN
    assert not (guarded.directory / OUTCOME_FILE).exists()


def test_a_guardian_that_was_killed_before_its_child_had_not(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, SLEEPING)
    guarded.process.kill()
    guarded.await_end()
    assert trace_of(guarded.directory) == NOTHING


def test_behind_a_closed_door_nothing_begins_whatever_the_old_engine_says(tmp_path: Path) -> None:
    """It was stopped over the greeting of its guardian, and another has taken over its log."""
    guarded = Guarded(tmp_path, shell("touch started"))
    (guarded.directory / OUTCOME_FILE).write_text(outcome("never_spawned", CLOSED))
    guarded.process.go()
    assert guarded.finished()["exit_code"] == 0, "the outcome stays the one that was put there"
    assert not (tmp_path / "started").exists()


def test_what_an_earlier_guardian_left_who_came_too_late_closes_no_door(tmp_path: Path) -> None:
    """An engine gives up on a slow one, which then finds nobody, and has another forked."""
    guarded = Guarded(tmp_path, shell("touch started; exit 3"))
    (guarded.directory / OUTCOME_FILE).write_text(outcome("never_spawned"))
    guarded.process.go()
    found = guarded.finished()
    assert (found["ended"], found["exit_code"]) == ("exited", 3)
    assert (tmp_path / "started").exists()


def test_a_guardian_that_comes_up_behind_a_closed_door_begins_nothing(tmp_path: Path) -> None:
    made = tmp_path / ALONE
    made.mkdir()
    assert trace_of(made) == NOTHING
    made.rename(tmp_path / "closed")
    guarded = Guarded(tmp_path, shell("touch started"))
    for name in (OUTCOME_FILE, GUARDIAN_LOCK):
        (tmp_path / "closed" / name).rename(guarded.directory / name)
    guarded.process.go()
    assert guarded.finished()["ended"] == "never_spawned"
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("what", ["link", "folder", "pipe"])
def test_what_a_child_puts_in_the_place_of_the_lock_proves_that_it_began(
    directory: Path, what: str
) -> None:
    lock = directory / GUARDIAN_LOCK
    lock.unlink()
    if what == "link":
        lock.symlink_to(directory / "elsewhere")
    elif what == "folder":
        lock.mkdir()
    else:
        os.mkfifo(lock)
    assert trace_of(directory).guardian is None
    if what != "pipe":
        assert trace_of(directory) == BEGUN


@contextmanager
def held_from(place: Path, directory: Path) -> Generator[subprocess.Popen[bytes]]:
    """A process that works in ``place`` holds the lock of ``directory``."""
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory / GUARDIAN_LOCK)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=place,
    )
    with held:
        assert held.stdout is not None
        held.stdout.readline()
        try:
            yield held
        finally:
            held.kill()


def unknown(_pid: int) -> None:
    """When no process began."""


@pytest.mark.parametrize("why", ["no number", "no such process", "another process"])
def test_a_guardian_in_another_container_is_out_of_sight_and_lives(
    why: str, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pid means nothing here, and must not be taken for a process of ours."""
    with held_from(tmp_path if why == "another process" else directory, directory) as held:
        if why == "no number":
            unpack = struct.unpack

            def unseen(layout: str, told: Any) -> Any:
                return (*unpack(layout, told)[:4], 0)

            monkeypatch.setattr(struct, "unpack", unseen)
        elif why == "no such process":
            monkeypatch.setattr(holder, "process_start_ticks", unknown)
        found = trace_of(directory)
        assert held.poll() is None
    assert found.guardian is not None
    assert (found.guardian.pid, found.guardian.start_ticks) == (0, 0)
    assert not is_alive(found.guardian.pid, found.guardian.start_ticks)


def test_a_guardian_in_sight_is_known_by_where_it_works(directory: Path) -> None:
    with held_from(directory, directory) as held:
        found = trace_of(directory)
    assert found.guardian is not None
    assert found.guardian.pid == held.pid


@pytest.mark.parametrize(
    "trouble", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE]
)
def test_a_lock_that_cannot_be_looked_at_proves_nothing(
    directory: Path, trouble: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guardian may hold it, or an engine that was stopped may be about to start one."""

    def fails(*_: object) -> int:
        raise OSError(trouble, os.strerror(trouble))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", fails)
        with pytest.raises(StorageFailed):
            trace_of(directory)
    assert trace_of(directory) == NOTHING


@pytest.mark.parametrize("is_ours", [False, True])
def test_only_in_a_directory_of_ours_a_lock_that_is_denied_to_us_is_a_childs_doing(
    directory: Path, is_ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    us = directory.stat().st_uid + (not is_ours)
    monkeypatch.setattr(os, "geteuid", lambda: us)
    monkeypatch.setattr(os, "open", denied)
    if is_ours:
        assert trace_of(directory) == BEGUN
    else:
        with pytest.raises(StorageFailed):
            trace_of(directory)


def test_a_door_that_could_not_be_closed_is_no_outcome(directory: Path) -> None:
    """No file can be written, then they can again: what never began is not said to be lost."""
    usual, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
    try:
        with pytest.raises(StorageFailed):
            trace_of(directory)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (usual, most))
    assert trace_of(directory) == NOTHING
    assert read_outcome(directory).ended == "never_spawned"


def test_a_guardian_whose_files_were_moved_away_is_found_where_it_works(tmp_path: Path) -> None:
    """The database has another name now, or its files have; it was stopped over the word."""
    guarded = Guarded(tmp_path, SLEEPING)
    guarded.send_signal(signal.SIGSTOP)
    (tmp_path / "moved").mkdir()
    moved = guarded.directory.rename(tmp_path / "moved" / "attempt")
    (tmp_path / "files").mkdir()
    found = trace_of(tmp_path / "files" / "attempt")
    again = trace_of(tmp_path / "files" / "attempt")
    guarded.process.end()
    guarded.send_signal(signal.SIGCONT)
    guarded.await_end()
    assert found.guardian is not None
    assert (found.guardian.pid, found.guardian.directory) == (guarded.process.pid, str(moved))
    assert again == found, "the first engine that looked died over it"


def test_where_all_files_are_gone_nothing_is_said_never_to_have_begun(tmp_path: Path) -> None:
    directory = tmp_path / "files" / "attempts" / "a"
    assert trace_of(directory) == BEGUN
    assert trace_of(directory) == BEGUN, "as often as it is asked"


def test_a_full_disk_that_keeps_the_door_open_is_told(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(begun, "publish", full)
    with pytest.raises(DiskFull):
        trace_of(directory)


def test_a_place_where_no_directory_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "files").touch()
    with pytest.raises(StorageFailed, match="the directory of an attempt"):
        trace_of(tmp_path / "files" / "a")


def test_one_that_never_began_is_told_as_that(directory: Path) -> None:
    trace_of(directory)
    report = anyio.run(report_of, directory, "nobody", None)
    assert (report.ended, report.reason, report.killed) == ("lost", NEVER_SPAWNED, 0)


def test_one_that_left_an_outcome_ended_as_it_says(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, shell("exit 3"), attempt_id="nobody")
    guarded.process.go()
    guarded.finished()
    report = anyio.run(report_of, guarded.directory, "nobody", "it died")
    assert (report.ended, report.exit_code, report.reason) == ("exited", 3, None)


def test_an_outcome_that_cannot_be_understood_says_so(directory: Path) -> None:
    (directory / OUTCOME_FILE).write_text("garbage")
    report = anyio.run(report_of, directory, "nobody", "it died")
    assert report.ended == "lost"
    assert (report.reason or "").startswith("lost: its outcome cannot be understood")


@pytest.mark.parametrize("lost", [None, "the machine was started again"])
def test_of_one_that_is_lost_nothing_is_left_running(directory: Path, lost: str | None) -> None:
    """Even where nothing tells that it began: its mark does."""
    attempt_id = f"att_{directory.parent.name}_{os.getpid()}"
    child = subprocess.Popen(["sleep", "60"], env={**os.environ, "RUNOFF_ATTEMPT_ID": attempt_id})
    report = anyio.run(report_of, directory, attempt_id, lost)
    assert child.wait(20) == -signal.SIGKILL
    why = lost or "its engine and its guardian died"
    assert (report.ended, report.killed, report.reason) == ("lost", 1, f"lost: {why}")
