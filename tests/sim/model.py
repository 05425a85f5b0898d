"""What a log says of runs, phases and sessions, worked out a second time.

Written from docs/reference/triage.md alone; it shares no code with the rules, the folds or the
queue, and it looks at everything instead of keeping an index.  ``Model`` follows events as they
stand in the log (JSON objects with defaults left out).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from tests.sim.brakes import Brakes, cools_us, is_over
from tests.sim.standings import GROUPS, PROVED, UNFINISHED, Attempt, Event, Phase, Run, Session


class Pick(NamedTuple):
    """A phase that may be attempted, and its place among all that may."""

    group: int
    reason_class: int
    tier: int
    within: int
    pos: int


class Best(NamedTuple):
    """The next pick; ``probe_of``: the breaker that it probes."""

    place: Pick
    probe_of: str | None = None


class Model:
    """Everything at one position."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.sessions: dict[str, Session] = {}
        self.attempts: dict[str, Attempt] = {}
        self.brakes = Brakes()
        self.open = 0

    def phase(self, event: Event) -> Phase:
        return self.runs[event["run_id"]].phases[event["phase_id"]]

    def session(self, event: Event) -> Session:
        return self.sessions[event["session_id"]]

    def register_run(self, event: Event) -> None:
        self.runs[event["run_id"]] = Run(event["run_id"])

    def register_phase(self, pos: int, event: Event) -> None:
        run = self.runs[event["run_id"]]
        run.phases[event["phase_id"]] = Phase(
            run=run.name,
            name=event["phase_id"],
            tier=event["tier_index"],
            index=event["phase_index"],
            pos=pos,
            is_strict=event.get("order", "strict") == "strict",
            after=tuple(event.get("after", ())),
            state=event["state"],
            reason=event.get("last_failure_reason"),
            tokens_cap=event.get("incident_token_cap"),
            needs=frozenset(event.get("needs", ())),
        )

    def requeue(self, event: Event) -> None:
        phase = self.phase(event)
        phase.state, phase.reason = "QUEUED", None
        phase.number = phase.attempts = phase.orphans = phase.deferrals = 0
        phase.spent.clear()

    def begin_anew(self, event: Event) -> None:
        """A run is to be sampled again, because a person says so or because it has cooled down."""
        run = self.runs[event["run_id"]]
        run.standing, run.generation = "unsampled", event["generation"]
        run.spent.clear()
        for session in self.sessions.values():
            session.stopped_runs.pop(run.name, None)

    def govern(self, event: Event) -> None:
        name = event["session_id"]
        session = self.sessions.setdefault(name, Session(name))
        session.policy = json.loads(event["policy_json"])

    def begin(self, event: Event, now_us: int, epoch: int) -> None:
        session = self.session(event)
        if session.epoch and session.status != "ended":
            # An engine died in the part before; nobody knows more of it than its last event.
            session.active_ms += (session.last_us - session.part_us) // 1000
        session.limits, session.epoch = event["limits"], epoch
        session.executor = event["executor"]
        session.status, session.because = "running", None
        session.part_us = session.last_us = now_us

    def end(self, event: Event) -> None:
        session = self.session(event)
        session.status, session.because = "ended", event["because"]
        session.active_ms = event["active_ms"]

    def start(self, event: Event, epoch: int, now_us: int) -> None:
        phase, session = self.phase(event), self.session(event)
        run = self.runs[phase.run]
        name = event["attempt_id"]
        self.attempts[name] = Attempt(
            name, session, run, phase, event["number"], event["timeout_ms"], phase.state, epoch
        )
        phase.state, phase.open, phase.number = "EXECUTING", name, event["number"]
        phase.attempts += 1
        phase.tried_in = None
        session.attempts += 1
        for spent in (session.spent, run.spent, phase.spent):
            spent["attempts"] += 1
        self.brakes.spend({"attempts": 1}, now_us)
        if event["group"] == "unsampled":
            session.samples.add(name)
        if event.get("probe_of") is not None:
            self.brakes.breakers[event["probe_of"]].probe = name
        session.open += 1
        run.open += 1
        self.open += 1

    def finish(self, pos: int, event: Event, now_us: int) -> None:
        attempt = self.attempts[event["attempt_id"]]
        session, phase, ending = attempt.session, attempt.phase, event["ending"]
        proved = ending in PROVED
        attempt.finish_pos = pos
        phase.state, phase.open = event["final_state"], None
        if proved:
            error = event.get("error")
            phase.reason_before, phase.reason = phase.reason, error
            phase.tried_in = session.name
        else:
            phase.attempts -= 1
            phase.orphans += ending == "orphaned"
        took = {"tokens": event.get("tokens", 0), "ms": event["duration_ms"]}
        for spent in (session.spent, attempt.run.spent, phase.spent):
            spent.update(took)
        self.brakes.spend(took, now_us)
        session.samples.discard(attempt.name)
        session.open -= 1
        attempt.run.open -= 1
        self.open -= 1
        session.timeouts[phase.run] += ending == "timed_out"
        session.streak_before = session.zero_streak
        session.lossy_streak_before = session.lossy_streak
        if event.get("yield_events", 0):
            session.zero_streak = 0
        elif proved:
            session.zero_streak += 1
        if event.get("yield_events", 0) and event["told"]["ended"] != "timed_out":
            session.lossy_streak = 0
        elif proved:
            session.lossy_streak += 1

    def decide(self, event: Event, pos: int, now_us: int) -> None:
        """Go on from a decision that stands behind the end of an attempt, or by itself."""
        kind = event["type"]
        if kind == "triage.run_judged":
            self._judged(event, now_us)
        elif kind == "triage.attempt_deferred":
            self._deferred(event)
        elif kind == "triage.fingerprint_stopped":
            self.session(event).stopped_fingerprints.add(event["fingerprint"])
        elif kind == "triage.run_stopped":
            self.session(event).stopped_runs[event["run_id"]] = event["because"]
            if event.get("demoted"):
                self.runs[event["run_id"]].standing = "inconclusive"
        else:
            self.brakes.follow(event, pos, now_us)

    def _judged(self, event: Event, now_us: int) -> None:
        run, session = self.runs[event["run_id"]], self.session(event)
        run.standing, run.verdict_us = event["verdict"], now_us
        session.telling += event["because"] != "repeated_failure"
        barren = event.get("barren")
        if barren is not None and run.name not in self.brakes.barren[barren]:
            self.brakes.barren[barren].append(run.name)

    def _deferred(self, event: Event) -> None:
        """The attempt is as if it had not been made."""
        phase, session = self.phase(event), self.session(event)
        phase.state, phase.reason = event["state"], phase.reason_before
        phase.attempts -= 1
        phase.deferrals += 1
        session.zero_streak = session.streak_before
        session.lossy_streak = session.lossy_streak_before
        if event.get("timed_out"):
            session.timeouts[phase.run] -= 1
        if event.get("fingerprint") is not None:
            session.seen[event["fingerprint"]] -= 1

    def hindrance(self, phase: Phase, session: Session, now_us: int) -> str | None:
        """What keeps a phase from being attempted now; None when nothing does."""
        run = self.runs[phase.run]
        found = (
            run_hindrance(run, session)
            or _not_asked_for(phase, session)
            or phase_hindrance(phase, session)
            or ("waits" if self._waits(phase, session) else None)
        )
        if found is None and run.standing == "unsampled":
            return self.brakes.gate(session, now_us).hindrance
        return found

    def best(self, session: Session, now_us: int, *, paused: bool = False) -> Best | None:
        """What is next at ``now_us``, by looking at everything; ``paused``: even during a pause."""
        if not paused and not self.may_start(session, now_us):
            return None
        gate = self.brakes.gate(session, now_us)
        if gate.probe_of is not None:
            # A probe is drawn from as far away as possible.
            places = [place for place in self._each(session) if place.group == 0]
            if places:
                return Best(max(places), gate.probe_of)
        held = gate.hindrance is not None
        found = min((p for p in self._each(session) if p.group or not held), default=None)
        return found and Best(found)

    def may_start(self, session: Session, now_us: int) -> bool:
        """Whether neither a pause of the account nor a full host is in the way."""
        if self.brakes.paused_until_us(session, now_us) is not None:
            return False
        return self.open < int(session.limits.get("host_workers", self.open + 1))

    def is_held_back(self, session: Session, now_us: int) -> bool:
        """Whether an open breaker is all that keeps a run from being sampled."""
        held = self.brakes.gate(session, now_us).hindrance == "breaker_open"
        return held and any(place.group == 0 for place in self._each(session))

    def is_held_by_budgets(self, session: Session) -> bool:
        """Whether a phase could go, were there no given budgets of its own and of its run."""
        given = session.limits.get("budgets", ())
        wide = [each for each in given if each["scope"] in ("session", "day")]
        if session.is_named_phase or len(wide) == len(given):
            return False
        free = replace(session, limits={**session.limits, "budgets": wide})
        return any(
            "over_budget" in (run_hindrance(run, session), phase_hindrance(phase, session))
            for run in self.runs.values()
            if run_hindrance(run, free) is None
            for phase in run.phases.values()
            if phase_hindrance(phase, free) is None and not self._waits(phase, free)
        )

    def coolest(self, session: Session, now_us: int) -> Run | None:
        """The run that is to be sampled again before anything else is picked."""
        found = [
            (cools_us(run, session), run.name)
            for run in self.runs.values()
            if any(self._could_be_a_sample(phase, session) for phase in run.phases.values())
        ]
        due = [(at_us, name) for at_us, name in found if at_us is not None and at_us <= now_us]
        return self.runs[min(due)[1]] if due else None

    def moments(self, session: Session, now_us: int) -> Iterator[int]:
        """When time alone may let the session start something that it may not at ``now_us``."""
        until_us = self.brakes.paused_until_us(session, now_us)
        if until_us is not None:
            yield until_us
        yield from self.brakes.probes_us(session)
        for run in self.runs.values():
            due_us = cools_us(run, session)
            if due_us is not None:
                yield due_us

    def _could_be_a_sample(self, phase: Phase, session: Session) -> bool:
        return phase_hindrance(phase, session) is None and not self._waits(phase, session)

    def _each(self, session: Session) -> Iterator[Pick]:
        """The best place of every run that has one."""
        states = UNFINISHED if session.is_named_phase else session.policy["drains"]
        for run in self.runs.values():
            phases = [p for p in run.phases.values() if p.open is None and p.state in states]
            if not phases or run_hindrance(run, session) is not None:
                continue
            group = 2 if run.standing not in GROUPS else GROUPS.index(run.standing)
            found: Pick | None = None
            for phase in phases:
                found = self._better(phase, session, group, found)
            if found is not None:
                yield found

    def _better(
        self, phase: Phase, session: Session, group: int, found: Pick | None
    ) -> Pick | None:
        if _not_asked_for(phase, session) or phase_hindrance(phase, session):
            return found
        place = self.place(phase, session, group)
        if (found is not None and found <= place) or self._waits(phase, session):
            return found
        return place

    def place(self, phase: Phase, session: Session, group: int) -> Pick:
        tier = phase.tier if session.policy["order_tiers"] else 0
        return Pick(group, phase.reason_class(), tier, phase.index, phase.pos)

    def _waits(self, phase: Phase, session: Session) -> bool:
        if session.is_named_phase:
            return False
        policy = session.policy
        return any(
            other.state in UNFINISHED and other is not phase and comes_first(other, phase, policy)
            for other in self.runs[phase.run].phases.values()
        )


def comes_first(other: Phase, phase: Phase, policy: Mapping[str, Any]) -> bool:
    """Whether ``phase`` waits for ``other`` while that is unfinished."""
    if policy["order_deliverables"] and other.name in phase.after:
        return True
    if policy["order_tiers"] and other.tier < phase.tier:
        return True
    in_order = policy["order_phases"] and phase.is_strict and other.tier == phase.tier
    return bool(in_order and other.place < phase.place)


def _not_asked_for(phase: Phase, session: Session) -> str | None:
    asked = session.limits.get("phase_id")
    return None if asked in (None, phase.name) else "not_asked_for"


def run_hindrance(run: Run, session: Session) -> str | None:
    """What keeps every phase of a run from being attempted now."""
    limits = session.limits
    if limits.get("run_id") not in (None, run.name):
        return "filtered"
    if session.is_named_phase:
        return None
    if any(run.name.startswith(prefix) for prefix in limits.get("skip_run_prefixes", ())):
        return "prefix_skipped"
    if run.standing == "deprioritized":
        return "deprioritized"
    if run.name in session.stopped_runs:
        return "stopped"
    any_phase = next(iter(run.phases.values()), None)
    if any_phase is not None and is_over(run.spent, "run", any_phase, session):
        return "over_budget"
    if run.standing == "unsampled" and run.open:
        return "sample_in_flight"
    return "run_is_full" if run.open >= limits["per_run_max"] else None


def phase_hindrance(phase: Phase, session: Session) -> str | None:
    """What keeps a phase from being attempted, apart from its run and from what it waits for."""
    policy, tried = session.policy, phase.tried_in == session.name
    unfit = None if phase.needs <= set(session.limits.get("labels", ())) else "label_missing"
    if phase.open is not None:
        return "open"
    if session.is_named_phase:
        if phase.state not in UNFINISHED:
            return "done"
        return "tried_this_session" if tried else unfit
    if phase.state not in policy["drains"]:
        return "not_drained" if phase.state in UNFINISHED else "done"
    if policy["attempts_per_phase_max"] and phase.attempts >= policy["attempts_per_phase_max"]:
        return "exhausted"
    if policy["orphans_per_phase_max"] and phase.orphans >= policy["orphans_per_phase_max"]:
        return "lost_too_often"
    if policy["once_per_session"] and tried:
        return "tried_this_session"
    return "over_budget" if is_over(phase.spent, "phase", phase, session) else unfit
