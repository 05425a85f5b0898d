"""What another policy reads of a recorded end: the recorded diagnosis, or its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from engine.audit.outputs import Outputs, ReadOutput
from engine.detect import DETECTORS
from engine.detect.diagnosis import diagnosis_of
from engine.errors import LogUnreadable
from engine.events import AnyEvent, AttemptFinished, PolicyAdopted
from engine.triage.decide import Facts, counted
from engine.triage.policy import Policy, policy_from_json
from projections.board import Board

_READ_OF_ENDS = ("detectors", "timeout_fingerprints", "timeout_exit_codes")
_READ_AT_ENDS_ONLY = {
    *_READ_OF_ENDS,
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
_READ_BY_PICKS = tuple(f for f in Policy.__struct_fields__ if f not in _READ_AT_ENDS_ONLY)


class Eyes:
    """Reads ends as ``policy`` would have; ``notes`` says what could not be read so."""

    def __init__(self, policy: Policy, read_output: ReadOutput, notes: set[str]) -> None:
        self._policy = policy
        self._outputs = Outputs(read_output)
        self._same: dict[str, bool] = {}
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
        return _alike(recorded, self._policy, _READ_BY_PICKS)

    def facts(self, board: Board, finished: AttemptFinished, events: Sequence[AnyEvent]) -> Facts:
        """What is known of an end; ``events`` were recorded behind it, ``board`` stands before."""
        finished = self._as_ended(finished)
        if self._same.get(finished.session_id, False):
            facts = Facts.recorded(finished, events)
        else:
            facts = self._seen_anew(finished, events)
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

    def _seen_anew(self, finished: AttemptFinished, events: Sequence[AnyEvent]) -> Facts:
        streams = self._outputs.of(finished)
        if finished.told is None or streams is None:
            self._notes.add("some output is gone: there the recorded diagnosis was taken")
            return Facts.recorded(finished, events)
        detectors = DETECTORS[self._policy.detectors]
        found = diagnosis_of(finished, streams, detectors, self._policy.timeout_fingerprints)
        return Facts(finished, found.fingerprinted, found.boundaries, found.zero_yield)


def _alike(one: Policy, other: Policy, names: Iterable[str]) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in names)
