"""What a log holds for calibration: which coefficients count, and a report as the log has it."""

from __future__ import annotations

import pytest

from engine.audit.estimates import Gathered, event_of, gathered, proposals_of
from engine.calibration.calibrate import calibrate
from engine.calibration.result import LogHead, Settings
from engine.calibration.samples import GroupKey
from engine.clock import HandSetClock
from engine.events import AnyEvent, CoefficientsAdopted, CoefficientsInForce
from engine.store.command import Command, just
from engine.store.memory import MemoryStore
from engine.store.protocol import Query
from engine.store.recorder import recording
from tests.calibration.conftest import sample
from tests.worlds import WRITER

HEAD = LogHead(position=9, hash="00", recorded_us=1)


@pytest.mark.parametrize(
    ("adopted", "used", "versions", "current"),
    [
        ("3", "2", ["1"], "3"),
        ("3", None, ["1"], "3"),
        (None, "2", ["1"], "2"),
        (None, None, ["1", "4", ""], "4"),
        (None, None, [""], None),
        (None, None, [], None),
    ],
)
def test_samples_count_of_what_was_adopted_else_used_else_of_the_newest_one(
    adopted: str | None, used: str | None, versions: list[str], current: str | None
) -> None:
    samples = [sample(pos, version=version) for pos, version in enumerate(versions, 1)]
    assert Gathered(HEAD, samples, adopted=adopted, used=used).current == current


def in_force(version: str) -> CoefficientsInForce:
    return CoefficientsInForce(
        session_id="s",
        coefficient_version=version,
        coefficients_sha256="x",
        coefficients_json=f"used {version}",
    )


def adopted(version: str) -> CoefficientsAdopted:
    return CoefficientsAdopted(
        coefficient_version=version,
        coefficients_sha256="x",
        coefficients_json=f"adopted {version}",
        replaces="1",
        by="x",
        why="y",
    )


async def test_the_newest_word_up_to_a_position_counts() -> None:
    events: list[AnyEvent] = [in_force("1"), adopted("2"), in_force("3"), adopted("4")]
    store = MemoryStore()
    async with recording(store, HandSetClock(), WRITER) as recorder:
        for number, event in enumerate(events):
            await recorder.submit(Command(f"c{number}", "x", b"", just(event)))
    positions = [record.pos for record in await store.records(Query())]
    told = [await gathered(store, end) for end in positions[-4:]]
    assert [(each.used, each.adopted) for each in told] == [
        ("1", None),
        ("1", "2"),
        ("3", "2"),
        ("3", "4"),
    ]
    assert told[-1].coefficients == {
        "1": "used 1",
        "2": "adopted 2",
        "3": "used 3",
        "4": "adopted 4",
    }
    assert [each.head.position for each in told] == positions[-4:]
    assert told[0].head.hash == (await store.records(Query()))[positions[-4] - 1].hash.hex()


def test_a_report_is_kept_with_all_its_groups_and_its_proposals() -> None:
    rows = [sample(pos, 2.0) for pos in range(1, 10)]
    rows += [sample(pos, 1.0, category="tests") for pos in range(10, 19)]
    settings = Settings(min_samples=5, confidence_threshold=0.7, coefficient_version=None, since=1)
    result = calibrate(rows, settings, log=HEAD)
    event = event_of(result)
    assert (event.position, event.hash, event.samples, event.groups) == (9, "00", 18, 2)
    assert (event.min_samples, event.confidence_threshold, event.since) == (5, 0.7, 1)
    (proposed,) = event.proposals
    (change,) = result.patch.proposed_changes
    assert (proposed.category, proposed.complexity, proposed.phase_count) == ("docs", "low", 9)
    assert proposed.multiplier == change.proposed_multiplier
    assert (proposed.multiplier_low, proposed.multiplier_high) == (
        change.multiplier_low,
        change.multiplier_high,
    )
    (kept,) = proposals_of(event)
    assert (kept.proposed_at, kept.key) == (9, GroupKey("docs", "low"))
    assert (kept.multiplier, kept.confidence) == (proposed.multiplier, proposed.confidence)
