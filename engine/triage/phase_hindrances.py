"""What lies in a phase itself that keeps it from being attempted, or in those that it waits for."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from engine.amounts import counted
from engine.triage import budgets
from engine.triage.case import Case
from engine.triage.eligible import is_unfinished, missing_labels, phase_hindrance
from engine.triage.hindrance import Hindrance, Kind, filtered
from engine.triage.ordering import waits_for
from engine.triage.rules import JUDGED_ENDINGS
from engine.triage.scope import Scope
from engine.triage.typed import quoted
from engine.triage.used_up import requeueing
from projections.backlog import PhaseStanding
from projections.sessions import SessionStanding

NAMES_SHOWN = 3


def of_phase(case: Case, phase: PhaseStanding) -> Iterator[Hindrance]:
    """What lies in the phase itself, or in those that it waits for.

    The first is the one by which ``phase_hindrance`` counts the phase.
    """
    scope = case.scope
    if scope.limits.phase_id not in (None, phase.phase_id):
        yield filtered("phase", "phase", scope.limits.phase_id)
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
    is_for_good = budgets.cap_is_used_up(phase, case.scope)
    for budget in budgets.phase_budgets(phase, case.scope):
        spent = budgets.of_phase(phase, budget.measure)
        if spent >= budget.limit:
            text = budgets.clause_of("it", budget, spent)
            found = _requeueable(phase, case.scope, "over_budget", text)
            change = found.change if is_for_good else f"A higher budget; or {found.change}"
            yield msgspec.structs.replace(found, change=change)


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
