"""What must be decided when an attempt ends, worked out a second time from the written rules."""

from __future__ import annotations

from typing import Any, NamedTuple

from engine.executors.port import Report
from tests.sim.brakes import PROVIDER_LIMITS, Brakes, Decision, crossed
from tests.sim.processes import Delivered
from tests.sim.standings import PROVED, Attempt, Event, Session

BY_SITUATION = frozenset(
    {
        "triage.run_judged",
        "triage.fingerprint_stopped",
        "triage.run_stopped",
        "session.draining",
    }
)
"""Decisions that say of themselves what ``inputs_of`` says."""

GOOD_STATES = (None, "COMPLETE", "GATE", "CI_RUNNING", "SKIPPED")


class Ended(NamedTuple):
    """An attempt as it ended at ``now_us``, with what its session knew *before* it."""

    attempt: Attempt
    event: Event
    now_us: int
    fingerprint: str | None
    boundary: Event | None
    was_running: bool
    brakes: Brakes

    @property
    def ending(self) -> str:
        return str(self.event["ending"])

    @property
    def yield_events(self) -> int:
        return int(self.event.get("yield_events", 0))

    @property
    def counted_yield(self) -> int:
        """Of which verdicts and stops take notice."""
        loses = self.attempt.session.policy["timeouts_lose_yield"]
        return 0 if loses and self.event["told"]["ended"] == "timed_out" else self.yield_events

    @property
    def streak_before(self) -> int:
        session = self.attempt.session
        loses = session.policy["timeouts_lose_yield"]
        return session.lossy_streak if loses else session.zero_streak

    @property
    def went_well(self) -> bool:
        return self.ending == "succeeded" or self.yield_events > 0

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
    """Everything that must stand behind the end of an attempt, in that order."""
    attempt, brakes = ended.attempt, ended.brakes
    session, phase = attempt.session, attempt.phase
    met = _limit_met(ended)
    deferrals_max = session.policy["deferrals_per_phase_max"]
    deferred = met is not None and (deferrals_max is None or phase.deferrals < deferrals_max)
    found: list[Decision] = []
    if met is not None and deferred:
        found.append(_deferral(ended, met))
    elif not session.is_named_phase and ended.ending in PROVED:
        found += _judgement(ended)
    name = brakes.account_of(session)
    consecutive = brakes.accounts[name].consecutive
    if met is not None:
        found += brakes.paused(session, met, ended.now_us, ended.event["duration_ms"])
    if consecutive and ended.went_well and session.policy["provider_pause_ms"] is not None:
        found.append(("triage.account_recovered", {"account": name}))
    found += brakes.settled(
        session,
        attempt.name,
        attempt.run.name,
        ended.ending,
        ended.fingerprint,
        well=ended.went_well,
        deferred=deferred,
    )
    took = {"tokens": ended.event.get("tokens", 0), "ms": ended.event["duration_ms"]}
    return found + crossed(phase, attempt.run, session, took)


def _limit_met(ended: Ended) -> Event | None:
    """The provider's limit that an attempt failed by, or waited at until its deadline."""
    boundary, pauses = ended.boundary, ended.attempt.session.policy["provider_pause_ms"]
    if pauses is None or ended.ending not in ("failed", "timed_out") or boundary is None:
        return None
    if ended.ending == "timed_out" and _went_on(ended, boundary):
        return None
    met = boundary["disposition"] == "stopped_by" and boundary["kind"] in PROVIDER_LIMITS
    return boundary if met else None


def _went_on(ended: Ended, boundary: Event) -> bool:
    """Whether more than the rest of an error was printed behind the limit that it met."""
    found = boundary.get("evidence")
    if found is None:
        return "declared" not in boundary
    stream = ended.event[found["stream"]]
    kept = stream.get("head_bytes", 0) + stream.get("tail_bytes", 0)
    return bool(found["byte_end"] + 2000 < kept)


def _deferral(ended: Ended, met: Event) -> Decision:
    fields = {
        "attempt_id": ended.attempt.name,
        "run_id": ended.attempt.run.name,
        "phase_id": ended.attempt.phase.name,
        "state": ended.attempt.initial_state,
        "kind": met["kind"],
        "fingerprint": ended.fingerprint,
        "no_yield": False if ended.yield_events else None,
        "timed_out": True if ended.ending == "timed_out" else None,
    }
    return "triage.attempt_deferred", fields


def _judgement(ended: Ended) -> list[Decision]:
    """The verdict, the stops, and a breaker that opens with them."""
    run, attempt = ended.attempt.run, ended.attempt
    policy = attempt.session.policy
    stops = _stops(ended)
    if run.standing != "unsampled":
        return stops
    rule = _three_way if policy["verdict_rule"] == "three-way-1" else _classic
    verdict, because = rule(ended)
    is_stopped = any(kind == "triage.run_stopped" for kind, _ in stops)
    if policy["stop_outranks_verdict"] and is_stopped and verdict == "promising":
        verdict, because = "inconclusive", "stopped"
    taught = ended.ending == "succeeded" or ended.counted_yield > 0
    barren = None if taught else ended.fingerprint
    fields = {
        "run_id": run.name,
        "attempt_id": attempt.name,
        "generation": run.generation,
        "verdict": verdict,
        "because": because,
        "barren": barren,
    }
    opened = [] if barren is None else ended.brakes.opens(attempt.session, run.name, barren)
    return [("triage.run_judged", fields), *stops, *opened]


def _three_way(ended: Ended) -> tuple[str, str]:
    if ended.ending == "succeeded":
        return "promising", "success"
    if ended.counted_yield:
        return "promising", "telemetry"
    again = ended.seen_before > 0
    if ended.ending == "timed_out":
        return ("inconclusive", "repeated_timeout") if again else ("promising", "timeout")
    return ("deprioritized", "repeated_failure") if again else ("inconclusive", "new_failure")


def _classic(ended: Ended) -> tuple[str, str]:
    if ended.ending == "succeeded":
        return "promising", "success"
    if ended.counted_yield:
        return "promising", "telemetry"
    if ended.ending == "timed_out":
        return "promising", "timeout"
    again = ended.seen_before > 0
    return ("deprioritized", "repeated_failure") if again else ("promising", "new_failure")


def _stops(ended: Ended) -> list[Decision]:
    session, run = ended.attempt.session, ended.attempt.run.name
    policy = session.policy
    streak_max = policy["consecutive_zero_yield_max"]
    silent = ended.counted_yield == 0 and ended.was_running
    if streak_max and silent and ended.streak_before + 1 >= streak_max:
        return [("session.draining", {"because": "zero_yield_streak"})]
    found: list[Decision] = []
    times, repeats_max = ended.seen_before + 1, policy["fingerprint_repeats_max"]
    repeats = bool(repeats_max) and ended.fingerprint is not None and times >= repeats_max
    if policy["stops_spare_yield"] and ended.counted_yield:
        repeats = False
    demoted = policy["stop_outranks_verdict"] and ended.attempt.run.standing == "promising"
    if repeats and ended.fingerprint not in session.stopped_fingerprints:
        fields: dict[str, Any] = {"fingerprint": ended.fingerprint, "repeats": times}
        found.append(("triage.fingerprint_stopped", fields))
    if run in session.stopped_runs:
        return found
    timeouts_max = policy["timeouts_per_run_max"]
    if repeats:
        fields = {"run_id": run, "because": "fingerprint_repeats", "demoted": demoted or None}
        found.append(("triage.run_stopped", fields))
    elif timeouts_max and ended.ending == "timed_out" and session.timeouts[run] + 1 >= timeouts_max:
        fields = {"run_id": run, "because": "timeouts", "demoted": demoted or None}
        found.append(("triage.run_stopped", fields))
    return found


def inputs_of(ended: Ended) -> dict[str, Any]:
    """What a decision must say that it read."""
    session, attempt = ended.attempt.session, ended.attempt
    return {
        "ending": ended.ending,
        "yield_events": ended.counted_yield,
        "fingerprint": ended.fingerprint,
        "standing": attempt.run.standing,
        "seen_before": ended.seen_before,
        "timeouts_before": session.timeouts[attempt.run.name],
        "zero_streak_before": ended.streak_before,
        "run_stopped": attempt.run.name in session.stopped_runs,
        "fingerprint_stopped": ended.fingerprint in session.stopped_fingerprints,
    }
