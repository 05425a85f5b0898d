"""Where a session ends, by hand: what a bound or a stop leaves unknown of what was shifted."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from engine.audit.lines import Line
from engine.audit.whatif_found import Found
from engine.audit.whatif_order import Ahead, SessionOrder
from engine.audit.whatif_sessions import Sessions
from engine.audit.whatif_world import World
from engine.events import SessionEnd, SessionEnded, encode
from projections.board import Board
from tests.rules.standings import NOW_US, board, phase, policy, run, scope, session

SHIFTED, TOUCHED, AHEAD, END = 5, 6, 7, 9
ATTEMPTS_MOST = 2
BY_TIME = {"interrupted", "storage", "total_time", "paused", "window_closed"}


def unknown_at_the_end(
    of: Board, ahead: dict[str, Ahead] | None = None, **limits: Any
) -> dict[str, int]:
    """The horizons, where ``b`` was shifted, and ``c`` was touched since then."""
    found = Found()
    world = World(policy(attempts_per_phase_max=ATTEMPTS_MOST), found)
    world.board = of
    bounds = scope(world.policy, workers=1, **limits)
    order = SessionOrder(of, bounds)
    order.shifted, order.touched, order.ahead = {"b": SHIFTED}, {"c": TOUCHED}, ahead or {}
    world.scopes["s"], world.sessions["s"] = bounds, order
    end = SessionEnded(
        session_id="s", because="nothing_eligible", active_ms=1, attempts=1, work_left=0
    )
    Sessions(world).ended(Line(END, NOW_US, "c", None, encode(end), end))
    horizons = found.result(world.policy).horizons
    return {each.run_id: each.pos for each in horizons}


@pytest.mark.parametrize("because", get_args(SessionEnd))
def test_where_time_ended_a_session_what_was_shifted_may_have_come_too_late(
    because: SessionEnd,
) -> None:
    stopped = board(session(status="draining", because=because))
    late = {"b": SHIFTED, "c": TOUCHED}
    assert unknown_at_the_end(stopped) == (late if because in BY_TIME else {})
    assert unknown_at_the_end(stopped, total_ms_max=1) == late


@pytest.mark.parametrize(("batch_size", "is_bounded"), [(6, True), (7, True), (8, False)])
def test_a_phase_that_was_attempted_too_often_makes_no_room_for_others(
    batch_size: int, *, is_bounded: bool
) -> None:
    """A person had it attempted by name, which no limit of attempts keeps from; b has two to go."""
    phases = [
        phase(run_id="a", state="FAILED", attempts=ATTEMPTS_MOST + 3),
        phase(run_id="b", attempts=0),
        phase(run_id="c", state="COMPLETE", attempts=0),
    ]
    running = board(session(attempts=6), run(run_id="a"), run(run_id="b"), run(run_id="c"), *phases)
    found = unknown_at_the_end(running, {"d\np": Ahead("d", AHEAD)}, batch_size=batch_size)
    assert found == {"d": AHEAD} | ({"b": SHIFTED} if is_bounded else {})
