"""What a cause costs that fails every run alike, and that the order of arrival decides nothing."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from msgspec.structs import replace

from engine.events import AttemptStarted, BreakerOpened, RunJudged
from engine.triage.breaker import GROWTH
from engine.triage.policy import POLICIES, Policy
from engine.triage.scope import Scope
from tests.rules.hand_drain import Fate, HandDrain, Line, backlog_of
from tests.rules.standings import limits

DEFAULT = POLICIES["default"]
RUNS = 50
SHUFFLES = 12


def a_scope(of: Policy, workers: int) -> Scope:
    return Scope("s", of, limits(workers=workers, batch_size=999, per_run_max=1))


def drained(of: Policy, workers: int, fate: Fate, seed: int, phases: int = 3) -> list[Line]:
    dice = random.Random(seed)
    drain = HandDrain(backlog_of(RUNS, phases))
    return drain.drain(a_scope(of, workers), lambda _started: fate, dice.randrange)


def starts(lines: list[Line]) -> list[AttemptStarted]:
    return [line.event for line in lines if isinstance(line.event, AttemptStarted)]


def bound(of: Policy, workers: int) -> int:
    """At most so many attempts when all fail alike.

    K samples open the breaker.  Meanwhile others are in flight: the first sample tells something,
    so there may be samples_at_first + GROWTH at once, of which one is the Kth.  Then come the
    probes that need no cool-down, and one more attempt of the first run, which is not condemned:
    the failure was new with it.
    """
    assert of.breaker_runs is not None
    assert of.samples_at_first is not None
    overshoot = min(workers, of.samples_at_first + GROWTH) - 1
    return of.breaker_runs + overshoot + of.breaker_probes_max + 1


@pytest.mark.parametrize(("workers", "most"), [(1, 6), (8, 10), (64, 10)])
def test_fifty_runs_that_fail_alike_cost_a_handful_of_attempts(workers: int, most: int) -> None:
    assert bound(DEFAULT, workers) == most
    costs: Counter[int] = Counter()
    for seed in range(SHUFFLES):
        lines = drained(DEFAULT, workers, Fate(like="no key"), seed)
        costs[len(starts(lines))] += 1
        assert sum(isinstance(line.event, BreakerOpened) for line in lines) == 1
        assert len([start for start in starts(lines) if start.probe_of]) == 2
    assert max(costs) <= most, costs
    # The bound is tight: some order of arrival comes to it.
    assert max(costs) == most


@pytest.mark.parametrize("workers", [1, 8, 64])
def test_without_the_breaker_every_run_is_sampled(workers: int) -> None:
    lines = drained(replace(DEFAULT, breaker_runs=None), workers, Fate(like="no key"), 7)
    assert {start.run_id for start in starts(lines)} == {f"run-{n:02}" for n in range(RUNS)}


@pytest.mark.parametrize("workers", [1, 8, 64])
def test_without_the_slow_start_as_many_are_sampled_as_there_are_workers(workers: int) -> None:
    lines = drained(replace(DEFAULT, samples_at_first=None), workers, Fate(like="no key"), 7)
    sampled = [start for start in starts(lines) if start.group == "unsampled"]
    # K open it, and all but the Kth worker have a sample in flight by then; two probes follow.
    assert len(sampled) == min(RUNS, 3 + workers - 1 + 2)


@pytest.mark.parametrize("workers", [1, 8, 64])
def test_timeouts_of_different_runs_open_nothing(workers: int) -> None:
    """Each is a failure of its own run, so that a slow model does not hold the backlog back."""
    drain = HandDrain(backlog_of(RUNS))
    lines = drain.drain(
        a_scope(DEFAULT, workers),
        lambda started: Fate("timed_out", like=f"timeout of {started.run_id}"),
        random.Random(3).randrange,
    )
    assert not any(isinstance(line.event, BreakerOpened) for line in lines)
    verdicts = {line.event.verdict for line in lines if isinstance(line.event, RunJudged)}
    assert verdicts == {"promising"}
    assert {start.run_id for start in starts(lines)} == {f"run-{n:02}" for n in range(RUNS)}


def test_a_probe_that_succeeds_lets_everybody_go() -> None:
    def fate(started: AttemptStarted) -> Fate:
        return Fate("succeeded") if started.probe_of else Fate(like="no key")

    drain = HandDrain(backlog_of(RUNS))
    lines = drain.drain(a_scope(DEFAULT, 8), fate, random.Random(5).randrange)
    sampled = {start.run_id for start in starts(lines)}
    assert len(sampled) > 10
    opened = [line.event for line in lines if isinstance(line.event, BreakerOpened)]
    assert len(opened) >= 2  # the cause is still there, and is found out again


@pytest.mark.parametrize("name", ["default", "classic"])
def test_the_order_of_arrival_does_not_change_the_verdicts_when_failures_differ(name: str) -> None:
    """Runs that have nothing in common are judged as if each were alone."""
    endings = {
        "run-00": Fate("succeeded"),
        "run-01": Fate(like="f1"),
        "run-02": Fate(like="f2", usage=2),
        "run-03": Fate("timed_out", like="f3"),
        "run-04": Fate("broke", like="f4"),
        "run-05": Fate(like=None),
        "run-06": Fate("succeeded", usage=1),
        "run-07": Fate("timed_out", like="f7", usage=1),
    }
    of = replace(POLICIES[name], drains=("QUEUED",), attempts_per_phase_max=1)
    alone = {run_id: verdicts_of(of, 1, {run_id: fate}, 0) for run_id, fate in endings.items()}
    expected = {run_id: found[run_id] for run_id, found in alone.items()}
    assert len(set(expected.values())) >= 4
    orders: set[tuple[str, ...]] = set()
    for workers in (1, 3, 8):
        for seed in range(10):
            found = verdicts_of(of, workers, endings, seed)
            assert found == expected
            orders.add(tuple(found))
    assert len(orders) > 15


def verdicts_of(
    of: Policy, workers: int, endings: dict[str, Fate], seed: int
) -> dict[str, tuple[str, str]]:
    """Each run's verdict and its cause, in the order of arrival."""
    events = [each for each in backlog_of(8) if getattr(each, "run_id", "") in endings]
    lines = HandDrain(events).drain(
        a_scope(of, workers),
        lambda started: endings[started.run_id],
        random.Random(seed).randrange,
    )
    return {
        line.event.run_id: (line.event.verdict, line.event.because)
        for line in lines
        if isinstance(line.event, RunJudged)
    }
