"""The part of verify that follows attempts, runs and sessions through the log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Report = Callable[[str, int | None], None]
PROVED = ("succeeded", "failed", "timed_out", "broke")
Event = dict[str, Any]


@dataclass
class _Attempt:
    start: Event
    usage: int = 0
    rejected: int = 0
    finish: Event | None = None
    finish_pos: int = 0
    reasons: int = 0


@dataclass
class _Phase:
    number: int = 0
    counted: int = 0
    succeeded: bool = False
    open: str | None = None


@dataclass
class _Run:
    verdict: str | None = None
    generation: int = 1
    open: int = 0
    first_proved: str | None = None


@dataclass
class _Session:
    draining: bool = False
    open: int = 0
    limits: Event = field(default_factory=dict[str, Any])
    policy: Event = field(default_factory=dict[str, Any])

    @property
    def asked_by_name(self) -> bool:
        return self.limits.get("phase_id") is not None


class Histories:
    """Checks S6 to S11, S14 to S16, S18, S21 to S24 and S32, event by event."""

    def __init__(self, report: Report, blobs: Path) -> None:
        self._report = report
        self._blobs = blobs
        self._attempts: dict[str, _Attempt] = {}
        self._phases: dict[tuple[str, str], _Phase] = {}
        self._runs: dict[str, _Run] = {}
        self._sessions: dict[str, _Session] = {}
        self._checked_blobs: dict[str, bool] = {}

    @property
    def open_attempts(self) -> int:
        """Attempts that the log holds open at its end."""
        return sum(phase.open is not None for phase in self._phases.values())

    def take(self, pos: int, cause: int | None, event: Event) -> None:
        """Follow one event; ``cause`` is the position that its envelope names."""
        kind = str(event.get("type"))
        follow = {
            "backlog.phase_registered": self._registered,
            "backlog.phase_requeued": self._requeued,
            "session.started": self._begun,
            "session.resumed": self._begun,
            "session.policy_adopted": self._governed,
            "session.draining": self._draining,
            "attempt.started": self._started,
            "attempt.finished": self._finished,
            "usage.recorded": self._used,
            "usage.rejected": self._rejected,
            "diagnosis.zero_yield_explained": self._explained,
            "diagnosis.boundary_detected": self._boundary,
            "operator.run_reinstated": self._reinstated,
        }.get(kind)
        try:
            if kind == "triage.run_judged":
                self._judged(pos, cause, event)
            elif follow is not None:
                follow(pos, event)
        except (KeyError, TypeError, ValueError) as error:
            self._report(f"S3: a field of {kind} is missing or wrong: {error}", pos)

    def _requeued(self, _pos: int, event: Event) -> None:
        self._phases[event["run_id"], event["phase_id"]] = _Phase()

    def _session(self, event: Event) -> _Session:
        return self._sessions.setdefault(event["session_id"], _Session())

    def _begun(self, _pos: int, event: Event) -> None:
        session = self._session(event)
        session.limits, session.draining = event["limits"], False

    def _governed(self, _pos: int, event: Event) -> None:
        self._session(event).policy = json.loads(event["policy_json"])

    def _draining(self, _pos: int, event: Event) -> None:
        self._session(event).draining = True

    def _used(self, _pos: int, event: Event) -> None:
        self._attempts[event["attempt_id"]].usage += 1

    def _rejected(self, _pos: int, event: Event) -> None:
        self._attempts[event["attempt_id"]].rejected += event["count"]

    def _reinstated(self, _pos: int, event: Event) -> None:
        run = self._run(event)
        self._runs[event["run_id"]] = _Run(generation=run.generation + 1, open=run.open)

    def _run(self, event: Event) -> _Run:
        return self._runs.setdefault(event["run_id"], _Run())

    def _registered(self, pos: int, event: Event) -> None:
        key = (event["run_id"], event["phase_id"])
        if key in self._phases:
            self._report("S32: the phase was registered before", pos)
            return
        self._phases[key] = _Phase(succeeded=event["state"] == "COMPLETE")

    def _started(self, pos: int, event: Event) -> None:
        report, name = self._report, event["attempt_id"]
        phase = self._phases.get((event["run_id"], event["phase_id"]))
        session = self._sessions.get(event["session_id"])
        if phase is None or session is None:
            report("S6: the attempt is of an unknown phase or session", pos)
            return
        if name in self._attempts:
            report("S6: the attempt was started before", pos)
        if phase.open is not None:
            report("S7: the phase has an open attempt", pos)
        if phase.succeeded:
            report("S8: the phase had succeeded and was not requeued", pos)
        if session.draining:
            report("S11: the session had stopped starting attempts", pos)
        self._check_counts(pos, event, phase, session)
        self._check_gate(pos, event, session)
        self._attempts[name] = _Attempt(event)
        phase.number, phase.open = event["number"], name
        session.open += 1
        self._run(event).open += 1

    def _check_counts(self, pos: int, event: Event, phase: _Phase, session: _Session) -> None:
        if event["number"] != phase.number + 1:
            self._report(f"S9: attempt number {event['number']} follows {phase.number}", pos)
        limit = session.policy.get("attempts_per_phase_max")
        if limit and phase.counted >= limit and not session.asked_by_name:
            self._report(f"S9: more than {limit} attempts of the phase", pos)
        if session.open >= session.limits["workers"]:
            self._report(f"S10: more than {session.limits['workers']} open attempts", pos)

    def _check_gate(self, pos: int, event: Event, session: _Session) -> None:
        if session.asked_by_name:
            return
        run = self._run(event)
        if run.verdict is None and run.open:
            self._report("S15: the run's sample is in flight", pos)
        if run.verdict == "deprioritized":
            self._report("S18: the run is deprioritized", pos)
        if run.open >= session.limits["per_run_max"]:
            self._report("S10: too many open attempts of the run", pos)

    def _finished(self, pos: int, event: Event) -> None:
        attempt = self._attempts.get(event["attempt_id"])
        phase = self._phases.get((event["run_id"], event["phase_id"]))
        if attempt is None or phase is None or phase.open != event["attempt_id"]:
            self._report("S6: the attempt is not open", pos)
            return
        if attempt.finish is not None:
            self._report("S6: the attempt was finished before", pos)
        attempt.finish, attempt.finish_pos = event, pos
        proved = event["ending"] in PROVED
        phase.open = None
        phase.counted += proved
        phase.succeeded = event["ending"] == "succeeded"
        self._sessions[event["session_id"]].open -= 1
        run = self._run(event)
        run.open -= 1
        if proved and run.first_proved is None:
            run.first_proved = event["attempt_id"]
        self._check_yield(pos, event, attempt)
        for stream in ("stdout", "stderr"):
            self._check_blob(pos, stream, event.get(stream, {}))

    def _check_yield(self, pos: int, event: Event, attempt: _Attempt) -> None:
        usage = event.get("yield_events", 0)
        if attempt.usage != usage:
            self._report(f"S21: {attempt.usage} usage records, {usage} claimed", pos)
        rejected = event.get("lines_rejected", 0)
        if attempt.rejected != rejected:
            self._report(f"S21: {attempt.rejected} rejected lines, {rejected} claimed", pos)
        lines = event.get("lines_read", 0)
        if lines and lines != usage + rejected + event.get("lines_other", 0):
            self._report("S21: accepted and rejected lines do not add up", pos)

    def _check_blob(self, pos: int, stream: str, kept: Event) -> None:
        digest = kept.get("digest")
        if digest is None:
            return
        size = kept.get("head_bytes", 0) + kept.get("tail_bytes", 0)
        if kept.get("total_bytes", 0) < size:
            self._report(f"S14: {stream} keeps more bytes than there were", pos)
        if digest in self._checked_blobs:
            return
        self._checked_blobs[digest] = True
        try:
            data = (self._blobs / digest[:2] / digest).read_bytes()
        except OSError:
            self._report(f"S14: the stored {stream} is missing", pos)
            return
        if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
            self._report(f"S14: the stored {stream} is not what was recorded", pos)

    def _explained(self, pos: int, event: Event) -> None:
        attempt = self._attempts[event["attempt_id"]]
        attempt.reasons += 1
        finish = attempt.finish
        if finish is None:
            self._report("S22: a zero-yield reason before the attempt ended", pos)
        elif finish.get("yield_events", 0):
            self._report("S22: a zero-yield reason for an attempt with yield", pos)
        elif attempt.reasons > 1:
            self._report("S22: a second zero-yield reason", pos)

    def _boundary(self, pos: int, event: Event) -> None:
        evidence = event.get("evidence")
        finish = self._attempts[event["attempt_id"]].finish
        if finish is None:
            self._report("S24: a limit before the attempt ended", pos)
        elif evidence is not None:
            kept = finish.get(evidence["stream"], {})
            size = kept.get("head_bytes", 0) + kept.get("tail_bytes", 0)
            inside = 0 <= evidence["byte_start"] <= evidence["byte_end"] <= size
            if not inside or kept.get("digest") != evidence["digest"]:
                self._report("S24: the evidence does not lie inside the stored bytes", pos)
            elif not self._says(evidence):
                self._report("S24: the stored bytes do not say what the evidence says", pos)

    def _says(self, evidence: Event) -> bool:
        digest = str(evidence["digest"])
        path = self._blobs / digest[:2] / digest
        try:
            data: bytes = path.read_bytes()[evidence["byte_start"] : evidence["byte_end"]]
        except OSError:
            return True  # reported as S14 already
        excerpt = str(evidence["excerpt"])
        return data.decode(errors="replace").startswith(excerpt)

    def _judged(self, pos: int, cause: int | None, event: Event) -> None:
        run = self._run(event)
        if run.verdict is not None:
            self._report("S16: a second verdict in one generation", pos)
        if event["generation"] != run.generation:
            self._report("S16: the verdict is of another generation", pos)
        if event["attempt_id"] != run.first_proved:
            self._report("S16: the verdict is not about the run's sample", pos)
        sample = self._attempts.get(event["attempt_id"])
        if sample is None or sample.finish_pos != cause:
            self._report("S16: the cause is not the sample's end", pos)
        run.verdict = event["verdict"]

    def close(self) -> None:
        """What can only be said at the end: every attempt without yield has its reason."""
        for attempt in self._attempts.values():
            finish = attempt.finish
            if finish is not None and not finish.get("yield_events", 0) and not attempt.reasons:
                self._report("S22: no zero-yield reason", attempt.finish_pos)
