"""Samples as the log has them: every finished attempt and imported row once, with its class."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, strategies as st

from engine.calibration.calibrate import calibrate
from engine.calibration.result import Settings
from engine.calibration.samples import Sample, classify, grouped
from engine.events import (
    AnyEvent,
    AttemptEstimated,
    AttemptFinished,
    BoundaryDetected,
    BoundaryKind,
    Ending,
    EstimateImported,
    PhaseRegistered,
    Seen,
    UsageRecorded,
)
from engine.events.diagnosis import Disposition
from projections.calibration import CALIBRATION, IMPORTED, samples_of
from projections.fold import Keyed


def ids(attempt: str = "a") -> dict[str, Any]:
    return {"session_id": "s", "run_id": "r", "phase_id": "p", "attempt_id": attempt}


def registered() -> PhaseRegistered:
    return PhaseRegistered(
        run_id="r",
        phase_id="p",
        tier_id="T",
        tier_index=0,
        phase_index=0,
        name="p",
        state="QUEUED",
        category="docs",
        complexity="low",
    )


def estimated(tokens: int = 1000, attempt: str = "a") -> AttemptEstimated:
    return AttemptEstimated(
        **ids(attempt),
        category="docs",
        complexity="low",
        deliverables=1,
        estimated_tokens=tokens,
        budget_tokens=8192,
        coefficient_version="1",
    )


def used(tokens: int | None, finish: str | None = None) -> UsageRecorded:
    return UsageRecorded(**ids(), line=1, source="file", output_tokens=tokens, finish_reason=finish)


def finished(ending: Ending = "succeeded", attempt: str = "a") -> AttemptFinished:
    return AttemptFinished(
        **ids(attempt),
        number=1,
        ending=ending,
        final_state="COMPLETE" if ending == "succeeded" else "FAILED",
        duration_ms=1,
        timeout_ms=1,
    )


def limited(kind: BoundaryKind, attempt: str = "a") -> BoundaryDetected:
    return BoundaryDetected(
        **ids(attempt),
        detector="standard-1",
        kind=kind,
        disposition="stopped_by",
        pattern="x",
    )


def imported(predicted: int | None, actual: int | None, *, truncated: bool) -> EstimateImported:
    return EstimateImported(
        run_id="r",
        phase_id="old",
        source_row=1,
        category="docs",
        category_raw="DOC",
        complexity="low",
        complexity_raw="SIMPLE",
        deliverable_count=1,
        predicted_output_tokens=predicted,
        actual_output_tokens=actual,
        selected_budget_tokens=9,
        success=True,
        truncated=truncated,
        stop_reason=None,
        model=None,
        run_known=False,
        created_us=7,
    )


def samples(*events: AnyEvent) -> list[Sample]:
    folded = Keyed(CALIBRATION)
    for pos, event in enumerate(events, 1):
        folded.feed(Seen(pos, pos * 1_000_000, event))
    return samples_of(folded.values())


def only(*events: AnyEvent) -> Sample:
    (found,) = samples(registered(), *events)
    return found


def test_an_attempt_is_one_sample_of_all_its_calls() -> None:
    found = only(estimated(), used(300), used(None), used(400, "stop"), finished())
    assert (found.estimated, found.actual, found.budget) == (1000, 700, 8192)
    assert (found.pos, found.version, found.at_us) == (6, "1", 6_000_000)
    assert (found.success, found.truncated, classify(found)) == (True, False, "clean")


@pytest.mark.parametrize(
    ("events", "wanted"),
    [
        ([estimated(), used(300, "length"), finished()], "censored"),
        ([estimated(), used(300, "MAX_TOKENS"), finished("failed")], "censored"),
        ([estimated(), used(300, "max_output_tokens"), finished("failed")], "censored"),
        ([estimated(), used(300, "length"), used(5, "stop"), finished()], "clean"),
        ([estimated(), used(300, "length"), used(5), finished()], "censored"),
        ([estimated(), used(300), finished("failed"), limited("context_window")], "censored"),
        ([estimated(), used(300), finished("failed"), limited("rate_limit")], "failed"),
        ([estimated(), used(300), finished("timed_out")], "failed"),
        ([estimated(), used(None), finished()], "missing"),
        ([estimated(), finished()], "missing"),
        ([used(300), finished()], "missing"),
        ([estimated(0), used(300), finished()], "zero_estimate"),
        ([estimated(), used(0), finished()], "zero_actual"),
    ],
)
def test_every_attempt_has_its_class(events: list[AnyEvent], wanted: str) -> None:
    assert classify(only(*events)) == wanted


def test_a_limit_speaks_of_its_own_attempt_and_the_next_begins_anew() -> None:
    found = samples(
        registered(),
        estimated(),
        used(300, "length"),
        finished("failed"),
        estimated(2000, "b"),
        finished("failed", "b"),
        limited("max_turns", "a"),
    )
    assert [(each.estimated, each.actual, each.truncated) for each in found] == [
        (1000, 300, True),
        (2000, None, False),
    ]


def test_imported_rows_are_samples_of_their_own_coefficients() -> None:
    found = samples(imported(100, 200, truncated=False), imported(100, None, truncated=True))
    assert [each.version for each in found] == [IMPORTED, IMPORTED]
    assert [classify(each) for each in found] == ["clean", "missing"]
    assert found[0].at_us == 7
    (group,) = grouped(found)
    assert (group.key, group.aliases) == (("docs", "low"), ("DOC/SIMPLE",))


def test_a_sample_is_told_whole() -> None:
    other = msgspec.structs.replace(estimated(), category="tests", complexity="high")
    spelled = msgspec.structs.replace(registered(), category_raw="Doc", complexity_raw=None)
    ours, plain = samples(spelled, other, used(300, "Model_Length"), finished(), finished())
    assert ours == Sample(
        pos=4, run_id="r", phase_id="p", category="tests", complexity="high", estimated=1000,
        actual=300, success=True, truncated=True, version="1", at_us=4_000_000, budget=8192,
        deliverables=1, alias="Doc/",
    )  # fmt: skip
    # One that nothing was estimated for is of the phase's own group, and begins from nothing.
    assert plain == Sample(
        pos=5, run_id="r", phase_id="p", category="docs", complexity="low", estimated=None,
        actual=None, success=True, truncated=False, version="", at_us=5_000_000, budget=None,
        deliverables=None, alias="Doc/",
    )  # fmt: skip
    (row,) = samples(imported(100, 200, truncated=False))
    assert row == Sample(
        pos=1, run_id="r", phase_id="old", category="docs", complexity="low", estimated=100,
        actual=200, success=True, truncated=False, version=IMPORTED, at_us=7, budget=9,
        deliverables=1, alias="DOC/SIMPLE",
    )  # fmt: skip


@pytest.mark.parametrize("known", [None, True, False])
def test_what_a_source_does_not_say_is_no_success_and_not_truncated(known: bool | None) -> None:
    row = msgspec.structs.replace(imported(1, 2, truncated=False), success=known, truncated=known)
    (found,) = samples(row)
    assert (found.success, found.truncated) == (known is True, known is True)


@pytest.mark.parametrize("kind", get_args(BoundaryKind))
@pytest.mark.parametrize("disposition", get_args(Disposition))
def test_only_a_limit_that_stopped_an_answer_cut_it_off(
    kind: BoundaryKind, disposition: Disposition
) -> None:
    met = msgspec.structs.replace(limited(kind), disposition=disposition)
    cuts = kind in ("max_output_tokens", "context_window", "max_turns", "message_limit")
    found = only(estimated(), used(300), finished("failed"), met)
    assert found.truncated == (cuts and disposition == "stopped_by")


def test_an_estimate_begins_an_attempt_anew_and_samples_come_in_the_order_of_the_log() -> None:
    left = only(estimated(), used(300, "length"), estimated(2000), used(5), finished())
    assert (left.estimated, left.actual, left.truncated) == (2000, 5, False)
    later = msgspec.structs.replace(registered(), phase_id="q")
    ends = [msgspec.structs.replace(finished(), phase_id=name) for name in ("q", "p", "q")]
    found = samples(registered(), later, *ends)
    assert [(each.pos, each.phase_id) for each in found] == [(3, "q"), (4, "p"), (5, "q")]
    assert {each.alias for each in found} == {""}


def test_an_attempt_that_nothing_was_estimated_for_is_missing_not_stale() -> None:
    found = samples(registered(), finished(), imported(100, 200, truncated=False))
    result = calibrate(found, Settings(min_samples=1, confidence_threshold=0.7))
    of_ours = calibrate(
        found, Settings(min_samples=1, confidence_threshold=0.7, coefficient_version="1")
    )
    assert result.totals.counts["clean"] == 1
    assert (of_ours.totals.counts["missing"], of_ours.totals.stale) == (1, 1)


EVENTS = st.lists(
    st.sampled_from(
        [
            registered(),
            estimated(),
            estimated(0),
            used(300),
            used(40, "length"),
            used(None),
            finished(),
            finished("failed"),
            limited("max_output_tokens"),
            imported(100, 200, truncated=False),
            imported(None, 200, truncated=True),
        ]
    ),
    max_size=30,
)


@given(EVENTS)
def test_samples_and_ends_reconcile(events: list[AnyEvent]) -> None:
    """S25: every end and every imported row is counted exactly once, by its class."""
    ends = sum(isinstance(event, AttemptFinished | EstimateImported) for event in events)
    found = samples(*events)
    result = calibrate(found, Settings(min_samples=1, confidence_threshold=0.7))
    counts = Counter(classify(each) for each in found)
    assert len(found) == ends == result.totals.read
    assert {name: n for name, n in result.totals.counts.items() if n} == dict(counts)
    assert sum(group.sample_count for group in result.groups) == counts["clean"]


def test_what_was_estimated_says_its_group_whether_or_not_its_phase_is_known() -> None:
    """Who watches for drift reads no registrations."""
    estimated = AttemptEstimated(
        **ids(),
        category="tests",
        complexity="high",
        deliverables=1,
        estimated_tokens=10,
        budget_tokens=20,
        coefficient_version="1",
    )
    found: list[Sample] = []
    for events in ([registered(), estimated], [estimated]):
        keyed = Keyed(CALIBRATION)
        for pos, event in enumerate([*events, finished()], start=5 - len(events)):
            keyed.feed(Seen(pos, 1, event))
        (sample,) = samples_of(keyed.values())
        found.append(msgspec.structs.replace(sample, alias=""))
    assert found[0] == found[1]
    assert found[0].group == ("tests", "high")
