"""Attempts whose engine died: their guardians lived on, or left an outcome, or are lost."""

from __future__ import annotations

import signal
from pathlib import Path

import anyio
from anyio import to_thread

from engine.executors.command import OUTER_MARGIN_S
from engine.executors.outcome import Spec, lost_report, read_report
from engine.executors.port import Report, Spawned
from engine.executors.processes import boot_id, end_marked_processes, end_process, is_alive

POLL_S = 0.05


def guardian_lives(spawned: Spawned) -> bool:
    """Whether this very guardian still runs on this machine, under this boot."""
    return spawned.boot_id == boot_id() and is_alive(spawned.pid, spawned.start_ticks)


def end_guardian(spawned: Spawned) -> bool:
    """Ask a guardian to end its attempt and to write the outcome; false when it is dead."""
    return guardian_lives(spawned) and end_process(spawned.pid, spawned.start_ticks, signal.SIGTERM)


async def await_guardian(spawned: Spawned, limit_s: float = float("inf")) -> bool:
    """Wait until a guardian that is not our child has ended; false after ``limit_s``."""
    with anyio.move_on_after(limit_s):
        while guardian_lives(spawned):  # noqa: ASYNC110  another's child tells us nothing
            await anyio.sleep(POLL_S)
    return not guardian_lives(spawned)


async def take_over(
    spawned: Spawned, attempt_id: str, abandon: anyio.Event | None = None
) -> Report:
    """Stay with an attempt of a dead engine until it has ended, and report as its own would.

    ``abandon``: set it to end the attempt now.  Without an outcome the report says ``lost``, or
    ``abandoned`` when that was asked for, with a duration of 0; and nothing of the attempt is
    left running.  Only for guardians of this machine: ``spawned.host`` is the caller's to check.

    When cancelled, it lets the guardian go on, so that the next engine can take over.
    """
    directory = Path(spawned.directory)
    abandon = abandon or anyio.Event()
    await _until_ended(spawned, _limits_s(directory), abandon)
    if guardian_lives(spawned):
        end_process(spawned.pid, spawned.start_ticks, signal.SIGKILL)
        await await_guardian(spawned, OUTER_MARGIN_S)
    report = await to_thread.run_sync(read_report, directory)
    if report is not None and report.ended != "lost":
        return report
    killed = await to_thread.run_sync(end_marked_processes, attempt_id)
    return lost_report(
        directory,
        reason=report.reason if report else "its engine and its guardian died",
        ended="abandoned" if abandon.is_set() else "lost",
        killed=killed,
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
