"""Files of attempts that are over: kept for a while, then removed; those of open ones never are."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from engine.drain import tidying
from engine.drain.tidying import Tidying
from engine.errors import NO_THREAD
from engine.executors import old_files
from engine.executors.command import attempt_directory
from engine.executors.old_files import untouched_since
from engine.store.blobs import Blobs
from engine.store.command import Command, just
from engine.store.protocol import Transaction
from engine.store.recorder import Recorder
from projections.fold import join
from tests.drain.test_recovery import HERE, left_open
from tests.program import runoff
from tests.rules.standings import finished

HOUR_S = 3600.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def left(root: Path, name: str, hours_ago: float) -> Path:
    part = root / "blobs" / "parts" / name
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(b"half of it")
    at_s = time.time() - hours_ago * HOUR_S
    os.utime(part, (at_s, at_s))
    return part


async def test_what_an_engine_was_storing_when_it_died_goes(tmp_path: Path) -> None:
    """However soon files may go, nobody's part is taken away while it is being written."""
    old, young = left(tmp_path, "old", 1.01), left(tmp_path, "young", 0.99)
    kept = Blobs(tmp_path / "blobs").put(b"x" * 600)
    os.utime(Blobs(tmp_path / "blobs").path(kept), (0, 0))
    async with left_open(a=HERE) as recorder:
        await Tidying(recorder, tmp_path, 0).once()
    assert (old.exists(), young.exists()) == (False, True)
    assert Blobs(tmp_path / "blobs").get(kept)


def made(root: Path, attempt: str, hours_ago: float) -> Path:
    directory = attempt_directory(root, attempt)
    (directory / "made by the child").mkdir(parents=True)
    (directory / "spec.json").write_text("{}")
    at_s = time.time() - hours_ago * HOUR_S
    os.utime(directory, (at_s, at_s))
    return directory


async def test_what_is_old_and_over_is_removed_and_nothing_else(tmp_path: Path) -> None:
    old, young = made(tmp_path, "old", 2.01), made(tmp_path, "young", 1.99)
    still_open = made(tmp_path, "a", 100)
    beside = still_open.with_name("notes.txt")
    beside.write_text("somebody's")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = still_open.with_name("link")
    link.symlink_to(elsewhere)
    for each in (beside, elsewhere):
        os.utime(each, (0, 0))
    os.utime(link, (0, 0), follow_symlinks=False)
    async with left_open(a=HERE) as recorder:
        await Tidying(recorder, tmp_path, 2 * HOUR_S).once()
    assert not old.exists()
    for each in (young / "spec.json", still_open / "spec.json", beside, link, elsewhere):
        assert each.exists()


async def test_beside_other_engines_an_hour_is_kept_at_least(tmp_path: Path) -> None:
    old, young = made(tmp_path, "old", 1.01), made(tmp_path, "young", 0.99)
    async with left_open(is_shared=True) as recorder:
        await Tidying(recorder, tmp_path, 0).once()
    assert (old.exists(), young.exists()) == (False, True)


async def test_an_end_that_is_not_committed_yet_keeps_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, commits, scanned = made(tmp_path, "a", 5), anyio.Event(), threading.Event()
    was_committed = list[bool]()
    scan, remove = untouched_since, old_files.remove

    def scanning(root: Path, since_s: float) -> list[str]:
        found = scan(root, since_s)
        scanned.set()
        return found

    def removing(root: Path, names: Iterable[str]) -> None:
        was_committed.append(commits.is_set())
        remove(root, names)

    monkeypatch.setattr(tidying, "untouched_since", scanning)
    monkeypatch.setattr(tidying, "remove", removing)
    async with left_open(a=HERE) as recorder, anyio.create_task_group() as group:
        hold_up(recorder, commits, monkeypatch)
        end = just(finished(run_id="a", attempt_id="a"))
        ended = recorder.enqueue(Command("end", "x", b"", end))
        while recorder.board.backlog.states[join("a", "p")].open_attempt:
            await anyio.lowlevel.checkpoint()
        group.start_soon(Tidying(recorder, tmp_path, HOUR_S).once)
        while not scanned.is_set():
            await anyio.lowlevel.checkpoint()
        for _ in range(100):  # as often as a removal would need to be begun
            await anyio.lowlevel.checkpoint()
        commits.set()
        await ended.answer()
    assert was_committed == [True]
    assert not directory.exists()


def hold_up(recorder: Recorder, commits: anyio.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction of the recorder ends before ``commits`` is set."""
    transaction = recorder.store.transaction

    @asynccontextmanager
    async def held_up() -> AsyncGenerator[Transaction, None]:
        async with transaction() as begun:
            yield begun
            await commits.wait()

    monkeypatch.setattr(recorder.store, "transaction", held_up)


async def test_what_cannot_be_removed_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "AT_ONCE", 2)
    directories = [made(tmp_path, str(number), 5) for number in range(5)]
    refused = directories[2].name
    rmdir = os.rmdir

    def not_this(path: str, **more: int) -> None:
        if str(path).endswith(refused):
            raise PermissionError(path)
        rmdir(path, **more)

    monkeypatch.setattr(os, "rmdir", not_this)
    async with left_open() as recorder:
        await Tidying(recorder, tmp_path, HOUR_S).once()
    assert [each.exists() for each in directories] == [False, False, True, False, False]


async def test_the_folder_that_the_engine_was_started_in_may_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, still_open = made(tmp_path, "old", 5), made(tmp_path, "a", 5)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    async with left_open(a=HERE) as recorder:
        await Tidying(recorder, tmp_path, HOUR_S).once()
    assert (old.exists(), still_open.exists()) == (False, True)


async def test_where_there_was_no_attempt_there_is_nothing_to_do(tmp_path: Path) -> None:
    async with left_open() as recorder:
        await Tidying(recorder, tmp_path / "files", 0).once()
    assert not (tmp_path / "files").exists()


async def test_it_is_done_again_every_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directories, waited_s = [made(tmp_path, "0", 5)], list[float]()

    class Enough(Exception):
        """It was seen often enough."""

    async def hours_go_by(delay_s: float) -> None:
        assert not directories[-1].exists()
        waited_s.append(delay_s)
        if len(waited_s) == 3:
            raise Enough
        directories.append(made(tmp_path, str(len(waited_s)), 5))

    async with left_open() as recorder:
        monkeypatch.setattr(anyio, "sleep", hours_go_by)
        with pytest.raises(Enough):
            await Tidying(recorder, tmp_path, HOUR_S).run()
    assert waited_s == [HOUR_S] * 3


@pytest.mark.parametrize("error", [RuntimeError(NO_THREAD), MemoryError()])
async def test_a_limit_of_the_machine_puts_it_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(tidying, "EVERY_S", 0)
    old, met = made(tmp_path, "old", 5), list[Exception]()

    def remove(files_root: Path, names: Iterable[str]) -> None:
        if not met:
            met.append(error)
            raise error
        old_files.remove(files_root, names)

    monkeypatch.setattr(tidying, "remove", remove)
    async with left_open() as recorder, anyio.create_task_group() as group:
        group.start_soon(Tidying(recorder, tmp_path, HOUR_S).run)
        with anyio.fail_after(30):
            while old.exists():
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert met == [error]


def test_a_drain_tidies_beside_its_work_and_keeps_a_day_unless_told_otherwise(
    tmp_path: Path,
) -> None:
    runoff(tmp_path, "seed")
    attempts = tmp_path / "b.db-files" / "attempts"

    def drained(*options: str) -> int:
        done = runoff(tmp_path, "drain", "--batch-size", "2", *options, "--", "true")
        assert done.returncode in (0, 4), done.stderr
        return len(list(attempts.iterdir()))

    assert drained() == 2
    made(attempts.parent, "younger than a day", 23.9)
    made(attempts.parent, "older than a day", 24.1)
    assert drained() == 5
    assert drained("--keep-files-hours", "0") == 2
    assert runoff(tmp_path, "verify").returncode == 0
    assert runoff(tmp_path, "audit").returncode == 0


@pytest.mark.parametrize("hours", ["-1", "nan", "inf", "soon"])
def test_what_is_no_time_to_keep_files_for_is_refused(tmp_path: Path, hours: str) -> None:
    runoff(tmp_path, "seed")
    assert runoff(tmp_path, "drain", "--keep-files-hours", hours, "--", "true").returncode == 2
