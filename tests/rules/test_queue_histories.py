"""The queue and the scan against a second reading of the rules, over boards that change anyhow.

Rows change as no drain would change them, so that the index is asked about every step there can be;
``tests/rules/test_selection.py`` moves it by events.  ``plain_pick`` is the second reading.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from engine.events import AnyEvent, Ending, PhaseRequeued, PhaseState
from engine.events.codec import EVENT_CLASSES
from engine.triage.picking import Picker
from engine.triage.policy import Policy
from engine.triage.scope import Scope
from engine.triage.select import Choice, Queue, pick_by_scan
from projections.accounts import AccountStanding
from projections.backlog import PhaseStanding
from projections.board import Board
from projections.breakers import BreakerStanding
from projections.fold import join
from projections.run_triage import RunStanding, Standing
from projections.sessions import SessionStanding
from tests.rules.plain_pick import Next, is_ready, may_sample, next_pick, place
from tests.rules.standings import (
    account,
    board,
    breaker,
    budget,
    named,
    phase,
    policy,
    run,
    scope,
    session,
)

STATES: tuple[PhaseState, ...] = get_args(PhaseState)
RUNS = ("a", "b", "c", "x-skipped")
NOW_US = 1_000_000
FAR_US = 2**62
"""When every run has cooled down."""

RARE = 0.12
KINDS = (*["phase"] * 5, *["run"] * 3, "session", "breaker", "breaker", "account")
REASONS = (None, "", "import", "missing", "no-op", "x", "timeout")


def a_policy(dice: random.Random) -> Policy:
    return policy(
        drains=dice.choice([("QUEUED", "FAILED"), ("FAILED",), ("QUEUED", "FAILED", "GATE")]),
        order_tiers=dice.random() < 0.7,
        order_phases=dice.random() < 0.7,
        order_deliverables=dice.random() < 0.7,
        once_per_session=dice.random() < 0.2,
        attempts_per_phase_max=dice.choice([None, 1, 2]),
        orphans_per_phase_max=dice.choice([None, 2]),
        breaker_runs=dice.choice([None, 1, 3, 3]),
        breaker_probes_max=dice.choice([0, 1, 2]),
        breaker_cool_down_ms=dice.choice([None, 5]),
        samples_at_first=dice.choice([None, None, None, 0, 1, 2]),
        cool_down_ms=dice.choice([None, 0, 5]),
        provider_pause_ms=dice.choice([None, 5, 5]),
        heed_incident_caps=dice.random() < 0.3,
    )


def a_scope(dice: random.Random) -> Scope:
    of = a_policy(dice)
    if dice.random() < 0.1:
        limits = replace(named().limits, run_id="a", phase_id="p1")
        return Scope("s", of, limits)
    bounds = (budget("phase", "ms", 2), budget("run", "tokens", 3), budget("run", "attempts", 2))
    return scope(
        of,
        per_run_max=dice.choice([1, 2]),
        run_id=rarely(dice, "a", None),
        skip_run_prefixes=dice.choice([(), ("x-",), ("x-", "c")]),
        budgets=bounds if dice.random() < 0.3 else (),
        account=dice.choice([None, "", "x", "key"]),
        host_workers=dice.choice([None, None, None, 2]),
        labels=dice.choice([(), ("arm", "gpu"), ("gpu",)]),
    )


def rarely(dice: random.Random, one: Any, other: Any) -> Any:
    return one if dice.random() < RARE else other


def a_phase(dice: random.Random, run_id: str, number: int, pos: int) -> PhaseStanding:
    return phase(
        run_id=run_id,
        phase_id=f"p{number}",
        tier_index=dice.randint(0, 1),
        phase_index=dice.randint(0, 2),
        order=dice.choice(["strict", "free"]),
        after=tuple(f"p{n}" for n in range(4) if n != number and dice.random() < 0.1),
        registered_pos=pos,
        incident_token_cap=dice.choice([None, None, 2]),
        needs=rarely(dice, ("gpu",), ()),
    )


def moved_phase(dice: random.Random, of: PhaseStanding) -> PhaseStanding:
    return replace(
        of,
        state=dice.choice(STATES) if dice.random() < 0.4 else "FAILED",
        reason=dice.choice(REASONS),
        open_attempt=rarely(dice, "a1", None),
        attempts=rarely(dice, dice.choice([1, 2]), 0),
        orphans=rarely(dice, 2, 0),
        number=dice.choice([0, 1]),
        spent_ms=rarely(dice, 2, 0),
        spent_tokens=rarely(dice, 2, 0),
        last_session=dice.choice([None, "s", "other"]),
        last_ending=dice.choice([None, *get_args(Ending)]),
    )


def moved_run(dice: random.Random, of: RunStanding) -> RunStanding:
    return replace(
        of,
        standing=dice.choice(get_args(Standing)),
        verdict_us=NOW_US + dice.choice([-5000, -1, 0]),
        open=rarely(dice, dice.choice([1, 2]), 0),
        session_id=dice.choice(["s", "other", None]),
        stopped=rarely(dice, "timeouts", None),
        spent_tokens=rarely(dice, 3, 0),
        spent_attempts=rarely(dice, 2, 0),
    )


def moved_session(dice: random.Random, of: SessionStanding) -> SessionStanding:
    samples = tuple(f"a{n}" for n in range(dice.choice([0, 0, 1, 2, 3])))
    return replace(
        of,
        open_samples=samples,
        telling_samples=dice.choice([0, 0, 1]),
        open=dice.choice([0, 1]),
        host=rarely(dice, "elsewhere", "here"),
    )


def moved_breaker(dice: random.Random, of: BreakerStanding) -> BreakerStanding:
    return replace(
        of,
        session_id=dice.choice(["s", "s", "s", "other"]),
        opened_pos=dice.choice([None, dice.randint(1, 9)]),
        opened_us=NOW_US + dice.choice([-5000, -4999, 0]),
        probe=rarely(dice, "a1", None),
        probes=dice.choice([0, 1, 2]),
        last_probe_us=NOW_US + dice.choice([-5000, -4999, 0]),
    )


def moved_account(dice: random.Random, of: AccountStanding) -> AccountStanding:
    return replace(of, until_us=NOW_US + dice.choice([-1, 0, 1, 1]))


class Play:
    """A board whose rows change, and the queue that is told of phases and runs."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.scope = a_scope(self.dice)
        phases, runs = list[PhaseStanding](), list[RunStanding]()
        for run_id in RUNS:
            runs.append(moved_run(self.dice, run(run_id=run_id)))
            for number in range(self.dice.choice([0, 1, 2, 2, 3])):
                made = a_phase(self.dice, run_id, number, self.dice.randint(1, 10**6))
                phases.append(moved_phase(self.dice, made))
        around = (
            moved_session(self.dice, session()),
            moved_session(self.dice, session(session_id="other")),
            breaker("f"),
            breaker("g"),
            account("x"),
            account("key"),
        )
        self.board: Board = board(*runs, *phases, *around)
        self.queue = Queue(self.board, self.scope)

    def step(self) -> None:
        """A row changes, and those rows that the queue does not ask about itself are told."""
        kind = self.dice.choice(KINDS)
        if kind == "phase" and len(self.board.backlog):
            was = self.dice.choice(list(self.board.backlog.values()))
            self._put(self.board.backlog, join(was.run_id, was.phase_id), moved_phase)
            self.queue.touch(was.run_id, was.phase_id)
        elif kind == "run":
            run_id = self.dice.choice(RUNS)
            self._put(self.board.runs, run_id, moved_run)
            self.queue.touch(run_id, None)
        elif kind == "session":
            self._put(self.board.sessions, self.dice.choice(["s", "s", "other"]), moved_session)
        elif kind == "breaker":
            self._put(self.board.breakers, self.dice.choice("fg"), moved_breaker)
        elif kind == "account":
            self._put(self.board.accounts, self.dice.choice(["x", "key"]), moved_account)

    def _put(self, keyed: Any, key: str, moved: Callable[[random.Random, Any], Any]) -> None:
        keyed._states[key] = moved(self.dice, keyed.states[key])


def plainly(choice: Choice | None) -> Next | None:
    if choice is None:
        return None
    return Next(choice.run.run_id, choice.phase.phase_id, choice.group, choice.probe_of)


def plain_counts(play: Play) -> Counter[tuple[str, ...]]:
    """What could start at once, by labels, looking at everything."""
    phases, found = list(play.board.backlog.values()), Counter[tuple[str, ...]]()
    sampling, _ = may_sample(play.board, play.scope, NOW_US)
    for row in play.board.runs.values():
        ready = [p for p in phases if p.run_id == row.run_id]
        ready = [p for p in ready if is_ready(p, phases, row, play.scope)]
        room = play.scope.limits.per_run_max - row.open
        if row.standing == "unsampled":
            room = 1 if sampling else 0
        ready.sort(key=lambda p: place(p, play.scope))
        found.update(p.needs for p in ready[: max(0, room)])
    return found


def longest_cool(play: Play, now_us: int) -> str | None:
    limits, cool_ms = play.scope.limits, play.scope.policy.cool_down_ms
    if cool_ms is None or limits.phase_id is not None:
        return None
    due = [
        (row.verdict_us, row.run_id)
        for row in play.board.runs.values()
        if row.standing == "deprioritized"
        and row.verdict_us + cool_ms * 1000 <= now_us
        and limits.run_id in (None, row.run_id)
        and not row.run_id.startswith(limits.skip_run_prefixes)
        and _could_be_sampled(play, row)
    ]
    return min(due)[1] if due else None


def cools_next(play: Play) -> int | None:
    first = longest_cool(play, FAR_US)
    if first is None:
        return None
    return play.board.runs.states[first].verdict_us + (play.scope.policy.cool_down_ms or 0) * 1000


def _could_be_sampled(play: Play, row: RunStanding) -> bool:
    """Whether a phase could go, had the run only just been registered."""
    anew, phases = RunStanding(run_id=row.run_id), list(play.board.backlog.values())
    return any(p.run_id == row.run_id and is_ready(p, phases, anew, play.scope) for p in phases)


def check(play: Play, told: Counter[str]) -> None:
    """The scan, the queue and the second reading agree about everything that can be asked."""
    expected = next_pick(play.board, play.scope, NOW_US)
    scanned = pick_by_scan(play.board, play.scope, NOW_US)
    assert plainly(scanned) == expected
    picked = play.queue.pick(NOW_US)
    assert picked == scanned
    assert play.queue.pick(NOW_US) == picked
    unpaused = next_pick(play.board, play.scope, NOW_US, heed_pause=False)
    assert plainly(play.queue.next_ready(NOW_US)) == unpaused
    if not play.scope.is_named_phase:
        assert play.queue.ready_by_needs(NOW_US, 99) == plain_counts(play)
    held_back = _held_back(play, unpaused)
    assert play.queue.is_held_back(NOW_US) == held_back
    assert play.queue.out_of_work(NOW_US) == ("held_back" if held_back else "nothing_eligible")
    cool = play.queue.cool(NOW_US)
    assert (cool and cool.run_id) == longest_cool(play, NOW_US)
    assert play.queue.cools_next_us() == cools_next(play)
    told[f"group {expected.group if expected else None}"] += 1
    told[f"probe {expected is not None and expected.probe_of is not None}"] += 1
    told[f"paused {expected != unpaused}"] += 1
    told[f"held back {held_back}"] += 1
    told[f"cool {cool is not None}"] += 1


def _under(scope: Scope, policy: Policy) -> Scope:
    return Scope(scope.session_id, policy, scope.limits)


def _held_back(play: Play, unpaused: Next | None) -> bool:
    """Some unsampled run could go, were its sampling not held back by a breaker."""
    without = replace(play.scope.policy, breaker_runs=None, samples_at_first=None)
    free = next_pick(play.board, _under(play.scope, without), NOW_US, heed_pause=False)
    slow = replace(play.scope.policy, samples_at_first=None)
    held = next_pick(play.board, _under(play.scope, slow), NOW_US, heed_pause=False)
    could = free is not None and free.group == "unsampled"
    return could and (held is None or held.group != "unsampled")


@pytest.mark.parametrize("start", [0, 1000])
def test_queue_scan_and_second_reading_agree_after_every_change(start: int) -> None:
    told: Counter[str] = Counter()
    for seed in range(start, start + 240):
        play = Play(seed)
        check(play, told)
        for _ in range(15):
            play.step()
            check(play, told)
    floors = {
        "group unsampled": 150,
        "group promising": 150,
        "group others": 100,
        "group None": 100,
        "probe True": 40,
        "paused True": 40,
        "held back True": 40,
        "cool True": 40,
    }
    assert {name: told[name] for name in floors if told[name] < floors[name]} == {}


# What the queue takes notice of by itself.

OF_A_PHASE = {
    "backlog.phase_registered",
    "backlog.phase_requeued",
    "attempt.started",
    "attempt.finished",
    "triage.attempt_deferred",
}
OF_A_RUN = {
    "triage.run_judged",
    "triage.run_stopped",
    "triage.run_cooled_down",
    "operator.run_reinstated",
}


def an_event(kind: Any, run_id: str, phase_id: str) -> AnyEvent:
    """One of any kind; the queue reads its ids and nothing else."""
    known = {"run_id": run_id, "phase_id": phase_id}
    made: AnyEvent = kind(**{name: known.get(name) for name in kind.__struct_fields__})
    return made


def one_by_one(queue: Queue, events: Sequence[AnyEvent]) -> None:
    for event in events:
        queue.heed(event)


@pytest.mark.parametrize("tell", [one_by_one, Queue.heed_all])
@pytest.mark.parametrize("name", sorted(EVENT_CLASSES))
def test_the_queue_heeds_every_event_that_moves_a_phase_or_a_run_and_no_other(
    name: str, tell: Callable[[Queue, Sequence[AnyEvent]], None]
) -> None:
    rows = board(run(run_id="a", standing="promising"), run(run_id="b"), session())
    keyed: Any = rows.backlog
    first = phase(run_id="a", phase_id="p", state="COMPLETE")
    keyed._states[join("a", "p")] = first
    queue = Queue(rows, scope())
    assert queue.pick(NOW_US) is None
    keyed._states[join("a", "p")] = replace(first, state="QUEUED")
    tell(queue, [an_event(EVENT_CLASSES[name], "a", "p")])
    heeded = queue.pick(NOW_US) is not None
    assert heeded == (name in OF_A_PHASE)
    of_runs: Any = rows.runs
    queue.touch("a", "p")
    assert queue.pick(NOW_US) is not None
    of_runs._states["a"] = run(run_id="a", standing="deprioritized")
    tell(queue, [an_event(EVENT_CLASSES[name], "a", "p")])
    assert (queue.pick(NOW_US) is None) == (name in OF_A_PHASE | OF_A_RUN)


def test_a_run_or_phase_that_the_board_does_not_know_is_no_matter() -> None:
    rows = board(run(run_id="a"), phase(run_id="a"), session())
    queue = Queue(rows, scope())
    before = queue.pick(NOW_US)
    for run_id, phase_id in (("a", "none"), ("none", "p"), ("none", None)):
        queue.touch(run_id, phase_id)
        queue.heed_all([an_event(PhaseRequeued, run_id, phase_id or "p")])
        assert queue.pick(NOW_US) == before


def test_a_phase_that_is_new_to_the_queue_is_found_by_touching_it() -> None:
    rows = board(run(run_id="a"), session())
    queue = Queue(rows, scope())
    assert queue.pick(NOW_US) is None
    keyed: Any = rows.backlog
    keyed._states[join("a", "p")] = phase(run_id="a")
    queue.touch("a", "p")
    picked = queue.pick(NOW_US)
    assert picked is not None
    assert picked.phase.phase_id == "p"
    assert picked == Choice(*picked[:4], None)
    assert Picker(rows, queue, scope(), NOW_US, lambda: "id").ground().basis == rows.head.pos
