"""The writer's lock: nothing that its own process does may lose it by accident."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from engine.store.lock import WriterLock, holder_of

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
