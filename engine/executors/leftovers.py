"""Leftovers: processes of attempts of a log that the log holds no longer open, or never knew.

A guardian ends its whole tree and is itself awaited before an attempt is closed, so there are none
unless somebody killed or stopped a guardian, or put an older log in place.  Whoever holds the log
looks for them before it starts anything, so that no attempt meets the remains of another.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from engine.errors import raise_at_a_limit
from engine.executors.command import attempt_directory
from engine.executors.port import KILL_BUDGET_S
from engine.executors.processes import LINUX, PROC, all_pids, strike

_DIRECTORY_MARK = b"RUNOFF_PHASE_FILE="
_GUARDIAN = b"/guardian.py"
_PAUSE_S = 0.01


class Leftover(NamedTuple):
    """A living process of an attempt that is over; ``directory`` is the name of the attempt's."""

    pid: int
    directory: str


def leftovers(files_root: Path, open_attempts: Iterable[str]) -> list[Leftover]:
    """Processes of attempts below ``files_root`` that are not among ``open_attempts``.

    Known by the mark in their environment, guardians by where they work.  Empty on systems that do
    not tell those of other processes.
    """
    if not LINUX:
        return []
    above = os.fsencode(attempt_directory(files_root, "").parent) + b"/"
    spared = {attempt_directory(files_root, attempt).name for attempt in open_attempts}
    spared_pids = {os.getpid(), os.getppid()}
    found = (_of_process(pid, above) for pid in all_pids() if pid not in spared_pids)
    return [one for one in found if one is not None and one.directory not in spared]


def end_leftovers(
    files_root: Path, open_attempts: Iterable[str], budget_s: float = KILL_BUDGET_S
) -> list[Leftover]:
    """Kill them, again and again until none is left or ``budget_s`` is used up; who they were.

    Blocks that long at most, so call it in a thread.
    """
    spared = tuple(open_attempts)
    ended: dict[int, Leftover] = {}
    until_s = time.monotonic() + budget_s
    while found := leftovers(files_root, spared):
        for number in (signal.SIGSTOP, signal.SIGKILL):
            ended.update((one.pid, one) for one in found if _struck(one, files_root, number))
        if time.monotonic() >= until_s:
            break
        time.sleep(_PAUSE_S)
    return list(ended.values())


def _struck(one: Leftover, files_root: Path, number: signal.Signals) -> bool:
    above = os.fsencode(attempt_directory(files_root, "").parent) + b"/"
    return strike(one.pid, lambda pid: _of_process(pid, above) == one, number)


def _of_process(pid: int, above: bytes) -> Leftover | None:
    """The process as a leftover, if it belongs to any attempt with its files below ``above``."""
    folder = PROC / str(pid)
    try:
        place = _workplace(folder)
        if place is not None and os.fsencode(place).startswith(above):
            return Leftover(pid, _name(os.fsencode(place), above))
        start = _DIRECTORY_MARK + above
        for variable in (folder / "environ").read_bytes().split(b"\0"):
            if variable.startswith(start):
                return Leftover(pid, _name(variable, start))
    except OSError as error:
        raise_at_a_limit(error)
    return None


def _workplace(process: Path) -> Path | None:
    """Where it works, if it is a guardian."""
    words = (process / "cmdline").read_bytes().split(b"\0")
    if any(word.endswith(_GUARDIAN) for word in words):
        return (process / "cwd").readlink()
    return None


def workplace_of(name: str) -> Path | None:
    """The directory called ``name`` in which a guardian works, wherever it is now."""
    for pid in all_pids() if LINUX else ():
        try:
            place = _workplace(PROC / str(pid))
        except OSError as error:
            raise_at_a_limit(error)
            continue
        if place is not None and place.name == name:
            return place
    return None


def _name(text: bytes, above: bytes) -> str:
    return os.fsdecode(text[len(above) :].split(b"/")[0])
