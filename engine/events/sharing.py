"""Leases: which engine is at which session of a log that several engines share."""

from __future__ import annotations

from engine.events.base import Event


class SessionLeased(Event, frozen=True, kw_only=True, tag="session.leased"):
    """An engine is at a session of a shared log, and renews its lease as long as it lives.

    Until that lapses no other engine may take over the session or its attempts.  ``epoch``: the
    engine's; ``lease_ms``: how long the lease lives without being renewed.
    """

    session_id: str
    epoch: int
    host: str
    lease_ms: int


class SessionLapsed(Event, frozen=True, kw_only=True, tag="session.lapsed"):
    """The lease on a session ran out, or its engine was proved dead, and another engine noticed.

    From here on the engine of ``epoch`` may append nothing.  ``host``: where it ran, empty when its
    lease was gone altogether.  ``noticed_by``: the epoch of the
    engine that noticed; ``proved``: whether it saw that the process is gone, on the same machine.
    """

    session_id: str
    epoch: int
    host: str
    noticed_by: int
    proved: bool
