"""Hindrances: everything that keeps a phase or a run from being attempted, not only the first.

``engine.triage.eligible`` and ``engine.triage.select`` stop at the first reason, because a pick
needs no more; a person needs all of them.  The tests hold both against each other.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.amounts import counted, lasting
from engine.triage import budgets
from engine.triage.breaker import next_probe_us, open_breakers, samples_allowed, sampling_gate
from engine.triage.case import Case
from engine.triage.cooling import cools_us
from engine.triage.end_words import ENDS
from engine.triage.hindrance import Hindrance, Kind, filtered, moment
from engine.triage.phase_hindrances import of_phase
from engine.triage.picking import active_ms
from engine.triage.typed import quoted
from engine.triage.used_up import may_be_sampled, used_up
from projections.backlog import PhaseStanding
from projections.breakers import BreakerStanding


def of_phase_and_all(case: Case, phase: PhaseStanding) -> list[Hindrance]:
    """Everything that keeps a phase from being attempted now, in the order of its levels."""
    return [*of_phase(case, phase), *of_run_and_all(case)]


def of_run_and_all(case: Case) -> list[Hindrance]:
    """Everything that keeps all phases of a run from being attempted now."""
    return [*of_run(case), *of_samples(case), *of_account(case), *of_session(case)]


def of_run(case: Case) -> Iterator[Hindrance]:
    """What lies in the run: its verdict, its stop, its budget, its attempts in flight."""
    run, scope = case.run, case.scope
    limits = scope.limits
    if limits.run_id not in (None, run.run_id):
        yield filtered("run", "run", limits.run_id)
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
