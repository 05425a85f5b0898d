"""What the simulation reached: every transition by name, and those that it never came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import get_args

from engine.events import (
    Ending,
    Group,
    Measure,
    Record,
    SessionEnd,
    Verdict,
    VerdictCause,
    ZeroYieldReason,
)
from engine.events.codec import EVENT_CLASSES
from engine.events.triage import RunStopCause
from engine.triage.eligible import PhaseHindrance, RunHindrance
from tests.sim.fates import FATES
from tests.sim.plan import BASES
from tests.sim.standings import Event

_VERDICTS = (
    ("promising", "success"),
    ("promising", "telemetry"),
    ("promising", "timeout"),
    ("promising", "new_failure"),
    ("inconclusive", "new_failure"),
    ("inconclusive", "repeated_timeout"),
    ("inconclusive", "stopped"),
    ("deprioritized", "repeated_failure"),
)
FAULTS = ("before", "after", "refused", "killed", "fenced", "rebooted", "stopped", "abandoned")


def note(reached: Counter[str], record: Record, event: Event) -> None:
    """Count one event under everything that it is an instance of."""
    kind = record.type
    reached[f"event {kind}"] += 1
    name = _NAMES.get(kind)
    if name is not None:
        reached[name.format_map(event)] += 1


_NAMES: Mapping[str, str] = {
    "triage.run_judged": "verdict {verdict} because {because}",
    "triage.run_stopped": "stop run by {because}",
    "triage.fingerprint_stopped": "stop fingerprint",
    "session.ended": "session ends by {because}",
    "attempt.finished": "ending {ending}",
    "attempt.started": "group {group}",
    "diagnosis.zero_yield_explained": "no usage: {reason}",
    "diagnosis.boundary_detected": "limit {kind} {disposition}",
    "session.policy_adopted": "policy {policy}",
    "triage.breaker_probed": "probe {outcome}",
    "triage.budget_reached": "budget of the {scope} in {measure}",
}
"""What an event of each type is an instance of, made from its fields."""


def everything() -> list[str]:
    """The name of everything that could be reached, in the order of the table."""
    return [
        *(f"event {name}" for name in EVENT_CLASSES),
        *(f"verdict {verdict} because {because}" for verdict, because in _pairs()),
        *(f"stop run by {because}" for because in get_args(RunStopCause)),
        "stop fingerprint",
        *(f"session ends by {because}" for because in get_args(SessionEnd)),
        *(f"ending {ending}" for ending in get_args(Ending)),
        *(f"group {group}" for group in get_args(Group)),
        *(f"no usage: {reason}" for reason in get_args(ZeroYieldReason)),
        *(f"hindrance {name}" for name in get_args(PhaseHindrance)),
        *(f"hindrance {name}" for name in get_args(RunHindrance) if name != "over_budget"),
        "hindrance breaker_open",
        "hindrance slow_start",
        *(f"policy {policy.label}" for policy in BASES),
        *(f"probe {outcome}" for outcome in ("failed_alike", "failed_otherwise", "unproved")),
        *(f"budget of the {s} in {m}" for s in ("phase", "run") for m in get_args(Measure)),
        *(f"fault {name}" for name in FAULTS),
        *(f"fate {name}" for name in FATES),
    ]


def _pairs() -> list[tuple[str, str]]:
    """The verdicts that there are with their causes, and any cause that is not listed here yet."""
    listed = {because for _, because in _VERDICTS}
    new = [because for because in get_args(VerdictCause) if because not in listed]
    assert {verdict for verdict, _ in _VERDICTS} == set(get_args(Verdict))
    return [*_VERDICTS, *(("any verdict", because) for because in new)]


def table(reached: Counter[str]) -> Iterable[str]:
    """One line for each thing reached, most wanted order; then the names of those never reached."""
    known = everything()
    names = [*known, *sorted(set(reached) - set(known))]
    for name in names:
        if reached[name]:
            yield f"{reached[name]:>10}  {name}"
    never = [name for name in known if not reached[name]]
    yield f"never reached: {', '.join(never) or 'nothing'}"
