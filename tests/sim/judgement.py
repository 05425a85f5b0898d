"""What must be decided when an attempt ends, worked out a second time from the written rules."""

from __future__ import annotations

from typing import Any, NamedTuple

from engine.executors.port import Report
from tests.sim.model import PROVED, Attempt, Event, Session
from tests.sim.processes import Delivered

Decision = tuple[str, dict[str, Any]]
"""The type of an event, and those of its fields that the rules determine."""

GOOD_STATES = (None, "COMPLETE", "GATE", "CI_RUNNING", "SKIPPED")


class Ended(NamedTuple):
    """An attempt as it ended, with what its session had seen of the like *before* it."""

    attempt: Attempt
    ending: str
    yield_events: int
    fingerprint: str | None
    was_running: bool

    @property
    def seen_before(self) -> int:
        return self.attempt.session.seen[self.fingerprint] if self.fingerprint else 0


def ending_of(delivered: Delivered, session: Session) -> str:
    """How an attempt ended, by what its engine was told of it."""
    report, adopted = delivered
    if isinstance(report, Exception):
        return "broke"
    if report.ended == "lost":
        return "orphaned" if adopted else "broke"
    if report.ended != "exited":
        return report.ended
    code = report.exit_code if report.signal is None else -report.signal
    if code in session.policy["timeout_exit_codes"] and report.final_state != "COMPLETE":
        return "timed_out"
    return "succeeded" if _went_well(report) else "failed"


def _went_well(report: Report) -> bool:
    if report.signal is not None or report.missing_deliverables:
        return False
    if report.exit_code != 0 and report.final_state != "COMPLETE":
        return False
    return report.claimed_success is not False and report.final_state in GOOD_STATES


def final_state_of(report: Report | Exception, ending: str, initial: str) -> str:
    """Where the phase stands then."""
    if ending in ("abandoned", "orphaned"):
        return initial
    told = None if isinstance(report, Exception) else report.final_state
    if ending == "succeeded":
        return told or "COMPLETE"
    return told if told in ("QUEUED", "SKIPPED") else "FAILED"


def decisions(ended: Ended) -> list[Decision]:
    """The verdict and the stops, in the order in which they must stand in the log."""
    if ended.attempt.session.is_named_phase or ended.ending not in PROVED:
        return []
    return [*_verdict(ended), *_stops(ended)]


def _verdict(ended: Ended) -> list[Decision]:
    run, attempt = ended.attempt.run, ended.attempt
    if run.standing != "unsampled":
        return []
    rule = _three_way if attempt.session.policy["verdict_rule"] == "three-way-1" else _classic
    verdict, because = rule(ended)
    fields = {
        "run_id": run.name,
        "attempt_id": attempt.name,
        "generation": run.generation,
        "verdict": verdict,
        "because": because,
    }
    return [("triage.run_judged", fields)]


def _three_way(ended: Ended) -> tuple[str, str]:
    if ended.ending == "succeeded":
        return "promising", "success"
    if ended.yield_events:
        return "promising", "telemetry"
    again = ended.seen_before > 0
    if ended.ending == "timed_out":
        return ("inconclusive", "repeated_timeout") if again else ("promising", "timeout")
    return ("deprioritized", "repeated_failure") if again else ("inconclusive", "new_failure")


def _classic(ended: Ended) -> tuple[str, str]:
    if ended.ending == "succeeded":
        return "promising", "success"
    if ended.yield_events:
        return "promising", "telemetry"
    if ended.ending == "timed_out":
        return "promising", "timeout"
    again = ended.seen_before > 0
    return ("deprioritized", "repeated_failure") if again else ("promising", "new_failure")


def _stops(ended: Ended) -> list[Decision]:
    session, run = ended.attempt.session, ended.attempt.run.name
    policy = session.policy
    streak_max = policy["consecutive_zero_yield_max"]
    silent = ended.yield_events == 0 and ended.was_running
    if streak_max and silent and session.zero_streak + 1 >= streak_max:
        return [("session.draining", {"because": "zero_yield_streak"})]
    found: list[Decision] = []
    times, repeats_max = ended.seen_before + 1, policy["fingerprint_repeats_max"]
    repeats = bool(repeats_max) and ended.fingerprint is not None and times >= repeats_max
    if repeats and ended.fingerprint not in session.stopped_fingerprints:
        fields: dict[str, Any] = {"fingerprint": ended.fingerprint, "repeats": times}
        found.append(("triage.fingerprint_stopped", fields))
    if run in session.stopped_runs:
        return found
    timeouts_max = policy["timeouts_per_run_max"]
    if repeats:
        fields = {"run_id": run, "because": "fingerprint_repeats"}
        found.append(("triage.run_stopped", fields))
    elif timeouts_max and ended.ending == "timed_out" and session.timeouts[run] + 1 >= timeouts_max:
        found.append(("triage.run_stopped", {"run_id": run, "because": "timeouts"}))
    return found


def inputs_of(ended: Ended) -> dict[str, Any]:
    """What a decision must say that it read."""
    session, attempt = ended.attempt.session, ended.attempt
    return {
        "ending": ended.ending,
        "yield_events": ended.yield_events,
        "fingerprint": ended.fingerprint,
        "standing": attempt.run.standing,
        "seen_before": ended.seen_before,
        "timeouts_before": session.timeouts[attempt.run.name],
        "zero_streak_before": session.zero_streak,
        "run_stopped": attempt.run.name in session.stopped_runs,
        "fingerprint_stopped": ended.fingerprint in session.stopped_fingerprints,
    }


def note(event: Event, session: Session) -> None:
    """What a stop changes for the session."""
    kind = event["type"]
    if kind == "triage.fingerprint_stopped":
        session.stopped_fingerprints.add(event["fingerprint"])
    elif kind == "triage.run_stopped":
        session.stopped_runs[event["run_id"]] = event["because"]
