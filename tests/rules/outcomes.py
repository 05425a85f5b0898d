"""Outcomes as detectors read them: a failure, unless said otherwise."""

from __future__ import annotations

from typing import Any

from engine.detect import Outcome


def outcome(**fields: Any) -> Outcome:
    known: dict[str, Any] = {
        "ended": "exited",
        "succeeded": False,
        "final_state": "FAILED",
        "exit_code": 1,
    }
    return Outcome(**{**known, **fields})
