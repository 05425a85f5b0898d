"""The scope of a session: what it may touch, and by which policy."""

from __future__ import annotations

from typing import NamedTuple

from engine.events import Limits
from engine.triage.policy import Policy, policy_from_json
from projections.sessions import SessionStanding


class Scope(NamedTuple):
    """What a session may touch, and by which policy."""

    session_id: str
    policy: Policy
    limits: Limits

    @property
    def is_named_phase(self) -> bool:
        """A person asked for one phase: verdicts, stops and order do not stand in the way."""
        return self.limits.phase_id is not None


def scope_of(session: SessionStanding) -> Scope:
    """The scope of a session that has begun, as its log has it.

    Raises LogUnreadable when its policy cannot be read here.
    """
    assert session.limits is not None, "a session that has begun has limits"
    return Scope(session.session_id, policy_from_json(session.policy_json), session.limits)
