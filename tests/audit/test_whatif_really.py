"""What a what-if claims, held against real drains under the other policy with the same outcomes."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest
from msgspec.structs import replace

from engine.events import BreakerOpened, RunCooledDown
from engine.executors.scripted import Rule
from engine.triage.operating import ReinstateRun, ResetBreaker
from engine.triage.policy import POLICIES, Policy
from tests.audit.whatif_drains import (
    Drained,
    Figures,
    Run,
    drained,
    fails,
    held_against,
    horizons,
    made,
    succeeds,
    times_out,
    told,
)

SEEDS = range(int(os.environ.get("RUNOFF_SIM_SEEDS", "100")))
DEFAULT = POLICIES["default"]


@pytest.mark.parametrize("change", [{"once_per_session": True}, {"attempts_per_phase_max": 1}])
async def test_what_a_later_session_would_do_is_not_saved(change: dict[str, object]) -> None:
    runs = [Run("r", "strict", [[fails("flaky"), succeeds(2000)]])]
    recorded = await drained(runs, DEFAULT, batch_sizes=(9, 9))
    other = replace(DEFAULT, **change)
    really = await drained(runs, other, batch_sizes=(9, 9))
    found = held_against(recorded, other)
    if other.once_per_session:
        assert really.figures == recorded.figures == Figures(2, 2000, 1)
        assert (found.attempts_saved, found.attempts_unknown) == (0, 1)
        assert (found.tokens_saved, found.successes_lost) == (0, 0)
        assert set(horizons(found)) == {"r"}
    else:  # never made again, in whatever session
        assert really.figures == Figures(1, 0, 0)
        assert (found.attempts_saved, found.attempts_unknown) == (1, 0)
        assert (found.tokens_saved, found.successes_lost) == (2000, 1)
        assert horizons(found) == {}


@pytest.mark.parametrize(
    ("first", "base", "change"),
    [
        (times_out(), {}, {"timeouts_per_run_max": 1}),
        (fails("again", 10), {"fingerprint_repeats_max": 1}, {"stops_spare_yield": False}),
    ],
    ids=["first-timeout", "failure-with-yield"],
)
async def test_what_a_stop_puts_off_to_a_later_session_is_not_saved(
    first: Rule, base: dict[str, object], change: dict[str, object]
) -> None:
    runs = [Run("r", "strict", [[first, succeeds(2000)]])]
    policy = replace(DEFAULT, **base)
    recorded = await drained(runs, policy, batch_sizes=(9, 9))
    other = replace(policy, **change)
    really = await drained(runs, other, batch_sizes=(9, 9))
    found = held_against(recorded, other)
    assert really.figures == recorded.figures
    assert (found.attempts_saved, found.attempts_unknown) == (0, 1)
    assert (found.tokens_saved, found.successes_lost) == (0, 0)
    assert set(horizons(found)) == {"r"}


async def test_an_attempt_beyond_the_record_that_comes_before_a_stop_is_a_horizon() -> None:
    tries = [fails("odd failure one"), fails("other thing broke"), succeeds(6000)]
    runs = [Run("r", "free", [tries, [times_out()]])]
    other = replace(DEFAULT, attempts_per_phase_max=3)
    recorded, really = await drained(runs, DEFAULT), await drained(runs, other)
    assert (recorded.figures, really.figures) == (Figures(4, 0, 0), Figures(5, 6000, 1))
    found = held_against(recorded, other)
    third = [line for line in recorded.lines if line.event.__class__.__name__ == "AttemptStarted"]
    assert horizons(found) == {"r": third[-1].pos}, "p0 would have gone before the last attempt"


async def test_another_order_before_a_bound_is_a_horizon_of_both_runs() -> None:
    runs = [
        Run("a", "strict", [[fails("odd failure one"), succeeds(70_000)], [succeeds(70_000)]]),
        Run("b", "strict", [[succeeds(100)], [fails("zzz bad", 100)]]),
    ]
    other = replace(DEFAULT, verdict_rule="classic-1")
    recorded = await drained(runs, DEFAULT, batch_sizes=(4,))
    really = await drained(runs, other, batch_sizes=(4,))
    assert (recorded.figures, really.figures) == (Figures(4, 300, 1), Figures(4, 70_200, 2))
    assert set(horizons(held_against(recorded, other))) == {"a", "b"}


async def test_another_order_of_the_same_attempts_is_no_horizon() -> None:
    runs = [
        Run("a", "strict", [[fails("odd failure one"), succeeds(70_000)], [succeeds(70_000)]]),
        Run("b", "strict", [[succeeds(100)], [succeeds(100)]]),
    ]
    other = replace(DEFAULT, verdict_rule="classic-1")
    recorded, really = await drained(runs, DEFAULT), await drained(runs, other)
    found = held_against(recorded, other)
    assert horizons(found) == {}
    assert told(recorded, found) == really.figures == recorded.figures


async def test_attempts_that_no_longer_match_by_number_are_a_horizon() -> None:
    """The other policy's second attempt would end as the recorded second one, not as the third."""
    runs = [Run("r", "strict", [[fails("one"), fails("two"), succeeds(5)]])]
    base = replace(DEFAULT, attempts_per_phase_max=3)
    recorded = await drained(runs, base, batch_sizes=(2, 9))
    other = replace(base, once_per_session=True)
    really = await drained(runs, other, batch_sizes=(2, 9))
    found = held_against(recorded, other)
    assert really.figures == Figures(2, 0, 0)
    assert (found.attempts_saved, found.attempts_unknown) == (0, 1)
    (horizon,) = found.horizons
    assert "attempt 2 would have been made where 3 was" in horizon.unknown


async def test_a_reset_of_a_breaker_that_would_never_have_opened_forgets_nothing() -> None:
    """The cause that two samples had failed by is systemic with the third, reset or not."""
    alike = [[fails("the database is down")]]
    runs = [Run(name, "strict", alike) for name in "abc"]
    one = replace(DEFAULT, breaker_runs=2, breaker_probes_max=0, samples_at_first=1)
    cause = await opened_by(runs, one)
    reset = ResetBreaker(fingerprint=cause, by="x", why="y")
    recorded = await drained(runs, one, batch_sizes=(2, 9), between=[reset])
    found = held_against(recorded, replace(one, breaker_runs=3))
    at_c = next(each for each in found.differing if each.run_id == "c")
    assert f"breaker opened: {cause}" in at_c.instead
    assert f"breaker opened: {cause}" not in at_c.recorded
    same = held_against(recorded, one)
    assert (same.differing, same.not_made, same.horizons) == ((), (), ())


async def opened_by(runs: list[Run], policy: Policy) -> str:
    recorded = await drained(runs, policy, batch_sizes=(2,))
    events = [line.event for line in recorded.lines]
    return next(e.fingerprint for e in events if isinstance(e, BreakerOpened))


async def test_a_run_that_was_reinstated_is_sampled_again_under_another_policy_too() -> None:
    alike = [fails("alike"), succeeds(5)]
    runs = [Run("a", "strict", [alike]), Run("b", "strict", [alike])]
    one = replace(DEFAULT, cool_down_ms=None)
    asked = [ReinstateRun(run_id="b", by="x", why="y")]
    recorded = await drained(runs, one, batch_sizes=(9, 9), between=asked)
    for other in (one, replace(one, breaker_runs=9)):
        found = held_against(recorded, other)
        assert (found.not_made, horizons(found)) == ((), {})
        assert told(recorded, found) == recorded.figures


@pytest.mark.parametrize("change", [{"verdict_rule": "classic-1"}, {"breaker_runs": 9}, {}])
async def test_a_run_that_had_cooled_down_is_sampled_again(change: dict[str, object]) -> None:
    """While nothing differs, and when it may, its new generation begins where it began."""
    alike = [fails("alike"), succeeds(5)]
    runs = [Run("a", "strict", [alike]), Run("b", "strict", [alike, [times_out(), succeeds(1)]])]
    one = replace(DEFAULT, cool_down_ms=1)
    other = replace(one, **change)
    recorded = await drained(runs, one, batch_sizes=(9, 9))
    really = await drained(runs, other, batch_sizes=(9, 9))
    found = held_against(recorded, other)
    assert any(isinstance(line.event, RunCooledDown) for line in recorded.lines)
    assert (found.not_made, horizons(found)) == ((), {})
    assert told(recorded, found) == really.figures


CHANGES: list[dict[str, object]] = [
    {"timeouts_per_run_max": 1},
    {"timeouts_per_run_max": None},
    {"fingerprint_repeats_max": 1},
    {"fingerprint_repeats_max": 2},
    {"fingerprint_repeats_max": None},
    {"attempts_per_phase_max": 1},
    {"attempts_per_phase_max": 3},
    {"breaker_runs": 1},
    {"breaker_runs": 2},
    {"breaker_runs": None},
    {"consecutive_zero_yield_max": 2},
    {"samples_at_first": 1},
    {"order_phases": False},
    {"once_per_session": True},
    {"stop_outranks_verdict": False},
    {"stops_spare_yield": False},
    {"timeout_fingerprints": "detected"},
    {"verdict_rule": "classic-1"},
    {"cool_down_ms": 100_000},
]


def outcome(random_: random.Random) -> Rule:
    return random_.choice(
        [
            succeeds(random_.randint(1, 50)),
            succeeds(),
            times_out(),
            fails(f"Odd {random_.choice(['alpha', 'alpha', 'beta'])} failure"),
            fails("ImportError: no module foo", random_.choice([0, 7])),
        ]
    )


def backlog_of(random_: random.Random) -> list[Run]:
    return [
        Run(
            f"r{number}",
            random_.choice(["strict", "free"]),
            [[outcome(random_) for _ in range(4)] for _ in range(random_.randint(1, 3))],
        )
        for number in range(random_.randint(1, 6))
    ]


def policy_of(random_: random.Random) -> Policy:
    policy = DEFAULT
    for _ in range(random_.randint(0, 2)):
        policy = replace(policy, **random_.choice(CHANGES))
    return policy


async def both(seed: int) -> tuple[Drained, Drained, Policy]:
    random_ = random.Random(seed)
    runs = backlog_of(random_)
    one, other = (policy_of(random_) for _ in "ab")
    sizes = random_.choice([(200,), (200, 200), (3,), (4, 200), (6, 2, 200), (1, 1, 1, 1)])
    workers = random_.choice([1, 1, 3])
    recorded = await drained(runs, one, batch_sizes=sizes, workers=workers)
    return recorded, await drained(runs, other, batch_sizes=sizes, workers=workers), other


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
async def test_without_a_horizon_its_figures_are_those_of_a_real_drain(seed: int) -> None:
    recorded, really, other = await both(seed)
    found = held_against(recorded, other)
    if not found.horizons:
        assert told(recorded, found) == really.figures
    beyond = horizons(found)
    claimed = made(recorded, {each.attempt_id for each in found.not_made})
    for run, phase in claimed | made(really):
        if run not in beyond:
            assert claimed[run, phase] == made(really)[run, phase]


async def test_the_worlds_above_reach_both_sides_of_the_horizon() -> None:
    seen: Counter[str] = Counter()
    for seed in range(40):
        recorded, really, other = await both(seed)
        found = held_against(recorded, other)
        is_same = told(recorded, found) == really.figures
        seen["beyond" if found.horizons else "known"] += 1
        seen["beyond and really other"] += bool(found.horizons) and not is_same
        seen["known and other"] += not found.horizons and recorded.figures != really.figures
    assert min(seen.values()) >= 2, seen
    assert len(seen) == 4
