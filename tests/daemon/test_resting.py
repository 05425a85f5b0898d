"""Which session a daemon goes on with, where others are at the same log."""

from __future__ import annotations

import pytest

from engine.daemon.resting import session_to_go_on
from engine.daemon.settings import Settings, plan_of
from engine.triage.policy import POLICIES
from projections.sessions import SessionStanding, SessionStatus
from tests.rules.standings import board, session

PLAN = plan_of(Settings(), POLICIES["default"])
HERE, ELSEWHERE, HEIR = "here", "elsewhere", 7


def living(epoch: int, host: str) -> SessionStanding:
    return session(session_id=f"of-{epoch}", leased_by=epoch, host=host, limits=PLAN.limits)


@pytest.mark.parametrize(
    ("left", "others", "goes_on"),
    [
        # Nothing of it is open: wherever it was, all of its room is free.
        ({"host": HERE}, [], True),
        ({"host": ELSEWHERE}, [], True),
        ({"host": HERE, "heir": HEIR}, [living(HEIR, HERE)], True),
        # What is open can be seen to from here, and nobody here does.
        ({"host": HERE, "open": 1}, [], True),
        ({"host": HERE, "open": 1, "heir": HEIR}, [living(HEIR, ELSEWHERE)], True),
        ({"host": HERE, "open": 1, "heir": HEIR}, [living(8, HERE)], True),
        ({"host": HERE, "open": 1}, [session(session_id="over", host=HERE)], True),
        # It is with an engine of this host, or elsewhere.
        ({"host": HERE, "open": 1, "heir": HEIR}, [living(HEIR, HERE)], False),
        ({"host": ELSEWHERE, "open": 1}, [], False),
        ({"host": ELSEWHERE, "open": 1, "heir": HEIR}, [living(HEIR, ELSEWHERE)], False),
    ],
)
def test_a_session_that_was_left_is_gone_on_with_where_its_room_is_free_or_can_be_freed(
    left: dict[str, object], others: list[SessionStanding], goes_on: bool
) -> None:
    lost = session(status="lost", limits=PLAN.limits, **left)
    found = session_to_go_on(board(lost, *others), PLAN, frozenset(), HERE)
    assert found == (lost if goes_on else None)


@pytest.mark.parametrize("status", ["running", "draining", "ended"])
def test_only_ones_own_session_is_gone_on_with_before_it_is_lost(status: SessionStatus) -> None:
    rows = board(session(status=status, limits=PLAN.limits, host=HERE))
    assert session_to_go_on(rows, PLAN, frozenset(), HERE) is None
    assert session_to_go_on(rows, PLAN, frozenset({"s"}), HERE) is not None
    assert session_to_go_on(rows, PLAN) is not None
