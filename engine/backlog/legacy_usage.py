"""Usage and estimates of a legacy database, as events.

The original did not measure how many tokens of a call were prompt and how many completion: it
split their sum by a fixed share for each role (a builder's call 40:60, an auditor's 60:40).  So
every imported usage row says ``split_invented``, and only its total may be used.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from engine.backlog.cells import Row
from engine.backlog.findings import Findings
from engine.backlog.legacy_tables import ESTIMATES, USAGE
from engine.backlog.legacy_work import word_of
from engine.backlog.spelling import fold_category, fold_complexity
from engine.events import EstimateImported, UsageImported

WORD_BYTES_MAX = 512


def usage_of(rows: Sequence[Row], runs: Collection[str], findings: Findings) -> list[UsageImported]:
    """One event per usage row; ``runs`` are those that the source's own table has."""
    events: list[UsageImported] = []
    for row in rows:
        run_id, phase_id = _ids_or_none(row)
        if _lost(run_id, row, "run_id") or _lost(phase_id, row, "phase_id"):
            continue
        events.append(_usage(row, run_id, phase_id, runs))
    orphans = [event.run_id for event in events if not event.run_known]
    for run_id in orphans:
        findings.note("llm_usage_events: the run is missing, usage kept", run_id)
    return events


def _ids_or_none(row: Row) -> tuple[str | None, str | None]:
    run_id = None if row.cell("run_id") is None else row.id("run_id")
    phase_id = None if row.cell("phase_id") is None else row.id("phase_id")
    return run_id, phase_id


def _lost(taken: str | None, row: Row, field: str) -> bool:
    """Whether the row has an id there that could not be taken, which is more than having none."""
    return taken is None and row.cell(field) is not None


def _usage(
    row: Row, run_id: str | None, phase_id: str | None, runs: Collection[str]
) -> UsageImported:
    prompt, completion = row.count("prompt_tokens") or 0, row.count("completion_tokens") or 0
    total = row.count("total_tokens")
    return UsageImported(
        run_id=run_id,
        phase_id=phase_id,
        source_row=row.number,
        row_digest=row.digest(tuple(USAGE.fields)),
        provider=row.text("provider", WORD_BYTES_MAX) or "unknown",
        model=row.text("model", WORD_BYTES_MAX) or "unknown",
        role=row.text("role", WORD_BYTES_MAX) or "unknown",
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion if total is None else total,
        split_invented=True,
        run_known=run_id in runs,
        created_us=row.time_us("created"),
    )


def estimates_of(
    rows: Sequence[Row], runs: Collection[str], findings: Findings
) -> list[EstimateImported]:
    """One event per estimation row that names its run and phase."""
    events: list[EstimateImported] = []
    for row in rows:
        run_id, phase_id = row.id("run_id"), row.id("phase_id")
        if run_id is None or phase_id is None:
            continue
        if run_id not in runs:
            findings.note("token_estimation_v2_events: the run is missing, row kept", run_id)
        events.append(_estimate(row, run_id, phase_id, run_id in runs, findings))
    return events


def _estimate(
    row: Row, run_id: str, phase_id: str, run_known: bool, findings: Findings
) -> EstimateImported:
    category = word_of(row, "category", fold_category, findings)
    complexity = word_of(row, "complexity", fold_complexity, findings)
    return EstimateImported(
        run_id=run_id,
        phase_id=phase_id,
        source_row=row.number,
        row_digest=row.digest(tuple(ESTIMATES.fields)),
        category=category[0],
        category_raw=category[1],
        complexity=complexity[0],
        complexity_raw=complexity[1],
        deliverable_count=row.count("deliverable_count"),
        predicted_output_tokens=row.count("predicted_output_tokens"),
        actual_output_tokens=row.count("actual_output_tokens"),
        selected_budget_tokens=row.count("selected_budget"),
        success=row.truth("success"),
        truncated=row.truth("truncated"),
        stop_reason=row.text("stop_reason", WORD_BYTES_MAX),
        model=row.text("model", WORD_BYTES_MAX),
        run_known=run_known,
        created_us=row.time_us("created"),
    )
