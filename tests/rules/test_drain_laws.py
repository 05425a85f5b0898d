"""Laws of triage over whole drains: any backlog, policy, number of workers and order of arrival.

Each law counts how often it was put to the test, and fails when that was too seldom: a law that no
example comes near says nothing.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, product

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from msgspec.structs import replace

from engine.events import (
    AccountPaused,
    AccountRecovered,
    AnyEvent,
    AttemptDeferred,
    AttemptFinished,
    AttemptStarted,
    BreakerClosed,
    BreakerOpened,
    Budget,
    BudgetReached,
    FailureFingerprinted,
    RunCooledDown,
    RunJudged,
    RunStopped,
    SessionDraining,
)
from engine.triage.policy import POLICIES, Policy
from engine.triage.scope import Scope
from projections.backlog import PhaseStanding
from projections.fold import join
from tests.rules.hand_drain import Fate, HandDrain, Line, backlog_of
from tests.rules.standings import budget, limits

DEFAULT = POLICIES["default"]
CLASSIC = replace(POLICIES["classic"], drains=("QUEUED", "FAILED"))
QUICK = replace(
    DEFAULT,
    name="quick",
    breaker_runs=2,
    breaker_cool_down_ms=2_000,
    cool_down_ms=3_000,
    samples_at_first=1,
    provider_pause_ms=2_000,
    provider_pause_max_ms=7_000,
    deferrals_per_phase_max=2,
    attempts_per_phase_max=4,
)
STRICT = replace(QUICK, name="strict", breaker_runs=1, breaker_probes_max=1, cool_down_ms=None)
OPEN = replace(DEFAULT, name="open", breaker_runs=None, samples_at_first=None, cool_down_ms=None)
ALL = (DEFAULT, QUICK, STRICT, OPEN, CLASSIC)
FATES = (
    *[Fate(like="f")] * 4,
    *[Fate(like="g"), Fate(like="g", usage=1)],
    *[Fate("timed_out", like="t")] * 2,
    *[Fate("succeeded"), Fate("succeeded", usage=2)],
    Fate("broke", like="f"),
    *[Fate(like="429", limited=True)] * 2,
    *[Fate(like="429", limited=True, resets_in_ms=ms) for ms in (1_500, 9_000)],
    Fate(like="429", limited=True, usage=1),
    Fate("timed_out", like="429", limited=True),
    *[Fate("abandoned"), Fate("orphaned"), Fate()],
)
BUDGETS = (
    budget("phase", "attempts", 2),
    budget("phase", "ms", 2_000),
    budget("run", "attempts", 3),
    budget("run", "tokens", 10),
)
EXAMPLES = 50
BUDGET_SHARE, EVEN = 0.2, 0.5


@dataclass
class World:
    """A backlog and how its attempts end; ``hits`` counts what a law was tried on."""

    runs: int
    phases: int
    free: bool
    scopes: list[Scope]
    fates: list[Fate]
    order: list[int]
    watch: Callable[[HandDrain], None] = lambda _drain: None
    lines: list[list[Line]] = field(default_factory=list[list[Line]])

    def drained(self) -> HandDrain:
        """All sessions, one after the other."""
        backlog = backlog_of(self.runs, self.phases, "free" if self.free else "strict")
        drain, turns = HandDrain(backlog), count()
        for scope in self.scopes:
            made = drain.drain(
                scope,
                lambda _started: self.fates[next(turns) % len(self.fates)],
                lambda flying: self.order[next(turns) % len(self.order)] % flying,
                lambda: self.watch(drain),
            )
            self.lines.append(made)
        return drain

    def events(self) -> Iterator[Line]:
        """What all sessions recorded."""
        for lines in self.lines:
            yield from lines


def world_of(seed: int, policies: tuple[Policy, ...], endings: tuple[Fate, ...]) -> World:
    """The world of a seed: drawn evenly, so that what a law is tried on varies little."""
    dice = random.Random(seed)
    bounds = tuple(bound for bound in BUDGETS if dice.random() < BUDGET_SHARE)
    workers, per_run, size = dice.randint(1, 5), dice.randint(1, 2), dice.randint(6, 18)
    chosen = [dice.choice(policies) for _ in range(dice.randint(1, 2))]
    bounded = limits(workers=workers, per_run_max=per_run, batch_size=size, budgets=bounds)
    return World(
        runs=dice.randint(2, 6),
        phases=dice.randint(1, 3),
        free=dice.random() < EVEN,
        scopes=[Scope(f"s{number}", each, bounded) for number, each in enumerate(chosen)],
        fates=[dice.choice(endings) for _ in range(dice.randint(3, 12))],
        order=[dice.randint(0, 4) for _ in range(dice.randint(1, 6))],
    )


def by_cause(lines: Iterable[Line]) -> defaultdict[int, list[AnyEvent]]:
    """What belongs to which fact, by the position of the fact."""
    found: defaultdict[int, list[AnyEvent]] = defaultdict(list)
    for line in lines:
        if line.cause is not None:
            found[line.cause].append(line.event)
    return found


Law = Callable[[World, Counter[str]], None]


def held(
    law: Law,
    floors: dict[str, float],
    *policies: Policy,
    endings: tuple[Fate, ...] = FATES,
    examples: int = EXAMPLES,
) -> None:
    """Try ``law``; each of its hits must come up in so many of an example on the average.

    ``examples``: more where few worlds hold many of the hits.
    """
    hits: Counter[str] = Counter()

    @settings(max_examples=examples, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(st.integers(0, 2**32))
    def tried(seed: int) -> None:
        hits["worlds"] += 1
        law(world_of(seed, policies or ALL, endings), hits)

    tried()
    wanted = {name: floor * hits["worlds"] for name, floor in floors.items()}
    seldom = {name: hits[name] for name, floor in wanted.items() if hits[name] < floor}
    assert seldom == {}, hits


# Verdicts.


def test_a_timeout_never_condemns_and_whatever_is_condemned_failed_as_something_before() -> None:
    def law(world: World, hits: Counter[str]) -> None:
        world.drained()
        ends: dict[str, AttemptFinished] = {}
        prints: dict[str, str] = {}
        seen: Counter[tuple[str, str]] = Counter()
        for line in world.events():
            match line.event:
                case AttemptFinished() as end:
                    ends[end.attempt_id] = end
                case FailureFingerprinted() as found:
                    assert found.seen_before == seen[found.session_id, found.fingerprint]
                    seen[found.session_id, found.fingerprint] += 1
                    prints[found.attempt_id] = found.fingerprint
                case AttemptDeferred(fingerprint=str(name)) as back:
                    seen[back.session_id, name] -= 1
                case RunJudged() as judged:
                    end = ends[judged.attempt_id]
                    hits["timed out"] += end.ending == "timed_out"
                    if judged.verdict == "deprioritized":
                        assert end.ending in ("failed", "broke")
                        assert end.yield_events == 0
                        assert seen[judged.session_id, prints[judged.attempt_id]] > 1
                        hits["deprioritized"] += 1
                case _:
                    pass

    held(law, {"timed out": 0.2, "deprioritized": 0.3})


def test_a_run_is_judged_once_a_generation_and_by_its_first_end_that_proves_something() -> None:
    def law(world: World, hits: Counter[str]) -> None:
        world.drained()
        generation: Counter[str] = Counter()
        judged: set[tuple[str, int]] = set()
        lines = list(world.events())
        caused = by_cause(lines)
        for line in lines:
            event = line.event
            if isinstance(event, RunCooledDown):
                generation[event.run_id] += 1
                assert event.generation == generation[event.run_id] + 1
                hits["cooled"] += 1
            if isinstance(event, AttemptFinished):
                key = (event.run_id, generation[event.run_id] + 1)
                behind = caused[line.pos]
                verdicts = [each for each in behind if isinstance(each, RunJudged)]
                counts = event.ending not in ("abandoned", "orphaned")
                counts = counts and not any(isinstance(each, AttemptDeferred) for each in behind)
                first = counts and key not in judged
                assert [(v.run_id, v.generation, v.attempt_id) for v in verdicts] == (
                    [(*key, event.attempt_id)] if first else []
                )
                judged |= {key} if first else set()
                hits["judged"] += first
                hits["not again"] += counts and not first
        everything = [line for line in lines if isinstance(line.event, RunJudged)]
        assert len(everything) == len(judged)

    held(law, {"judged": 1, "not again": 0.5})
    often = (*[Fate(like="f")] * 3, *[Fate("succeeded")] * 2, Fate(like="429", limited=True))
    held(law, {"cooled": 0.2}, QUICK, endings=often)


def test_what_is_stopped_is_not_promising_where_stops_have_the_last_word() -> None:
    def law(world: World, hits: Counter[str]) -> None:
        def look(drain: HandDrain) -> None:
            for run in drain.board.runs.values():
                if run.stopped is not None and run.session_id is not None:
                    assert run.standing != "promising"
                    hits["stopped"] += 1

        world.watch = look
        world.drained()
        for line in world.events():
            hits["demoted"] += isinstance(line.event, RunStopped) and line.event.demoted
            if isinstance(line.event, RunJudged):
                hits["outranked"] += line.event.because == "stopped"

    spendthrift = replace(
        OPEN, timeouts_per_run_max=1, fingerprint_repeats_max=2, stops_spare_yield=False
    )
    held(law, {"stopped": 1, "demoted": 0.04, "outranked": 0.05}, spendthrift, OPEN)


# The breaker.


def test_one_probe_at_most_is_out_and_while_a_breaker_is_open_nothing_else_is_sampled() -> None:
    def law(world: World, hits: Counter[str]) -> None:
        world.drained()
        opened, out = set[str](), dict[str, str]()  # over all sessions: breakers are the log's
        for lines in world.lines:
            for line in lines:
                match line.event:
                    case BreakerOpened(fingerprint=name):
                        opened.add(name)
                        hits["opened"] += 1
                    case BreakerClosed(fingerprint=name):
                        opened.discard(name)
                        out = {each: of for each, of in out.items() if of != name}
                        hits["closed"] += 1
                    case AttemptStarted(group="unsampled") as start:
                        assert (start.probe_of is not None) == bool(opened)
                        if start.probe_of is not None:
                            assert start.probe_of in opened
                            assert out == {}
                            out[start.attempt_id] = start.probe_of
                            hits["probes"] += 1
                    case AttemptStarted() as start:
                        assert start.probe_of is None
                    case AttemptFinished(attempt_id=name):
                        out.pop(name, None)
                    case _:
                        pass

    often = (*[Fate(like="f")] * 4, Fate(like="g"), *[Fate("succeeded")] * 3, Fate("abandoned"))
    floors = {"opened": 0.5, "probes": 0.5, "closed": 0.06}
    held(law, floors, QUICK, STRICT, endings=often)


def test_no_more_samples_are_in_flight_than_the_slow_start_allows() -> None:
    def law(world: World, hits: Counter[str]) -> None:
        world.drained()
        for scope, lines in zip(world.scopes, world.lines, strict=True):
            first, telling, flying = scope.policy.samples_at_first, 0, set[str]()
            for line in lines:
                match line.event:
                    case AttemptStarted(group="unsampled", attempt_id=name):
                        flying.add(name)
                        assert first is not None
                        assert len(flying) <= first + 2 * telling
                        hits["full"] += len(flying) == first + 2 * telling
                    case AttemptFinished(attempt_id=name):
                        flying.discard(name)
                    case RunJudged(because=because):
                        telling += because != "repeated_failure"
                    case _:
                        pass

    held(law, {"full": 0.5}, DEFAULT, QUICK, STRICT)


# Provider limits.


def test_a_deferred_attempt_leaves_its_phase_as_it_was() -> None:
    def law(world: World, hits: Counter[str]) -> None:
        before: dict[str, PhaseStanding] = {}
        told = 0

        def look(drain: HandDrain) -> None:
            nonlocal told
            for line in drain.log[told:]:
                if isinstance(line.event, AttemptDeferred):
                    name = join(line.event.run_id, line.event.phase_id)
                    found, known = drain.board.backlog.states[name], before.get(name)
                    assert found.state == (known.state if known else "QUEUED")
                    assert found.attempts == (known.attempts if known else 0)
                    assert found.deferrals == (known.deferrals if known else 0) + 1
                    hits["deferred"] += 1
            told = len(drain.log)
            rows = drain.board.backlog.items()
            before.update((name, row) for name, row in rows if row.open_attempt is None)

        world.watch = look
        world.drained()

    held(law, {"deferred": 0.3}, QUICK, STRICT, OPEN)


def test_a_deferred_attempt_counts_for_no_fingerprint_no_timeout_and_no_streak() -> None:
    def law(world: World, hits: Counter[str]) -> None:
        drain = world.drained()
        counts: Counter[tuple[str, str]] = Counter()
        streaks: Counter[str] = Counter()
        timeouts: Counter[str] = Counter()
        caused = by_cause(drain.log)
        for line in drain.log:
            if isinstance(line.event, AttemptFinished):
                deferred = any(isinstance(each, AttemptDeferred) for each in caused[line.pos])
                proved = line.event.ending not in ("abandoned", "orphaned")
                if not deferred:
                    timeouts[line.event.run_id] += line.event.ending == "timed_out"
                    streaks[line.event.session_id] += proved
                    streaks[line.event.session_id] *= line.event.yield_events == 0
                hits["deferred"] += deferred
                hits["timed out"] += deferred and line.event.ending == "timed_out"
                hits["with usage"] += deferred and line.event.yield_events > 0
                for each in caused[line.pos] if not deferred else []:
                    if isinstance(each, FailureFingerprinted):
                        counts[each.session_id, each.fingerprint] += 1
        rows = drain.board.fingerprints.values()
        known = {(row.session_id, row.fingerprint): row.count for row in rows if row.count}
        assert known == dict(counts)
        for row in drain.board.runs.values():
            assert row.timed_out == timeouts[row.run_id]
        for session in drain.board.sessions.values():
            assert session.zero_streak == streaks[session.session_id]

    held(law, {"deferred": 0.3, "with usage": 0.05, "timed out": 0.05}, QUICK, STRICT, OPEN)


def test_pauses_double_up_to_their_bound_unless_the_provider_states_a_time() -> None:
    def law(world: World, hits: Counter[str]) -> None:
        world.drained()
        row, until_us = 0, 0
        for scope, lines in zip(world.scopes, world.lines, strict=True):
            for line in lines:
                match line.event:
                    case AccountPaused() as pause:
                        resting = line.now_us < until_us
                        if pause.stated:
                            assert pause.until_us > until_us or not resting
                            assert pause.until_us - line.now_us in (1_500_000, 9_000_000)
                        else:
                            assert not resting
                            rest_ms = min(2_000 * 2**row, scope.policy.provider_pause_max_ms)
                            assert pause.until_us == line.now_us + rest_ms * 1000
                            hits[f"doubled {min(row, 2)}"] += 1
                        row, until_us = row + (not resting), pause.until_us
                        assert pause.consecutive == row
                        hits["stated"] += pause.stated
                    case AccountRecovered():
                        assert row > 0
                        row = 0
                        hits["recovered"] += 1
                    case AttemptStarted():
                        assert line.now_us >= until_us
                    case _:
                        pass

    floors = {"doubled 0": 0.1, "doubled 1": 0.02, "doubled 2": 0.01, "stated": 0.1}
    held(law, {**floors, "recovered": 0.1}, QUICK, STRICT)


# Budgets and bounds.


class Ledger:
    """What was spent, counted from the events themselves, and which budgets that uses up."""

    def __init__(self) -> None:
        self._spent: Counter[tuple[str, str, str | None, str]] = Counter()

    def forget(self, run_id: str) -> None:
        """A run begins anew."""
        for key in [key for key in self._spent if key[:2] == ("run", run_id)]:
            del self._spent[key]

    def take(
        self, event: AttemptStarted | AttemptFinished, budgets: tuple[Budget, ...]
    ) -> list[tuple[str, str, str | None, str, int, int]]:
        """The budgets that ``event`` uses up, those of the phase first."""
        took = {"attempts": 1}
        if isinstance(event, AttemptFinished):
            took = {"tokens": event.tokens, "ms": event.duration_ms}
        due: list[tuple[str, str, str | None, str, int, int]] = []
        for where, (measure, more) in product(("phase", "run"), took.items()):
            key = (where, event.run_id, event.phase_id if where == "phase" else None, measure)
            was, now = self._spent[key], self._spent[key] + more
            self._spent[key] = now
            due += [
                (*key, bound.limit, now)
                for bound in budgets
                if (bound.scope, bound.measure) == (where, measure) and was < bound.limit <= now
            ]
        return due


def test_a_budget_is_reached_once_and_exactly_when_it_is_used_up() -> None:
    def law(world: World, hits: Counter[str]) -> None:
        world.drained()
        ledger = Ledger()
        for scope, lines in zip(world.scopes, world.lines, strict=True):
            due, said = list[tuple[object, ...]](), list[tuple[object, ...]]()
            for line in lines:
                match line.event:
                    case RunCooledDown(run_id=run_id):
                        ledger.forget(run_id)
                    case AttemptStarted() | AttemptFinished() as event:
                        assert sorted(said) == sorted(due)
                        due, said = [*ledger.take(event, scope.limits.budgets)], []
                    case BudgetReached() as told:
                        where = (told.scope, told.run_id, told.phase_id, told.measure)
                        said.append((*where, told.limit, told.spent))
                        hits[told.measure] += 1
                    case _:
                        pass
            assert sorted(said) == sorted(due)

    held(law, {"attempts": 0.2, "tokens": 0.02, "ms": 0.1})


def test_a_session_keeps_to_its_workers_its_batch_and_one_sample_a_run() -> None:
    def law(world: World, hits: Counter[str]) -> None:
        drain = world.drained()
        for scope, lines in zip(world.scopes, world.lines, strict=True):
            flying: dict[str, str] = {}
            starts, judged, over = 0, set[str](), False
            for line in lines:
                match line.event:
                    case AttemptStarted() as start:
                        assert not over
                        starts += 1
                        flying[start.attempt_id] = start.run_id
                        of_run = [run for run in flying.values() if run == start.run_id]
                        sampling = start.group == "unsampled"
                        assert len(flying) <= scope.limits.workers
                        assert len(of_run) <= (1 if sampling else scope.limits.per_run_max)
                        hits["sampled"] += sampling
                        hits["side by side"] += len(of_run) > 1
                    case AttemptFinished(attempt_id=name):
                        flying.pop(name)
                    case RunJudged(run_id=run_id):
                        judged.add(run_id)
                    case SessionDraining():
                        over = True
                        hits["over"] += 1
                    case _:
                        pass
            assert flying == {}
            assert starts <= scope.limits.batch_size
        assert all(run.open == 0 for run in drain.board.runs.values())

    held(law, {"sampled": 2, "side by side": 0.04, "over": 0.1}, examples=200)


def test_a_phase_is_attempted_no_more_often_than_its_policy_allows() -> None:
    def law(world: World, hits: Counter[str]) -> None:
        drain = world.drained()
        most = world.scopes[0].policy.attempts_per_phase_max
        deferrals = world.scopes[0].policy.deferrals_per_phase_max
        assert most is not None
        assert deferrals is not None
        for phase in drain.board.backlog.values():
            assert phase.attempts <= most
            assert phase.deferrals <= deferrals
            assert phase.number == phase.attempts_total
            hits["used up"] += phase.attempts == most and phase.state == "FAILED"
            hits["deferred"] += phase.deferrals == deferrals

    held(law, {"used up": 0.1, "deferred": 0.02}, QUICK)
    held(law, {"used up": 0.3}, DEFAULT)


# The original.


OLD = {
    "PolicyAdopted",
    "SessionStarted",
    "SessionPartLost",
    "SessionDraining",
    "SessionEnded",
    "AttemptStarted",
    "AttemptFinished",
    "FailureFingerprinted",
    "BoundaryDetected",
    "RunJudged",
    "RunStopped",
    "FingerprintStopped",
}


@pytest.mark.parametrize("first", [DEFAULT, QUICK, CLASSIC], ids=lambda of: of.name)
def test_classic_records_no_new_kind_of_event_whatever_a_session_before_it_left(
    first: Policy,
) -> None:
    def law(world: World, hits: Counter[str]) -> None:
        bare = [replace(scope.limits, budgets=()) for scope in world.scopes]
        world.scopes = [
            Scope("s0", first, bare[0]),
            Scope("s1", CLASSIC, bare[-1]),
        ]
        world.drained()
        before, after = ({type(line.event).__name__ for line in part} for part in world.lines)
        assert after <= OLD
        assert not any(
            isinstance(line.event, RunStopped) and line.event.demoted for line in world.lines[1]
        )
        assert all(
            line.event.probe_of is None
            for line in world.lines[1]
            if isinstance(line.event, AttemptStarted)
        )
        hits["new before"] += not before <= OLD
        hits["judged"] += "RunJudged" in before | after

    floors = {"judged": 0.9} if first is CLASSIC else {"judged": 0.9, "new before": 0.3}
    held(law, floors, CLASSIC)
