"""Which processes belong to a log under test, and how all of them are ended at one stroke."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

MARK = b"RUNOFF_PHASE_FILE="
ATTEMPT = b"RUNOFF_ATTEMPT_ID="
LOOK_MS = 5


def wait_until(holds: Callable[[], bool], limit_s: float, pid: int | None = None) -> bool:
    """Look again and again until it holds, the process ``pid`` has ended, or time is up."""
    until_s, poll = monotonic() + limit_s, select.poll()
    watched = _handle(pid)
    if watched is not None:
        poll.register(watched, select.POLLIN)
    try:
        while not holds():
            if poll.poll(LOOK_MS) or monotonic() >= until_s:
                return holds()
        return True
    finally:
        if watched is not None:
            os.close(watched)


def _handle(pid: int | None) -> int | None:
    if pid is None:
        return None
    with suppress(ProcessLookupError):
        return os.pidfd_open(pid)
    return None


def marked(folder: Path) -> dict[int, str]:
    """Living processes of attempts that keep their files below ``folder``: pid and attempt id."""
    found: dict[int, str] = {}
    start = MARK + os.fsencode(folder) + b"/"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0")
                if any(v.startswith(start) for v in variables) and _lives(int(entry.name)):
                    ids = (v.partition(b"=")[2] for v in variables if v.startswith(ATTEMPT))
                    found[int(entry.name)] = next(ids, b"").decode()
    return found


def guardians(folder: Path) -> list[int]:
    """Living guardians of attempts that keep their files below ``folder``."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                named = any(w.endswith(b"/guardian.py") for w in words)
                if named and (entry / "cwd").readlink().is_relative_to(folder):
                    found.append(int(entry.name))
    return found


def guardian_servers(engine: int) -> list[int]:
    """What the guardians of an engine are forked from."""
    found: list[int] = []
    for pid, parent in _parents():
        with suppress(OSError):
            if parent == engine and b"/guardian.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def _lives(pid: int) -> bool:
    with suppress(OSError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] not in "ZX"
    return False


def below(root: int) -> list[int]:
    """Every descendant of ``root``."""
    parents = dict(_parents())
    found = [root]
    for ancestor in found:
        found += [pid for pid, parent in parents.items() if parent == ancestor]
    return found[1:]


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                yield int(entry.name), int(fields[1])


def kill_tree(root: int, folder: Path) -> None:
    """Everything at once, as when the machine goes: stopped first, so that nobody reacts."""
    seen: set[int] = set()
    while fresh := ({root, *below(root), *guardians(folder), *marked(folder)} - seen):
        for pid in fresh:
            strike(pid, signal.SIGSTOP)
        seen |= fresh
    for pid in seen:
        strike(pid, signal.SIGKILL)


def strike(pid: int, number: signal.Signals) -> None:
    """Signal a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
