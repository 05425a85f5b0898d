"""Hindrances: everything that keeps a phase or a run from being attempted, not only the first.

``engine.triage.eligible`` and ``engine.triage.select`` stop at the first reason, because a pick
needs no more; a person needs all of them.  The tests hold both against each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from engine.amounts import counted, lasting
from engine.events import SessionEnd
from engine.triage import budgets
from engine.triage.breaker import next_probe_us, open_breakers, samples_allowed, sampling_gate
from engine.triage.case import Case
from engine.triage.cooling import cools_us
from engine.triage.eligible import is_unfinished, missing_labels, phase_hindrance
from engine.triage.ordering import waits_for
from engine.triage.picking import active_ms
from engine.triage.rules import JUDGED_ENDINGS
from engine.triage.scope import Scope
from engine.triage.typed import quoted
from engine.triage.used_up import may_be_sampled, requeueing, used_up
from projections.backlog import PhaseStanding
from projections.breakers import BreakerStanding
from projections.sessions import SessionStanding

Level = Literal["phase", "run", "samples", "account", "session"]
Kind = Literal[
    "done",
    "not_drained",
    "open",
    "exhausted",
    "lost_too_often",
    "tried_this_session",
    "over_budget",
    "label_missing",
    "waits",
    "filtered",
    "prefix_skipped",
    "deprioritized",
    "stopped",
    "sample_in_flight",
    "run_is_full",
    "breaker_open",
    "slow_start",
    "account_paused",
    "session_draining",
    "session_ended",
    "workers_full",
    "host_full",
    "batch_size",
    "total_time",
    "session_budget",
    "day_budget",
]
NAMES_SHOWN = 3

ENDS: dict[SessionEnd, str] = {
    "nothing_eligible": "nothing was left that it could attempt",
    "held_back": "an open breaker held back all that was left",
    "run_budgets": "budgets of runs or phases held back all that was left",
    "batch_size": "it had made as many attempts as it may",
    "total_time": "its time was up",
    "zero_yield_streak": "too many attempts in a row yielded no usage",
    "interrupted": "it was interrupted",
    "storage": "the log could not be written",
    "session_budget": "its budget was used up",
    "day_budget": "the day's budget was used up",
    "paused": "a person paused the daemon",
    "window_closed": "the daemon's schedule window closed",
}
"""Why a session starts nothing more, as the rest of a sentence."""

LARGER: dict[SessionEnd, str] = {
    "batch_size": "--batch-size",
    "total_time": "--max-total-minutes",
    "zero_yield_streak": "--max-consecutive-zero-yield",
}
"""The option that must be raised before a session that ended so can go on: it keeps its counts."""

HIGHER: dict[SessionEnd, str] = {
    "session_budget": "with higher budgets of the session",
    "day_budget": "with higher budgets of the day, or on another day,",
    "run_budgets": "with higher budgets of runs and phases",
}
"""What a session whose budgets ended it so needs to go on: it keeps what it spent."""


class Hindrance(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that keeps a phase or a run from being attempted now.

    ``of`` says what it lies in: the phase, its run, the sampling of runs without a verdict, the
    provider's account, or the session.  ``text`` is a clause for a person, ``change`` what would
    lift it.  ``id`` names what is meant beyond run and phase, ``pos`` where in the log it came
    about, ``until_us`` (Unix) when it lifts by itself; None where there is none.
    """

    kind: Kind
    of: Level
    text: str
    change: str
    id: str | None = None
    pos: int | None = None
    until_us: int | None = None


def of_phase_and_all(case: Case, phase: PhaseStanding) -> list[Hindrance]:
    """Everything that keeps a phase from being attempted now, in the order of its levels."""
    return [*of_phase(case, phase), *of_run_and_all(case)]


def of_run_and_all(case: Case) -> list[Hindrance]:
    """Everything that keeps all phases of a run from being attempted now."""
    return [*of_run(case), *of_samples(case), *of_account(case), *of_session(case)]


def moment(us: int, now_us: int) -> str:
    """A time for a person: in UTC, and how far it is from ``now_us`` (both Unix)."""
    at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=min(us, 253_402_300_799_000_000))
    how_far = span(abs(us - now_us))
    return f"{at:%Y-%m-%d %H:%M:%S} UTC ({f'in {how_far}' if us > now_us else f'{how_far} ago'})"


def span(us: int) -> str:
    """A duration for a person."""
    seconds = us / 1e6
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


def of_phase(case: Case, phase: PhaseStanding) -> Iterator[Hindrance]:
    """What lies in the phase itself, or in those that it waits for.

    The first is the one by which ``phase_hindrance`` counts the phase.
    """
    scope = case.scope
    if scope.limits.phase_id not in (None, phase.phase_id):
        yield _filtered("phase", "phase", scope.limits.phase_id)
    if phase.open_attempt is not None:
        yield Hindrance(
            kind="open",
            of="phase",
            text=f"its attempt {phase.open_attempt} is open",
            change="The end of that attempt.",
            id=phase.open_attempt,
            pos=phase.last_pos,
        )
    elif scope.is_named_phase or phase.state not in scope.policy.drains:
        yield from _of_state(phase, scope)
    if _is_over(phase, scope):
        yield from _tried(case, phase)
    elif scope.is_named_phase:
        yield from (*_tried(case, phase), *_labels(case, phase))
    else:
        for look in (_used_up, _tried, _over_budget, _labels, _waits):
            yield from look(case, phase)


def _is_over(phase: PhaseStanding, scope: Scope) -> bool:
    """Whether nothing is left to do, so that what was used up makes no difference."""
    return phase.state not in scope.policy.drains and not is_unfinished(phase)


def _of_state(phase: PhaseStanding, scope: Scope) -> Iterator[Hindrance]:
    if not is_unfinished(phase):
        past = phase.state in ("GATE", "CI_RUNNING")
        said = "it is past execution" if past else "it is finished"
        text = f"{said} ({phase.state})"
        yield _requeueable(phase, scope, "done", text, pos=phase.last_pos)
    elif not scope.is_named_phase:
        states = ", ".join(scope.policy.drains)
        text = f"its state is {phase.state}, and the policy drains {states}"
        found = _requeueable(phase, scope, "not_drained", text, pos=phase.last_pos)
        if "QUEUED" not in scope.policy.drains:
            other = "`runoff drain --policy default -- PROGRAM`"
            change = f"A policy that drains {phase.state}: {other}."
            found = msgspec.structs.replace(found, change=change)
        yield found


def _requeueable(
    phase: PhaseStanding, scope: Scope, kind: Kind, text: str, *, pos: int | None = None
) -> Hindrance:
    change = requeueing(phase, "puts it back, with its counts at nothing", scope)
    return Hindrance(kind=kind, of="phase", text=text, change=change, pos=pos)


def _filtered(of: Level, what: str, wanted: str | None) -> Hindrance:
    return Hindrance(
        kind="filtered",
        of=of,
        text=f"the session is for another {what} ({wanted})",
        change=f"A session for all, or for this {what}.",
        id=wanted,
    )


def _tried(case: Case, phase: PhaseStanding) -> Iterator[Hindrance]:
    scope = case.scope
    once = scope.policy.once_per_session or scope.is_named_phase
    was_here = phase.last_session == scope.session_id and phase.last_ending in JUDGED_ENDINGS
    if once and was_here and phase.open_attempt is None:
        yield Hindrance(
            kind="tried_this_session",
            of="phase",
            text=f"it was tried in this session ({phase.last_ending}), which does so once",
            change="A new session tries it again.",
            pos=phase.last_pos,
        )


def _used_up(case: Case, phase: PhaseStanding) -> Iterator[Hindrance]:
    policy = case.scope.policy
    most, lost = policy.attempts_per_phase_max, policy.orphans_per_phase_max
    if most and phase.attempts >= most:
        others = phase.number - phase.attempts
        more = f"; {others} more did not count" if others > 0 else ""
        text = f"it has used up its attempts ({phase.attempts} of {most}{more})"
        yield _requeueable(phase, case.scope, "exhausted", text)
    if lost and phase.orphans >= lost:
        text = (
            f"its attempts were lost with engine and guardian {counted(phase.orphans, 'time')},"
            f" the limit is {lost}"
        )
        yield _requeueable(phase, case.scope, "lost_too_often", text)


def _over_budget(case: Case, phase: PhaseStanding) -> Iterator[Hindrance]:
    for budget in budgets.phase_budgets(phase, case.scope):
        spent = budgets.of_phase(phase, budget.measure)
        if spent >= budget.limit:
            text = budgets.clause_of("it", budget, spent)
            yield _requeueable(phase, case.scope, "over_budget", text)


def _labels(case: Case, phase: PhaseStanding) -> Iterator[Hindrance]:
    missing = missing_labels(phase, case.scope)
    if not missing:
        return
    what = f"the label {missing[0]}" if len(missing) == 1 else f"the labels {', '.join(missing)}"
    able = next((each for each in case.elsewhere if _offers(each, phase)), None)
    options = " ".join(f"--label {label}" for label in phase.needs)
    change = f"An engine on a machine that has it, begun with `{options}`."
    if able is not None:
        change = f"Its turn at the session {able.session_id} on {able.host}, where that is offered."
    yield Hindrance(
        kind="label_missing",
        of="phase",
        text=f"it needs {what}, which the session's engine does not offer",
        change=change,
        id=missing[0],
    )


def _offers(session: SessionStanding, phase: PhaseStanding) -> bool:
    return session.limits is not None and set(phase.needs) <= set(session.limits.labels)


def _waits(case: Case, phase: PhaseStanding) -> Iterator[Hindrance]:
    blockers = waits_for(phase, case.phases, case.scope.policy)
    if not blockers:
        return
    command = quoted("why", case.run.run_id, blockers[0].phase_id)
    names = ", ".join(_blocker(case, blocker) for blocker in blockers[:NAMES_SHOWN])
    more = f" and {len(blockers) - NAMES_SHOWN} more" if len(blockers) > NAMES_SHOWN else ""
    yield Hindrance(
        kind="waits",
        of="phase",
        text=f"it waits for {names}{more}",
        change=f"The end of these; `{command}` says what the first of them waits for.",
        id=blockers[0].phase_id,
    )


def _blocker(case: Case, phase: PhaseStanding) -> str:
    found = phase_hindrance(phase, case.scope)
    return f"{phase.phase_id} ({phase.state}{f', {found}' if found else ''})"


def of_run(case: Case) -> Iterator[Hindrance]:
    """What lies in the run: its verdict, its stop, its budget, its attempts in flight."""
    run, scope = case.run, case.scope
    limits = scope.limits
    if limits.run_id not in (None, run.run_id):
        yield _filtered("run", "run", limits.run_id)
    if scope.is_named_phase:
        return
    if limits.skip_run_prefixes and run.run_id.startswith(limits.skip_run_prefixes):
        text, change = "the session skips its run by prefix", "A session without that prefix."
        yield Hindrance(kind="prefix_skipped", of="run", text=text, change=change)
    yield from _verdict(case)
    for budget in limits.budgets:
        spent = budgets.of_run(run, budget.measure)
        if budget.scope == "run" and spent >= budget.limit:
            change = "A higher budget."
            if run.standing != "unsampled":
                command = quoted("run reinstate", run.run_id, options="--why TEXT")
                change = f"A higher budget, or `{command}`, which counts anew."
            text = budgets.clause_of("its run", budget, spent)
            yield Hindrance(kind="over_budget", of="run", text=text, change=change)
    yield from _in_flight(case)


def _verdict(case: Case) -> Iterator[Hindrance]:
    run, scope = case.run, case.scope
    if run.standing == "deprioritized":
        due_us = cools_us(run, scope.policy)
        cooling, stuck = _cooling(due_us, case.now_us), used_up(case.phases, scope)
        if due_us is not None and not may_be_sampled(case.phases, scope):
            due_us, cooling = None, ", and does not cool down while it has no phase to sample"
        yield Hindrance(
            kind="deprioritized",
            of="run",
            text=f"its run is deprioritized ({run.because}){cooling}",
            change=(f"{stuck.remedy} Then: " if stuck is not None else "")
            + f"`{quoted('run reinstate', run.run_id, options='--why TEXT')}` has it sampled again"
            + (" at once." if cools_us(run, scope.policy) is not None else "; nothing else does."),
            pos=run.verdict_pos,
            until_us=due_us,
        )
    because = run.stopped_in(scope.session_id)
    if because is not None:
        yield Hindrance(
            kind="stopped",
            of="run",
            text=f"its run is stopped for the rest of the session ({because})",
            change="A new session tries it again.",
            pos=run.in_session(scope.session_id).stopped_pos,
        )


def _cooling(due_us: int | None, now_us: int) -> str:
    if due_us is None:
        return ", and does not cool down by itself"
    if now_us >= due_us:
        return ", and has cooled down, so that the next pick has it sampled again"
    return f", and cools down at {moment(due_us, now_us)}"


def _in_flight(case: Case) -> Iterator[Hindrance]:
    run, most = case.run, case.scope.limits.per_run_max
    flying = [phase.open_attempt for phase in case.phases if phase.open_attempt is not None]
    if run.standing == "unsampled" and run.open > 0:
        yield Hindrance(
            kind="sample_in_flight",
            of="run",
            text="the sample of its run is under way and the verdict is not in yet",
            change="The end of the sample brings the verdict.",
            id=flying[0] if flying else None,
        )
    if run.open >= most:
        text = f"its run has {counted(run.open, 'attempt')} open, as many as it may at once"
        change = "The end of one of its attempts."
        yield Hindrance(kind="run_is_full", of="run", text=text, change=change)


def of_samples(case: Case) -> Iterator[Hindrance]:
    """What holds back runs without a verdict; nothing for any other."""
    if case.run.standing != "unsampled" or case.scope.is_named_phase:
        return
    policy, session = case.scope.policy, case.session
    gate = sampling_gate(session, case.breakers, policy, case.now_us)
    if gate.hindrance == "breaker_open":
        for breaker in open_breakers(case.breakers):
            yield _breaker(case, breaker)
    elif gate.hindrance == "slow_start":
        flying, most = len(session.open_samples), samples_allowed(session.telling_samples, policy)
        yield Hindrance(
            kind="slow_start",
            of="samples",
            text=f"{flying} samples of runs are under way, and {most} may be until more is known",
            change="The end of one of these samples.",
        )


def _breaker(case: Case, breaker: BreakerStanding) -> Hindrance:
    text = (
        f"the breaker of {breaker.fingerprint} is open: it failed the samples of"
        f" {counted(breaker.runs, 'run')}, {counted(breaker.probes, 'probe')} failed since,"
        f" {_probe(case, breaker)}"
    )
    command = quoted("breaker reset", breaker.fingerprint, options="--why TEXT")
    change = f"A probe that does well, or `{command}` once the cause is gone."
    return Hindrance(
        kind="breaker_open",
        of="samples",
        text=text,
        change=change,
        id=breaker.fingerprint,
        pos=breaker.opened_pos,
        until_us=next_probe_us(breaker, case.scope.policy) if breaker.probe is None else None,
    )


def _probe(case: Case, breaker: BreakerStanding) -> str:
    if breaker.probe is not None:
        return f"and {breaker.probe} probes it now"
    if breaker.probes < case.scope.policy.breaker_probes_max:
        return "and the next probe waits for that of another breaker"
    due_us = next_probe_us(breaker, case.scope.policy)
    if due_us is None:
        return "and no further probe goes"
    return f"and the next probe is due at {moment(due_us, case.now_us)}"


def of_account(case: Case) -> Iterator[Hindrance]:
    """A pause of the provider's account that the session uses."""
    account, policy = case.account, case.scope.policy
    if account is None or policy.provider_pause_ms is None or case.scope.is_named_phase:
        return
    if case.now_us < account.until_us:
        said = "as the provider said" if account.stated else "for no time could be read"
        yield Hindrance(
            kind="account_paused",
            of="account",
            text=f"the account {account.account} met its {account.kind} and is paused until"
            f" {moment(account.until_us, case.now_us)}, {said}",
            change="The end of the pause, or"
            f" `{quoted('account resume', account.account, options='--why TEXT')}`.",
            id=account.account,
            pos=account.pos,
            until_us=account.until_us,
        )


def of_session(case: Case) -> Iterator[Hindrance]:
    """What keeps the session from starting anything: its end, its limits, its workers."""
    session = case.session
    because = ENDS[session.because] if session.because else "it was told to"
    if session.status == "ended":
        yield _of_session("session_ended", f"the session has ended, because {because}")
    elif session.status == "lost":
        yield _of_session("session_ended", "the engine of the session has died")
    elif session.status == "draining":
        yield _of_session("session_draining", f"the session starts nothing more, because {because}")
    else:
        yield from _limits(case)


def _limits(case: Case) -> Iterator[Hindrance]:
    session, limits = case.session, case.scope.limits
    if session.attempts >= limits.batch_size:
        text = f"the session has made {counted(session.attempts, 'attempt')}, its limit"
        yield _of_session("batch_size", text)
    elapsed_ms = active_ms(session, case.now_us)
    if limits.total_ms_max and elapsed_ms >= limits.total_ms_max:
        text = f"the session has run for {lasting(elapsed_ms)}, its limit"
        yield _of_session("total_time", text)
    for budget, spent in budgets.session_spends(session, case.day, case.scope):
        if spent >= budget.limit and budget.scope == "day":
            text = budgets.clause_of("this day", budget, spent)
            yield _of_session("day_budget", text, "The next day (UTC), or a higher budget.")
        elif spent >= budget.limit:
            yield _of_session("session_budget", budgets.clause_of("the session", budget, spent))
    if session.open >= limits.workers:
        text = f"all {limits.workers} workers of the session are busy"
        if limits.workers == 1:
            text = "the one worker of the session is busy"
        yield _of_session("workers_full", text, "The end of an attempt.")
    if limits.host_workers is not None and case.host_open >= limits.host_workers:
        name = f"{session.host}: " if session.host else ""
        text = f"the host is full ({name}{case.host_open} of {limits.host_workers} attempts)"
        yield _of_session("host_full", text, "The end of an attempt on that host.")


def _of_session(
    kind: Kind, text: str, change: str = "`runoff drain` begins a new session."
) -> Hindrance:
    return Hindrance(kind=kind, of="session", text=text, change=change)
