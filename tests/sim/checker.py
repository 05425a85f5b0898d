"""The independent checker of the simulation: every event against what it should have been.

Shares no code with ``engine.triage`` or ``engine.drain``: what is next, what is decided and what is
counted is worked out again in ``model`` and ``judgement``.  It reads the stored log, and beside it
only what the simulated executors told the engines (``Truth``).  To check a new rule, add a method
to ``_FOLLOW`` and what it determines to ``judgement.decisions``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from engine.events import Record
from engine.executors.port import Report
from tests.sim.brakes import Decision, crossed
from tests.sim.judgement import (
    BY_SITUATION,
    Ended,
    decisions,
    ending_of,
    final_state_of,
    inputs_of,
)
from tests.sim.model import Model
from tests.sim.processes import Delivered
from tests.sim.standings import GROUPS, Attempt, Event, Phase, Session

_CLASS_NAMES = ("", "unknown", "collection", "deliverable", "patch", "other", "timeout")
SLACK_MS = 2


class Truth(Protocol):
    """What the simulation knows beside the log.

    ``delivered``: what engines were told of each attempt.  ``asked_to_stop``: sessions that a
    person asked to stop.  ``slack_us``: how long an answer of the log may take.
    """

    @property
    def delivered(self) -> dict[str, list[Delivered]]: ...
    @property
    def asked_to_stop(self) -> set[str]: ...
    @property
    def slack_us(self) -> int: ...


@dataclass(slots=True)
class _Due:
    """The end of an attempt, at ``pos``, with what stands behind it in the same command."""

    command_id: str
    pos: int
    now_us: int
    event: Event
    attempt: Attempt
    was_running: bool
    fingerprint: str | None = None
    boundary: Event | None = None
    explained: bool = False
    decided: list[tuple[Record, Event]] = field(default_factory=list[tuple[Record, Event]])


class Checker:
    """Follows a log in order.

    ``hindrances`` counts why phases were left when sessions ended, and with ``closely`` also why
    they were whenever time passed.
    """

    def __init__(
        self, report: Callable[[str, int | None], None], truth: Truth, *, closely: bool = False
    ) -> None:
        self.model = Model()
        self._closely = closely
        self.hindrances: Counter[str] = Counter()
        self._report = report
        self._truth = truth
        self._last: Record | None = None
        self._due: _Due | None = None
        self._owed: list[Decision] = []
        self._newest_start: tuple[int, str] = (0, "")

    def take(self, record: Record, event: Event) -> None:
        """Check one event, and go on from it."""
        last = self._last
        if self._due is not None and record.command_id != self._due.command_id:
            self._settle()
        in_one_life = last is not None and record.epoch == last.epoch
        if self._owed and (last is None or record.command_id != last.command_id):
            self._say(f"S17: {self._owed[0][0]} had to follow, and did not", record.pos)
            self._owed.clear()
        if last and in_one_life and record.recorded_us > last.recorded_us + self._truth.slack_us:
            self._check_nothing_was_left(last, record)
        follow = self._FOLLOW.get(record.type)
        if follow is not None:
            try:
                follow(self, record, event)
            except LookupError as error:
                self._say(f"S6: {record.type} is about something unknown: {error}", record.pos)
        session = self.model.sessions.get(record.session or "")
        if session is not None and session.epoch == record.epoch:
            session.last_us = record.recorded_us
        self._last = record

    def life_over(self) -> None:
        """The engine that wrote is gone: what belongs together has been written, or never will."""
        self._settle()

    def close(self, session_ended: str | None) -> None:
        """After the last life; ``session_ended``: the session that ended in it."""
        self._settle()
        for attempt in self.model.attempts.values():
            if not attempt.finish_pos:
                self._say(f"L1: {attempt.name} is open after the last life")
        session = self.model.sessions.get(session_ended or "")
        if session is not None:
            self._check_left(session, self._last.recorded_us if self._last else 0, None)

    def _say(self, what: str, pos: int | None = None) -> None:
        self._report(what, pos)

    # What must be going on while time passes

    def _check_nothing_was_left(self, last: Record, record: Record) -> None:
        """L3: while time passed, nothing could have been started."""
        model = self.model
        for session in model.sessions.values():
            if session.epoch != record.epoch or session.status != "running":
                continue
            is_free = model.open < session.limits["workers"]
            best = model.best(session, last.recorded_us)
            if best is not None and is_free:
                self._say(f"L3: a worker was free and {best} was not started", record.pos)
            late_us = record.recorded_us - self._truth.slack_us - SLACK_MS * 1000
            for due_us in model.moments(session, last.recorded_us):
                if is_free and last.recorded_us < due_us < late_us:
                    self._check_nothing_was_due(session, due_us, record.pos)
            if self._closely:
                self._count_hindrances(session, last.recorded_us)

    def _check_nothing_was_due(self, session: Session, due_us: int, pos: int) -> None:
        """L3: nothing could have been started at a moment that passed while others were at work."""
        if not self.model.may_start(session, due_us):
            return
        best, coolest = self.model.best(session, due_us), self.model.coolest(session, due_us)
        if best is not None:
            self._say(f"L3: at {due_us} {best} was due, and was not started", pos)
        if coolest is not None:
            self._say(f"L3: at {due_us} {coolest.name} had cooled down, and was left so", pos)

    def _count_hindrances(self, session: Session, now_us: int) -> None:
        for run in self.model.runs.values():
            for phase in run.phases.values():
                self.hindrances[self.model.hindrance(phase, session, now_us) or "none"] += 1

    def _check_left(self, session: Session, now_us: int, pos: int | None) -> None:
        """L4: every phase that is left is left for a stated reason.

        What comes due between the last look at the backlog and the end that it led to is not late.
        """
        looked_us = now_us - self._truth.slack_us - SLACK_MS * 1000
        for run in self.model.runs.values():
            for phase in run.phases.values():
                found = self.model.hindrance(phase, session, now_us)
                self.hindrances[found or "none"] += 1
                found = found or self.model.hindrance(phase, session, looked_us)
                if found is None and session.because == "nothing_eligible":
                    what = f"L4: {phase.run}/{phase.name} is left, and nothing hinders it"
                    self._say(what, pos)

    # The backlog and the operator

    def _run_registered(self, _record: Record, event: Event) -> None:
        self.model.register_run(event)

    def _phase_registered(self, record: Record, event: Event) -> None:
        self.model.register_phase(record.pos, event)

    def _requeued(self, record: Record, event: Event) -> None:
        if self.model.phase(event).open is not None:
            self._say("S7: a phase was requeued while an attempt was open", record.pos)
        self.model.requeue(event)

    def _reinstated(self, _record: Record, event: Event) -> None:
        self.model.begin_anew(event)

    def _operated(self, record: Record, event: Event) -> None:
        self.model.decide(event, record.pos, record.recorded_us)

    # Sessions

    def _governed(self, _record: Record, event: Event) -> None:
        self.model.govern(event)

    def _begun(self, record: Record, event: Event) -> None:
        known = self.model.session(event)
        resumed = record.type == "session.resumed"
        if resumed != bool(known.epoch):
            self._say("S32: a session starts once, and only a known one is resumed", record.pos)
        self.model.begin(event, record.recorded_us, record.epoch)

    def _draining(self, record: Record, event: Event) -> None:
        session = self.model.session(event)
        because = event["because"]
        if session.status != "running":
            self._say("S11: a session stops twice", record.pos)
        if because == "batch_size" and session.attempts < session.limits["batch_size"]:
            self._say("S20: the session stops below its number of attempts", record.pos)
        elapsed_ms = session.elapsed_ms(record.recorded_us)
        total_ms_max = session.limits.get("total_ms_max")
        if because == "total_time" and elapsed_ms + SLACK_MS < (total_ms_max or 1 << 60):
            self._say("S20: the session stops before its time", record.pos)
        if because == "interrupted" and session.name not in self._truth.asked_to_stop:
            self._say("S20: nobody asked the session to stop", record.pos)
        if because in ("session_budget", "day_budget"):
            scope = because.partition("_")[0]
            if scope not in self.model.brakes.session_budgets(session, record.recorded_us):
                self._say(f"S20: the budget of the {scope} is not used up", record.pos)
        if because == "run_budgets" and not self.model.is_held_by_budgets(session):
            self._say("S20: no budget of a run or phase holds anything back", record.pos)
        if because == "zero_yield_streak":
            self._decided(record, event)
        session.status, session.because = "draining", because

    def _ended(self, record: Record, event: Event) -> None:
        session = self.model.session(event)
        if self.model.open:
            self._say(f"S11: the session ends with {self.model.open} open attempts", record.pos)
        held = self.model.is_held_back(session, record.recorded_us)
        because = session.because or ("held_back" if held else "nothing_eligible")
        if because == "nothing_eligible" and self.model.is_held_by_budgets(session):
            because = "run_budgets"
        if event["because"] != because:
            what = f"S20: the session ends because of {event['because']}, not {because}"
            self._say(what, record.pos)
        elapsed_ms = session.elapsed_ms(record.recorded_us)
        slack_ms = SLACK_MS + self._truth.slack_us // 1000
        if abs(event["active_ms"] - elapsed_ms) > slack_ms:
            what = f"S32: the session counts {event['active_ms']} ms, it took {elapsed_ms}"
            self._say(what, record.pos)
        self.model.end(event)
        self._check_left(session, record.recorded_us, record.pos)

    def _cooled_down(self, record: Record, event: Event) -> None:
        session = self.model.session(event)
        coolest = self.model.coolest(session, record.recorded_us)
        run = self.model.runs[event["run_id"]]
        if coolest is not run:
            self._say(f"S19: {run.name} is said to have cooled down before its time", record.pos)
        if event["generation"] != run.generation + 1:
            self._say("S16: cooling down skips a generation", record.pos)
        self.model.begin_anew(event)

    def _followed(self, record: Record, event: Event) -> None:
        """A decision that belongs to the end of an attempt, or to the event before it."""
        if self._due is not None:
            self._decided(record, event)
            return
        kind, fields = self._owed.pop(0) if self._owed else ("nothing", {})
        if kind != record.type:
            self._say(f"S17: {kind} had to follow, {record.type} does", record.pos)
        self._compare(f"S17: of {record.type} the", fields, event, record.pos)
        self.model.decide(event, record.pos, record.recorded_us)

    # Attempts

    def _started(self, record: Record, event: Event) -> None:
        session, phase = self.model.session(event), self.model.phase(event)
        run = self.model.runs[phase.run]
        group = 2 if run.standing not in GROUPS else GROUPS.index(run.standing)
        place = self.model.place(phase, session, group)
        now_us = record.recorded_us
        best = self.model.best(session, now_us)
        if best is None or (place, event.get("probe_of")) != best:
            hindrance = self.model.hindrance(phase, session, now_us)
            what = f"S19: {place} was picked ({hindrance}), and {best} comes first"
            self._say(what, record.pos)
        if self.model.coolest(session, now_us) is not None:
            self._say("S19: a run that has cooled down comes first", record.pos)
        for scope in self.model.brakes.session_budgets(session, now_us):
            self._say(f"S10: an attempt starts beyond the budget of the {scope}", record.pos)
        if session.attempts >= session.limits["batch_size"]:
            self._say("S10: more attempts than the session may make", record.pos)
        total_ms_max = session.limits.get("total_ms_max")
        elapsed_ms = session.elapsed_ms(record.recorded_us) - self._truth.slack_us // 1000
        if total_ms_max and elapsed_ms - SLACK_MS > total_ms_max:
            self._say("S10: an attempt starts after the session's time", record.pos)
        self._check_told(record, event, session, phase)
        self._owed += crossed(phase, run, session, {"attempts": 1})
        self.model.start(event, record.epoch, now_us)
        self._newest_start = (record.pos, event["attempt_id"])

    def _estimated(self, record: Record, event: Event) -> None:
        if self._newest_start != (record.pos - 1, event["attempt_id"]):
            self._say("S25: an estimate is not right behind its attempt's start", record.pos)

    def _check_told(self, record: Record, event: Event, session: Session, phase: Phase) -> None:
        """S19: what an attempt says of itself and of its reason."""
        run, reason_class = self.model.runs[phase.run], phase.reason_class()
        group = run.standing if run.standing in GROUPS else "others"
        expected = {
            "number": phase.number + 1,
            "group": "named" if session.is_named_phase else group,
            "category": _CLASS_NAMES[reason_class],
            "initial_state": phase.state,
            "phase_index": phase.index,
            "timeout_ms": session.limits["phase_timeout_ms"],
        }
        self._compare("S19: the start", expected, event, record.pos)
        inputs = {
            "standing": run.standing,
            "reason_class": reason_class,
            "tier_index": phase.tier,
            "phase_index": phase.index,
            "attempts_before": phase.attempts,
        }
        self._check_reason("S19: the pick", event, inputs, record.pos - 1, record.pos)

    def _check_reason(
        self, who: str, event: Event, inputs: dict[str, Any], basis: int, pos: int
    ) -> None:
        """A decision stands on what was before it, and read what was so."""
        reason = event["reason"]
        if reason["basis"] != basis:
            self._say(f"{who} stands on position {reason['basis']}, not {basis}", pos)
        told = {each["name"]: each["value"] for each in reason.get("inputs", ())}
        self._compare(f"{who} read, where", inputs, told, pos)

    def _compare(self, who: str, expected: Event, found: Event, pos: int) -> None:
        for name, value in expected.items():
            if found.get(name) != value:
                self._say(f"{who} {name} is {value!r}, says {found.get(name)!r}", pos)

    def _spawned(self, _record: Record, event: Event) -> None:
        self.model.attempts[event["attempt_id"]].spawned = True

    def _used(self, _record: Record, event: Event) -> None:
        self.model.attempts[event["attempt_id"]].usage.append(event)

    def _finished(self, record: Record, event: Event) -> None:
        attempt = self.model.attempts.get(event["attempt_id"])
        if attempt is None or attempt.finish_pos:
            self._say("S6: an attempt is finished that is not open", record.pos)
            return
        self._settle()
        self._check_facts(record, event, attempt)
        running = attempt.session.status == "running"
        self._due = _Due(record.command_id, record.pos, record.recorded_us, event, attempt, running)

    def _check_facts(self, record: Record, event: Event, attempt: Attempt) -> None:
        """S13, S21: what is recorded is what the executor told of this very attempt."""
        adopted = record.epoch != attempt.epoch
        everything = self._truth.delivered.get(attempt.name, ())
        delivered = [each for each in everything if each.adopted == adopted]
        if not delivered:
            # Cancelled before its executor could say anything, or lost before it had a process.
            unproved = "orphaned" if adopted and not attempt.spawned else "abandoned"
            if event["ending"] != unproved:
                self._say(f"S13: {event['ending']}, of which nothing was told", record.pos)
            return
        told = delivered[-1]
        ending = ending_of(told, attempt.session)
        expected: dict[str, Any] = {
            "ending": ending,
            "final_state": final_state_of(told.outcome, ending, attempt.initial_state),
            "number": attempt.number,
            "timeout_ms": attempt.timeout_ms,
        }
        self._compare("S13: the attempt's", expected, event, record.pos)
        if isinstance(told.outcome, Report):
            self._check_report(record, event, attempt, told.outcome)

    def _check_report(self, record: Record, event: Event, attempt: Attempt, report: Report) -> None:
        usage, rejected = report.telemetry.usage, report.telemetry.rejected
        tokens = [(one.get("input_tokens"), one.get("output_tokens")) for one in attempt.usage]
        expected = {
            "duration_ms": report.duration_ms,
            "exit_code": report.exit_code,
            "signal": report.signal,
            "yield_events": len(usage) or None,
            "tokens": sum((a or 0) + (b or 0) for a, b in tokens) or None,
            "lines_read": report.telemetry.lines_read or None,
            "lines_rejected": sum(r.count for r in rejected) or None,
        }
        self._compare("S21: the attempt's", expected, event, record.pos)
        if tokens != [(one.input_tokens, one.output_tokens) for one in usage]:
            self._say("S21: the usage is not what the attempt wrote", record.pos)

    def _explained(self, record: Record, event: Event) -> None:
        due = self._due_of(record, event)
        if due is None:
            return
        ending = due.event["ending"]
        if ending in ("abandoned", "orphaned") and event["reason"] != ending:
            self._say(f"S22: {ending}, and explained by {event['reason']}", record.pos)
        if (ending == "succeeded") != (event["reason"] == "success_no_llm_calls"):
            self._say(f"S22: {ending}, and explained by {event['reason']}", record.pos)
        due.explained = True

    def _fingerprinted(self, record: Record, event: Event) -> None:
        due = self._due_of(record, event)
        if due is None:
            return
        seen = due.attempt.session.seen[event["fingerprint"]]
        if event.get("seen_before", 0) != seen:
            what = f"S20: seen {seen} times before, and {event.get('seen_before', 0)} recorded"
            self._say(what, record.pos)
        due.fingerprint = event["fingerprint"]
        told_apart = due.attempt.session.policy["timeout_fingerprints"]
        if due.event["ending"] == "timed_out" and told_apart != "detected":
            name = f"{event['detector']}:timeout"
            name += f":{event['run_id']}" if told_apart == "run" else ""
            self._compare("S20: the timeout's", {"fingerprint": name}, event, record.pos)

    def _boundary(self, record: Record, event: Event) -> None:
        due = self._due_of(record, event)
        if due is not None:
            due.boundary = event

    def _due_of(self, record: Record, event: Event) -> _Due | None:
        due = self._due
        if due is None or due.event["attempt_id"] != event["attempt_id"]:
            self._say("S20: a diagnosis stands apart from the end of its attempt", record.pos)
            return None
        return due

    # Decisions

    def _decided(self, record: Record, event: Event) -> None:
        if self._due is None:
            self._say(f"S17: {record.type} stands apart from the end of an attempt", record.pos)
        else:
            self._due.decided.append((record, event))

    def _settle(self) -> None:
        """S16, S17, S20: what was decided at the end of an attempt is what had to be."""
        due, self._due = self._due, None
        if due is None:
            return
        ending, pos = due.event["ending"], due.pos
        if (ending in ("failed", "timed_out", "broke")) != (due.fingerprint is not None):
            self._say(f"S20: {ending}, with the fingerprint {due.fingerprint}", pos)
        if bool(due.event.get("yield_events")) == due.explained:
            self._say("S22: usage or a reason for none, never both or neither", pos)
        ended = Ended(
            due.attempt,
            due.event,
            due.now_us,
            due.fingerprint,
            due.boundary,
            due.was_running,
            self.model.brakes,
        )
        expected = decisions(ended)
        found = [self._as_decided(due, *one) for one in due.decided]
        if [kind for kind, _ in found] != [kind for kind, _ in expected]:
            names = [kind for kind, _ in expected], [kind for kind, _ in found]
            self._say("S17: {} had to be decided, {} was".format(*names), pos)
        for (kind, fields), (_, event), (record, _) in zip(
            expected, found, due.decided, strict=False
        ):
            self._compare(f"S17: of {kind} the", fields, event, record.pos)
            inputs = inputs_of(ended) if kind in BY_SITUATION else {}
            self._check_reason(f"S20: {kind}", event, inputs, pos - 1, record.pos)
        self._go_on(due)

    def _as_decided(self, due: _Due, record: Record, event: Event) -> tuple[str, Event]:
        if record.cause != due.pos:
            self._say(f"S16: the cause of {record.type} is not the end of its attempt", record.pos)
        return record.type, event

    def _go_on(self, due: _Due) -> None:
        session = due.attempt.session
        if due.fingerprint is not None:
            session.seen[due.fingerprint] += 1
        self.model.finish(due.pos, due.event, due.now_us)
        for record, event in due.decided:
            if record.type != "session.draining":
                self.model.decide(event, record.pos, due.now_us)

    _FOLLOW: ClassVar[dict[str, Callable[[Checker, Record, Event], None]]] = {
        "backlog.run_registered": _run_registered,
        "backlog.phase_registered": _phase_registered,
        "backlog.phase_requeued": _requeued,
        "operator.run_reinstated": _reinstated,
        "session.policy_adopted": _governed,
        "session.started": _begun,
        "session.resumed": _begun,
        "session.draining": _draining,
        "session.ended": _ended,
        "attempt.started": _started,
        "attempt.estimated": _estimated,
        "attempt.spawned": _spawned,
        "attempt.finished": _finished,
        "usage.recorded": _used,
        "diagnosis.fingerprinted": _fingerprinted,
        "diagnosis.zero_yield_explained": _explained,
        "diagnosis.boundary_detected": _boundary,
        "triage.run_judged": _decided,
        "triage.fingerprint_stopped": _decided,
        "triage.run_stopped": _decided,
        "triage.attempt_deferred": _decided,
        "triage.account_paused": _decided,
        "triage.account_recovered": _decided,
        "triage.breaker_probed": _decided,
        "triage.breaker_closed": _decided,
        "triage.breaker_opened": _followed,
        "triage.budget_reached": _followed,
        "triage.run_cooled_down": _cooled_down,
        "operator.breaker_reset": _operated,
        "operator.account_resumed": _operated,
    }
