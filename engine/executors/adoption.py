"""Attempts whose engine died: their guardians lived on, or left an outcome, or are lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from socket import gethostname

import anyio
from anyio import to_thread

from engine.errors import LogHeld
from engine.executors.command import OUTER_MARGIN_S
from engine.executors.holder import seen_from_here
from engine.executors.outcome import GUARDIAN_LOCK, Spec, lost_report, read_report
from engine.executors.port import Report, Spawned
from engine.executors.processes import (
    boot_id,
    end_marked_processes,
    end_process,
    handle_of,
    is_alive,
    is_locked,
)

POLL_S = 0.05

DIED = "its engine and its guardian died"
RESTARTED = "the machine was started again before the attempt ended"


def is_of_here(spawned: Spawned) -> bool:
    """Whether life and death of the guardian can be told from here.

    On the machine that started it, whatever that calls itself today; and wherever the lock is
    that it held, as in another container with the same files.
    """
    if spawned.host == gethostname() or spawned.boot_id == boot_id():
        return True
    return _lock_of(spawned).is_file()


def is_known_here(host: str, boot: str, directory: str) -> bool:
    """Whether life and death can be told from here where other machines start attempts, too.

    Another machine may have this one's name; so it must be this boot of it, or one that left the
    guardian's lock here.
    """
    if host != gethostname():
        return False
    return boot == boot_id() or (Path(directory) / GUARDIAN_LOCK).is_file()


def guardian_lives(spawned: Spawned) -> bool:
    """Whether this very guardian still runs: by the lock that it holds, or by its process."""
    if is_locked(_lock_of(spawned)):
        return True
    return spawned.boot_id == boot_id() and is_alive(spawned.pid, spawned.start_ticks)


def _lock_of(spawned: Spawned) -> Path:
    return Path(spawned.directory) / GUARDIAN_LOCK


def end_guardian(spawned: Spawned) -> bool:
    """Ask a guardian to end its attempt and to write the outcome; false when it is dead.

    One that was stopped is woken up to do so.
    """
    told = guardian_lives(spawned) and end_process(spawned.pid, spawned.start_ticks, signal.SIGTERM)
    if told:  # by now it may have ended, which is as well
        end_process(spawned.pid, spawned.start_ticks, signal.SIGCONT)
    return told


async def await_guardian(spawned: Spawned, limit_s: float = float("inf")) -> bool:
    """Wait until a guardian that is not our child has ended; false after ``limit_s``."""
    with anyio.move_on_after(limit_s):
        if spawned.boot_id == boot_id():
            await _until_ended_here(spawned)
        while guardian_lives(spawned):  # noqa: ASYNC110  of another container only a lock tells
            await anyio.sleep(POLL_S)
    return not guardian_lives(spawned)


async def _until_ended_here(spawned: Spawned) -> None:
    """Until the process of that pid and start has ended, if there is one."""
    handle = handle_of(spawned.pid, spawned.start_ticks)
    if handle is None:
        return
    try:
        await anyio.wait_readable(handle)
    finally:
        os.close(handle)


async def take_over(
    spawned: Spawned, attempt_id: str, abandon: anyio.Event | None = None
) -> Report:
    """Stay with an attempt of a dead engine until it has ended, and report as its own would.

    ``abandon``: set it to end the attempt now.  Without an outcome the report says ``lost``, or
    ``abandoned`` when that was asked for, with a duration of 0; and nothing of the attempt is
    left running.  Only where ``is_of_here``, which is the caller's to check.  Raises LogHeld for
    a guardian that overstays its limits and cannot be ended from here.

    When cancelled, it lets the guardian go on, so that the next engine can take over.
    """
    spawned = seen_from_here(spawned)
    directory = Path(spawned.directory)
    abandon = abandon or anyio.Event()
    await _until_ended(spawned, _limits_s(directory), abandon)
    if guardian_lives(spawned):
        end_process(spawned.pid, spawned.start_ticks, signal.SIGKILL)
        if not await await_guardian(spawned, OUTER_MARGIN_S):
            raise _out_of_reach(spawned, attempt_id)
    report = await to_thread.run_sync(read_report, directory)
    if report is not None and report.ended != "lost":
        return report
    killed = await to_thread.run_sync(end_marked_processes, attempt_id)
    return lost_report(
        directory,
        reason=f"lost: {report.reason if report else _why_lost(spawned)}",
        ended="abandoned" if abandon.is_set() else "lost",
        killed=killed,
    )


def _why_lost(spawned: Spawned) -> str:
    return DIED if spawned.boot_id == boot_id() else RESTARTED


def _out_of_reach(spawned: Spawned, attempt_id: str) -> LogHeld:
    return LogHeld(
        f"the attempt {attempt_id} still runs, and cannot be ended from here.",
        remedy=f"end process {spawned.pid} on {spawned.host}, then start again.",
    )


def _limits_s(directory: Path) -> tuple[float, float]:
    """How long the attempt may take in all, and how long its ending alone."""
    try:
        spec = Spec.read(directory)
    except (OSError, ValueError):
        return 0.0, 0.0
    ending_s = spec.grace_s + spec.kill_budget_s + OUTER_MARGIN_S
    return spec.timeout_s + ending_s, ending_s


async def _until_ended(
    spawned: Spawned, limits_s: tuple[float, float], abandon: anyio.Event
) -> None:
    limit_s, ending_s = limits_s
    with anyio.move_on_after(limit_s) as limit:
        async with anyio.create_task_group() as group:
            group.start_soon(_end_when_told, spawned, abandon, limit, ending_s)
            await await_guardian(spawned)
            group.cancel_scope.cancel()


async def _end_when_told(
    spawned: Spawned, abandon: anyio.Event, limit: anyio.CancelScope, ending_s: float
) -> None:
    await abandon.wait()
    end_guardian(spawned)
    limit.deadline = min(limit.deadline, anyio.current_time() + ending_s)
