"""What would change it, when all are held back by one thing and samples by another."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from engine.audit.facts import Rule
from engine.audit.overview import REST, Example, Next, Overview, answer_of
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

WHY = Rule(rule="cool_down", version=1, policy="p@1")


def seen_from(
    status: SessionStatus | None, *gates: Hindrance, ready: int, **fields: Any
) -> str | None:
    session = (
        SessionView(session_id="s", status=status, because=None, policy="p") if status else None
    )
    phases = {"ready": ready, "breaker_open": 1} if ready else {"breaker_open": 1}
    found = replace(FOUND, session=session, gates=gates, phases=phases)
    return answer_of(replace(found, **fields)).change


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
    assert seen_from("running", BREAKER, BUSY, ready=2, open=1) == "The end of an attempt."


def test_where_no_attempt_is_open_none_has_to_end() -> None:
    """Between the end of one and the next pick, and right before a session ends."""
    assert seen_from("running", ready=2) is None
    cooling = Next(
        what="cool_down", run_id="r", phase_id=None, group=None, sentence="It cooled.", rule=WHY
    )
    left = {"deprioritized": 1}
    assert seen_from("running", ready=0, phases=left, next=cooling) is None
    stopped: dict[str, Any] = {"phases": {"stopped": 2}, "ready": 0}
    assert seen_from("running", open=1, **stopped) == "The end of an attempt."
    assert seen_from("running", **stopped) == REST
    anew = "`runoff drain -- PROGRAM` begins a new session."
    assert seen_from("running", holder=None, **stopped) == anew


def test_no_higher_budget_is_promised_to_what_a_token_cap_of_its_own_may_hold_back() -> None:
    """Budgets are told by the phase alone: which it is decides what helps."""
    spent = Example(run_id="r", phase_id="p q")
    found = replace(FOUND, phases={"over_budget": 3}, examples={"over_budget": spent})
    ended = SessionView(session_id="s", status="ended", because="nothing_eligible", policy="p")
    assert answer_of(replace(found, session=ended)).change == (
        "`runoff why r 'p q'` says what one of them has used up, and what lets it go."
    )


@pytest.mark.parametrize("held", [ACCOUNT, DAY], ids=lambda held: held.kind)
def test_what_is_used_up_is_not_said_to_go_at_the_end_of_a_pause(held: Hindrance) -> None:
    spent: dict[str, Any] = {
        "ready": 0,
        "phases": {"exhausted": 1},
        "examples": {"exhausted": Example(run_id="r", phase_id="p")},
    }
    both = (
        f"`runoff phase requeue r p --why TEXT` gives one of them new attempts. Then: {held.change}"
    )
    assert seen_from("ended", held, **spent) == both
    assert seen_from("running", held, **spent) == both
    assert seen_from("running", held, open=1, **spent) == held.change
    for phases in ({"stopped": 1}, {"ready": 1, "exhausted": 1}):
        spent["phases"] = phases
        assert seen_from("ended", held, **spent) == held.change
