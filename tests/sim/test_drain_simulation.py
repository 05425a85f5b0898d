"""Whole drains on virtual time, from seeds: crashes, rivals, operators, every kind of ending.

A failing seed is named with the command that repeats it.  More seeds: ``RUNOFF_SIM_SEEDS=10000``,
or ``python -m tests.sim``, which tells what was reached; ``--planted`` proves what it can see.
"""

from __future__ import annotations

import os
import random
import re
import sys
from pathlib import Path

import pytest

from tests.sim import planted
from tests.sim.coverage import everything
from tests.sim.runner import Job, Tally, search, simulate

FIXED = int(os.environ.get("RUNOFF_SIM_SEEDS", "300"))
FRESH = 300
AT_ONCE = 100
SEARCHED = 60
CHUNKS = [
    pytest.param(range(start, min(start + AT_ONCE, FIXED)), id=f"seeds-from-{start}")
    for start in range(0, FIXED, AT_ONCE)
]
RARE = {
    "event backlog.tier_registered",
    "event backlog.import_finished",
    "event usage.imported",
    "event usage.estimate_imported",
    "event calibration.proposed",
    "event calibration.drift_alarmed",
    "event calibration.coefficients_adopted",
    "event diagnosis.reclassified",
    "verdict inconclusive because repeated_timeout",
    "session ends by storage",
    "session ends by paused",
    "session ends by window_closed",
    "event daemon.configured",
    "event daemon.paused",
    "event daemon.resumed",
    "event session.part_lost",
    "event session.leased",
    "event session.lapsed",
    "hindrance label_missing",
}
"""What registers no phase, what needs an operator at the right moment, what only a daemon or
engines that share a log say (which have tests of their own), what nothing records, and what only
the fresh share is given."""


def broken(tally: Tally) -> list[str]:
    """Each broken session by its first violation and the command that repeats it."""
    again = "python -m tests.sim --sessions 1 --seed"
    return [
        f"{outcome.violations[0].what}: {again} {outcome.seed} (of the fresh share: --all)"
        for outcome in tally.failed
    ]


@pytest.mark.parametrize("seeds", CHUNKS)
def test_every_session_keeps_the_invariants(seeds: range) -> None:
    assert broken(Job(seeds).done()) == []


def test_sessions_that_nobody_has_seen_before_keep_the_invariants() -> None:
    start = random.SystemRandom().randrange(10**6, 10**9)
    sys.stdout.write(f"python -m tests.sim --all --sessions {FRESH} --seed {start}\n")
    assert broken(Job(range(start, start + FRESH), everything=True).done()) == []


def test_a_thousand_sessions_reach_whatever_can_be_reached() -> None:
    reached = Job(range(3000, 4000)).done().reached
    assert {name for name in everything() if not reached[name]} - RARE == set()


def test_a_seed_gives_the_same_log_whatever_ran_before_it() -> None:
    alone = [next(simulate([seed])).head for seed in range(5)]
    assert alone == [outcome.head for outcome in simulate(range(5))]


@pytest.mark.parametrize("bug", planted.BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: planted.Bug) -> None:
    assert search(bug, range(bug.near, bug.near + SEARCHED)) is not None


def test_the_checker_shares_no_code_with_what_it_checks() -> None:
    decides = re.compile(r"^\s*(from|import) (engine\.(triage|drain)|projections)", re.MULTILINE)
    for name in ("checker", "model", "brakes", "judgement", "standings", "processes", "fates"):
        text = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
        assert not decides.search(text)


def test_a_bug_whose_words_are_gone_is_refused() -> None:
    change = planted.Change("engine.triage.rules:stops", "words that never stood there", "")
    with pytest.raises(planted.Misplanted), change.made():
        pass
