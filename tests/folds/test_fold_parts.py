"""What every projection is made of: names of tables, canonical rows, digests, a look ahead."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from msgspec.structs import replace

from engine.events import GENESIS, Head, RunRegistered, Seen, SessionStarted
from engine.events.codec import EVENT_CLASSES, decode, encode
from projections.board import FOLDS, Board
from projections.days import DAY_US, DAYS
from projections.fold import Checkpoint, Keyed, canonical, row_digest
from projections.zero_yield import YieldCounts
from tests.harness.backlogs import queued
from tests.rules.standings import (
    BASIS,
    NOW_US,
    board,
    fingerprinted,
    finished,
    limits,
    phase,
    run,
    session,
    started,
)


def test_a_table_has_the_version_of_its_fold_so_that_a_new_one_stands_beside_it() -> None:
    assert DAYS.table == f"projection_days_v{DAYS.version}"


def test_a_row_is_written_with_its_dictionaries_in_the_order_of_their_keys() -> None:
    one = YieldCounts(zero_yield={"b": 1, "a": 2})
    other = YieldCounts(zero_yield={"a": 2, "b": 1})
    assert canonical(one) == canonical(other)
    assert '"zero_yield":{"a":2,"b":1}' in canonical(one)


def test_a_digest_tells_where_a_key_ends_and_its_row_begins() -> None:
    digest = hashlib.sha256(b'1:k{"x":1}').digest()
    assert row_digest("k", '{"x":1}') == int.from_bytes(digest, "big")
    assert row_digest("ab", "c") != row_digest("a", "bc")


def test_a_projection_goes_on_from_the_digest_that_was_stored_with_its_rows() -> None:
    begun = Keyed(DAYS)
    for us in (NOW_US, NOW_US - DAY_US):
        begun.fold_in(Seen(1, us, started()))
    rows = begun.take_changes()
    assert int.from_bytes(begun.digest, "big") == sum(row_digest(*row) for row in rows) % (1 << 256)
    keyed = Keyed(DAYS, rows)
    stored = Board({"days": (Checkpoint(1, GENESIS, begun.digest), keyed)})
    assert stored.days.digest == begun.digest
    assert (stored.is_rebuilt, Board().is_rebuilt) == (False, True)
    for us in (NOW_US, NOW_US, NOW_US + DAY_US):
        stored.days.fold_in(Seen(2, us, started()))
    assert len(stored.days.take_changes()) == 2
    assert stored.days.take_changes() == []
    both = sum(row_digest(*each) for each in stored.days.rows())
    assert int.from_bytes(stored.days.digest, "big") == both % (1 << 256)


def test_a_look_ahead_is_folded_at_the_next_position() -> None:
    there = board(session(), run(), phase())
    there.fold_next(started(), NOW_US)
    assert there.head == Head(BASIS + 1, GENESIS)
    assert there.backlog.states["r\np"].last_pos == BASIS + 1
    there.fold_next(finished(), NOW_US)
    assert there.backlog.states["r\np"].last_pos == there.head.pos == BASIS + 2


def test_a_board_that_becomes_another_stands_where_that_one_stands_for_all_who_look() -> None:
    ours, theirs, plain = Board(), Board(), Board()
    known = RunRegistered(run_id="r", origin="x", state="NEW")
    for there, events in (
        (ours, (known, queued("r", "p"), started(), queued("r", "gone"))),
        (theirs, (known, queued("r", "p"), queued("r", "other"))),
        (plain, (known, queued("r", "p"), queued("r", "other"))),
    ):
        for event in events:
            there.fold_next(event, NOW_US)
    looked_at = ours.backlog.states
    theirs.backlog.take_changes()
    plain.backlog.take_changes()
    ours.become(theirs)
    assert ours.head == plain.head
    assert [[*each.rows()] for each in ours.all] == [[*each.rows()] for each in plain.all]
    assert [*looked_at] == ["r\np", "r\nother"]
    for board_now in (ours, plain):
        board_now.fold_next(started(), NOW_US)
    assert [each.take_changes() for each in ours.all] == [each.take_changes() for each in plain.all]
    assert [each.digest for each in ours.all] == [each.digest for each in plain.all]


def test_a_board_without_reports_folds_all_that_rules_read_and_nothing_else() -> None:
    whole, plain = Board(), Board(reports=False)
    assert whole.head == plain.head == Head(0, GENESIS)
    for each in (whole, plain):
        each.fold_next(RunRegistered(run_id="r", origin="x", state="NEW"), NOW_US)
        each.fold_next(queued("r", "p"), NOW_US)
        each.fold_next(SessionStarted(session_id="s", executor="x", limits=limits()), NOW_US)
        each.fold_next(started(), NOW_US)
        each.fold_next(finished(), NOW_US)
        each.fold_next(fingerprinted(), NOW_US)
    reports = {"zero_yield", "timeline"}
    for full, bare in zip(whole.all, plain.all, strict=True):
        assert dict(bare.items()) == ({} if bare.fold.name in reports else dict(full.items()))
    filled = {each.fold.name for each in whole.all if len(each)}
    assert filled == {"backlog", "run_triage", "sessions", "days", "fingerprints", *reports}


def test_a_projection_takes_only_what_is_its_own() -> None:
    days = Keyed(DAYS)
    for event in (queued("r", "p"), started()):
        days.feed(Seen(1, NOW_US, event))
    (key,) = (key for key, _ in days.items())
    assert (len(days), list(days.values())) == (1, [days.get(key)])
    assert days.get("another") is None


@pytest.mark.parametrize(
    "kind", [*EVENT_CLASSES.values(), *(fold.state for fold in FOLDS.values()), Seen]
)
def test_the_collector_walks_through_no_event_and_no_state(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.gc is False
    assert kind.__struct_config__.frozen is True


def test_phases_share_the_texts_that_a_backlog_repeats() -> None:
    """A daemon keeps all phases in memory, and reads each text anew from every event."""
    events = [
        replace(queued("run-1", name), tier_id="tier", category="docs", complexity="low")
        for name in ("one", "other")
    ]
    read = [
        decode(encode(event), event_type="backlog.phase_registered", schema=event.schema, pos=1)
        for event in events
    ]
    board_ = Board()
    for pos, event in enumerate(read, start=1):
        board_.feed(Seen(pos, NOW_US, event))
    one, other = board_.backlog.values()
    for name in ("run_id", "tier_id", "category", "complexity"):
        assert getattr(read[0], name) is not getattr(read[1], name)
        assert getattr(one, name) is getattr(other, name)
