"""What a limit or the disk keeps from being read is not damaged, foreign, missing, or another's."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.audit.rows import follow
from engine.errors import StorageFailed
from engine.store.anchors import last_anchor
from engine.store.blobs import Blobs
from engine.store.database import check_file
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


@pytest.mark.parametrize("number", LIMITS)
def test_at_a_limit_no_output_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    digest = Blobs(tmp_path).put(b"x")
    monkeypatch.setattr("builtins.open", failing(number))
    with pytest.raises(StorageFailed, match=os.strerror(number)):
        Blobs(tmp_path).get(digest)


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
