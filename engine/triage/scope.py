"""The scope of a session: what it may touch, and by which policy."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.events import Limits
from engine.triage.policy import Policy, policy_from_json
from projections.sessions import SessionStanding


@dataclass(frozen=True, slots=True)
class Scope:
    """What a session may touch, and by which policy.

    ``is_named_phase``: a person asked for one phase; verdicts, stops and order do not stand in the
    way.  It is asked for every phase of every pick, so it is worked out once.
    """

    session_id: str
    policy: Policy
    limits: Limits
    is_named_phase: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_named_phase", self.limits.phase_id is not None)


def scope_of(session: SessionStanding) -> Scope:
    """The scope of a session that has begun, as its log has it.

    Raises LogUnreadable when its policy cannot be read here.
    """
    assert session.limits is not None, "a session that has begun has limits"
    return Scope(session.session_id, policy_from_json(session.policy_json), session.limits)
