"""Reasons: what every decision carries, and which versions of which rules can decide again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from engine.events import Input, Reason
from engine.triage.policy import Policy
from engine.triage.scope import Scope

RULES: Mapping[str, int] = {
    "pick": 1,
    "session_limits": 1,
    "verdict/three-way-1": 1,
    "verdict/classic-1": 1,
    "stops": 1,
    "breaker": 1,
    "cool_down": 1,
    "provider_pause": 1,
    "budget": 1,
}
"""Every rule by name, and the version of it that this program decides by.

A rule whose meaning changes gets the next number, and the old meaning stays callable by the old
one; an audit of decisions under a version that is not here says ``unverifiable``.
"""

Facts = Mapping[str, str | int | float | bool | None]


class Ground(NamedTuple):
    """What a decision stands on.

    ``scope``: the session it is taken for; ``basis``: the last log position that was seen;
    ``now_us``: the writer's time, which the log records beside every event.
    """

    scope: Scope
    basis: int
    now_us: int

    @property
    def policy(self) -> Policy:
        """The thresholds in force."""
        return self.scope.policy

    def reason(self, rule: str, facts: Facts, sentence: str) -> Reason:
        """Why a decision was taken: the rule and its version, what it read, and a sentence."""
        return Reason(
            rule=rule,
            version=RULES[rule],
            policy=self.policy.label,
            basis=self.basis,
            inputs=tuple(Input(name, value) for name, value in facts.items()),
            sentence=sentence,
        )


def is_known(found: Reason) -> bool:
    """Whether this program can decide again what ``found`` gives the reason for."""
    return RULES.get(found.rule) == found.version
