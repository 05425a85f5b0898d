"""What a person did, and why they said they did it."""

from __future__ import annotations

from engine.events.base import Event


class RunReinstated(Event, frozen=True, kw_only=True, tag="operator.run_reinstated"):
    """A run's verdict was set aside; a new generation begins and it will be sampled again."""

    run_id: str
    generation: int
    by: str
    why: str


class BreakerReset(Event, frozen=True, kw_only=True, tag="operator.breaker_reset"):
    """A circuit breaker was closed by hand: unsampled runs go on.

    ``session_id``: the session that had opened it.
    """

    session_id: str
    fingerprint: str
    by: str
    why: str


class AccountResumed(Event, frozen=True, kw_only=True, tag="operator.account_resumed"):
    """The pause of a provider's account was ended by hand."""

    account: str
    by: str
    why: str
