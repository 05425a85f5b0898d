"""What a limit or the disk keeps from being read is not damaged, foreign, missing, or another's."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.audit.connection import connect as audited
from engine.audit.kept_output import KeptOutput
from engine.audit.rows import follow
from engine.errors import StorageFailed, WrongDatabase
from engine.store.anchors import last_anchor
from engine.store.blobs import Blobs
from engine.store.database import check_file, is_missing, open_reader, open_writer
from engine.store.direct import open_direct
from engine.store.hops import connect
from engine.store.location import locate
from engine.store.lock import WriterLock
from tests.drain.test_no_more_files import no_more_files

LIMITS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
READS: tuple[Callable[[Path], object], ...] = (
    lambda folder: last_anchor(folder / "anchors"),
    lambda folder: check_file(locate(f"sqlite:///{folder}/b.db")),
)


def failing(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("number", [*LIMITS, errno.EIO])
def test_it_is_a_failure_below_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object], number: int
) -> None:
    (tmp_path / "b.db").touch()
    monkeypatch.setattr("io.open", failing(number))
    monkeypatch.setattr("builtins.open", failing(number))
    with pytest.raises(StorageFailed, match=os.strerror(number)):
        read(tmp_path)


def test_a_database_that_cannot_be_opened_is_not_a_damaged_one(tmp_path: Path) -> None:
    with no_more_files(), pytest.raises(StorageFailed, match="unable to open database file"):
        follow(locate(f"sqlite:///{tmp_path}/b.db"), {}, lambda what, _pos: pytest.fail(what))


async def test_a_connection_that_was_refused_leaves_no_thread(tmp_path: Path) -> None:
    # Its last answer found no loop any more when the command had ended, and told so at length.
    for _ in range(50):
        with pytest.raises(sqlite3.OperationalError, match="unable to open database file"):
            await connect(f"file:{tmp_path}/nowhere/b.db?mode=ro")
        assert not [each for each in threading.enumerate() if "connection_worker" in each.name]


@pytest.mark.parametrize(
    ("name", "fits"),
    [("n" * 223, True), ("n" * 224, False), ("é" * 112, False)],
)
async def test_a_name_that_leaves_none_to_the_files_beside_it_is_refused(
    tmp_path: Path, name: str, *, fits: bool
) -> None:
    location = locate(f"sqlite:///{tmp_path}/{name}")
    if fits:
        assert is_missing(location)
        await (await open_writer(location, create=True)).close()
        return
    with pytest.raises(WrongDatabase, match=r"is too long: .* has 224 bytes of 223"):
        is_missing(location)


async def test_a_path_is_as_long_as_sqlite_takes_them_or_refused(tmp_path: Path) -> None:
    left = 504 - len(os.fsencode(str(tmp_path))) - len("//b.db")
    folder = tmp_path / ("d" * (left // 2)) / ("d" * (left - left // 2 - 1))
    folder.mkdir(parents=True)
    await (await open_writer(locate(f"sqlite:///{folder}/b.db"), create=True)).close()
    with pytest.raises(WrongDatabase, match=r"is too long: .* has 505 bytes of 504"):
        is_missing(locate(f"sqlite:///{folder}/bb.db"))


async def test_where_no_file_can_be_made_a_log_is_read_unless_something_is_in_flight(
    tmp_path: Path,
) -> None:
    # As on a disk without inodes, where a reader could make the write-ahead log, but not its index.
    location = locate(f"sqlite:///{tmp_path}/b.db")
    await (await open_writer(location, create=True)).close()
    wal, shared = location.path.with_name("b.db-wal"), location.path.with_name("b.db-shm")
    wal.touch()
    shared.symlink_to(tmp_path / "nowhere")
    await (await open_reader(location)).close()
    await open_direct(location).close()
    audited(location.path).close()
    wal.write_bytes(b"in flight")
    with pytest.raises(StorageFailed):
        await open_reader(location)
    with pytest.raises(StorageFailed):
        open_direct(location)
    with pytest.raises(sqlite3.OperationalError):
        audited(location.path)


@pytest.mark.parametrize("number", LIMITS)
def test_at_a_limit_no_output_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    digest = Blobs(tmp_path).put(b"x")
    monkeypatch.setattr("builtins.open", failing(number))
    with pytest.raises(StorageFailed, match=os.strerror(number)):
        Blobs(tmp_path).get(digest)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EIO])
def test_output_that_is_closed_to_this_user_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    # Of a log that is shared with a group: kept output is for its owner alone.
    data = b"x" * 501
    digest = Blobs(tmp_path).put(data)
    stream = {"total_bytes": 501, "head_bytes": 501, "tail_bytes": 0, "digest": digest}
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", failing(number))
        patch.setattr("io.open", failing(number))
        with pytest.raises(StorageFailed, match=f"cannot read .*{digest}: {os.strerror(number)}"):
            Blobs(tmp_path).get(digest)
        with pytest.raises(StorageFailed, match=f"cannot read .*{digest}: {os.strerror(number)}"):
            KeptOutput(tmp_path, lambda what, _pos: pytest.fail(what)).stored(1, "stdout", stream)
        assert Blobs(tmp_path).put(data) == digest, "whoever drains stores it anew"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EIO])
def test_a_lock_that_cannot_be_taken_is_not_held_by_the_last_who_had_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "b.db-lock"
    WriterLock(path, "the last one").close()
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "lockf", failing(number))
        with pytest.raises(StorageFailed, match=f"cannot lock .*b.db-lock: {os.strerror(number)}"):
            WriterLock(path, "runoff test")
    WriterLock(path, "runoff test").close()
