"""What a what-if has found so far: attempts left out, decisions that differ, horizons, notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from engine.audit.whatif_result import Differing, Horizon, NotMade, WhatIf
from engine.events import AttemptFinished, AttemptStarted
from engine.triage.policy import Policy
from projections.fold import join

FOR_GOOD = ("exhausted", "lost_too_often", "not_drained")
"""Hindrances that nothing but a person lifts."""


class Found:
    """The findings of one walk; ``attempts`` counts the recorded ones."""

    def __init__(self) -> None:
        self.attempts = 0
        self.notes: set[str] = set()
        self._open: dict[str, NotMade] = {}
        self._not_made: list[NotMade] = []
        self._differing: list[Differing] = []
        self._horizons: dict[str, Horizon] = {}
        self._renumbered: set[str] = set()

    @property
    def has_diverged(self) -> bool:
        """Whether anything would have gone otherwise so far."""
        return bool(self._differing or self._not_made or self._open or self._horizons)

    @property
    def has_horizons(self) -> bool:
        """Whether the record cannot tell of a run from somewhere on."""
        return bool(self._horizons)

    def leave_out(self, pos: int, started: AttemptStarted, because: str) -> None:
        """An attempt that the other policy would not have made there."""
        self._open[started.attempt_id] = NotMade(
            pos=pos,
            attempt_id=started.attempt_id,
            run_id=started.run_id,
            phase_id=started.phase_id,
            because=because,
            ending=None,
            yield_events=0,
            tokens=0,
            duration_ms=0,
        )

    def is_left_out(self, finished: AttemptFinished) -> bool:
        """Whether this ends an attempt that was left out; then it is known what that came to."""
        left_out = self._open.pop(finished.attempt_id, None)
        if left_out is None:
            return False
        told = replace(
            left_out,
            ending=finished.ending,
            yield_events=finished.yield_events,
            tokens=finished.tokens,
            duration_ms=finished.duration_ms,
        )
        self._not_made.append(told)
        return True

    def differs(
        self, pos: int, finished: AttemptFinished, recorded: Iterable[str], instead: Iterable[str]
    ) -> None:
        """Decisions about an end that would have been others."""
        self._differing.append(
            Differing(
                pos=pos,
                attempt_id=finished.attempt_id,
                run_id=finished.run_id,
                recorded=tuple(recorded),
                instead=tuple(instead),
            )
        )

    def horizon(self, run_id: str, pos: int, unknown: str) -> None:
        """From ``pos`` on the record cannot tell of a run, unless its horizon lies earlier."""
        known = self._horizons.get(run_id)
        if known is None or pos < known.pos:
            self._horizons[run_id] = Horizon(run_id=run_id, pos=pos, unknown=unknown)

    def horizons(self, from_where: Mapping[str, int], unknown: str) -> None:
        """The same of several runs at once, each from its own position on."""
        for run_id, pos in from_where.items():
            self.horizon(run_id, pos, unknown)

    def renumbered(self, pos: int, started: AttemptStarted, number: int) -> None:
        """An attempt made as ``number``: how that one ends the record has told of another one."""
        self._renumbered.add(join(started.run_id, started.phase_id))
        unknown = f"its attempt {number} would have been made where {started.number} was"
        self.horizon(started.run_id, pos, unknown)

    def result(self, policy: Policy) -> WhatIf:
        """What it came to under ``policy``."""
        not_made = [*self._not_made, *self._open.values()]
        not_made.sort(key=lambda each: each.pos)
        not_made = [replace(each, saved=not self._may_come(each)) for each in not_made]
        saved = [each for each in not_made if each.saved]
        return WhatIf(
            policy=policy.label,
            policy_sha256=policy.sha256,
            attempts=self.attempts,
            attempts_made=self.attempts - len(not_made),
            attempts_saved=len(saved),
            attempts_unknown=len(not_made) - len(saved),
            tokens_saved=sum(each.tokens for each in saved),
            minutes_saved=sum(each.duration_ms for each in saved) / 60_000,
            successes_lost=sum(each.ending == "succeeded" for each in saved),
            usage_lost=sum(each.yield_events for each in saved),
            differing=tuple(self._differing),
            not_made=tuple(not_made),
            horizons=tuple(sorted(self._horizons.values(), key=lambda h: (h.pos, h.run_id))),
            notes=tuple(sorted(self.notes)),
        )

    def _may_come(self, each: NotMade) -> bool:
        """Whether an attempt may be made all the same, at another time than the recorded one."""
        horizon = self._horizons.get(each.run_id)
        if horizon is None:
            return False
        if horizon.pos <= each.pos or join(each.run_id, each.phase_id) in self._renumbered:
            return True
        return each.because not in FOR_GOOD
