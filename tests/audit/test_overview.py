"""What would change it, when all are held back by one thing and samples by another."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from engine.audit.overview import Example, Overview, answer_of
from engine.audit.session_view import SessionView
from engine.triage.hindrance import Hindrance, Kind, Level
from projections.sessions import SessionStatus


def gate(of: Level, kind: Kind) -> Hindrance:
    return Hindrance(kind=kind, of=of, text=f"{kind} is so", change=f"Change {kind}.")


BREAKER, ACCOUNT = gate("samples", "breaker_open"), gate("account", "account_paused")
BUSY, DAY = gate("session", "workers_full"), gate("session", "day_budget")
FOUND = Overview(
    position=9,
    now_us=0,
    sentence="",
    change=None,
    session=None,
    holder="runoff daemon, pid 7 on h",
    open=0,
    open_attempts=(),
    seen_from="session",
    phases={"ready": 2, "breaker_open": 1},
    unfinished=3,
    examples={},
    gates=(),
    next=None,
)


def seen_from(status: SessionStatus | None, *gates: Hindrance, ready: int) -> str | None:
    session = (
        SessionView(session_id="s", status=status, because=None, policy="p") if status else None
    )
    phases = {"ready": ready, "breaker_open": 1} if ready else {"breaker_open": 1}
    return answer_of(replace(FOUND, session=session, gates=gates, phases=phases)).change


@pytest.mark.parametrize("ready", [0, 2])
@pytest.mark.parametrize("status", ["running", "ended", None])
@pytest.mark.parametrize("held", [ACCOUNT, DAY], ids=lambda held: held.kind)
def test_what_holds_all_back_is_named_before_what_holds_samples_back(
    status: SessionStatus | None, held: Hindrance, ready: int
) -> None:
    assert seen_from(status, BREAKER, held, ready=ready) == held.change
    assert seen_from(status, BREAKER, BUSY, held, ready=ready) == held.change


def test_what_holds_samples_back_is_named_where_nothing_else_is_ready() -> None:
    assert seen_from("running", BREAKER, ready=0) == BREAKER.change
    assert seen_from("running", BREAKER, BUSY, ready=0) == BREAKER.change
    assert seen_from("running", BREAKER, BUSY, ready=2) == "The end of an attempt."


def test_no_higher_budget_is_promised_to_what_a_token_cap_of_its_own_may_hold_back() -> None:
    """Budgets are told by the phase alone: which it is decides what helps."""
    spent = Example(run_id="r", phase_id="p q")
    found = replace(FOUND, phases={"over_budget": 3}, examples={"over_budget": spent})
    ended = SessionView(session_id="s", status="ended", because="nothing_eligible", policy="p")
    assert answer_of(replace(found, session=ended)).change == (
        "`runoff why r 'p q'` says what one of them has used up, and what lets it go."
    )
