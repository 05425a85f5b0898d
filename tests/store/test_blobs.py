"""Blobs: stored once, whole, whoever stores them at the same time."""

from __future__ import annotations

import errno
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.errors import DiskFull, StorageFailed
from engine.store.blobs import Blobs
from tests.on_disk import names_on_the_disk, needs_proc


def test_many_threads_may_store_the_same_bytes_at_once(tmp_path: Path) -> None:
    blobs, data = Blobs(tmp_path / "blobs"), b"x" * 300_000
    with ThreadPoolExecutor(16) as pool:
        digests = set(pool.map(blobs.put, [data] * 64))
    assert digests == {hashlib.sha256(data).hexdigest()}
    (digest,) = digests
    assert blobs.path(digest).read_bytes() == data
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [blobs.path(digest)]


def test_a_folder_that_cannot_be_made_is_a_storage_failure(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("in the way")
    with pytest.raises(StorageFailed, match="cannot write the output"):
        Blobs(tmp_path / "blobs").put(b"x")


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_what_did_not_find_room_takes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Its beginning would be left for good, on a disk that is full."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"engine.store.blobs.os.{call}", fail)
    with pytest.raises(DiskFull):
        Blobs(tmp_path).put(b"x")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@needs_proc
def test_a_name_is_on_the_disk_as_well_as_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event that names a blob is durable; a power cut must not take the blob's name away."""
    names = names_on_the_disk(monkeypatch)
    root = tmp_path / "files" / "blobs"
    path = Blobs(root).path(Blobs(root).put(b"x"))
    assert {root.parent, root, path.parent, path} <= names


@needs_proc
def test_a_blob_that_another_has_just_stored_is_not_relied_on_before_the_disk_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = Blobs(tmp_path)
    path = blobs.path(blobs.put(b"x"))
    names = names_on_the_disk(monkeypatch)
    blobs.put(b"x")
    assert path in names


@pytest.mark.parametrize("found", [b"", b"y"])
def test_what_is_not_what_its_name_says_is_stored_again(tmp_path: Path, found: bytes) -> None:
    blobs = Blobs(tmp_path)
    path = blobs.path(blobs.put(b"x"))
    path.write_bytes(found)
    assert blobs.get(blobs.put(b"x")) == b"x"
