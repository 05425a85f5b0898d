"""A calibration's report for people as Markdown, and its patch as JSON.

Pure: no clock and no names of machines, so the same samples and settings give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from engine.calibration.in_words import GROUPS_SHOWN, UNCHANGED
from engine.calibration.preview import Preview
from engine.calibration.result import Calibration, Change, GroupResult
from engine.calibration.svg import number, times
from engine.calibration.track_record import Score, reliability

TITLE = "Token Estimator Calibration Report"
VERDICT = "verdict"
"""The column of verdicts, of which the page colours the cells."""

COMPARED = (
    ("clean samples", "phases"),
    ("median ratio", "proposed multiplier"),
    ("confidence", "confidence"),
)


def patch_json(result: Calibration) -> bytes:
    """The patch with the original's field names, and all that it was drawn from."""
    whole = {
        "metadata": result.patch.metadata,
        "proposed_changes": result.patch.proposed_changes,
        "sentence": result.sentence,
        "notes": result.notes,
        "settings": result.settings,
        "totals": result.totals,
        "groups": result.groups,
    }
    return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"


def by_stake(groups: Sequence[GroupResult]) -> list[GroupResult]:
    """The groups with most tokens at stake, most first; at most so many as a person may read."""
    ordered = sorted(groups, key=lambda group: (-group.tokens_at_stake, group.name))
    return ordered[:GROUPS_SHOWN]


def markdown(
    result: Calibration, previews: Sequence[Preview] = (), scores: Sequence[Score] = ()
) -> str:
    """The whole report."""
    return "\n".join(_lines(result, previews, scores)) + "\n"


def _lines(
    result: Calibration, previews: Sequence[Preview], scores: Sequence[Score]
) -> Iterator[str]:
    yield f"# {TITLE}"
    yield ""
    yield f"**{_text(result.sentence)}** This is a proposal; {UNCHANGED}."
    yield from ("", "## Summary", "")
    yield from _bullets(summary(result))
    yield from ("", "## Verdicts", "")
    yield from _table(*verdict_rows(result))
    yield from ("", "## Recommendations", "")
    yield from _recommendations(result)
    if previews:
        yield from ("## What the patch would do", "")
        yield from _table(*preview_rows(previews))
        yield ""
    yield from ("## The documented formula and the recommended one", "")
    yield "The gates go by the right-hand columns; the others are what the handoff documents."
    yield ""
    yield from _table(*compared_rows(result))
    yield from ("", "## Detailed Results", "")
    yield from _table(*detailed_rows(result))
    if scores:
        yield from ("", "## What became of earlier proposals", "")
        yield from _table(*score_rows(scores))
        yield ""
        yield from _table(*reliability_rows(scores))
    yield from ("", "## Notes", "")
    yield from _bullets([*result.notes, *NOTES])


NOTES = (
    "Median ratio above 1.0: estimates are too low. Below 1.0: too high.",
    "Truncated samples count as at least so long; leaving them out makes a multiplier too low.",
    "Confidence is the probability that applying the multiplier beats leaving things alone.",
    "An estimate is right in the middle; a budget holds nearly always. They are two numbers.",
    "The formulas are in docs/explanation/calibration.md.",
)


def summary(result: Calibration) -> list[str]:
    """Where the numbers come from."""
    settings, totals = result.settings, result.totals
    counts = ", ".join(f"{count} {name}" for name, count in totals.counts.items())
    found = [
        f"Samples read: {totals.read} ({counts}, {totals.stale} of other coefficients)",
        f"Gates: {settings.min_samples} clean phases, confidence {settings.confidence_threshold:g}",
        f"Coefficients: {settings.coefficient_version or 'any'}; formula {result.formula_version}",
        f"Input: sha256 {result.input_sha256}",
    ]
    metadata = result.patch.metadata
    if metadata.first_sample_at is not None:
        found.append(f"Samples from {metadata.first_sample_at} to {metadata.last_sample_at}")
    if result.log is not None:
        found.append(f"Log: position {result.log.position}, hash {result.log.hash}")
    return found


Rows = tuple[list[str], list[list[str]]]


def verdict_rows(result: Calibration) -> Rows:
    """The verdict table: most tokens at stake first, with what is missing."""
    header = ["group", "tokens at stake", "phases", "truncated", "proposal", VERDICT, "missing"]
    rows = [
        [
            group.name,
            number(group.tokens_at_stake),
            f"{group.clean_phase_count} of {group.phase_count}",
            "–" if group.truncation_rate is None else f"{group.truncation_rate:.0%}",
            _proposal(group),
            verdict_words(group),
            group.missing or "–",
        ]
        for group in by_stake(result.groups)
    ]
    return header, rows


def verdict_words(group: GroupResult) -> str:
    """``recommended: increase``, ``below min samples``."""
    words = group.verdict.replace("_", " ")
    return words if group.action == "none" else f"{words}: {group.action}"


def _proposal(group: GroupResult) -> str:
    if group.proposed_multiplier is None:
        return "–"
    low, high = times(group.multiplier_low), times(group.multiplier_high)
    return f"{times(group.proposed_multiplier)} ({low} to {high})"


def compared_rows(result: Calibration) -> Rows:
    """Both formulas side by side."""
    header = ["group"]
    header += [f"documented: {left}" for left, _ in COMPARED]
    header += [f"recommended: {right}" for _, right in COMPARED]
    rows = [
        [
            group.name,
            str(group.sample_count),
            times(group.median_ratio),
            _share(group.documented_confidence),
            str(group.phase_count),
            _proposal(group),
            _share(group.confidence),
        ]
        for group in by_stake(result.groups)
    ]
    return header, rows


def detailed_rows(result: Calibration) -> Rows:
    """The rest of the numbers."""
    header = ["group", "avg actual", "avg estimated", "min", "max", "SMAPE", "waste", "P90 budget"]
    header += ["P98 budget", "drift"]
    rows = [
        [
            group.name,
            _tokens(group.avg_actual),
            _tokens(group.avg_estimated),
            times(group.min_ratio),
            times(group.max_ratio),
            "–" if group.smape is None else f"{group.smape:.0f} %",
            times(group.waste_median),
            f"{times(group.budget_p90_multiplier)} {group.budget_source or ''}".strip(),
            f"{times(group.budget_p98_multiplier)} {group.budget_p98_source or ''}".strip(),
            group.drift.status.replace("_", " "),
        ]
        for group in by_stake(result.groups)
    ]
    return header, rows


def preview_rows(previews: Sequence[Preview]) -> Rows:
    """Three phases that were, as they would have been estimated."""
    header = ["phase", "group", "estimate now", "estimate with the patch", "actual"]
    rows = [
        [each.phase, each.group, *(f"{x:.0f}" for x in (each.estimated, each.patched, each.actual))]
        for each in previews
    ]
    return header, rows


def score_rows(scores: Sequence[Score]) -> Rows:
    """Earlier proposals, and what came afterwards."""
    header = ["proposed at", "group", "proposal", "confidence", "phases since", "error", "with it"]
    rows = [
        [
            str(each.proposed_at),
            each.group,
            times(each.multiplier),
            _share(each.confidence),
            str(each.phases_since),
            times(each.error_left_alone),
            f"{times(each.error_applied)} ({each.outcome})",
        ]
        for each in scores
    ]
    return header, rows


def reliability_rows(scores: Sequence[Score]) -> Rows:
    """Whether confidences came true."""
    header = ["confidence", "proposals judged", "better", "share"]
    rows = [
        [
            f"{each.low:.2f} to {each.high:.2f}",
            str(each.judged),
            str(each.better),
            f"{each.better / each.judged:.0%}" if each.judged else "–",
        ]
        for each in reliability(scores)
    ]
    return header, rows


def _recommendations(result: Calibration) -> Iterator[str]:
    if not result.patch.proposed_changes:
        yield "No group passed the gates. What is missing stands in the table above."
        yield ""
    for change in result.patch.proposed_changes:
        yield from _recommendation(change)


def _recommendation(change: Change) -> Iterator[str]:
    yield f"### {_text(change.category)} / {_text(change.complexity)}"
    yield ""
    yield f"- **Action**: {_text(change.action)}"
    yield f"- **Why**: {_text(change.reasoning)}"
    low, high = times(change.multiplier_low), times(change.multiplier_high)
    yield (
        f"- **Proposed multiplier**: {times(change.proposed_multiplier)}"
        f" (90 % within {low} to {high}; confidence {change.confidence:.2f})"
    )
    yield ""


def _bullets(lines: Sequence[str]) -> Iterator[str]:
    return (f"- {_text(line)}" for line in lines)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(_text(cell) for cell in row) + " |"


def _text(words: str) -> str:
    """Words of an agent or a source, which must not become marks, tags or other lines."""
    plain = "".join(c if c.isprintable() else " " for c in words)
    for mark in "\\`*_[]<>|#":
        plain = plain.replace(mark, f"\\{mark}")
    return plain


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.2f}"


def _tokens(count: float | None) -> str:
    return "–" if count is None else number(count)
