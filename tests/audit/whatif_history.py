"""Short histories made by hand, line by line, and what a what-if says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from engine.audit.lines import Line
from engine.audit.whatif import walked
from engine.audit.whatif_result import WhatIf
from engine.events import (
    AnyEvent,
    PhaseRegistered,
    PolicyAdopted,
    RunRegistered,
    SessionDraining,
    SessionEnd,
    SessionEnded,
    SessionResumed,
    SessionStarted,
)
from engine.store.blobs import MemoryBlobs
from engine.triage.policy import Policy
from tests.harness.backlogs import queued
from tests.rules import standings
from tests.rules.standings import NOW_US, boundary, fingerprinted, finished, limits, started

OTHERWISE = standings.policy(order_tiers=False)
"""Picks as every policy here does, but nobody knows that: the order is held against the record."""
WELL: dict[str, Any] = {"ending": "succeeded", "final_state": "COMPLETE", "yield_events": 1}


class History:
    """A log that is written by hand, a command at a time; the first session is ``s1``."""

    def __init__(self, recorded: Policy, *phases: AnyEvent, **bounds: Any) -> None:
        self._recorded, self._bounds = recorded, bounds
        self._commands: list[list[Line]] = []
        self._now_us, self._pos, self._sessions = NOW_US, 0, 0
        for run_id in dict.fromkeys(getattr(each, "run_id", "") for each in phases):
            self.add(RunRegistered(run_id=run_id, origin="test", state="NEW"))
        for each in phases:
            self.add(each)
        self.begin()

    def add(self, *events: AnyEvent, after_us: int = 1000) -> int:
        """One command; the position of its first event."""
        self._now_us += after_us
        first = self._pos + 1
        lines = [
            Line(pos, self._now_us, f"c{first}", None, "", event)
            for pos, event in enumerate(events, first)
        ]
        self._pos += len(lines)
        self._commands.append(lines)
        return first

    @property
    def session_id(self) -> str:
        return f"s{self._sessions}"

    def begin(self) -> None:
        """Another session under the same policy and bounds."""
        self._sessions += 1
        of, name = self._recorded, self.session_id
        adopted = PolicyAdopted(
            session_id=name, policy=of.label, policy_sha256=of.sha256, policy_json=of.json
        )
        begun = SessionStarted(session_id=name, executor="x", limits=limits(**self._bounds))
        self.add(adopted, begun)

    def start(self, attempt_id: str, run_id: str, phase_id: str = "p", **fields: Any) -> int:
        ids = {"run_id": run_id, "phase_id": phase_id, "session_id": self.session_id}
        return self.add(started(attempt_id=attempt_id, **ids, **fields))

    def end(self, attempt_id: str, run_id: str, phase_id: str = "p", **fields: Any) -> int:
        """``by``: the fingerprint of its failure; ``limit``: that of a provider that ended it."""
        by, limit = fields.pop("by", None), fields.pop("limit", None)
        after_us = fields.pop("after_us", 1000)
        ids = {
            "run_id": run_id,
            "phase_id": phase_id,
            "session_id": self.session_id,
            "attempt_id": attempt_id,
        }
        events: list[AnyEvent] = [finished(**ids, **fields)]
        if by is not None:
            events.append(fingerprinted(fingerprint=by, **ids))
        if limit is not None:
            events.append(boundary(kind=limit, **ids))
        return self.add(*events, after_us=after_us)

    def go_on(self, recorded: Policy | None = None, **bounds: Any) -> None:
        """The session goes on by other bounds, or under another policy."""
        of, name = recorded or self._recorded, self.session_id
        adopted = PolicyAdopted(
            session_id=name, policy=of.label, policy_sha256=of.sha256, policy_json=of.json
        )
        self.add(adopted, SessionResumed(session_id=name, executor="x", limits=limits(**bounds)))

    def drain(self, because: SessionEnd) -> int:
        """The session starts nothing more."""
        why = standings.because("session_limits", "")
        return self.add(SessionDraining(session_id=self.session_id, because=because, reason=why))

    def close(
        self, because: SessionEnd = "nothing_eligible", *, active_ms: int = 1, after_us: int = 1000
    ) -> int:
        """The session ends, for want of work."""
        ended = SessionEnded(
            session_id=self.session_id,
            because=because,
            active_ms=active_ms,
            attempts=1,
            work_left=0,
        )
        return self.add(ended, after_us=after_us)

    def under(self, other: Policy) -> WhatIf:
        return walked(self._commands, other, MemoryBlobs().get)


def free(run_id: str, *phases: str) -> list[PhaseRegistered]:
    """Phases of a run that wait for none of the others."""
    return [replace(queued(run_id, phase), order="free") for phase in phases]


def runs(*names: str) -> list[AnyEvent]:
    """A run of one phase for each name."""
    return [queued(name, "p") for name in names]


def not_made(found: WhatIf) -> Mapping[str, str]:
    return {each.attempt_id: each.because for each in found.not_made}


def horizons(found: WhatIf) -> list[tuple[str, int, str]]:
    return [(each.run_id, each.pos, each.unknown) for each in found.horizons]
