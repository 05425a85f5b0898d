"""What a what-if says was decided at every end, held against what real drains decided there.

What only time brings, as the next probe of an open breaker does, comes when it did in the record.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from engine.audit.lines import commands
from engine.audit.whatif import walked
from engine.audit.whatif_result import WhatIf, said
from engine.events import AttemptFinished, AttemptStarted, PhaseRequeued, Reason, Told
from engine.executors.scripted import Rule
from engine.store.blobs import MemoryBlobs
from engine.triage.policy import Policy
from tests.audit.test_whatif_eyes import DEFERRED
from tests.audit.test_whatif_really import CHANGES, DEFAULT, outcome
from tests.audit.whatif_drains import (
    Drained,
    Run,
    drained,
    fails,
    held_against,
    horizons,
    made,
    succeeds,
    times_out,
)
from tests.audit.whatif_history import History
from tests.harness.backlogs import queued
from tests.rules import standings

SEEDS = range(int(os.environ.get("RUNOFF_SIM_SEEDS", "100")))
MORE_CHANGES: list[dict[str, object]] = [
    *CHANGES,
    {"detectors": "classic-1"},
    {"timeout_exit_codes": (1,)},
    {"timeout_fingerprints": "session"},
    {"breaker_cool_down_ms": 60_000},
    {"drains": ("FAILED",)},
]

DEMOTED = ", and no longer promising"
Decided = Mapping[tuple[str, str], list[tuple[str, ...]]]
"""What was decided at the ends of each phase's attempts, one after the other."""


def decided(log: Drained, found: WhatIf | None = None) -> Decided:
    """What the log says; or what ``found`` says instead, without the attempts that it leaves out.

    Up to the horizon of each run.
    """
    differing, not_made = (found.differing, found.not_made) if found else ((), ())
    instead = {each.attempt_id: each.instead for each in differing}
    left_out = {each.attempt_id for each in not_made}
    beyond: Mapping[str, int] = horizons(found) if found else {}
    told: dict[tuple[str, str], list[tuple[str, ...]]] = defaultdict(list)
    for lines in commands(log.lines):
        ends = [n for n, line in enumerate(lines) if isinstance(line.event, AttemptFinished)]
        for at in ends:
            end = lines[at].event
            assert isinstance(end, AttemptFinished)
            if end.attempt_id in left_out or lines[at].pos >= beyond.get(end.run_id, 1 << 62):
                continue
            behind = [line.event for line in lines[at + 1 :]]
            reasons = [(event, getattr(event, "reason", None)) for event in behind]
            recorded = tuple(said(event) for event, why in reasons if isinstance(why, Reason))
            claimed = instead.get(end.attempt_id, recorded)
            told[end.run_id, end.phase_id].append(tuple(c.removesuffix(DEMOTED) for c in claimed))
    return told


async def both(runs: list[Run], one: Policy, other: Policy) -> tuple[Decided, Decided]:
    """What a what-if claims, and what a real drain decides; up to each run's horizon."""
    blobs = MemoryBlobs()
    recorded = await drained(runs, one, blobs=blobs)
    really = decided(await drained(runs, other, blobs=MemoryBlobs()))
    found = walked(commands(recorded.lines), other, blobs.get)
    beyond, claimed = horizons(found), decided(recorded, found)
    return claimed, {
        key: each[: len(claimed.get(key, ()))] if key[0] in beyond else each
        for key, each in really.items()
        if key[0] not in beyond or key in claimed
    }


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
async def test_up_to_its_horizon_what_is_decided_of_a_run_is_what_a_real_drain_decides(
    seed: int,
) -> None:
    random_ = random.Random(seed)
    runs = [
        Run(
            f"r{number}",
            random_.choice(["strict", "free"]),
            [[outcome(random_) for _ in range(5)] for _ in range(random_.randint(1, 3))],
        )
        for number in range(random_.randint(1, 6))
    ]
    one = replace(DEFAULT, **random_.choice(MORE_CHANGES)) if random_.random() < 0.5 else DEFAULT
    other = replace(one, **random_.choice(MORE_CHANGES))
    claimed, really = await both(runs, one, other)
    assert claimed == really


async def test_a_run_that_would_have_been_the_probe_is_unknown_once_another_one_was() -> None:
    """The breaker is closed by c, the last one, and b then has nothing to close."""
    runs = [Run("a", "free", [[fails("broken")]])]
    runs += [Run(name, "free", [[succeeds()]]) for name in "bc"]
    recorded = await drained(runs, DEFAULT)
    really = decided(await drained(runs, replace(DEFAULT, breaker_runs=1)))
    assert len(really["c", "p0"][0]) == 2
    assert len(really["b", "p0"][0]) == 1
    found = held_against(recorded, replace(DEFAULT, breaker_runs=1))
    assert set(horizons(found)) == {"a", "b", "c"}
    started = [line for line in recorded.lines if isinstance(line.event, AttemptStarted)]
    starts = {getattr(line.event, "run_id", ""): line.pos for line in started}
    assert horizons(found)["c"] == starts["b"], "its horizon lies where it was due"


async def test_what_was_attempted_of_a_run_out_of_turn_is_unknown_once_the_run_is_stopped() -> None:
    """In any order the second timeout comes before the second attempts."""
    flaky = [fails("odd failure"), succeeds()]
    runs = [Run("r", "strict", [[times_out(), succeeds()], flaky, [times_out()]])]
    other = replace(DEFAULT, order_phases=False)
    recorded, really = await drained(runs, DEFAULT), await drained(runs, other)
    assert (recorded.figures.attempts, really.figures.attempts) == (5, 3)
    starts = [line.pos for line in recorded.lines if isinstance(line.event, AttemptStarted)]
    assert horizons(held_against(recorded, other)) == {"r": starts[1]}


async def test_a_run_that_stays_promising_where_it_was_stopped_is_decided_otherwise() -> None:
    runs = [Run("r", "free", [[times_out()], [times_out()], [succeeds()]])]
    recorded = await drained(runs, DEFAULT)
    other = replace(DEFAULT, stop_outranks_verdict=False)
    (each,) = held_against(recorded, other).differing
    assert each.recorded == (f"r is stopped (timeouts){DEMOTED}",)
    assert each.instead == ("r is stopped (timeouts)",)


async def test_a_stop_is_the_same_whatever_the_verdict_was_that_it_has_the_last_word_over() -> None:
    alike = fails("alike")
    runs = [Run("r", "free", [[alike], [alike, alike]])]
    other = replace(DEFAULT, verdict_rule="classic-1")
    (each,) = held_against(await drained(runs, DEFAULT), other).differing
    assert each.recorded == ("r is inconclusive (new_failure)",)


LIMITED = Rule(rc=1, stderr="429 rate limit exceeded", sleep=1.0)


@pytest.mark.parametrize("change", [{}, {"provider_pause_ms": 5000}])
async def test_an_account_that_rests_for_another_time_is_decided_otherwise(
    change: dict[str, int],
) -> None:
    runs = [Run("r", "free", [[LIMITED, succeeds()]])]
    found = held_against(await drained(runs, DEFAULT), replace(DEFAULT, **change))
    told = [(each.recorded[1], each.instead[1]) for each in found.differing]
    until = [f"scripted pauses until 2026-01-01T00:{at}Z (rate_limit)" for at in ("01:01", "00:06")]
    assert told == ([tuple(until)] if change else [])


SILENT = Rule(rc=1, sleep=60.0)


@pytest.mark.parametrize("clears", [False, True])
async def test_an_older_reason_is_the_one_that_the_other_detectors_had_left(
    *, clears: bool
) -> None:
    """The original took it for the newest one's, unless the child had cleared it."""
    second = Rule(rc=1, sleep=60.0, stderr="else", reason=None) if clears else SILENT
    one = replace(DEFAULT, fingerprint_repeats_max=2)
    runs = [Run("r", "free", [[SILENT, second]])]
    claimed, really = await both(runs, one, replace(one, detectors="classic-1"))
    assert claimed == really
    assert (len(claimed["r", "p0"][1]) == 0) is clears, "seen twice unless it was cleared"


def test_a_reason_that_a_phase_came_with_is_known_to_have_been_cleared() -> None:
    came = replace(queued("r", "p"), last_failure_reason="of old")
    log = History(standings.policy(), came, queued("s", "p"))
    for run_id in "rs":
        log.start(f"{run_id}1", run_id)
        log.end(f"{run_id}1", run_id, exit_code=1, told=Told(ended="exited"))
    log.close()
    found = log.under(standings.policy(detectors="classic-1", fingerprint_repeats_max=2))
    (each,) = [each for each in found.differing if each.run_id == "s"]
    assert any(text.startswith("fingerprint stopped: FAILED|rc1|subproc") for text in each.instead)


def test_a_requeued_phase_has_no_reason_that_a_child_could_clear() -> None:
    """Nor has it one once a first attempt was deferred, which to the original had failed."""
    log = History(standings.policy(), replace(queued("r", "p"), last_failure_reason="of old"))
    log.add(PhaseRequeued(run_id="r", phase_id="p", by="x", why="y"))
    told = Told(ended="exited", reason="first words")
    log.start("a1", "r")
    first = standings.finished(attempt_id="a1", session_id="s1", exit_code=1, told=told)
    log.add(first, DEFERRED)
    log.start("a2", "r", number=2)
    last = log.end("a2", "r", exit_code=1, told=Told(ended="exited"))
    log.close()
    found = log.under(standings.policy(detectors="classic-1", fingerprint_repeats_max=2))
    (stopped,) = [each.instead for each in found.differing if each.pos == last]
    assert stopped[0] == "fingerprint stopped: FAILED|rc1|first words"


async def test_what_other_detectors_leave_as_a_phases_reason_orders_the_next_attempts() -> None:
    """The original wrote down where its log was, and what says import goes before the rest."""
    flaky = [fails("unheard of"), succeeds()]
    runs = [
        Run("a", "free", [[succeeds()], flaky]),
        Run("import", "free", [[succeeds()], [SILENT, succeeds()]]),
    ]
    other = replace(DEFAULT, detectors="classic-1")
    recorded = await drained(runs, DEFAULT, batch_sizes=(5,))
    really = await drained(runs, other, batch_sizes=(5,))
    assert made(recorded)["a", "p1"] == made(really)["import", "p1"] == 2
    assert set(horizons(held_against(recorded, other))) == {"a", "import"}
