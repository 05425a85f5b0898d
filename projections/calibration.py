"""Samples for calibration: what attempts were estimated at and what came of it, a row a phase.

Folded on demand from the log alone; the writer does not keep it, since no decision reads it.  Every
finished attempt and every imported estimation row is one sample, whatever it is good for.
"""

from __future__ import annotations

from collections.abc import Iterable
from sys import intern
from typing import assert_never, cast, get_args

import msgspec
from msgspec.structs import replace

from engine.calibration.samples import Sample
from engine.events import (
    AttemptEstimated,
    AttemptFinished,
    BoundaryDetected,
    BoundaryKind,
    EstimateImported,
    PhaseRegistered,
    Seen,
    UsageRecorded,
)
from projections.fold import Fold, join

IMPORTED = "imported"
"""The coefficients' version of imported rows: not ours, and not told apart by their source."""

CUT_OFF: frozenset[BoundaryKind] = frozenset(
    {"max_output_tokens", "context_window", "max_turns", "message_limit"}
)
"""Limits at which an answer ends before it is finished; it wanted more tokens than it got."""

CUT_OFF_FINISHES = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
"""How usage records say the same of their last call."""


class Open(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An attempt that has not ended, or one that was not estimated."""

    category: str | None = None
    complexity: str | None = None
    estimated_tokens: int | None = None
    budget_tokens: int | None = None
    deliverables: int | None = None
    version: str = ""
    output_tokens: int | None = None
    is_cut: bool = False


NOT_OPEN = Open()
"""One for all phases, since nearly all of them have none open."""


class PhaseSample(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One sample; ``pos`` is where it became one.  Tokens are of output, None for not known.

    ``alias``: how the source spelled its group.
    """

    pos: int
    at_us: int | None
    attempt_id: str | None
    category: str | None
    complexity: str | None
    alias: str
    estimated_tokens: int | None
    budget_tokens: int | None
    deliverables: int | None
    output_tokens: int | None
    version: str
    success: bool
    truncated: bool


class PhaseSamples(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A phase and its samples as of one position, in the order of the log."""

    run_id: str
    phase_id: str
    category: str | None = None
    complexity: str | None = None
    alias: str = ""
    open: Open = NOT_OPEN
    samples: tuple[PhaseSample, ...] = ()


Handled = (
    PhaseRegistered
    | AttemptEstimated
    | UsageRecorded
    | AttemptFinished
    | BoundaryDetected
    | EstimateImported
)


def _keys(seen: Seen) -> tuple[str, ...]:
    event = cast("Handled", seen.event)
    return (join(event.run_id, event.phase_id),)


def _apply(state: PhaseSamples | None, seen: Seen) -> PhaseSamples:
    event = cast("Handled", seen.event)
    state = state or PhaseSamples(run_id=intern(event.run_id), phase_id=event.phase_id)
    match event:
        case PhaseRegistered():
            return replace(
                state,
                category=event.category and intern(event.category),
                complexity=event.complexity and intern(event.complexity),
                alias=_alias(event.category_raw, event.complexity_raw),
            )
        case AttemptEstimated():
            return replace(state, open=_opened(event))
        case UsageRecorded():
            return replace(state, open=_used(state.open, event))
        case AttemptFinished():
            sample = _ended(state, event, seen)
            return replace(state, open=NOT_OPEN, samples=(*state.samples, sample))
        case BoundaryDetected():
            return _limited(state, event)
        case EstimateImported():
            return replace(state, samples=(*state.samples, _imported(event, seen.pos)))
        case _:
            assert_never(event)


def _alias(category_raw: str | None, complexity_raw: str | None) -> str:
    """How the source spelled a group; empty where it did not say."""
    if category_raw is None and complexity_raw is None:
        return ""
    return intern(f"{category_raw or ''}/{complexity_raw or ''}")


def _opened(event: AttemptEstimated) -> Open:
    return Open(
        category=event.category and intern(event.category),
        complexity=event.complexity and intern(event.complexity),
        estimated_tokens=event.estimated_tokens,
        budget_tokens=event.budget_tokens,
        deliverables=event.deliverables,
        version=intern(event.coefficient_version),
    )


def _used(opened: Open, event: UsageRecorded) -> Open:
    tokens = opened.output_tokens
    if event.output_tokens is not None:
        tokens = (tokens or 0) + event.output_tokens
    finish = (event.finish_reason or "").lower()
    # Of the last call that says how it ended: an earlier one that was cut off was gone on with.
    is_cut = finish in CUT_OFF_FINISHES if finish else opened.is_cut
    return replace(opened, output_tokens=tokens, is_cut=is_cut)


def _ended(state: PhaseSamples, event: AttemptFinished, seen: Seen) -> PhaseSample:
    opened = state.open
    return PhaseSample(
        pos=seen.pos,
        at_us=seen.recorded_us,
        attempt_id=event.attempt_id,
        category=opened.category or state.category,
        complexity=opened.complexity or state.complexity,
        alias=state.alias,
        estimated_tokens=opened.estimated_tokens,
        budget_tokens=opened.budget_tokens,
        deliverables=opened.deliverables,
        output_tokens=opened.output_tokens,
        version=opened.version,
        success=event.ending == "succeeded",
        truncated=opened.is_cut,
    )


def _limited(state: PhaseSamples, event: BoundaryDetected) -> PhaseSamples:
    """A limit is detected from the end of an attempt, so it is said right after it."""
    last = state.samples[-1] if state.samples else None
    if last is None or last.attempt_id != event.attempt_id:
        return state
    if event.disposition != "stopped_by" or event.kind not in CUT_OFF:
        return state
    return replace(state, samples=(*state.samples[:-1], replace(last, truncated=True)))


def _imported(event: EstimateImported, pos: int) -> PhaseSample:
    return PhaseSample(
        pos=pos,
        at_us=event.created_us,
        attempt_id=None,
        category=event.category,
        complexity=event.complexity,
        alias=_alias(event.category_raw, event.complexity_raw),
        estimated_tokens=event.predicted_output_tokens,
        budget_tokens=event.selected_budget_tokens,
        deliverables=event.deliverable_count,
        output_tokens=event.actual_output_tokens,
        version=IMPORTED,
        success=event.success is True,
        truncated=event.truncated is True,
    )


CALIBRATION: Fold[PhaseSamples] = Fold(
    name="calibration",
    version=1,
    state=PhaseSamples,
    handles=frozenset(get_args(Handled)),
    keys=_keys,
    apply=_apply,
)


def samples_of(phases: Iterable[PhaseSamples]) -> list[Sample]:
    """All samples, in the order of the log."""
    found = [_sample(phase, each) for phase in phases for each in phase.samples]
    return sorted(found, key=lambda sample: sample.pos)


def _sample(phase: PhaseSamples, each: PhaseSample) -> Sample:
    return Sample(
        each.pos,
        phase.run_id,
        phase.phase_id,
        each.category,
        each.complexity,
        each.estimated_tokens,
        each.output_tokens,
        each.success,
        each.truncated,
        each.version,
        each.at_us,
        each.budget_tokens,
        each.deliverables,
        each.alias,
    )
