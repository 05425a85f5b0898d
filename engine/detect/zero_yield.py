"""``zero-yield-1``: from the engine's own facts first, from text last."""

from __future__ import annotations

import msgspec

from engine.amounts import counted
from engine.detect.boundary import boundary
from engine.detect.catalogue import anchored, compiled, zero_yield_rules
from engine.detect.port import Boundary, Outcome, ZeroYield
from engine.events.diagnosis import BoundaryKind, ZeroYieldReason

_OF_THE_MODEL: frozenset[BoundaryKind] = frozenset(
    {"context_window", "max_output_tokens", "max_turns", "message_limit", "unspecified"}
)
_HINTED = frozenset({"execution_error", "unknown", "success_no_llm_calls"})
_CANNOT_EXECUTE = (126, 127)
_EXCERPT_CHARS = 120
_TEXT_CHARS = 64 * 1024


def zero_yield(
    outcome: Outcome, boundaries: tuple[Boundary, ...] | None = None, /
) -> ZeroYield | None:
    """Why there was no usage; None when there was some.

    Ladder: our own endings · success · a limit · a start that failed · a bad exit · unknown.
    Usage lines that could not be read are told as detail, and prove that a model was called.  Else
    the text may tell that usage was not collected, or that a model was called all the same.
    """
    if outcome.yield_events > 0:
        return None
    told = _of_our_doing(outcome) or _of_a_limit(outcome, boundaries) or _of_the_exit(outcome)
    if outcome.usage_lines_rejected == 0:
        return told if told.detail else msgspec.structs.replace(told, detail=_hint(outcome, told))
    lines = f"{counted(outcome.usage_lines_rejected, 'usage line')} could not be read"
    return ZeroYield(
        reason=told.reason, detail="usage_not_parseable", evidence=f"{told.evidence}; {lines}"
    )


def _of_our_doing(outcome: Outcome) -> ZeroYield | None:
    match outcome.ended:
        case "abandoned":
            return ZeroYield(reason="abandoned", evidence="the engine stopped the attempt")
        case "lost":
            return ZeroYield(reason="orphaned", evidence="the attempt left no outcome")
        case "timed_out":
            return ZeroYield(reason="timeout", evidence="the engine's deadline ended the attempt")
        case "exited" | "broke":
            if outcome.succeeded:
                said = f"the phase ended {outcome.final_state} and reported no call of a model"
                return ZeroYield(reason="success_no_llm_calls", evidence=said)
            return None


def _of_a_limit(outcome: Outcome, boundaries: tuple[Boundary, ...] | None) -> ZeroYield | None:
    found = boundary(outcome) if boundaries is None else boundaries
    hit = next((hit for hit in found if hit.disposition == "stopped_by"), None)
    if hit is None:
        return None
    told = "the child declared it" if hit.stream is None else _excerpt(outcome, hit)
    reason: ZeroYieldReason = "llm_boundary_hit" if hit.kind in _OF_THE_MODEL else "provider_limit"
    return ZeroYield(reason=reason, detail=hit.kind, evidence=told)


def _excerpt(outcome: Outcome, hit: Boundary) -> str:
    text = outcome.stdout if hit.stream == "stdout" else outcome.stderr
    said = " ".join(text[hit.start : hit.end].split())[:_EXCERPT_CHARS]
    return f"{hit.stream} says: {said}"


def _of_the_exit(outcome: Outcome) -> ZeroYield:
    if early := _early_failure(outcome):
        return ZeroYield(reason="failed_before_llm", evidence=early)
    if outcome.signal is not None:
        return ZeroYield(reason="execution_error", evidence=f"ended by signal {outcome.signal}")
    if outcome.exit_code:
        return ZeroYield(reason="execution_error", evidence=f"exit code {outcome.exit_code}")
    if outcome.ended == "broke":
        return ZeroYield(reason="execution_error", evidence="the executor itself failed")
    return ZeroYield(reason="unknown", evidence="exit code 0, not complete, and no word of why")


def _hint(outcome: Outcome, told: ZeroYield) -> str | None:
    """What else the text says: that usage was not collected, or that a model was called."""
    if told.reason not in _HINTED:
        return None
    texts = [text for _, text in _texts(outcome)]
    for hint in zero_yield_rules().hint:
        for text in texts:
            if anchored(hint.anchor, text) and compiled(hint.pattern).search(text):
                return hint.detail
    return None


def _texts(outcome: Outcome) -> list[tuple[str, str]]:
    """The end of what was said, in lower case."""
    said = (
        ("reason", outcome.reason or ""),
        ("stderr", outcome.stderr),
        ("stdout", outcome.stdout),
    )
    return [(name, text[-_TEXT_CHARS:].lower()) for name, text in said]


def _early_failure(outcome: Outcome) -> str | None:
    """The words that show a failure before any model was called, or None."""
    reason = outcome.reason or ""
    if outcome.exit_code in _CANNOT_EXECUTE and reason.startswith("cannot start"):
        return reason[:_EXCERPT_CHARS]
    texts = _texts(outcome)
    worked = compiled(zero_yield_rules().worked)
    if outcome.usage_lines_rejected or any(worked.search(text) for _, text in texts):
        return None
    for name, text in texts:
        for early in zero_yield_rules().early:
            if anchored(early.anchor, text) and (hit := compiled(early.pattern).search(text)):
                return f"{name} says: {hit[0][:_EXCERPT_CHARS]}"
    if outcome.exit_code in _CANNOT_EXECUTE:
        return f"exit code {outcome.exit_code}: a shell could not execute it"
    return None
