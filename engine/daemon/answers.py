"""Answers: what the daemon says of itself, as ``runoff daemon status --json`` prints it."""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.daemon.resting import Rest
from engine.daemon.settings import Plan, Settings
from projections.board import Board
from projections.days import DAY_US, day_key

State = Literal[
    "starting",
    "running",
    "paused",
    "halted",
    "window_closed",
    "day_budget",
    "server_away",
    "stopping",
]


SERVER_AWAY = (
    "The log's server cannot be reached; outcomes wait, and nothing starts until it is back."
)


class Today(msgspec.Struct, frozen=True, kw_only=True):
    """What was spent on the day, in UTC; ``day`` counts from 1970-01-01."""

    day: int
    attempts: int
    tokens: int
    busy_ms: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How the daemon stands at ``position``.

    ``until_us`` (Unix): when the state ends by itself, None when it does not or nobody can say.
    ``phases``: how many of the backlog stand in which state; ``open_attempts`` how many run now.
    """

    state: State
    sentence: str
    until_us: int | None
    pid: int
    version: str
    started_us: int
    now_us: int
    position: int
    epoch: int
    session_id: str | None
    open_attempts: int
    phases: dict[str, int]
    runs: int
    today: Today
    policy: str
    policy_sha256: str
    settings: Settings


class Pulse(msgspec.Struct, frozen=True, kw_only=True):
    """What a daemon knows of itself, apart from plan and board."""

    pid: int
    version: str
    started_us: int
    now_us: int
    epoch: int
    session_id: str | None
    is_ready: bool
    is_cut_off: bool
    is_stopping: bool


def status_of(pulse: Pulse, plan: Plan, board: Board, rest: Rest | None) -> Status:
    """The status at one pulse."""
    phases: dict[str, int] = {}
    for phase in board.backlog.values():
        phases[phase.state] = phases.get(phase.state, 0) + 1
    state, sentence = state_of(pulse, rest)
    return Status(
        state=state,
        sentence=sentence,
        until_us=rest.until_us if rest is not None and state == rest.cause else None,
        pid=pulse.pid,
        version=pulse.version,
        started_us=pulse.started_us,
        now_us=pulse.now_us,
        position=board.head.pos,
        epoch=pulse.epoch,
        session_id=pulse.session_id,
        open_attempts=sum(p.open_attempt is not None for p in board.backlog.values()),
        phases=phases,
        runs=sum(1 for _ in board.runs.values()),
        today=today_of(board, pulse.now_us),
        policy=plan.policy.label,
        policy_sha256=plan.policy.sha256,
        settings=plan.settings,
    )


def state_of(pulse: Pulse, rest: Rest | None) -> tuple[State, str]:
    """In which state it is, and a sentence about it."""
    if pulse.is_stopping:
        return "stopping", "It was told to stop; running attempts may finish within a bound."
    if pulse.is_cut_off:
        return "server_away", SERVER_AWAY
    if not pulse.is_ready:
        return "starting", "Attempts of a dead engine are being seen to."
    if rest is not None:
        return rest.cause, rest.sentence
    return "running", "Attempts start as soon as there is work that may go."


def today_of(board: Board, now_us: int) -> Today:
    """What was spent on the day that holds ``now_us``."""
    day = board.days.get(day_key(now_us))
    return Today(
        day=now_us // DAY_US,
        attempts=day.attempts if day else 0,
        tokens=day.tokens if day else 0,
        busy_ms=day.busy_ms if day else 0,
    )
