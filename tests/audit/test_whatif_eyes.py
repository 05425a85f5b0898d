"""What another policy reads anew, and what rests on the order of runs: row by row."""

from __future__ import annotations

from typing import Any

import pytest

from engine.audit.whatif_eyes import Eyes
from engine.audit.whatif_order import rests_on_order
from engine.events import AnyEvent, BreakerOpened, PolicyAdopted, SessionDraining
from engine.store.blobs import MemoryBlobs
from engine.triage.decide import Facts
from tests.rules.standings import because, board, fingerprinted, finished, policy, scope

RECORDED = policy()


def looked(**change: Any) -> tuple[bool, bool]:
    """Whether another policy picks alike, and whether it reads an end anew."""
    notes: set[str] = set()
    eyes = Eyes(policy(**change), MemoryBlobs().get, notes)
    adopted = PolicyAdopted(
        session_id="s",
        policy=RECORDED.label,
        policy_sha256=RECORDED.sha256,
        policy_json=RECORDED.json,
    )
    alike = eyes.adopted(adopted)
    eyes.facts(board(), finished(), [])
    return alike, notes == {"some output is gone: there the recorded diagnosis was taken"}


@pytest.mark.parametrize(
    ("change", "alike", "anew"),
    [
        ({}, True, False),
        ({"detectors": "classic-1"}, True, True),
        ({"timeout_fingerprints": "run"}, True, True),
        ({"timeout_exit_codes": (143,)}, True, True),
        ({"verdict_rule": "classic-1"}, True, False),
        ({"provider_pause_ms": 1}, True, False),
        ({"order_phases": False}, False, False),
        ({"order_tiers": False}, False, False),
        ({"once_per_session": True}, False, False),
        ({"attempts_per_phase_max": 1}, False, False),
        ({"samples_at_first": 1}, False, False),
        ({"breaker_runs": 1}, False, False),
        ({"cool_down_ms": 1}, False, False),
        ({"drains": ("FAILED",)}, False, False),
    ],
)
def test_a_policy_picks_alike_and_reads_alike_unless_it_differs_there(
    change: dict[str, Any], *, alike: bool, anew: bool
) -> None:
    assert looked(**change) == (alike, anew)


WHY = because("r", "")
OPENED = BreakerOpened(session_id="s", fingerprint="f", template="", runs=3, reason=WHY)
DRAINING = SessionDraining(session_id="s", because="zero_yield_streak", reason=WHY)


@pytest.mark.parametrize(
    ("seen_before", "decided", "change", "rests"),
    [
        (None, [], {}, False),
        (0, [], {}, False),
        (1, [], {}, True),
        (None, [OPENED], {}, True),
        (None, [DRAINING], {}, True),
        (None, [], {"consecutive_zero_yield_max": 9}, True),
    ],
)
def test_what_was_seen_of_other_runs_rests_on_their_order(
    seen_before: int | None, decided: list[AnyEvent], change: dict[str, Any], *, rests: bool
) -> None:
    seen = None if seen_before is None else fingerprinted(seen_before=seen_before)
    facts = Facts(finished(), seen, (), None)
    assert rests_on_order(facts, decided, scope(policy(**change))) is rests
