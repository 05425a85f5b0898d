"""Why a session starts nothing more, and what it needs to go on, in words."""

from __future__ import annotations

from engine.events import SessionEnd

ENDS: dict[SessionEnd, str] = {
    "nothing_eligible": "nothing was left that it could attempt",
    "held_back": "an open breaker held back all that was left",
    "run_budgets": "budgets of runs or phases held back all that was left",
    "batch_size": "it had made as many attempts as it may",
    "total_time": "its time was up",
    "zero_yield_streak": "too many attempts in a row yielded no usage",
    "interrupted": "it was interrupted",
    "storage": "the log could not be written",
    "session_budget": "its budget was used up",
    "day_budget": "the day's budget was used up",
    "paused": "a person paused the daemon",
    "window_closed": "the daemon's schedule window closed",
}
"""Why a session starts nothing more, as the rest of a sentence."""

LARGER: dict[SessionEnd, str] = {
    "batch_size": "--batch-size",
    "total_time": "--max-total-minutes",
    "zero_yield_streak": "--max-consecutive-zero-yield",
}
"""The option that must be raised before a session that ended so can go on: it keeps its counts."""

HIGHER: dict[SessionEnd, str] = {
    "session_budget": "with higher budgets of the session",
    "day_budget": "with higher budgets of the day, or on another day,",
    "run_budgets": "with higher budgets of runs and phases",
}
"""What a session whose budgets ended it so needs to go on: it keeps what it spent."""
