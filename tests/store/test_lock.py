"""The writer's lock: nothing that its own process does may lose it by accident."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import StorageFailed
from engine.store.lock import WriterLock, holder_of
from engine.store.reserve import Reserve

TAKE = """
import sys
from pathlib import Path
from engine.errors import LogHeld
from engine.store.lock import WriterLock
try:
    WriterLock(Path(sys.argv[1]), "another")
except LogHeld:
    sys.exit(75)
"""
ROOT = Path(__file__).parents[2]


def taken_by_another(path: Path) -> bool:
    command = [sys.executable, "-c", TAKE, str(path)]
    return subprocess.run(command, cwd=ROOT, check=False, timeout=30).returncode == 0


def test_asking_who_holds_the_lock_does_not_lose_it(tmp_path: Path) -> None:
    # Closing any descriptor of a file drops every POSIX lock that the process has on it.
    path = tmp_path / "b.db-lock"
    lock = WriterLock(path, "runoff test")
    assert "runoff test" in (holder_of(path) or "")
    assert not taken_by_another(path)
    lock.close()
    assert holder_of(path) == ""
    assert taken_by_another(path)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_file_behind_the_name_of_the_lock_or_the_reserve_keeps_what_it_holds(
    tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    # Whoever may write to the folder could have it point at any file of who runs the engine.
    accounts = tmp_path / "accounts"
    accounts.write_text("root:x:0:0\n")
    lock, reserve = tmp_path / "b.db-lock", tmp_path / "b.db-reserve"
    link(accounts, lock)
    link(accounts, reserve)
    with pytest.raises(StorageFailed, match="-lock is a link to another file"):
        WriterLock(lock, "runoff test")
    with pytest.raises(StorageFailed, match="-reserve is a link to another file"):
        Reserve(reserve).hold()
    assert accounts.read_text() == "root:x:0:0\n"


def test_a_link_to_nothing_makes_no_file_elsewhere(tmp_path: Path) -> None:
    lock, elsewhere = tmp_path / "b.db-lock", tmp_path / "elsewhere"
    lock.symlink_to(elsewhere)
    with pytest.raises(StorageFailed, match="is a link to another file"):
        WriterLock(lock, "runoff test")
    assert not elsewhere.exists()
    lock.unlink()
    WriterLock(lock, "runoff test").close()
