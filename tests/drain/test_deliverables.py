"""Deliverables: files inside the workspace, with what they must contain, and on the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from engine.events import Deliverable
from engine.executors.deliverables import missing_deliverables
from tests.on_disk import names_on_the_disk, needs_proc


def test_deliverables_must_be_files_inside_the_workspace(tmp_path: Path) -> None:
    workspace = tmp_path / "w"
    (workspace / "sub").mkdir(parents=True)
    (workspace / "sub" / "there.py").write_text("def is_even(): ...\n")
    (workspace / "late.py").write_bytes(b" " * (1 << 20) + b"needle")
    (tmp_path / "outside.py").write_text("x")
    (workspace / "way_out").symlink_to(tmp_path)
    (workspace / "link.py").symlink_to("sub/there.py")
    (workspace / "loop").symlink_to("loop")
    os.mkfifo(workspace / "pipe")

    def missing(path: str, *names: str) -> tuple[str, ...]:
        return missing_deliverables(workspace, [Deliverable(path=path, must_contain=names)])

    assert missing("sub/there.py", "is_even") == ()
    assert missing("link.py") == ()
    assert missing("sub/there.py", "is_even", "is_odd") == ("sub/there.py: lacks is_odd",)
    assert missing("late.py", "needle") == ("late.py: lacks needle",)
    for path in (
        "none.py",
        "sub",
        "pipe",
        "loop",
        "",
        "a\0b",
        "../outside.py",
        "sub/../../outside.py",
        "way_out/outside.py",
        str(tmp_path / "outside.py"),
        str(workspace / "late.py"),
        "x" * 5000,
    ):
        assert missing(path) == (path,)


@needs_proc
def test_what_counts_as_there_is_found_after_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A phase is complete by an event that is durable; its deliverables have to be, too."""
    made = tmp_path / "w" / "a" / "b" / "made.py"
    made.parent.mkdir(parents=True)
    made.write_text("x = 1\n")
    names = names_on_the_disk(monkeypatch)
    assert missing_deliverables(tmp_path / "w", [Deliverable(path="a/b/made.py")]) == ()
    assert {made, made.with_name("made.py itself"), made.parent, tmp_path / "w" / "a"} <= names


def test_what_the_disk_does_not_take_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / "made.py").write_text("x = 1\n")
    monkeypatch.setattr(os, "fsync", fail)
    wanted = [Deliverable(path="made.py")]
    assert missing_deliverables(tmp_path, wanted) == ("made.py: cannot be written to the disk",)
