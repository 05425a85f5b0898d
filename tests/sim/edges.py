"""Where the simulation stands in for the machine, and where it looks over the engine's shoulder."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio

from engine.drain import loop, recovery
from engine.executors.begun import Trace
from engine.executors.port import Report, Spawned
from engine.triage.scope import Scope
from engine.triage.select import Choice, Queue, pick_by_scan
from projections.board import Board
from tests.sim.processes import BOOT, Machine

SCANNED_EVERY = 6
"""Picks of a queue; a scan takes ten times as long as the pick that it is compared with."""

MACHINE: ContextVar[Machine] = ContextVar("MACHINE")
"""The machine of the session that is under way."""


class Violated(Exception):
    """An invariant that shows inside the engine; its text is that of a violation."""


class WatchedQueue(Queue):
    """The engine's queue, held against the scan of everything now and then."""

    def __init__(self, board: Board, scope: Scope) -> None:
        super().__init__(board, scope)
        self._whole = board
        self._session = scope
        self._picks = 0

    def pick(self, now_us: int) -> Choice | None:
        choice = super().pick(now_us)
        self._picks += 1
        if self._picks % SCANNED_EVERY == 1:
            scanned = pick_by_scan(self._whole, self._session, now_us)
            if choice != scanned:
                told = [c and (c.phase.run_id, c.phase.phase_id) for c in (choice, scanned)]
                raise Violated(f"S19: the queue picks {told[0]}, a scan {told[1]}")
        return choice


def _guardian_lives(spawned: Spawned) -> bool:
    return MACHINE.get().guardian_lives(spawned)


async def _take_over(
    spawned: Spawned, attempt_id: str, abandon: anyio.Event | None = None
) -> Report:
    return await MACHINE.get().take_over(spawned, attempt_id, abandon)


def _trace_of(directory: Path, *, are_files_here: bool) -> Trace:
    return MACHINE.get().trace_of(directory)


async def _report_of(
    _directory: Path, attempt_id: str, lost: str | None, _abandon: anyio.Event
) -> Report:
    return await MACHINE.get().report_of(attempt_id, lost)


@contextmanager
def installed() -> Generator[None]:
    """While it lasts, engines find simulated guardians, and their queues are watched."""
    places: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        (
            recovery.__dict__,
            {
                "guardian_lives": _guardian_lives,
                "take_over": _take_over,
                "trace_of": _trace_of,
                "report_of": _report_of,
                "boot_id": lambda: BOOT,
            },
        ),
        (loop.__dict__, {"Queue": WatchedQueue}),
    )
    before = [{name: names[name] for name in replaced} for names, replaced in places]
    try:
        for names, replaced in places:
            names.update(replaced)
        yield
    finally:
        for (names, _), kept in zip(places, before, strict=True):
            names.update(kept)
