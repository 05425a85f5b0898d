"""What another policy reads of a recorded end: the recorded diagnosis, or its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from engine.audit.outputs import Outputs, ReadOutput
from engine.detect import detectors, successor_of
from engine.detect.diagnosis import diagnosis_of
from engine.detect.known_limits import KnownLimits
from engine.detect.port import STORED_CHARS_MAX
from engine.errors import LogUnreadable
from engine.events import (
    AnyEvent,
    AttemptDeferred,
    AttemptFinished,
    PhaseRegistered,
    PhaseRequeued,
    PolicyAdopted,
)
from engine.triage.decide import Facts, counted
from engine.triage.policy import Policy, policy_from_json
from projections.board import Board
from projections.fold import join

_READ_OF_ENDS = ("detectors", "timeout_fingerprints", "timeout_exit_codes")
_READ_AT_ENDS_ONLY = {
    "timeout_fingerprints",
    "timeout_exit_codes",
    "timeouts_lose_yield",
    "name",
    "version",
    "verdict_rule",
    "timeouts_per_run_max",
    "fingerprint_repeats_max",
    "consecutive_zero_yield_max",
    "stops_spare_yield",
    "stop_outranks_verdict",
    "provider_pause_ms",
    "provider_pause_max_ms",
    "deferrals_per_phase_max",
}
# Detectors say what a phase failed by, and that is a part of its place among the others.
_READ_BY_PICKS = tuple(f for f in Policy.__struct_fields__ if f not in _READ_AT_ENDS_ONLY)


class Eyes:
    """Reads ends as ``policy`` would have; ``notes`` says what could not be read so."""

    def __init__(self, policy: Policy, read_output: ReadOutput, notes: set[str]) -> None:
        self._policy = policy
        self._outputs = Outputs(read_output)
        self._limits = KnownLimits()
        self._same: dict[str, bool] = {}
        self._had_failed: set[str] = set()
        self._stops_alike: dict[str, bool] = {}
        self._notes = notes

    def adopted(self, event: PolicyAdopted) -> bool:
        """Compare with the policy that a session went by; whether both pick alike.

        They then make the same attempts until one decides otherwise at an end.
        """
        try:
            recorded = policy_from_json(event.policy_json)
        except LogUnreadable:
            self._notes.add(f"the policy of {event.session_id} cannot be read here")
            return False
        self._same[event.session_id] = _alike(recorded, self._policy, _READ_OF_ENDS)
        self._stops_alike[event.session_id] = _alike(
            recorded, self._policy, ("stop_outranks_verdict",)
        )
        return _alike(recorded, self._policy, _READ_BY_PICKS)

    def stops_otherwise(self, session_id: str) -> bool:
        """Whether stops have the last word under only one of the policies."""
        return not self._stops_alike.get(session_id, True)

    def recorded(self, event: AnyEvent, rest: Sequence[AnyEvent] = ()) -> None:
        """Take notice of an event of the record, and of what stands behind it in its command.

        Which phases had failed there tells a child that cleared the reason of its phase from one
        that found none.
        """
        if isinstance(event, AttemptFinished):
            unproved = event.ending in ("abandoned", "orphaned")
            if not unproved and not any(isinstance(each, AttemptDeferred) for each in rest):
                self._fail(event, reason=event.error)
        elif isinstance(event, PhaseRegistered):
            self._fail(event, reason=event.last_failure_reason)
        elif isinstance(event, PhaseRequeued):
            self._fail(event, reason=None)

    def _fail(
        self, event: AttemptFinished | PhaseRegistered | PhaseRequeued, *, reason: str | None
    ) -> None:
        change = self._had_failed.add if reason else self._had_failed.discard
        change(join(event.run_id, event.phase_id))

    def facts(self, board: Board, finished: AttemptFinished, events: Sequence[AnyEvent]) -> Facts:
        """What is known of an end; ``events`` were recorded behind it, ``board`` stands before."""
        finished = self._as_ended(finished)
        if self._same.get(finished.session_id, False):
            facts = Facts.recorded(finished, events)
        else:
            facts = self._seen_anew(board, finished, events)
        if facts.fingerprinted is None:
            return facts
        return facts._replace(fingerprinted=counted(board, facts, facts.fingerprinted))

    def _as_ended(self, finished: AttemptFinished) -> AttemptFinished:
        """The end as the other policy names it: exit codes may count as timeouts or not."""
        told = finished.told
        if told is None or told.ended != "exited" or finished.ending not in ("failed", "timed_out"):
            return finished
        is_late = self._policy.is_timeout(finished.exit_code, finished.signal, told.state)
        ending = "timed_out" if is_late else "failed"
        return finished if ending == finished.ending else replace(finished, ending=ending)

    def _seen_anew(
        self, board: Board, finished: AttemptFinished, events: Sequence[AnyEvent]
    ) -> Facts:
        streams = self._outputs.of(finished)
        if finished.told is None or streams is None:
            self._notes.add("some output is gone: there the recorded diagnosis was taken")
            return Facts.recorded(finished, events)
        told = replace(finished.told, stored_reason=self._stored_reason(board, finished))
        finished = replace(finished, told=told)
        asked = detectors(self._asked_of())
        known = self._limits.of(finished, streams, asked)
        timeouts = self._policy.timeout_fingerprints
        found = diagnosis_of(finished, streams, asked, timeouts, known)
        finished = replace(finished, error=found.error)
        return Facts(finished, found.fingerprinted, found.boundaries, found.zero_yield)

    def _asked_of(self) -> str:
        """The detectors of the other policy, or those that came after them."""
        name = self._policy.detectors
        asked = successor_of(name)
        if asked != name:
            self._notes.add(f"the detectors {name} are gone: {asked} was asked instead")
        return asked

    def _stored_reason(self, board: Board, finished: AttemptFinished) -> str | None:
        """The older reason that the child left as it was: what the other policy had made of it."""
        key = join(finished.run_id, finished.phase_id)
        assert finished.told is not None
        if finished.told.stored_reason is None and key in self._had_failed:
            return None
        known = board.backlog.states[key].reason
        return known[:STORED_CHARS_MAX] if known else None


def _alike(one: Policy, other: Policy, names: Iterable[str]) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in names)
