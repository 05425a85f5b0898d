"""Reports of any samples: whole, harmless, the same every time."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import example, given, settings, strategies as st

from engine.calibration.page import page
from engine.calibration.pictures import Shown, drift_chart, reserve_chart, scatter, thinned
from engine.calibration.preview import previews
from engine.calibration.report import markdown, patch_json
from engine.calibration.samples import Group, GroupKey, Sample, grouped
from engine.calibration.svg import LogAxis, log_axis, number, times
from engine.calibration.track_record import Proposal, reliability, scored
from tests.calibration.conftest import by_chance, calibrated, sample

NUMBERS = st.sampled_from([None, float("nan"), -1.0, 0.0, 1e-29, 3.0, 700.0, 1e9, 1e18, 1e29])
TEXTS = st.sampled_from(["docs", "<b>x</b>", "a|b\n# c", "\x1b[31m", "\u202edocs", "'\"&"])
SAMPLES = st.builds(
    Sample,
    pos=st.just(0),
    run_id=TEXTS,
    phase_id=st.sampled_from(["p1", "p2", "<i>", ""]),
    category=TEXTS,
    complexity=TEXTS,
    estimated=NUMBERS,
    actual=NUMBERS,
    success=st.booleans(),
    truncated=st.booleans(),
    budget=NUMBERS,
    at_us=st.sampled_from([None, 0, 2**62]),
)


class Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(
        self,
        tag: str,
        attrs: list[tuple[str, str | None]],  # noqa: ARG002
    ) -> None:
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(
        self,
        tag: str,
        attrs: list[tuple[str, str | None]],  # noqa: ARG002
    ) -> None:
        self.seen.add(tag)


def rendered(samples: list[Sample]) -> tuple[str, str, bytes]:
    result, groups = calibrated(samples, 1), grouped(samples)
    shown = previews(result, groups)
    scores = scored([Proposal(0, GroupKey("docs", "low"), 2.0, 0.9, None)], {})
    return (
        page(result, groups, shown, scores),
        markdown(result, shown, scores),
        patch_json(result),
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(SAMPLES, max_size=40))
@example([sample(0, 2.0, phase_id=name, category="\u202edocs") for name in "abcdef"])
def test_any_samples_give_a_whole_and_harmless_report(drawn: list[Sample]) -> None:
    samples = [msgspec.structs.replace(each, pos=pos) for pos, each in enumerate(drawn, 1)]
    html, text, patch = rendered(samples)
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert not {"b", "i", "script"} & parser.seen
    for told in (html, text):
        assert "\x1b" not in told
        assert "\u202e" not in told
    assert "nan" not in re.findall(r'(?:x|y|cx|cy|points)="([^"]*)"', html)
    assert "nothing was changed" in html
    assert "nothing was changed" in text
    msgspec.json.decode(patch)
    assert (html, text, patch) == rendered(samples)


def test_tables_in_markdown_have_as_many_cells_in_every_row() -> None:
    text = rendered(by_chance(3, 200))[1]
    widths = {
        len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")
    }
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) >= 4
    for table in tables:
        found = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(found) == 1, table
    assert widths


def test_pictures_show_what_there_is_to_show() -> None:
    samples = [sample(at, 2.0, budget=3000.0, truncated=at % 5 == 0) for at in range(1, 60)]
    result, (group,) = calibrated(samples), grouped(samples)
    shown = Shown(group, result.groups[0])
    picture = scatter(shown)
    assert picture.count('class="dot"') == len(group.clean)
    assert picture.count('class="cut"') == len(group.censored)
    assert 'class="band"' in picture
    assert drift_chart(Shown(grouped(samples[:4])[0], result.groups[0])) is None
    chart = reserve_chart(samples)
    assert chart is not None
    assert "19% of 59" in chart
    assert reserve_chart([sample(1)]) is None
    many = grouped([sample(at) for at in range(1000)])[0]
    assert 200 <= len(thinned(many)) <= 240


def test_axes_and_numbers_read_well() -> None:
    axis = log_axis([90.0, 31_000.0], 0, 100)
    assert [round(tick) for tick in axis.ticks()] == [100, 1000, 10_000]
    assert [round(tick) for tick in LogAxis(90, 450, 0, 1).ticks()] == [100, 200]
    assert axis.at(1) == 0
    assert axis.at(1e9) == 100
    assert [number(each) for each in (7, 950, 3800, 12_000, 1_200_000, 1e15)] == [
        "7",
        "950",
        "3.8k",
        "12k",
        "1.2M",
        "1e+15",
    ]
    edges = (999, 999.6, 999_499, 999_700, 999_700_000, 1e9, 999.9e9, 5e12)
    assert [number(each) for each in edges] == [
        "999",
        "1k",
        "999k",
        "1M",
        "1e+09",
        "1e+09",
        "1e+12",
        "5e+12",
    ]
    assert [times(each) for each in (None, 1.943, 12345.0)] == ["–", "1.94×", "1.2e+04×"]
    assert [times(each) for each in (0.1, 0.0999, 0.00123)] == ["0.10×", "0.1×", "0.0012×"]


def test_the_preview_shows_one_attempt_a_phase_the_one_that_counts() -> None:
    again = [sample(at, 2.0 + at / 100, phase_id=f"p{at // 4}") for at in range(1, 16)]
    shown = previews(calibrated(again, 3), grouped(again))
    assert [each.phase for each in shown] == ["r/p3", "r/p2", "r/p1"]
    assert [each.actual for each in shown] == [pytest.approx(x) for x in (2150, 2110, 2070)]
    few = [sample(at, 2.0, phase_id=f"p{at % 2}") for at in range(1, 9)]
    assert len(previews(calibrated(few, 2), grouped(few))) == 2


def test_a_category_named_like_a_verdict_is_not_coloured() -> None:
    samples = [sample(at, 1.0, category="recommended") for at in range(1, 9)]
    assert "<td class=" not in page(calibrated(samples), grouped(samples))
    changing = [sample(at, 2.0) for at in range(1, 9)]
    html = page(calibrated(changing), grouped(changing))
    assert "<td class='good'>recommended: increase</td>" in html


def test_earlier_proposals_are_scored_by_what_came_after_them() -> None:
    samples = [sample(at, 2.0 if at <= 9 else 2.2) for at in range(1, 30)]
    groups: dict[tuple[str | None, GroupKey], Group] = {
        ("1", group.key): group for group in grouped(samples)
    }
    key = GroupKey("docs", "low")
    good = Proposal(9, key, 2.0, 0.95, "1")
    bad = Proposal(9, key, 0.2, 0.75, "1")
    early = Proposal(26, key, 2.0, 0.95, "1")
    other = Proposal(9, key, 2.0, 0.95, "2")
    found = scored([good, bad, early, other], groups)
    assert [each.outcome for each in found] == ["better", "worse", "too early", "too early"]
    assert [each.phases_since for each in found] == [20, 20, 3, 0]
    assert found[0].error_left_alone == pytest.approx(2.2)
    assert found[0].error_applied == pytest.approx(1.1)
    judged = {(each.low, each.high): (each.judged, each.better) for each in reliability(found)}
    assert judged[0.9, 0.97] == (1, 1)
    assert judged[0.7, 0.8] == (1, 0)
