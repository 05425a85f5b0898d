"""Usage: what each LLM call took, and by which attempt; imported history beside it."""

from __future__ import annotations

from typing import Literal

from engine.events.base import Event

UsageSource = Literal["file", "result", "script"]


class UsageRecorded(Event, frozen=True, kw_only=True, tag="usage.recorded"):
    """One LLM call, credited to the one attempt that wrote it.

    ``input_tokens`` includes the cached ones; None means the source did not say.
    ``line`` is where in the attempt's telemetry it stood, from 1.
    """

    session_id: str
    run_id: str
    phase_id: str
    attempt_id: str
    line: int
    source: UsageSource
    provider: str | None = None
    model: str | None = None
    operation: str | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    finish_reason: str | None = None
    status: str | None = None
    success: bool | None = None
    duration_ms: int | None = None


class UsageRejected(Event, frozen=True, kw_only=True, tag="usage.rejected"):
    """Telemetry lines that could not be used, ``count`` alike; the first one is shown."""

    session_id: str
    run_id: str
    phase_id: str
    attempt_id: str
    why: Literal["not_json", "not_an_object", "unknown_type", "bad_fields", "too_long", "too_many"]
    count: int
    first_line: int
    excerpt: str


class UsageImported(Event, frozen=True, kw_only=True, tag="usage.imported"):
    """A usage row of an imported database.

    ``row_digest`` identifies the row by its number and content, also in a later, longer copy of
    the source; ``source_row`` is its number there.
    ``split_invented``: the source made up the split between prompt and completion, so only
    ``total_tokens`` may be trusted.  ``run_known`` is false when the source no longer had the run.
    """

    run_id: str | None
    phase_id: str | None
    source_row: int
    row_digest: str = ""
    provider: str
    model: str
    role: str
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    split_invented: bool
    run_known: bool
    created_us: int | None


class EstimateImported(Event, frozen=True, kw_only=True, tag="usage.estimate_imported"):
    """A row of predicted against actual output tokens of an imported database.

    ``row_digest`` and ``source_row`` as in UsageImported.
    """

    run_id: str
    phase_id: str
    source_row: int
    row_digest: str = ""
    category: str | None
    category_raw: str | None
    complexity: str | None
    complexity_raw: str | None
    deliverable_count: int | None
    predicted_output_tokens: int | None
    actual_output_tokens: int | None
    selected_budget_tokens: int | None
    success: bool | None
    truncated: bool | None
    stop_reason: str | None
    model: str | None
    run_known: bool
    created_us: int | None
