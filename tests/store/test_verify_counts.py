"""What verify counts by itself over a log: rejected lines, tokens, and attempts in flight."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from engine.audit.verify import verify
from engine.events import (
    AttemptAdopted,
    AttemptDeferred,
    Ending,
    PhaseState,
    PolicyAdopted,
    RunReinstated,
    SessionEnded,
    SessionStarted,
    UsageRejected,
)
from engine.triage.policy import Policy
from tests.placed import Item
from tests.store.test_verify_histories import (
    BEGUN,
    LIMITS,
    NO_USAGE,
    REASON,
    SAMPLED,
    finished,
    first,
    judged,
    log_of,
    registered,
    started,
    usage,
)

SECOND = replace(NO_USAGE, attempt_id="b")
AGAIN = RunReinstated(run_id="r", generation=2, by="me", why="again")
IDS: dict[str, Any] = {"session_id": "s", "run_id": "r", "phase_id": "p0", "attempt_id": "a"}


def rejected(count: int) -> UsageRejected:
    return UsageRejected(**IDS, why="not_json", count=count, first_line=1, excerpt="?")


@pytest.mark.parametrize(("claimed", "holds"), [(4, False), (5, True), (6, False)])
async def test_rejected_lines_are_as_many_as_all_that_were_told(
    tmp_path: Path, claimed: int, *, holds: bool
) -> None:
    end: list[Item] = [finished(lines_rejected=claimed), (NO_USAGE, 11), (judged(), 11)]
    found = verify(await log_of(tmp_path, [*BEGUN, started(), rejected(2), rejected(3), *end]))
    assert found.violations == [] if holds else first(found) == ("S21", 11)


def deferred(attempt: str = "a", *, timed_out: bool = False) -> AttemptDeferred:
    ids: dict[str, Any] = {**IDS, "attempt_id": attempt}
    return AttemptDeferred(**ids, state="QUEUED", kind="quota", timed_out=timed_out, reason=REASON)


@pytest.mark.parametrize("timed_out", [False, True])
@pytest.mark.parametrize("ending", ["failed", "timed_out", "broke", "abandoned"])
async def test_only_what_failed_or_timed_out_is_deferred_and_as_it_ended(
    tmp_path: Path, ending: Ending, *, timed_out: bool
) -> None:
    state: PhaseState = "QUEUED" if ending == "abandoned" else "FAILED"
    items: list[Item] = [*BEGUN, started(), finished(ending=ending, final_state=state)]
    items += [(NO_USAGE, 9), (deferred(timed_out=timed_out), 9)]
    found = verify(await log_of(tmp_path, items))
    if (ending, timed_out) in (("failed", False), ("timed_out", True)):
        assert found.violations == []
    else:
        assert ("S16", 11) in {(each.what[:3], each.pos) for each in found.violations}


async def test_a_deferred_attempt_uses_up_none_of_those_that_its_phase_may_have(
    tmp_path: Path,
) -> None:
    items: list[Item] = [*BEGUN]
    for number, name in enumerate("abcd", start=1):
        pos = len(items) + 3
        items += [started(name, number=number), finished(name, number=number)]
        items += [(replace(NO_USAGE, attempt_id=name), pos), (deferred(name), pos)]
    assert verify(await log_of(tmp_path, items)).violations == []


@pytest.mark.parametrize("ending", get_args(Ending))
async def test_a_sample_that_proved_something_is_due_a_verdict(
    tmp_path: Path, ending: Ending
) -> None:
    proved = ending not in ("abandoned", "orphaned")
    state: PhaseState = "COMPLETE" if ending == "succeeded" else "FAILED" if proved else "QUEUED"
    end = finished(ending=ending, final_state=state)
    found = verify(await log_of(tmp_path, [*BEGUN, started(), end, (NO_USAGE, 9)]))
    due = [each.pos for each in found.violations if each.what.startswith("L2")]
    assert due == ([9] if proved else [])


async def test_a_sample_is_due_its_verdict_though_another_attempt_is_deferred(
    tmp_path: Path,
) -> None:
    items: list[Item] = [*SAMPLED[:-1], started("b", "p1"), finished("b", "p1")]
    items += [(replace(SECOND, phase_id="p1"), 12), (replace(deferred("b"), phase_id="p1"), 12)]
    assert first(verify(await log_of(tmp_path, items))) == ("L2", 9)


async def test_what_is_in_flight_when_a_run_begins_anew_is_in_flight_still(tmp_path: Path) -> None:
    items: list[Item] = [*SAMPLED, started("b", "p1"), AGAIN, started("c", "p2")]
    assert first(verify(await log_of(tmp_path, items))) == ("S15", 14)
    (tmp_path / "ended").mkdir()
    over: list[Item] = [finished("b", "p1"), (replace(SECOND, phase_id="p1"), 13)]
    legal: list[Item] = [*SAMPLED, started("b", "p1"), *over, AGAIN, started("c", "p2")]
    assert verify(await log_of(tmp_path / "ended", legal)).violations == []


async def test_an_attempt_is_adopted_while_it_is_open_and_never_behind_its_end(
    tmp_path: Path,
) -> None:
    adopted = AttemptAdopted(**IDS, epoch=1)
    assert first(verify(await log_of(tmp_path, [*SAMPLED, adopted]))) == ("S6", 12)


@pytest.mark.parametrize(("cap", "left"), [(29, 2), (30, 2), (31, 3)])
async def test_a_cap_is_used_up_by_what_all_attempts_of_its_phase_took_together(
    tmp_path: Path, cap: int, left: int
) -> None:
    heeds = Policy(name="capped", heed_incident_caps=True, attempts_per_phase_max=None)
    adopted = PolicyAdopted(
        session_id="s", policy=heeds.label, policy_sha256=heeds.sha256, policy_json=heeds.json
    )
    items: list[Item] = [
        BEGUN[0],
        replace(registered("p0"), incident_token_cap=cap),
        *BEGUN[2:4],
        adopted,
        SessionStarted(session_id="s", executor="e", limits=LIMITS),
        started(),
        replace(usage(), output_tokens=10),
        finished(yield_events=1, tokens=10),
        (judged(because="telemetry"), 10),
        started("b", number=2, initial_state="FAILED", group="promising"),
        replace(usage("b"), output_tokens=20),
        finished("b", number=2, yield_events=1, tokens=20),
        SessionEnded(
            session_id="s", because="nothing_eligible", active_ms=1, attempts=2, work_left=left
        ),
    ]
    assert verify(await log_of(tmp_path, items)).violations == []
