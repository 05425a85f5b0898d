"""Many sessions, one after the other on one loop, and what they came to together."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.detect.known_limits import KnownLimits
from tests.sim import planted
from tests.sim.edges import MACHINE, installed
from tests.sim.loop import SimulationLoop, Stuck
from tests.sim.session import Outcome, Session, Violation

COLLECTED_EVERY = 20
"""Sessions: an event loop makes cycles all the time, and looking for them costs a tenth.  What few
sessions leave is still in the processor's caches when it is looked through."""

CHUNK = 500


@dataclass
class Tally:
    """What some sessions came to.  ``failed``: the outcomes with violations, at most a hundred."""

    sessions: int = 0
    attempts: int = 0
    events: int = 0
    broken: int = 0
    reached: Counter[str] = field(default_factory=Counter[str])
    failed: list[Outcome] = field(default_factory=list[Outcome])

    def add(self, outcome: Outcome) -> None:
        """Count one session."""
        self.sessions += 1
        self.attempts += outcome.attempts
        self.events += outcome.events
        self.reached.update(outcome.reached)
        if outcome.violations:
            self.broken += 1
            self.failed = [*self.failed, outcome][:100]

    def merge(self, other: Tally) -> None:
        """Count what another process did."""
        self.sessions += other.sessions
        self.attempts += other.attempts
        self.events += other.events
        self.broken += other.broken
        self.reached.update(other.reached)
        self.failed = [*self.failed, *other.failed][:100]


def simulate(seeds: Iterable[int], *, everything: bool = False) -> Iterator[Outcome]:
    """Each seed's session in turn."""
    loop, limits = SimulationLoop(), KnownLimits()
    try:
        with installed(), _collected_by_hand():
            for number, seed in enumerate(seeds, start=1):
                loop.begin()
                session = Session(seed, everything=everything, limits=limits)
                try:
                    outcome = loop.run_until_complete(_run(session))
                except Stuck as stuck:
                    outcome = session.stuck(str(stuck))
                    _abandon(loop)
                    loop = SimulationLoop()
                session.let_go()
                yield outcome
                if number % COLLECTED_EVERY == 0:
                    gc.collect()
    finally:
        loop.close()


async def _run(session: Session) -> Outcome:
    MACHINE.set(session.machine)
    return await session.run()


def _abandon(loop: SimulationLoop) -> None:
    """Let go of a loop whose tasks wait for ever; that they do is known."""
    logger = logging.getLogger("asyncio")
    level, logger.level = logger.level, logging.CRITICAL + 1
    try:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.begin()
        for _ in range(50):
            loop.call_soon(loop.stop)
            loop.run_forever()
        loop.close()
        gc.collect()
    finally:
        logger.level = level


@contextmanager
def _collected_by_hand() -> Generator[None]:
    enabled = gc.isenabled()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


class Job(NamedTuple):
    """Some sessions for one process; ``plant`` names a planted bug."""

    seeds: range
    everything: bool = False
    plant: str | None = None

    def done(self) -> Tally:
        """What they came to."""
        with ExitStack() as stack:
            if self.plant is not None:
                stack.enter_context(planted.named(self.plant).planted())
            tally = Tally()
            for outcome in simulate(self.seeds, everything=self.everything):
                tally.add(outcome)
            return tally


def tallies(job: Job, workers: int) -> Iterator[Tally]:
    """A job in chunks, by ``workers`` processes, in the order in which they get done."""
    seeds = job.seeds
    jobs = [job._replace(seeds=seeds[at : at + CHUNK]) for at in range(0, len(seeds), CHUNK)]
    if workers == 1:
        yield from map(Job.done, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(Job.done, jobs)


class Found:
    """How a planted bug was found: by which session, counted from 1, and by which violation."""

    def __init__(self, sessions: int, outcome: Outcome) -> None:
        self.sessions = sessions
        self.seed = outcome.seed
        self.violation: Violation = outcome.violations[0]
        self.invariants = list(dict.fromkeys(each.invariant for each in outcome.violations))


def search(bug: planted.Bug, seeds: range) -> Found | None:
    """The first session that finds ``bug`` and holds without it, None when none does."""
    start = seeds.start
    while True:
        with bug.planted():
            outcome = next(
                (one for one in simulate(range(start, seeds.stop)) if one.violations), None
            )
        if outcome is None:
            return None
        start = outcome.seed + 1
        if "NameError" in outcome.violations[0].what:
            raise planted.Misplanted(outcome.violations[0].what)
        if not any(one.violations for one in simulate([outcome.seed])):
            return Found(outcome.seed - seeds.start + 1, outcome)
