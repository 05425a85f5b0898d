"""Operating: what may be asked of a log from outside, and the event that comes of it.

Pure: decided inside the writer against the board at the head, whichever process the writer is.
"""

from __future__ import annotations

from typing import Annotated, assert_never

import msgspec

from engine.calibration.estimator import coefficients_from_json
from engine.errors import UsageProblem
from engine.events import (
    AccountResumed,
    AnyEvent,
    BreakerReset,
    CalibrationProposed,
    CoefficientsAdopted,
    PhaseRequeued,
    RunReinstated,
)
from engine.triage.used_up import used_up_run
from projections.board import Board
from projections.fold import join

WORDS_CHARS_MAX = 2000


class Asked(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="operation", forbid_unknown_fields=True
):
    """Base of the union; ``operation`` names what is asked for."""


class Said(Asked, frozen=True, kw_only=True):
    """What a person asks for: who asks, and why; in so many words as a command takes."""

    by: Annotated[str, msgspec.Meta(min_length=1, max_length=WORDS_CHARS_MAX)]
    why: Annotated[str, msgspec.Meta(min_length=1, max_length=WORDS_CHARS_MAX)]


class ReinstateRun(Said, frozen=True, kw_only=True, tag="reinstate_run"):
    """Set a run's verdict aside."""

    run_id: str


class RequeuePhase(Said, frozen=True, kw_only=True, tag="requeue_phase"):
    """Put a phase back."""

    run_id: str
    phase_id: str


class ResetBreaker(Said, frozen=True, kw_only=True, tag="reset_breaker"):
    """Close an open breaker."""

    fingerprint: str


class ResumeAccount(Said, frozen=True, kw_only=True, tag="resume_account"):
    """End the pause of a provider's account."""

    account: str


class AdoptCoefficients(Said, frozen=True, kw_only=True, tag="adopt_coefficients"):
    """Estimate by other coefficients from now on; ``replaces`` is the version in force before."""

    coefficient_version: str
    coefficients_sha256: str
    coefficients_json: str
    replaces: str


class ProposeCalibration(Asked, frozen=True, kw_only=True, tag="propose_calibration"):
    """Keep a report of the log with the log; it says all there is to say by itself."""

    proposal: CalibrationProposed


Spoken = ReinstateRun | RequeuePhase | ResetBreaker | ResumeAccount | AdoptCoefficients
"""What a person gives a reason for."""

Operation = Spoken | ProposeCalibration


COEFFICIENTS = "coefficients"
"""The subject of who adopts any."""


def stream_about(subject: str) -> str:
    """The stream of what persons ask for about a subject."""
    return f"operator/{subject}"


def subject_of(operation: Operation) -> str:
    """What an operation is about: the last part of the stream that it is recorded in."""
    match operation:
        case ReinstateRun() | RequeuePhase():
            return operation.run_id
        case ResetBreaker():
            return operation.fingerprint
        case ResumeAccount():
            return operation.account
        case AdoptCoefficients():
            return COEFFICIENTS
        case ProposeCalibration():
            return "calibration"
        case _:
            assert_never(operation)


def words_of(operation: Operation) -> str:
    """One sentence on who asked, and why."""
    match operation:
        case ProposeCalibration():
            return f"Keeps a calibration: {operation.proposal.sentence}"
        case _:
            return f"Asked for by {operation.by}: {operation.why}"


def operated(operation: Operation, board: Board, now_us: int) -> AnyEvent:
    """The event of ``operation`` at ``now_us``.  Raises UsageProblem where it makes no sense."""
    match operation:
        case ReinstateRun():
            return _reinstated(operation, board)
        case RequeuePhase():
            return _requeued(operation, board)
        case ResetBreaker():
            return _reset(operation, board)
        case ResumeAccount():
            return _resumed(operation, board, now_us)
        case AdoptCoefficients():
            return _adopted(operation)
        case ProposeCalibration():
            return _proposed(operation, board)
        case _:
            assert_never(operation)


def _reinstated(asked: ReinstateRun, board: Board) -> RunReinstated:
    run = board.runs.get(asked.run_id)
    if run is None:
        raise _unknown("run", asked.run_id)
    if run.standing == "unsampled":
        stuck = used_up_run(board, run.run_id)
        raise UsageProblem(
            f"the run {_shown(asked.run_id)} has no verdict to set aside"
            f"{f', and {_shown(stuck.clause)}' if stuck else ''}.",
            remedy=_shown(stuck.remedy) if stuck else "drain it; unsampled runs go first.",
        )
    generation = run.generation + 1
    return RunReinstated(run_id=run.run_id, generation=generation, by=asked.by, why=asked.why)


def _requeued(asked: RequeuePhase, board: Board) -> PhaseRequeued:
    phase = board.backlog.get(join(asked.run_id, asked.phase_id))
    if phase is None:
        raise _unknown("phase", asked.phase_id)
    if phase.open_attempt is not None:
        raise UsageProblem(
            f"the attempt {phase.open_attempt} of the phase is open.",
            remedy="wait until it ends; `runoff drain` takes over what a dead engine left.",
        )
    return PhaseRequeued(run_id=asked.run_id, phase_id=asked.phase_id, by=asked.by, why=asked.why)


def _reset(asked: ResetBreaker, board: Board) -> BreakerReset:
    breaker = board.breakers.get(asked.fingerprint)
    if breaker is None:
        raise UsageProblem(
            f"no breaker was ever opened by {asked.fingerprint[:80]!a}.",
            remedy="`runoff breaker list` names them all.",
        )
    if breaker.opened_pos is None:
        raise UsageProblem(
            f"the breaker of {asked.fingerprint[:80]!a} is not open; it closed at position"
            f" {breaker.closed_pos}.",
            remedy="`runoff breaker list` says which are open; `runoff why` what else holds"
            " runs back.",
        )
    return BreakerReset(
        session_id=breaker.session_id,
        fingerprint=asked.fingerprint,
        by=asked.by,
        why=asked.why,
    )


def _resumed(asked: ResumeAccount, board: Board, now_us: int) -> AccountResumed:
    account = board.accounts.get(asked.account)
    if account is None:
        raise UsageProblem(
            f"the account {asked.account[:80]!a} never met a limit.",
            remedy="`runoff account list` names those that did.",
        )
    if now_us >= account.until_us:
        raise UsageProblem(
            f"the account {asked.account[:80]!a} is not paused.",
            remedy="`runoff why` says what else keeps attempts from starting.",
        )
    return AccountResumed(account=asked.account, by=asked.by, why=asked.why)


def _adopted(asked: AdoptCoefficients) -> CoefficientsAdopted:
    """Every engine that starts later reads them from the log, where nothing can be mended."""
    found = coefficients_from_json(asked.coefficients_json, "the coefficients to adopt")
    named = (asked.coefficient_version, asked.coefficients_sha256, asked.coefficients_json)
    if named != (found.version, found.sha256, found.json):
        raise UsageProblem(
            "the coefficients to adopt are not what their version and sha256 name.",
            remedy="let `runoff coefficients adopt FILE` ask for it.",
        )
    return CoefficientsAdopted(**msgspec.structs.asdict(asked))


def _proposed(asked: ProposeCalibration, board: Board) -> CalibrationProposed:
    position = asked.proposal.position
    if not 0 <= position <= board.head.pos:
        raise UsageProblem(
            f"the report is of position {position}; the log ends at {board.head.pos}.",
            remedy="make it of this log: `runoff calibrate --record`.",
        )
    return asked.proposal


def _unknown(what: str, name: str) -> UsageProblem:
    return UsageProblem(
        f"there is no {what} {name[:80]!a}.", remedy=f"`runoff {what} list` names them all."
    )


def _shown(text: str) -> str:
    return text if text.isprintable() else ascii(text)
