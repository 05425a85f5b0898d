"""What a person did, and why they said they did it."""

from __future__ import annotations

from engine.events.base import Event


class RunReinstated(Event, frozen=True, kw_only=True, tag="operator.run_reinstated"):
    """A run's verdict was set aside; a new generation begins and it will be sampled again."""

    run_id: str
    generation: int
    by: str
    why: str
