"""The part of verify that follows attempts, runs and sessions through the log, event by event."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.audit.backlog_count import Phase, Session, work_left
from engine.audit.chain import Report
from engine.audit.credible import odd_coefficients, odd_end, odd_policy, tokens_of
from engine.audit.kept_output import Blob, KeptOutput

PROVED = ("succeeded", "failed", "timed_out", "broke")
Event = dict[str, Any]
Follow = Callable[[int, int | None, Event], None]


@dataclass(slots=True)
class _Attempt:
    """An attempt; ``life`` is the phase's at its start, ``finish_pos`` 0 while it is open.

    ``host``: where its guardian was, "" if the log does not say.
    """

    session: str
    run: str
    phase: str
    number: int
    life: int
    timeout_ms: int
    host: str = ""
    usage: int = 0
    tokens: int = 0
    rejected: int = 0
    reasons: int = 0
    finish_pos: int = 0
    yield_events: int = 0
    output: dict[str, Blob | None] = field(default_factory=dict[str, Blob | None])


@dataclass(slots=True)
class _Run:
    """A run in its current generation; ``sample`` is the first of its attempts that counts."""

    generation: int = 1
    verdict: str | None = None
    open: int = 0
    sample: str | None = None


class Histories:
    """Checks S6 to S11, S14 to S16, S18, S21 to S24, S32 to S34 and L2."""

    def __init__(self, report: Report, blobs: Path) -> None:
        self._report = report
        self._output = KeptOutput(blobs, report)
        self._attempts: dict[str, _Attempt] = {}
        self._phases: dict[tuple[str, str], Phase] = {}
        self._runs: dict[str, _Run] = {}
        self._sessions: dict[str, Session] = {}
        self.open_attempts = 0
        self._follow: dict[str, Follow] = {
            "backlog.phase_registered": self._registered,
            "backlog.phase_requeued": self._requeued,
            "session.started": self._begun,
            "session.resumed": self._begun,
            "session.policy_adopted": self._governed,
            "session.coefficients_in_force": self._estimating,
            "calibration.coefficients_adopted": self._estimating,
            "session.draining": self._draining,
            "session.lapsed": self._draining,
            "session.ended": self._ended,
            "attempt.started": self._started,
            "attempt.spawned": self._spawned,
            "attempt.adopted": self._while_open,
            "attempt.finished": self._finished,
            "usage.recorded": self._used,
            "usage.rejected": self._rejected,
            "diagnosis.fingerprinted": self._diagnosed,
            "diagnosis.zero_yield_explained": self._explained,
            "diagnosis.boundary_detected": self._boundary,
            "diagnosis.reclassified": self._reclassified,
            "triage.run_judged": self._judged,
            "triage.attempt_deferred": self._deferred,
            "triage.run_cooled_down": self._reinstated,
            "operator.run_reinstated": self._reinstated,
        }

    def take(self, pos: int, cause: int | None, event: Event) -> None:
        """Follow one event; ``cause`` is the position that its envelope names."""
        kind = event.get("type")
        follow = self._follow.get(kind) if isinstance(kind, str) else None
        if follow is None:
            return
        try:
            follow(pos, cause, event)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            self._report(f"S3: a field of {kind} is missing or wrong: {error}", pos)

    def close(self) -> None:
        """What can only be said at the end: what every attempt and every sample must have got."""
        for attempt in self._attempts.values():
            if attempt.finish_pos and not attempt.yield_events and not attempt.reasons:
                self._report("S22: no zero-yield reason", attempt.finish_pos)
        for run in self._runs.values():
            if run.sample is not None and run.verdict is None:
                pos = self._attempts[run.sample].finish_pos
                self._report("L2: the run was sampled and has no verdict", pos)

    def _registered(self, pos: int, _cause: int | None, event: Event) -> None:
        key = (event["run_id"], event["phase_id"])
        if key in self._phases:
            self._report("S32: the phase was registered before", pos)
            return
        phase = Phase(*key, event["state"], succeeded=event["state"] == "COMPLETE")
        phase.tokens_cap = event.get("incident_token_cap")
        self._phases[key] = phase

    def _requeued(self, pos: int, _cause: int | None, event: Event) -> None:
        phase = self._phases.get((event["run_id"], event["phase_id"]))
        if phase is None:
            self._report("S32: the phase was never registered", pos)
            return
        phase.begin_again()

    def _begun(self, _pos: int, _cause: int | None, event: Event) -> None:
        session = self._session(event)
        session.limits, session.running = event["limits"], True

    def _governed(self, pos: int, _cause: int | None, event: Event) -> None:
        self._session(event).policy = json.loads(event["policy_json"])
        for odd in odd_policy(event):
            self._report(f"S33: {odd}", pos)

    def _estimating(self, pos: int, _cause: int | None, event: Event) -> None:
        for odd in odd_coefficients(event):
            self._report(f"S33: {odd}", pos)

    def _draining(self, _pos: int, _cause: int | None, event: Event) -> None:
        self._session(event).running = False

    def _ended(self, pos: int, _cause: int | None, event: Event) -> None:
        session = self._session(event)
        session.running = False
        if event["attempts"] != session.attempts:
            what = f"S32: the session counts {event['attempts']} attempts, the log has"
            self._report(f"{what} {session.attempts}", pos)
        left = work_left(self._phases.values(), session)
        if event["work_left"] != left:
            what = f"S32: the session counts {event['work_left']} phases left, the log has {left}"
            self._report(what, pos)

    def _session(self, event: Event) -> Session:
        name = event["session_id"]
        return self._sessions.setdefault(name, Session(name))

    def _run(self, event: Event) -> _Run:
        return self._runs.setdefault(event["run_id"], _Run())

    def _started(self, pos: int, _cause: int | None, event: Event) -> None:
        name = event["attempt_id"]
        phase = self._phases.get((event["run_id"], event["phase_id"]))
        session = self._sessions.get(event["session_id"])
        if name in self._attempts:
            self._report("S6: the attempt was started before", pos)
            return
        if phase is None or session is None:
            self._report("S6: the attempt is of an unknown phase or session", pos)
            return
        self._check_phase(pos, event, phase, session)
        self._check_limits(pos, event, session)
        self._check_triage(pos, event, session)
        self._attempts[name] = _Attempt(
            session.name, phase.run, phase.name, event["number"], phase.life, event["timeout_ms"]
        )
        phase.start(event["number"], session.name)
        session.attempts += 1
        session.open += 1
        self._run(event).open += 1
        self.open_attempts += 1

    def _check_phase(self, pos: int, event: Event, phase: Phase, session: Session) -> None:
        if phase.open:
            self._report("S7: the phase has an open attempt", pos)
        if phase.succeeded:
            self._report("S8: the phase had succeeded and was not requeued", pos)
        if event["number"] != phase.number + 1:
            self._report(f"S9: attempt number {event['number']} follows {phase.number}", pos)
        if event["initial_state"] != phase.state:
            what = f"S32: the phase is said to be {event['initial_state']}, and is {phase.state}"
            self._report(what, pos)
        if session.is_named_phase:
            return
        attempts_max = session.policy.get("attempts_per_phase_max")
        if attempts_max and phase.proved >= attempts_max:
            self._report(f"S9: more than {attempts_max} attempts of the phase", pos)
        orphans_max = session.policy.get("orphans_per_phase_max")
        if orphans_max and phase.orphans >= orphans_max:
            self._report(f"S9: the phase was lost {phase.orphans} times already", pos)

    def _check_limits(self, pos: int, event: Event, session: Session) -> None:
        if not session.running:
            self._report("S11: the session had stopped starting attempts", pos)
        workers, per_run_max = session.limits.get("workers"), session.limits.get("per_run_max")
        if workers is None or per_run_max is None:
            return
        if session.open >= workers:
            self._report(f"S10: more than {workers} open attempts", pos)
        if self._run(event).open >= per_run_max and not session.is_named_phase:
            self._report(f"S10: more than {per_run_max} open attempts of the run", pos)

    def _check_triage(self, pos: int, event: Event, session: Session) -> None:
        run = self._run(event)
        if session.is_named_phase:
            return
        if run.verdict is None and run.open:
            self._report("S15: the run's sample is in flight", pos)
        if run.verdict == "deprioritized":
            self._report("S18: the run is deprioritized", pos)

    def _attempt(self, pos: int, event: Event, invariant: str) -> _Attempt | None:
        """The attempt that ``event`` says it is about, None (and a report) if it cannot be."""
        attempt = self._attempts.get(event["attempt_id"])
        if attempt is None:
            self._report(f"{invariant}: the attempt was never started", pos)
            return None
        named = (event["session_id"], event["run_id"], event["phase_id"])
        if named != (attempt.session, attempt.run, attempt.phase):
            self._report(f"{invariant}: the attempt is of another session, run or phase", pos)
            return None
        return attempt

    def _spawned(self, pos: int, cause: int | None, event: Event) -> None:
        self._while_open(pos, cause, event)
        if event["attempt_id"] in self._attempts:
            self._attempts[event["attempt_id"]].host = sys.intern(event["host"])

    def _while_open(self, pos: int, _cause: int | None, event: Event) -> None:
        attempt = self._attempt(pos, event, "S6")
        if attempt is not None and attempt.finish_pos:
            self._report("S6: the attempt had finished", pos)

    def _finished(self, pos: int, _cause: int | None, event: Event) -> None:
        attempt = self._attempt(pos, event, "S6")
        if attempt is None:
            return
        if attempt.finish_pos:
            self._report("S6: the attempt was finished before", pos)
            return
        if event["number"] != attempt.number:
            self._report("S6: the attempt was started with another number", pos)
        attempt.finish_pos, attempt.yield_events = pos, event.get("yield_events", 0)
        self.open_attempts -= 1
        phase = self._phases[attempt.run, attempt.phase]
        phase.finish(event["ending"], event["final_state"], counts=phase.life == attempt.life)
        for measure, name in (("tokens", "tokens"), ("ms", "duration_ms")):
            phase.spent[measure] = phase.spent.get(measure, 0) + event.get(name, 0)
        session, run = self._sessions[attempt.session], self._run(event)
        session.open -= 1
        run.open -= 1
        # What a person asked for by name says nothing about its run.
        if run.sample is None and event["ending"] in PROVED and not session.is_named_phase:
            run.sample = event["attempt_id"]
        self._check_yield(pos, event, attempt)
        for odd in odd_end(event, timeout_ms=attempt.timeout_ms, tokens=attempt.tokens):
            self._report(f"S34: {odd}", pos)
        for name in ("stdout", "stderr"):
            told = event.get(name, {})
            attempt.output[name] = self._output.stored(pos, name, told, attempt.host)

    def _deferred(self, pos: int, cause: int | None, event: Event) -> None:
        """A provider's limit ended the attempt: it is no sample, and the phase stands as before."""
        attempt = self._after_end(pos, cause, event, "S16")
        if attempt is None:
            return
        phase, run = self._phases[attempt.run, attempt.phase], self._run(event)
        if phase.last_ending != ("timed_out" if event.get("timed_out") else "failed"):
            self._report("S16: only an attempt that failed or timed out can be deferred", pos)
        phase.defer(event["state"], counts=phase.life == attempt.life)
        if run.sample == event["attempt_id"] and run.verdict is None:
            run.sample = None

    def _check_yield(self, pos: int, event: Event, attempt: _Attempt) -> None:
        usage = attempt.yield_events
        if attempt.usage != usage:
            self._report(f"S21: {attempt.usage} usage records, {usage} claimed", pos)
        rejected = event.get("lines_rejected", 0)
        if attempt.rejected != rejected:
            self._report(f"S21: {attempt.rejected} rejected lines, {rejected} claimed", pos)
        lines = event.get("lines_read", 0)
        if lines and lines != usage + rejected + event.get("lines_other", 0):
            self._report("S21: accepted, other and rejected lines are not the lines read", pos)

    def _usage_of(self, pos: int, event: Event) -> _Attempt | None:
        attempt = self._attempt(pos, event, "S21")
        if attempt is not None and attempt.finish_pos:
            self._report("S21: usage of an attempt that had finished", pos)
        return attempt

    def _used(self, pos: int, _cause: int | None, event: Event) -> None:
        attempt = self._usage_of(pos, event)
        if attempt is not None:
            attempt.usage += 1
            attempt.tokens += tokens_of(event)

    def _rejected(self, pos: int, _cause: int | None, event: Event) -> None:
        attempt = self._usage_of(pos, event)
        if attempt is not None:
            attempt.rejected += event["count"]

    def _after_end(
        self, pos: int, cause: int | None, event: Event, invariant: str
    ) -> _Attempt | None:
        """The attempt that a diagnosis is about, which must have finished where it says."""
        attempt = self._attempt(pos, event, invariant)
        if attempt is not None and not attempt.finish_pos:
            self._report(f"{invariant}: a diagnosis before the attempt finished", pos)
            return None
        if attempt is not None and cause != attempt.finish_pos:
            self._report(f"{invariant}: the cause is not the end of the attempt", pos)
        return attempt

    def _diagnosed(self, pos: int, cause: int | None, event: Event) -> None:
        self._after_end(pos, cause, event, "S20")

    def _explained(self, pos: int, cause: int | None, event: Event) -> None:
        attempt = self._after_end(pos, cause, event, "S22")
        if attempt is None:
            return
        attempt.reasons += 1
        if attempt.yield_events:
            self._report("S22: a zero-yield reason for an attempt with yield", pos)
        elif attempt.reasons > 1:
            self._report("S22: a second zero-yield reason", pos)

    def _boundary(self, pos: int, cause: int | None, event: Event) -> None:
        attempt = self._after_end(pos, cause, event, "S24")
        evidence = event.get("evidence")
        if attempt is not None and evidence is not None:
            self._output.evidence(pos, evidence, attempt.output.get(evidence["stream"]))

    def _reclassified(self, pos: int, cause: int | None, event: Event) -> None:
        attempt = self._after_end(pos, cause, event, "S24")
        after: Event = event.get("after") or {}
        evidence = after.get("evidence")
        if attempt is not None and evidence is not None:
            self._output.evidence(pos, evidence, attempt.output.get(evidence["stream"]))

    def _judged(self, pos: int, cause: int | None, event: Event) -> None:
        run = self._run(event)
        if run.verdict is not None:
            self._report("S16: a second verdict in one generation", pos)
        if event["generation"] != run.generation:
            self._report("S16: the verdict is of another generation", pos)
        sample = self._attempts.get(event["attempt_id"])
        if run.sample is None or event["attempt_id"] != run.sample:
            self._report("S16: the verdict is not about the run's sample", pos)
        elif sample is None or sample.finish_pos != cause:
            self._report("S16: the cause is not the sample's end", pos)
        run.verdict = event["verdict"]

    def _reinstated(self, pos: int, _cause: int | None, event: Event) -> None:
        run = self._run(event)
        if event["generation"] != run.generation + 1:
            self._report(f"S16: generation {event['generation']} follows {run.generation}", pos)
        self._runs[event["run_id"]] = _Run(generation=event["generation"], open=run.open)
