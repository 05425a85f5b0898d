"""Boards and facts of ended attempts, for what follows from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.events import (
    AnyEvent,
)
from engine.triage.decide import Facts, decisions
from engine.triage.policy import Policy
from engine.triage.scope import Scope
from projections.accounts import AccountStanding
from projections.backlog import PhaseStanding
from projections.board import Board
from projections.breakers import BreakerStanding
from projections.causes import CauseStanding
from projections.fingerprints import FingerprintCount
from projections.run_triage import RunStanding
from projections.sessions import SessionStanding
from tests.rules.standings import (
    board,
    fingerprinted,
    finished,
    ground,
    phase,
    run,
    session,
    silent,
)

Row = (
    PhaseStanding
    | RunStanding
    | SessionStanding
    | FingerprintCount
    | BreakerStanding
    | CauseStanding
    | AccountStanding
)
SILENT = silent()


def a_board(*rows: Row) -> Board:
    """With a run, its phase and a session, unless ``rows`` has others."""
    kinds = {type(row) for row in rows}
    usual: list[Row] = [phase(state="EXECUTING"), run(open=1), session(open=1)]
    return board(*rows, *[row for row in usual if type(row) not in kinds])


def failed(fingerprint: str | None = "f", **fields: Any) -> Facts:
    found = None if fingerprint is None else fingerprinted(fingerprint=fingerprint)
    return Facts(finished(**fields), found)


def of(events: Iterable[AnyEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


def judged(rows: Board, facts: Facts, of_: Policy | Scope | None = None) -> list[AnyEvent]:
    return list(decisions(rows, facts, ground(of_)))
