"""The scope of a session: what it may touch, and by which policy."""

from __future__ import annotations

from typing import NamedTuple

from engine.events import Limits
from engine.triage.policy import Policy


class Scope(NamedTuple):
    """What a session may touch, and by which policy."""

    session_id: str
    policy: Policy
    limits: Limits

    @property
    def is_named_phase(self) -> bool:
        """A person asked for one phase: verdicts, stops and order do not stand in the way."""
        return self.limits.phase_id is not None
