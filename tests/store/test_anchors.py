"""Anchors outlive crashes, and a log older than them is refused by its writer."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from engine.errors import LogUnreadable, StorageFailed
from engine.events import Head
from engine.store.anchoring import APART_S, Anchoring
from engine.store.anchors import Anchors, check_against, last_anchor, parse_anchor, set_aside
from engine.store.database import open_reader, open_writer
from engine.store.location import locate

HASH = bytes(range(32))


def test_the_newest_whole_line_counts(tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    assert last_anchor(path) is None
    anchors = Anchors(path)
    anchors.write(Head(1, HASH))
    anchors.write(Head(7, HASH))
    anchors.close()
    assert last_anchor(path) == Head(7, HASH)


def test_a_line_that_a_crash_cut_short_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    path.write_bytes(b"1 " + HASH.hex().encode() + b"\n2 abc")
    assert last_anchor(path) == Head(1, HASH)
    anchors = Anchors(path)
    anchors.write(Head(3, HASH))
    anchors.close()
    assert path.read_bytes().splitlines() == [
        b"1 " + HASH.hex().encode(),
        b"3 " + HASH.hex().encode(),
    ]


@pytest.mark.parametrize("whole", [0, 1, 100])
def test_half_a_line_is_taken_back_and_nothing_else(tmp_path: Path, whole: int) -> None:
    path = tmp_path / "anchors"
    lines = "".join(f"{pos} {HASH.hex()}\n" for pos in range(1, whole + 1)).encode()
    path.write_bytes(lines + b"7 abc")
    assert last_anchor(path) == (Head(whole, HASH) if whole else None)
    Anchors(path).close()
    assert path.read_bytes() == lines
    Anchors(path).close()
    assert path.read_bytes() == lines


def test_a_long_file_that_holds_no_line_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    path.write_bytes(b"x" * 10_000)
    Anchors(path).close()
    assert path.read_bytes() == b"x" * 10_000


@pytest.mark.parametrize("text", [b"precious", b"1 of 2", b"a line\nand half", b"a line\n12"])
def test_what_are_no_anchors_is_not_cut(tmp_path: Path, text: bytes) -> None:
    # Behind a link of that name it is a file of somebody else's.
    path = tmp_path / "anchors"
    path.write_bytes(text)
    with pytest.raises(LogUnreadable, match="holds a line that is no anchor"):
        Anchors(path)
    assert path.read_bytes() == text


def test_an_anchor_is_given_out_when_the_disk_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    path = tmp_path / "anchors"

    def sync(_descriptor: int) -> None:
        synced.append(path.read_bytes())

    monkeypatch.setattr(os, "fsync", sync)
    anchors = Anchors(path)
    anchors.write(Head(1, HASH))
    anchors.close()
    assert synced == [f"1 {HASH.hex()}\n".encode()]


def test_anchors_of_a_log_that_is_gone_are_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    assert set_aside(path, 5) is None
    path.write_bytes(b"1 " + HASH.hex().encode() + b"\n")
    kept = set_aside(path, 5)
    assert kept == tmp_path / "anchors.before-5"
    assert kept is not None
    assert last_anchor(kept) == Head(1, HASH)
    assert not path.exists()


@pytest.mark.parametrize("digest", ["", "ab", HASH.hex() + "00"])
def test_a_hash_has_its_length(tmp_path: Path, digest: str) -> None:
    with pytest.raises(LogUnreadable, match="no anchor"):
        parse_anchor(f"1 {digest}".encode(), tmp_path / "anchors")


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    path.write_bytes(b"hello\n")
    with pytest.raises(LogUnreadable, match="no anchor"):
        last_anchor(path)


async def test_an_older_copy_of_a_log_is_told_by_its_anchors(tmp_path: Path) -> None:
    place = locate(f"sqlite:///{tmp_path}/b.db")
    await (await open_writer(place, create=True)).close()
    anchors = Anchors(place.beside("anchors"))
    anchors.write(Head(5, HASH))
    anchors.close()
    reader = await open_reader(place)
    try:
        with pytest.raises(LogUnreadable, match="older than its anchors"):
            await check_against(place.beside("anchors"), reader)
        await check_against(place.beside("no anchors"), reader)
    finally:
        await reader.close()


async def test_commits_close_by_share_an_anchor_and_the_last_one_has_its_own(
    tmp_path: Path,
) -> None:
    path = tmp_path / "anchors"
    anchoring = Anchoring(Anchors(path), Head(0, HASH))
    began_s = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(anchoring.run)
        anchoring.committed(Head(1, HASH))
        while last_anchor(path) is None:
            await anyio.lowlevel.checkpoint()
        for pos in range(2, 20):
            anchoring.committed(Head(pos, HASH))
            await anyio.lowlevel.checkpoint()
        anchoring.finish()
    took_s = anyio.current_time() - began_s
    assert last_anchor(path) == Head(19, HASH)
    assert len(path.read_bytes().splitlines()) <= 2 + took_s / APART_S


@pytest.mark.parametrize(("anchored", "head", "written"), [(0, 7, 7), (3, 7, 7), (7, 7, None)])
async def test_what_an_earlier_writer_left_without_an_anchor_gets_one_at_once(
    tmp_path: Path, anchored: int, head: int, written: int | None
) -> None:
    path = tmp_path / "anchors"
    if anchored:
        before = Anchors(path)
        before.write(Head(anchored, HASH))
        before.close()
    size = path.stat().st_size if anchored else 0
    anchoring = Anchoring(Anchors(path), Head(head, HASH))
    async with anyio.create_task_group() as group:
        group.start_soon(anchoring.run)
        with anyio.fail_after(10):
            while last_anchor(path) != Head(head, HASH):
                await anyio.lowlevel.checkpoint()
        anchoring.finish()
    assert (path.stat().st_size > size) == (written is not None)


async def test_an_empty_log_needs_no_anchor(tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    anchoring = Anchoring(Anchors(path), Head(0, bytes(32)))
    async with anyio.create_task_group() as group:
        group.start_soon(anchoring.run)
        anchoring.finish()
    assert path.read_bytes() == b""


async def test_what_is_committed_is_anchored_before_long(tmp_path: Path) -> None:
    path = tmp_path / "anchors"
    anchoring = Anchoring(Anchors(path), Head(0, HASH))
    async with anyio.create_task_group() as group:
        group.start_soon(anchoring.run)
        for pos in (1, 2):
            anchoring.committed(Head(pos, HASH))
            with anyio.fail_after(30):
                while last_anchor(path) != Head(pos, HASH):
                    await anyio.lowlevel.checkpoint()
        anchoring.finish()


@pytest.mark.parametrize("way", ["removed", "replaced", "moved away"])
def test_anchors_that_bear_their_name_no_more_are_not_written_to(tmp_path: Path, way: str) -> None:
    path = tmp_path / "anchors"
    anchors = Anchors(path)
    anchors.write(Head(1, HASH))
    if way == "removed":
        path.unlink()
    else:
        path.rename(tmp_path / "elsewhere")
    if way == "replaced":
        path.touch()
    with pytest.raises(StorageFailed, match="was replaced or removed while it was written to"):
        anchors.write(Head(2, HASH))
    anchors.close()


def test_an_anchor_of_which_the_disk_took_a_part_is_written_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    whole = os.write

    def short(descriptor: int, data: bytes) -> int:
        taken.append(whole(descriptor, data[:40]))
        return taken[-1]

    anchors = Anchors(tmp_path / "anchors")
    monkeypatch.setattr(os, "write", short)
    anchors.write(Head(1, HASH))
    anchors.write(Head(2, HASH))
    monkeypatch.undo()
    anchors.close()
    assert max(taken) == 40
    assert last_anchor(tmp_path / "anchors") == Head(2, HASH)
    assert (tmp_path / "anchors").read_bytes().count(b"\n") == 2
