"""A calibration's report as one HTML page: no network, no script, light and dark, for print too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape

import msgspec

from engine.calibration.in_words import UNCHANGED
from engine.calibration.page_style import STYLE
from engine.calibration.pictures import Shown, drift_chart, ratio_strip, reserve_chart, scatter
from engine.calibration.preview import Preview
from engine.calibration.report import (
    NOTES,
    TITLE,
    VERDICT,
    by_stake,
    compared_rows,
    detailed_rows,
    preview_rows,
    reliability_rows,
    score_rows,
    summary,
    verdict_rows,
)
from engine.calibration.result import Calibration
from engine.calibration.samples import Group, Sample
from engine.calibration.svg import plain
from engine.calibration.track_record import Score

PANELS_MAX = 24
GOOD, WAITING = "good", "waiting"


def page(
    result: Calibration,
    groups: Sequence[Group],
    previews: Sequence[Preview] = (),
    scores: Sequence[Score] = (),
) -> str:
    """The whole page; ``groups`` are those of the result, in the same order."""
    by_name = {"/".join(group.key): group for group in groups}
    shown = [
        Shown(by_name[each.name], each)
        for each in by_stake(result.groups)
        if each.sample_count + each.counts["censored"] > 0
    ]
    return "".join(
        [
            "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>",
            "<meta name='viewport' content='width=device-width, initial-scale=1'>",
            f"<title>{TITLE}</title><style>{STYLE}</style></head><body><main>\n",
            *_body(result, shown, previews, scores),
            "</main></body></html>\n",
        ]
    )


def _body(
    result: Calibration,
    shown: Sequence[Shown],
    previews: Sequence[Preview],
    scores: Sequence[Score],
) -> Iterator[str]:
    yield f"<header><p class='kind'>{TITLE}</p><h1>{plain(result.sentence)}</h1>"
    yield f"<p class='unchanged'>This is a proposal; {UNCHANGED}.</p></header>\n"
    yield _section("Verdicts", _table(*verdict_rows(result)), "Most tokens at stake first.")
    if result.notes:
        yield _section("To know beside it", _list(result.notes))
    if shown:
        yield from _pictures(result, shown)
    yield from _reserve(shown)
    yield _section("Patch", _patch(result, previews), f"For a person to apply; {UNCHANGED}.")
    yield _section("Track record", _track_record(scores), "What became of earlier proposals.")
    yield _section(
        "The documented formula and the recommended one",
        _table(*compared_rows(result)),
        "The gates go by the right-hand columns; the others are what the handoff documents.",
    )
    yield _section("All numbers", _table(*detailed_rows(result)))
    yield _section("How to read this", _list(NOTES))
    yield f"<footer>{_list(summary(result))}</footer>\n"


def _pictures(result: Calibration, shown: Sequence[Shown]) -> Iterator[str]:
    yield _section(
        "Ratios",
        _figure(ratio_strip(shown[:PANELS_MAX])),
        "Actual over estimated, a row per group. The band is ±20 %; an open triangle is a truncated"
        " answer, which wanted at least so much; the bar is the proposal with its 90 % interval.",
    )
    yield _section(
        "Estimate against actual",
        f"<div class='panels'>{''.join(scatter(each) for each in shown[:PANELS_MAX])}</div>",
        "On the dashed line the estimate was exact; the solid one is the proposal, with its band.",
    )
    drifts = [chart for each in shown[:PANELS_MAX] if (chart := drift_chart(each)) is not None]
    words = (
        "Ratios in their order. The line is a moving average, for the eye only; alarms come from a"
        " rank test of the newest 25 against all before them."
    )
    found = f"<div class='panels'>{''.join(drifts)}</div>" if drifts else "<p>Too few to draw.</p>"
    yield _section("Drift", found, words)
    if len(result.groups) > len(shown[:PANELS_MAX]):
        yield "<p class='aside'>Groups without usable samples, and those with least at stake beyond"
        yield f" {PANELS_MAX}, are in the tables only.</p>"


def _reserve(shown: Sequence[Shown]) -> Iterator[str]:
    samples: list[Sample] = []
    for each in shown:
        samples += [*each.group.clean, *each.group.censored]
    chart = reserve_chart(samples)
    if chart is None:
        words = "<p>No sample says what its budget was.</p>"
        yield _section("Truncation against reserve", words)
    else:
        words = "How often answers were cut off, by how much room they were given."
        yield _section("Truncation against reserve", _figure(chart), words)


def _patch(result: Calibration, previews: Sequence[Preview]) -> str:
    changes = result.patch.proposed_changes
    if not changes:
        return "<p>No group passed the gates, so there is nothing to change.</p>"
    actions = _list([f"{each.action}. {each.reasoning}" for each in changes])
    text = msgspec.json.format(msgspec.json.encode(result.patch), indent=2).decode()
    shown = escape(_harmless(text))
    whole = f"<details><summary>The patch as JSON</summary><pre>{shown}</pre></details>"
    return actions + _table(*preview_rows(previews)) + whole


def _harmless(text: str) -> str:
    """The same JSON with what does not print, such as a mark that turns the direction, escaped."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def _track_record(scores: Sequence[Score]) -> str:
    if not scores:
        return "<p>No proposal was recorded before.</p>"
    return _table(*score_rows(scores)) + _table(*reliability_rows(scores))


def _section(title: str, content: str, words: str = "") -> str:
    told = f"<p class='aside'>{escape(words)}</p>" if words else ""
    return f"<section><h2>{escape(title)}</h2>{told}{content}</section>\n"


def _figure(picture: str) -> str:
    return f"<figure>{picture}</figure>"


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{plain(line)}</li>" for line in lines) + "</ul>"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in header)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{_class(name, cell)}>{plain(cell)}</td>"
            for name, cell in zip(header, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    inner = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f"<div class='wide'><table>{inner}</table></div>"


def _class(column: str, cell: str) -> str:
    """Only verdicts have colours: a source may name its groups as it likes."""
    if column != VERDICT:
        return ""
    if cell.startswith("recommended"):
        return f" class='{GOOD}'"
    return f" class='{WAITING}'" if cell in ("drifting", "not identifiable") else ""
