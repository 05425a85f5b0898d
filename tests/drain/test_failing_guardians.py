"""Guardians that meet a limit, a failing disk or their death: no phase is blamed, nothing is left.

Their servers are told beforehand what shall go wrong, since it cannot be made to happen at will.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from engine.errors import StorageFailed
from engine.executors import guardian_process
from engine.executors.adoption import take_over
from engine.executors.outcome import OUTCOME_FILE
from tests.drain.executed import ROOT, Attempt

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a subreaper")

ENOUGH_FILES = 13
"""So many descriptors a guardian and its child need until the program has been started."""

NEVER = (
    '{"ended":"never_spawned","exit_code":null,"signal":null,"spawn_error":null,"duration_ms":0,'
    '"killed":0,"survivors":0}'
)
"""The outcome of a guardian on which its engine had given up before it came."""

CHILDLESS = """
import errno
fork = os.fork
def refuse():
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
def once():
    pid = fork()
    if pid == 0:
        os.fork = refuse
    return pid
os.fork = once
"""
"""Of a server: the guardians that are forked from it can fork no child."""

SLOW = """
fork = os.fork
def slow():
    guardian = os.getpid()
    pid = fork()
    if pid == 0:
        open("forked", "w").close()
        while os.getppid() == guardian:
            os.sched_yield()
    return pid
def once():
    pid = fork()
    if pid == 0:
        os.fork = slow
    return pid
os.fork = once
"""
"""Of a server: the children of its guardians do nothing more until these are dead."""

DISK = """
import errno
from engine.executors.guarding import attempt
def fail(name="guardian", *_):
    raise OSError({error}, os.strerror({error}), name)
attempt.{call} = fail
"""
"""Of a server: a disk fails under its guardians."""

WITHOUT_SUBREAPER = "sys.modules['_ctypes'] = None"
"""Of a server: its Python was built without ``libffi``, as some are."""


def served(folder: Path, before: str) -> Path:
    """A server of guardians that does something ``before`` anything else; its script."""
    script = folder / "guardian.py"
    home = f"import os, sys\nsys.path.append({str(ROOT)!r})\n"
    serve = "\nfrom engine.executors.guarding.server import serve\nserve()\n"
    script.write_text(home + before + serve)
    return script


@pytest.mark.parametrize("files", range(5, 16))
async def test_at_any_limit_of_files_an_attempt_begins_or_the_engine_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    """No phase is blamed, wherever between the guardian's fork and the program it is met."""
    monkeypatch.setattr(guardian_process, "more_descriptors", lambda: files)
    with suppress(StorageFailed):
        report = await Attempt(tmp_path, ("true",)).run()
        assert (report.exit_code, files) == (0, max(files, ENOUGH_FILES))


async def test_a_machine_that_gives_no_process_for_a_child_ends_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt stays open, and whoever takes its outcome over blames nobody either."""
    monkeypatch.setattr(guardian_process, "GUARDIAN", served(tmp_path, CHILDLESS))
    attempt = Attempt(tmp_path, ("true",))
    with pytest.raises(StorageFailed, match="are reached: cannot begin: Resource temporarily"):
        await attempt.run()
    report = await take_over(attempt.spawned[0], attempt.attempt_id)
    assert (report.ended, report.exit_code) == ("abandoned", None)
    assert report.reason == "cannot begin: Resource temporarily unavailable"


@pytest.mark.parametrize("call", ["hold_lock", "read", "make_room", "publish"])
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (errno.EIO, "fails: a guardian cannot .*Input/output error"),
        (errno.EROFS, "fails: a guardian cannot .*Read-only file system"),
        (errno.EDQUOT, "the disk is full: a file of an attempt"),
        (errno.ENFILE, "limits of this user or machine are reached: cannot .*Too many open files"),
    ],
)
async def test_a_disk_that_fails_a_guardian_ends_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: int, says: str
) -> None:
    """Before its child began or when its outcome is written: no phase is to blame for that."""
    script = served(tmp_path, DISK.format(error=error, call=call))
    monkeypatch.setattr(guardian_process, "GUARDIAN", script)
    attempt = Attempt(tmp_path, ("true",))
    with pytest.raises(StorageFailed, match=says):
        await attempt.run()
    assert len(attempt.spawned) == (call == "publish")


async def test_nothing_survives_its_attempt_where_daemons_do_not_come_to_the_guardian(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a subreaper they are known by their mark; that nothing is left, ``run`` checks."""
    monkeypatch.setattr(guardian_process, "GUARDIAN", served(tmp_path, WITHOUT_SUBREAPER))
    left = "(setsid sleep 60 &) ; exit 3"
    report = await Attempt(tmp_path, ("sh", "-c", left)).run()
    assert (report.ended, report.exit_code, report.killed) == ("exited", 3, 1)


async def test_a_child_whose_guardian_dies_before_it_is_guarded_begins_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It carries no mark yet, so nobody would find it, and another attempt may begin."""
    monkeypatch.setattr(guardian_process, "GUARDIAN", served(tmp_path, SLOW))
    attempt = Attempt(tmp_path, ("sh", "-c", "echo > began; exec sleep 60"))

    async def kill_when_forked() -> None:
        while not (attempt.directory / "forked").exists():  # noqa: ASYNC110  another process
            await anyio.sleep(0.001)
        os.kill(attempt.spawned[0].pid, signal.SIGKILL)

    async with anyio.create_task_group() as group:
        group.start_soon(kill_when_forked)
        report = await attempt.run()
        assert (report.ended, report.reason) == ("lost", "its guardian vanished without an outcome")
    assert not (attempt.workspace / "began").exists()


async def test_the_outcome_of_a_guardian_that_came_too_late_is_not_that_of_the_next(
    tmp_path: Path,
) -> None:
    """It would tell of an attempt that never began, and nobody would end what runs of it."""
    attempt = Attempt(tmp_path, ("sh", "-c", "(setsid sleep 60 &); echo > begun; sleep 60"))

    async def leave_an_outcome() -> None:
        (attempt.directory / OUTCOME_FILE).write_text(NEVER)

    async def kill_when_begun() -> None:
        while not (attempt.workspace / "begun").exists():  # noqa: ASYNC110  another process
            await anyio.sleep(0.001)
        os.kill(attempt.spawned[0].pid, signal.SIGKILL)

    attempt.when_spawned = leave_an_outcome
    async with anyio.create_task_group() as group:
        group.start_soon(kill_when_begun)
        report = await attempt.run()
        assert (report.ended, report.reason) == ("lost", "its guardian vanished without an outcome")
