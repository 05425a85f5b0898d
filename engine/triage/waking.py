"""Waking: when a session that can start nothing now may do so without anybody's doing."""

from __future__ import annotations

from collections.abc import Iterator

from engine.triage.breaker import next_probe_us, open_breakers
from engine.triage.scope import Scope
from engine.triage.select import Queue, paused_until_us
from projections.board import Board

LONGEST_WAIT_S = 60.0
"""We wait by a clock that counts seconds, for moments of a clock that people may set."""


def wait_s(due_us: int | None, now_us: int) -> float:
    """How long to wait for a moment at ``due_us``, or for none, before looking again."""
    if due_us is None:
        return LONGEST_WAIT_S
    return min(LONGEST_WAIT_S, max(0, due_us - now_us) / 1e6)


def wakes_us(board: Board, queue: Queue, scope: Scope, since_us: int) -> int | None:
    """The first moment after ``since_us`` (Unix microseconds) that may change a pick, or None.

    ``since_us`` is when the last pick was asked for.  A moment that has passed meanwhile is named,
    too, so that nothing falls between a pick and the wait after it.
    """
    return min(
        (us for us in _moments(board, queue, scope, since_us) if us > since_us), default=None
    )


def _moments(board: Board, queue: Queue, scope: Scope, since_us: int) -> Iterator[int]:
    paused_us = paused_until_us(board, scope, since_us)
    if paused_us is not None:
        yield paused_us
    cools_us = queue.cools_next_us()
    if cools_us is not None:
        yield cools_us
    if not scope.policy.breaker_runs:
        return
    for breaker in open_breakers(board.breakers.values()):
        due_us = None if breaker.probe else next_probe_us(breaker, scope.policy)
        if due_us is not None:
            yield due_us
