"""Answers: the sentence about a run or a phase, and what would make a difference."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from engine.amounts import counted
from engine.triage.breaker import sampling_gate
from engine.triage.case import Case
from engine.triage.eligible import is_unfinished, phase_hindrance
from engine.triage.hindrance import Hindrance
from engine.triage.hindrances import of_phase_and_all, of_run_and_all
from engine.triage.ordering import RunOrder
from engine.triage.typed import quoted
from engine.triage.used_up import used_up
from projections.backlog import PhaseStanding
from projections.run_triage import RunStanding

TEXTS_SHOWN = 4
READY = "ready"
TAKE_OVER = "`runoff drain --resume -- PROGRAM` takes over what it left."
"""What helps where an engine died."""
SEEN_TO = "An engine on its machine takes it over; where none comes, others give it up in time."
"""What becomes of what an engine left that died while others are at work."""

_PROMISING_FOR = frozenset({"success", "telemetry", "timeout"})
"""What makes a run promising by any rule, so that it stands otherwise only after a stop."""
_COUNTED = {"waits": "waiting", "label_missing": "for want of a label"}


class Answer(NamedTuple):
    """The sentence, and what would make a difference."""

    sentence: str
    change: str | None


def in_words(kind: str) -> str:
    """A kind of hindrance behind a count."""
    return _COUNTED.get(kind) or kind.replace("_", " ")


def hindrances_of(case: Case, phase: PhaseStanding | None) -> list[Hindrance]:
    """All that keep a phase, or without one the run as a whole, from being attempted."""
    return of_run_and_all(case) if phase is None else of_phase_and_all(case, phase)


def phase_counts(case: Case) -> Counter[str]:
    """How many phases have which first hindrance of their own; ``ready`` for none."""
    order = RunOrder(case.scope.policy)
    for phase in case.phases:
        order.update(phase)
    return Counter(_first(case, phase, order) for phase in case.phases)


def _first(case: Case, phase: PhaseStanding, order: RunOrder) -> str:
    scope = case.scope
    if scope.limits.phase_id not in (None, phase.phase_id):
        return "filtered"
    found = phase_hindrance(phase, scope)
    if found is not None or scope.is_named_phase:
        return found or READY
    return "waits" if order.waits(phase.phase_id) else READY


def of_run(case: Case, held: list[Hindrance], later: list[Hindrance]) -> Answer:
    """What is said of a run; the hindrances are those in its session and in a new one."""
    run, base = case.run, _standing(case.run)
    left = sum(1 for phase in case.phases if is_unfinished(phase))
    if not left:
        return Answer(f"{base}; {_of(len(case.phases), len(case.phases))} finished.", None)
    counts = phase_counts(case if not case.is_over else case.anew())
    ready = counts.pop(READY, 0)
    base = f"{base}; {_of(left, len(case.phases))} unfinished"
    if not ready and not run.open:
        counts.pop("done", None)
        told = ", ".join(f"{count} {in_words(kind)}" for kind, count in counts.most_common())
        stuck = used_up(case.phases, (case if not case.is_over else case.anew()).scope)
        if stuck is not None:
            return Answer(f"{base}, and {stuck.clause}: {told}.", stuck.remedy)
        first = next(phase for phase in case.phases if is_unfinished(phase))
        which, none = ("it", "cannot") if left == 1 else ("the first of them", "none of them can")
        change = f"`{quoted('why', run.run_id, first.phase_id)}` says more of {which}."
        return Answer(f"{base}, and {none} go on ({told}).", change)
    some = f", {ready} of them ready" if left > 1 else ", and ready" if ready else ""
    return _held(f"{base}{some}", case, held, later)


def _standing(run: RunStanding) -> str:
    """How a run stands, by which verdict, and what became of that."""
    if not run.because:
        return f"The run is {run.standing}"
    decided = f"({run.because}, decided at position {run.verdict_pos})"
    if run.standing == "inconclusive" and run.because in _PROMISING_FOR:
        return f"The run is inconclusive: it was promising {decided} until it was stopped"
    return f"The run is {run.standing} {decided}"


def _of(some: int, total: int) -> str:
    if total == 1:
        return "its one phase is"
    many = "all" if some == total else str(some)
    return f"{many} of its {total} phases {'is' if some == 1 else 'are'}"


def of_phase(
    case: Case, phase: PhaseStanding, held: list[Hindrance], later: list[Hindrance]
) -> Answer:
    """What is said of a phase; the hindrances are those in its session and in a new one."""
    is_lost = case.session.status == "lost"
    if phase.open_attempt is not None and (is_lost or phase.last_session in case.left):
        left = f"An engine that is gone left {phase.open_attempt} open"
        left = f"{left}, attempt {phase.number}, since position {phase.last_pos}."
        return Answer(left, TAKE_OVER if case.is_over else SEEN_TO)
    if phase.open_attempt is not None:
        running = f"The phase is running: its attempt {phase.open_attempt}, number {phase.number},"
        return Answer(f"{running} began at position {phase.last_pos}.", "The end of that attempt.")
    tried = (
        f"after {counted(phase.attempts_total, 'attempt')}"
        if phase.attempts_total
        else "and was never attempted"
    )
    base = f"The phase is {phase.state} {tried}"
    if not is_unfinished(phase):
        done = next((h for h in later if h.kind == "done"), None)
        return Answer(f"{base}; nothing is left to do.", done.change if done else None)
    return _held(base, case, held, later)


def _held(base: str, case: Case, held: list[Hindrance], later: list[Hindrance]) -> Answer:
    probes = _as_probe(case if not case.is_over else case.anew())
    if not case.is_over:
        if not held and probes:
            return Answer(f"{base}; it {probes}.", None)
        if not held:
            return Answer(f"{base}; nothing holds it back: it goes when its turn comes.", None)
        return Answer(f"{base}; it is not attempted because {_listed(held)}.", _changes(held))
    is_lost = case.session.status == "lost"
    over = "the engine of the session has died" if is_lost else "the session has ended"
    over = "no session has begun yet" if case.is_new else over
    if later:
        would = f"{base}; {over}, and a new one would not attempt it because {_listed(later)}."
        then = _changes(later)
        return Answer(would, f"{TAKE_OVER} Then: {then}" if is_lost else then)
    only = f"{base}; nothing holds it back but that {over}."
    if probes:
        only = f"{base}; {over}, and in a new one it {probes}."
    anew = "`runoff drain`, or a daemon, attempts it when its turn comes."
    return Answer(only, TAKE_OVER if is_lost else anew)


def _as_probe(case: Case) -> str:
    """That a run without a verdict goes by an open breaker in its turn, as a clause; or nothing.

    Which of them is next depends on all others, so that each may be it.
    """
    if case.run.standing != "unsampled" or case.scope.is_named_phase:
        return ""
    gate = sampling_gate(case.session, case.breakers, case.scope.policy, case.now_us)
    if gate.probe_of is None:
        return ""
    return (
        f"goes as a probe of the open breaker of {gate.probe_of} when its turn comes: runs without"
        " a verdict go one at a time, the last one first"
    )


def _listed(found: list[Hindrance]) -> str:
    texts = [hindrance.text for hindrance in found[:TEXTS_SHOWN]]
    more = [f"{len(found) - TEXTS_SHOWN} more"] if len(found) > TEXTS_SHOWN else []
    return ", and because ".join([*texts, *more])


def _changes(found: list[Hindrance]) -> str:
    return " Then: ".join(dict.fromkeys(hindrance.change for hindrance in found[:TEXTS_SHOWN]))
