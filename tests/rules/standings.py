"""Standings, events and boards for tests of rules: everything has a value, tests name what counts.

A board is made from rows, as a reader's is, so that every standing there can be has its turn, also
those that take a long history to come to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from engine.events import (
    GENESIS,
    AttemptFinished,
    AttemptStarted,
    BoundaryDetected,
    Budget,
    FailureFingerprinted,
    Input,
    Limits,
    Reason,
    RunJudged,
    ZeroYieldExplained,
)
from engine.triage.policy import Policy
from engine.triage.reasons import RULES, Ground
from engine.triage.scope import Scope
from projections.accounts import AccountStanding
from projections.backlog import PhaseStanding
from projections.board import FOLDS, Board
from projections.breakers import BreakerStanding
from projections.causes import CauseStanding
from projections.days import Day
from projections.fingerprints import FingerprintCount
from projections.fold import Checkpoint, Keyed, canonical, join
from projections.run_triage import RunStanding
from projections.sessions import SessionStanding

NOW_US = 1_767_225_600_000_000
BASIS = 41
S = TypeVar("S", bound=msgspec.Struct)

_REASON = Reason(rule="r", version=1, policy="p", basis=0, sentence="")
_LIMITS = Limits(batch_size=9, workers=2, per_run_max=1, phase_timeout_ms=1000, grace_ms=10)
_PHASE = PhaseStanding(
    run_id="r",
    phase_id="p",
    tier_id="T",
    tier_index=0,
    phase_index=0,
    order="strict",
    after=(),
    state="QUEUED",
    category=None,
    complexity=None,
    reason=None,
    registered_pos=1,
)
_FINISHED = AttemptFinished(
    session_id="s",
    run_id="r",
    phase_id="p",
    attempt_id="a",
    number=1,
    ending="failed",
    final_state="FAILED",
    duration_ms=7,
    timeout_ms=1000,
)
_STARTED = AttemptStarted(
    session_id="s",
    run_id="r",
    phase_id="p",
    attempt_id="a",
    number=1,
    group="unsampled",
    category="unknown",
    initial_state="QUEUED",
    phase_index=0,
    executor="x",
    timeout_ms=1000,
    reason=_REASON,
)
_FINGERPRINTED = FailureFingerprinted(
    session_id="s",
    run_id="r",
    phase_id="p",
    attempt_id="a",
    detector="d",
    fingerprint="f",
    family="fam",
    template="words",
    exit_class="exit 1",
    seen_before=0,
)
_BOUNDARY = BoundaryDetected(
    session_id="s",
    run_id="r",
    phase_id="p",
    attempt_id="a",
    detector="d",
    kind="rate_limit",
    disposition="stopped_by",
    pattern="429",
)
_JUDGED = RunJudged(
    session_id="s",
    run_id="r",
    attempt_id="a",
    generation=1,
    verdict="deprioritized",
    because="repeated_failure",
    reason=_REASON,
)
_SILENT = ZeroYieldExplained(
    session_id="s",
    run_id="r",
    phase_id="p",
    attempt_id="a",
    detector="d",
    reason="unknown",
    evidence="nothing",
)
_KEYS: Mapping[type[msgspec.Struct], tuple[str, Callable[[Any], str]]] = {
    PhaseStanding: ("backlog", lambda row: join(row.run_id, row.phase_id)),
    RunStanding: ("run_triage", lambda row: row.run_id),
    CauseStanding: ("causes", lambda row: row.fingerprint),
    FingerprintCount: ("fingerprints", lambda row: join(row.session_id, row.fingerprint)),
    SessionStanding: ("sessions", lambda row: row.session_id),
    BreakerStanding: ("breakers", lambda row: row.fingerprint),
    AccountStanding: ("accounts", lambda row: row.account),
    Day: ("days", lambda row: f"{row.day:06d}"),
}


def policy(**fields: Any) -> Policy:
    """Nothing is on but what ``fields`` name, and what any policy has."""
    return replace(Policy(name="t", version=7), **fields)


def limits(**fields: Any) -> Limits:
    return replace(_LIMITS, **fields)


def scope(of: Policy | None = None, **fields: Any) -> Scope:
    """The session ``s``."""
    return Scope("s", of or policy(), limits(**fields))


def named(of: Policy | None = None, **fields: Any) -> Scope:
    """A person asked for the phase ``p`` of the run ``r``."""
    return scope(of, run_id="r", phase_id="p", **fields)


def ground(of: Policy | Scope | None = None, now_us: int = NOW_US) -> Ground:
    return Ground(of if isinstance(of, Scope) else scope(of), BASIS, now_us)


def because(rule: str, sentence: str, **inputs: str | float | bool | None) -> Reason:
    """The reason that ``ground`` gives."""
    told = tuple(Input(name, value) for name, value in inputs.items())
    return Reason(
        rule=rule,
        version=RULES.get(rule, 1),
        policy="t@7",
        basis=BASIS,
        inputs=told,
        sentence=sentence,
    )


def phase(**fields: Any) -> PhaseStanding:
    return replace(_PHASE, **fields)


def run(**fields: Any) -> RunStanding:
    return replace(RunStanding(run_id="r"), **fields)


def session(**fields: Any) -> SessionStanding:
    known = SessionStanding(session_id="s", executor="x", limits=_LIMITS)
    return replace(known, **fields)


def breaker(fingerprint: str = "f", **fields: Any) -> BreakerStanding:
    return replace(BreakerStanding(fingerprint=fingerprint, session_id="s"), **fields)


def account(name: str = "x", **fields: Any) -> AccountStanding:
    return replace(AccountStanding(account=name), **fields)


def cause(fingerprint: str = "f", *runs: str) -> CauseStanding:
    """A failure that spoiled the samples of these runs."""
    return CauseStanding(fingerprint=fingerprint, runs=runs)


def count_of(fingerprint: str = "f", **fields: Any) -> FingerprintCount:
    known = FingerprintCount(session_id="s", fingerprint=fingerprint, template="words")
    return replace(known, **fields)


def finished(**fields: Any) -> AttemptFinished:
    return replace(_FINISHED, **fields)


def started(**fields: Any) -> AttemptStarted:
    return replace(_STARTED, **fields)


def fingerprinted(**fields: Any) -> FailureFingerprinted:
    return replace(_FINGERPRINTED, **fields)


def boundary(**fields: Any) -> BoundaryDetected:
    return replace(_BOUNDARY, **fields)


def judged(**fields: Any) -> RunJudged:
    """Set aside, unless ``fields`` say otherwise."""
    return replace(_JUDGED, **fields)


def silent(**fields: Any) -> ZeroYieldExplained:
    return replace(_SILENT, **fields)


def budget(of: str, measure: str, limit: int) -> Budget:
    return msgspec.convert({"scope": of, "measure": measure, "limit": limit}, Budget)


def board(*rows: msgspec.Struct) -> Board:
    """A board on which exactly these rows stand, at position BASIS."""
    stored: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        name, key = _KEYS[type(row)]
        stored.setdefault(name, []).append((key(row), canonical(row)))
    point = Checkpoint(BASIS, GENESIS, bytes(32))
    return Board({name: (point, Keyed(FOLDS[name], found)) for name, found in stored.items()})
