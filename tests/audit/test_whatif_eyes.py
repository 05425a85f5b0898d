"""What another policy reads anew, and what rests on the order of runs: row by row."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from engine.audit.whatif_eyes import Eyes
from engine.audit.whatif_order import rests_on_order
from engine.events import (
    AccountPaused,
    AccountRecovered,
    AnyEvent,
    AttemptDeferred,
    AttemptFinished,
    BreakerOpened,
    PhaseRegistered,
    PhaseRequeued,
    PolicyAdopted,
    SessionDraining,
    Stream,
    Told,
)
from engine.store.blobs import MemoryBlobs
from engine.triage.decide import Facts
from engine.triage.policy import Policy
from projections.accounts import AccountStanding
from projections.breakers import BreakerStanding
from tests.harness.backlogs import queued
from tests.rules.standings import (
    account,
    because,
    board,
    boundary,
    breaker,
    count_of,
    fingerprinted,
    finished,
    phase,
    policy,
    scope,
    silent,
)

RECORDED = policy()
GONE = "some output is gone: there the recorded diagnosis was taken"
ADOPTED = PolicyAdopted(
    session_id="s",
    policy=RECORDED.label,
    policy_sha256=RECORDED.sha256,
    policy_json=RECORDED.json,
)

EARLY = replace(ADOPTED, policy_json=policy(detectors="plain-1").json)


def looked(**change: Any) -> tuple[bool, bool]:
    """Whether another policy picks alike, and whether it reads an end anew."""
    notes: set[str] = set()
    eyes = Eyes(policy(**change), MemoryBlobs().get, notes)
    alike = eyes.adopted(ADOPTED)
    eyes.facts(board(phase()), finished(), [])
    return alike, notes == {GONE}


CHANGES: tuple[tuple[dict[str, Any], bool, bool], ...] = (
    ({}, True, False),
    ({"detectors": "classic-1"}, False, True),
    ({"timeout_fingerprints": "run"}, True, True),
    ({"timeout_exit_codes": (143,)}, True, True),
    ({"timeouts_lose_yield": True}, True, False),
    ({"verdict_rule": "classic-1"}, True, False),
    ({"provider_pause_ms": 1}, True, False),
    ({"provider_pause_max_ms": 1}, True, False),
    ({"deferrals_per_phase_max": 1}, True, False),
    ({"name": "u"}, True, False),
    ({"version": 8}, True, False),
    ({"timeouts_per_run_max": 1}, True, False),
    ({"fingerprint_repeats_max": 1}, True, False),
    ({"consecutive_zero_yield_max": 1}, True, False),
    ({"stops_spare_yield": True}, True, False),
    ({"stop_outranks_verdict": True}, True, False),
    ({"order_phases": False}, False, False),
    ({"order_tiers": False}, False, False),
    ({"once_per_session": True}, False, False),
    ({"attempts_per_phase_max": 1}, False, False),
    ({"samples_at_first": 1}, False, False),
    ({"breaker_runs": 1}, False, False),
    ({"cool_down_ms": 1}, False, False),
    ({"drains": ("FAILED",)}, False, False),
    ({"order_deliverables": False}, False, False),
    ({"orphans_per_phase_max": 1}, False, False),
    ({"breaker_probes_max": 1}, False, False),
    ({"breaker_cool_down_ms": 1}, False, False),
    ({"heed_incident_caps": True}, False, False),
)
"""A change of each field of a policy: whether picks are alike, and whether ends are read anew."""


def test_of_every_field_it_is_said_what_a_change_of_it_means() -> None:
    assert {name for change, _, _ in CHANGES for name in change} == {*Policy.__struct_fields__}


@pytest.mark.parametrize(("change", "alike", "anew"), CHANGES)
def test_a_policy_picks_alike_and_reads_alike_unless_it_differs_there(
    change: dict[str, Any], *, alike: bool, anew: bool
) -> None:
    assert looked(**change) == (alike, anew)


def read(
    other: Policy, end: AttemptFinished, *recorded: AnyEvent, adopted: PolicyAdopted = ADOPTED
) -> tuple[Facts, set[str]]:
    """What another policy reads of an end, and what it could not read so.

    Of the failure ``f`` its session has seen two before.
    """
    notes: set[str] = set()
    eyes = Eyes(other, MemoryBlobs().get, notes)
    eyes.adopted(adopted)
    return eyes.facts(board(phase(), count_of("f", count=2)), end, recorded), notes


BY_ITSELF, BY_OUR_TIMER = Told(ended="exited"), Told(ended="timed_out")
COMPLETE = Told(ended="exited", state="COMPLETE")
DEFERRED = AttemptDeferred(
    session_id="s",
    run_id="r",
    phase_id="p",
    attempt_id="a",
    state="QUEUED",
    kind="rate_limit",
    fingerprint=None,
    no_yield=True,
    reason=because("r", ""),
)
REQUEUED = PhaseRequeued(run_id="r", phase_id="p", by="x", why="y")


@pytest.mark.parametrize(
    ("codes", "recorded", "counts_as"),
    [
        ((124,), {"ending": "failed", "exit_code": 124, "told": BY_ITSELF}, "timed_out"),
        ((124,), {"ending": "failed", "exit_code": 1, "told": BY_ITSELF}, "failed"),
        ((), {"ending": "timed_out", "exit_code": 143, "told": BY_ITSELF}, "failed"),
        ((143,), {"ending": "timed_out", "exit_code": 143, "told": BY_ITSELF}, "timed_out"),
        ((-15,), {"ending": "failed", "signal": 15, "told": BY_ITSELF}, "timed_out"),
        ((15,), {"ending": "failed", "signal": 15, "told": BY_ITSELF}, "failed"),
        ((), {"ending": "timed_out", "exit_code": 143, "told": BY_OUR_TIMER}, "timed_out"),
        ((124,), {"ending": "failed", "exit_code": 124, "told": None}, "failed"),
        ((124,), {"ending": "failed", "exit_code": 124, "told": COMPLETE}, "failed"),
        ((124,), {"ending": "succeeded", "exit_code": 124, "told": COMPLETE}, "succeeded"),
        ((124,), {"ending": "broke", "exit_code": 124, "told": BY_ITSELF}, "broke"),
    ],
)
def test_an_end_counts_as_a_timeout_where_the_drain_would_have_counted_it(
    codes: tuple[int, ...], recorded: dict[str, Any], counts_as: str
) -> None:
    """What a child says is complete has not timed out, whatever is missing of it."""
    end = finished(**recorded)
    facts, _ = read(policy(timeout_exit_codes=codes), end)
    told = (facts.finished.ending, facts.finished.final_state, facts.finished.exit_code)
    assert told == (counts_as, end.final_state, end.exit_code)


LIMITED = Told(ended="exited", reason="429 rate limit exceeded")


def test_of_detectors_that_are_gone_those_are_asked_that_came_after_them() -> None:
    early = read(policy(detectors="plain-1"), finished(exit_code=1, told=LIMITED))
    today = read(RECORDED, finished(exit_code=1, told=LIMITED), adopted=EARLY)
    assert early[0] == today[0]
    assert today[1] == set()
    assert early[1] == {"the detectors plain-1 are gone: standard-1 was asked instead"}


def test_a_policy_with_other_detectors_reads_what_was_kept_with_them() -> None:
    end = finished(exit_code=1, told=LIMITED)
    found, notes = read(policy(detectors="classic-1"), end, fingerprinted())
    assert found.fingerprinted is not None
    assert found.fingerprinted.detector.startswith("classic")
    assert found.fingerprinted.seen_before == 0, "by this name the failure is new"
    assert found.zero_yield is not None
    assert notes == set()


def test_the_reason_that_a_phase_is_left_with_is_that_of_the_detectors() -> None:
    end = finished(exit_code=1, told=BY_ITSELF, error="as it was recorded")
    assert read(RECORDED, end)[0].finished.error == "as it was recorded"
    anew, _ = read(policy(detectors="classic-1"), end)
    assert anew.finished.error == "subprocess exit 1 (stderr: /logs/r__p.stderr.txt)"


LEFT = replace(BY_ITSELF, stored_reason="as it was recorded")


def had_failed(phase_id: str) -> PhaseRegistered:
    """A phase that came with the reason of an older failure."""
    return replace(queued("r", phase_id), last_failure_reason="a")


@pytest.mark.parametrize(
    ("known", "told", "before", "error"),
    [
        ("made of it", LEFT, [], "made of it"),
        ("m" * 1001, LEFT, [], "m" * 1000),
        (None, LEFT, [], "subprocess exit 1 (stderr: /logs/r__p.stderr.txt)"),
        ("made of it", LEFT, [(finished(error="a"), ())], "made of it"),
        ("made of it", BY_ITSELF, [], "made of it"),
        ("made of it", BY_ITSELF, [(finished(error="a"), ())], "subprocess exit 1"),
        ("made of it", BY_ITSELF, [(had_failed("p"), ())], "subprocess"),
        ("made of it", BY_ITSELF, [(had_failed("q"), ())], "made of it"),
        ("made of it", BY_ITSELF, [(finished(error="a"), (DEFERRED,))], "made of it"),
        ("made of it", BY_ITSELF, [(finished(error="a", ending="orphaned"), ())], "made of it"),
        ("made of it", BY_ITSELF, [(finished(error="a"), ()), (REQUEUED, ())], "made of it"),
        ("made of it", BY_ITSELF, [(finished(error="a"), ()), (finished(), ())], "made of it"),
    ],
)
def test_an_older_reason_is_what_the_other_policy_had_made_of_that_failure(
    known: str | None,
    told: Told,
    before: Sequence[tuple[AnyEvent, Sequence[AnyEvent]]],
    error: str,
) -> None:
    """Unless the child cleared it, which shows where the record had one that the child lost."""
    eyes = Eyes(policy(detectors="classic-1"), MemoryBlobs().get, set())
    eyes.adopted(ADOPTED)
    for event, rest in before:
        eyes.recorded(event, rest)
    found = eyes.facts(board(phase(reason=known)), finished(exit_code=1, told=told), [])
    assert (found.finished.error or "").startswith(error)
    assert len(found.finished.error or "") <= 1000


def test_a_limit_is_read_anew_with_the_rest() -> None:
    words = b"429 rate limit exceeded. Please try again in 20s."
    kept = Stream(
        total_bytes=len(words),
        head_bytes=len(words),
        digest=hashlib.sha256(words).hexdigest(),
        excerpt=words.decode(),
    )
    end = finished(exit_code=1, told=BY_ITSELF, stderr=kept)
    found, _ = read(policy(timeout_fingerprints="run"), end)
    assert [each.kind for each in found.boundaries] == ["rate_limit"]


def test_a_policy_that_reads_alike_takes_what_was_recorded_and_counts_it_anew() -> None:
    end = finished(exit_code=1, told=LIMITED)
    said = fingerprinted(), boundary(), silent()
    found, notes = read(RECORDED, end, *said)
    assert found == Facts(end, replace(said[0], seen_before=2), (said[1],), said[2])
    assert notes == set()


GONE_OUTPUT = Stream(total_bytes=9, head_bytes=9, digest="0" * 64, excerpt="...")


@pytest.mark.parametrize(
    "lost", [{"told": None}, {"told": BY_ITSELF, "stdout": GONE_OUTPUT}], ids=["told", "output"]
)
def test_where_what_was_kept_is_gone_the_recorded_diagnosis_stands_and_that_is_said(
    lost: dict[str, Any],
) -> None:
    said = fingerprinted(), boundary(), silent()
    found, notes = read(policy(detectors="classic-1"), finished(exit_code=1, **lost), *said)
    assert (found.boundaries, found.zero_yield) == ((said[1],), said[2])
    assert found.fingerprinted == replace(said[0], seen_before=2)
    assert notes == {GONE}


def test_a_policy_that_cannot_be_read_is_named_and_taken_for_another_one() -> None:
    notes: set[str] = set()
    eyes = Eyes(RECORDED, MemoryBlobs().get, notes)
    unknown = replace(ADOPTED, policy_json="{}")
    assert not eyes.adopted(unknown)
    assert notes == {"the policy of s cannot be read here"}
    assert not eyes.stops_otherwise("s"), "nobody knows, so a stop is a stop"
    found = eyes.facts(board(phase()), finished(exit_code=1, told=LIMITED), [])
    assert found.fingerprinted is not None, "its ends are read anew"


WHY = because("r", "")
OPENED = BreakerOpened(session_id="s", fingerprint="f", template="", runs=3, reason=WHY)
DRAINING = SessionDraining(session_id="s", because="zero_yield_streak", reason=WHY)


PAUSED = AccountPaused(
    session_id="s", account="x", kind="quota", until_us=1, stated=False, consecutive=1, reason=WHY
)
RECOVERED = AccountRecovered(session_id="s", account="x", attempt_id="a", reason=WHY)


@pytest.mark.parametrize(
    ("seen_before", "decided", "change", "rests"),
    [
        (None, [], {}, False),
        (0, [], {}, False),
        (1, [], {}, True),
        (None, [OPENED], {}, True),
        (None, [DRAINING], {}, True),
        (None, [PAUSED], {}, True),
        (None, [RECOVERED], {}, True),
        (None, [], {"consecutive_zero_yield_max": 9}, True),
    ],
)
def test_what_was_seen_of_other_runs_rests_on_their_order(
    seen_before: int | None, decided: list[AnyEvent], change: dict[str, Any], *, rests: bool
) -> None:
    seen = None if seen_before is None else fingerprinted(seen_before=seen_before)
    facts = Facts(finished(), seen, (), None)
    assert rests_on_order(board(), facts, decided, scope(policy(**change))) is rests


@pytest.mark.parametrize(
    ("end", "known", "rests"),
    [
        ({"ending": "succeeded"}, None, False),
        ({"ending": "succeeded"}, account(), True),
        ({"ending": "succeeded"}, breaker(), True),
        ({"yield_events": 1}, breaker(), True),
        ({"yield_events": 1}, account(), True),
        ({}, account(), False),
        ({}, breaker(), False),
    ],
)
def test_what_an_end_that_does_well_relieves_is_up_to_other_runs(
    end: dict[str, Any], known: AccountStanding | BreakerStanding | None, *, rests: bool
) -> None:
    rows = board() if known is None else board(known)
    facts = Facts(finished(**end), None, (), None)
    assert rests_on_order(rows, facts, [], scope(policy())) is rests
