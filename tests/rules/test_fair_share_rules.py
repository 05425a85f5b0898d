"""Fair share: its laws over any engines and any work, and a second reading of how it is dealt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction

import pytest
from hypothesis import example, given, strategies as st
from msgspec.structs import replace

from engine.clock import HandSetClock
from engine.drain.patience import LEAVE_S, Patience
from engine.events import AttemptStarted, RunCooledDown, Seen
from engine.triage.fair_share import Engine, Needs, Turn, others, shares
from engine.triage.picking import Picker, picks
from engine.triage.scope import Scope
from engine.triage.select import Queue
from projections.board import Board
from tests.rules.standings import (
    NOW_US,
    account,
    because,
    board,
    boundary,
    breaker,
    limits,
    named,
    phase,
    policy,
    run,
    scope,
    session,
    started,
)

LABELS = ("arm", "gpu")
NEEDS: list[Needs] = [(), ("arm",), ("gpu",), ("arm", "gpu")]
WORK = st.dictionaries(st.sampled_from(NEEDS), st.integers(0, 9), max_size=4)
ROOM_OF_HOST = st.sampled_from([None, None, 0, 1, 3])


@st.composite
def crowds(draw: st.DrawFn) -> list[Engine]:
    """Engines on two hosts; those of one host agree on its room, or heed none."""
    room = {host: draw(ROOM_OF_HOST) for host in "ab"}
    found: list[Engine] = []
    for _ in range(draw(st.integers(1, 4))):
        workers, host = draw(st.integers(1, 5)), draw(st.sampled_from("ab"))
        offered = frozenset(draw(st.sets(st.sampled_from(LABELS))))
        heeds = room[host] if draw(st.booleans()) else None
        found.append(Engine(draw(st.integers(0, workers)), workers, offered, host, heeds))
    return found


def dealt_plainly(engines: Sequence[Engine], ready: dict[Needs, int]) -> list[Counter[Needs]]:
    """The same by looking at everybody for every phase, in exact numbers."""
    got = [Counter[Needs]() for _ in engines]

    def able(needs: Needs) -> list[int]:
        return [n for n, each in enumerate(engines) if set(needs) <= each.labels]

    def load(number: int) -> Fraction:
        return Fraction(engines[number].running + got[number].total() + 1, engines[number].workers)

    def has_room(number: int) -> bool:
        one = engines[number]
        here = sum(g.total() for g, e in zip(got, engines, strict=True) if e.host == one.host)
        full = one.host_room is not None and here >= one.host_room
        return load(number) <= 1 and not full

    for needs in sorted(ready, key=lambda needs: (len(able(needs)), needs)):
        for _ in range(ready[needs]):
            free = [number for number in able(needs) if has_room(number)]
            if free:
                got[min(free, key=lambda number: (load(number), number))][needs] += 1
    return got


@given(crowds(), WORK)
def test_work_is_dealt_to_whoever_would_have_the_least_load(
    engines: list[Engine], ready: dict[Needs, int]
) -> None:
    assert shares(engines, ready) == dealt_plainly(engines, ready)


@given(crowds(), WORK)
@example([Engine(0, 2, frozenset({"arm"}), "a", 1)], {("arm",): 1, (): 1})  # room for one of both
def test_nobody_gets_more_than_there_is_room_and_work_for_nor_what_it_cannot_do(
    engines: list[Engine], ready: dict[Needs, int]
) -> None:
    dealt = shares(engines, ready)
    for engine, part in zip(engines, dealt, strict=True):
        assert part.total() <= engine.workers - engine.running
        assert all(engine.labels.issuperset(needs) for needs in part)
        assert engine.host_room is None or part.total() <= engine.host_room
    for needs, phases in ready.items():
        assert sum(part[needs] for part in dealt) <= phases


@given(st.integers(0, 6), st.integers(1, 6), st.integers(0, 20))
def test_an_engine_alone_gets_all_that_it_has_room_for(
    running: int, workers: int, phases: int
) -> None:
    (mine,) = shares([Engine(min(running, workers), workers)], {(): phases})
    assert mine.total() == min(workers - min(running, workers), phases)


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 60))
def test_equal_engines_that_are_idle_get_at_most_their_part_rounded_up(
    count: int, workers: int, phases: int
) -> None:
    dealt = shares([Engine(0, workers)] * count, {(): phases})
    assert all(part.total() <= -(-phases // count) for part in dealt)
    assert sum(part.total() for part in dealt) == min(phases, count * workers)


@given(crowds(), st.integers(0, 20))
def test_who_is_given_a_phase_is_not_busier_with_it_than_who_was_not_would_be(
    engines: list[Engine], phases: int
) -> None:
    free = [engine._replace(host_room=None) for engine in engines]
    dealt = [part.total() for part in shares(free, {(): phases})]
    after = [e._replace(running=e.running + n) for e, n in zip(free, dealt, strict=True)]
    for mine, part in zip(after, dealt, strict=True):
        for other in after:
            if part and other.has_room:
                assert mine.running / mine.workers <= other.load_after


@given(crowds(), st.integers(0, 20))
def test_when_each_takes_its_own_part_at_once_nothing_is_left_that_anybody_has_room_for(
    engines: list[Engine], phases: int
) -> None:
    """Each deals with itself first, so of a tie everybody believes to have won it."""
    free = [engine._replace(host_room=None) for engine in engines]
    mine = [shares([e, *free[:n], *free[n + 1 :]], {(): phases})[0] for n, e in enumerate(free)]
    room = sum(engine.workers - engine.running for engine in free)
    assert sum(part.total() for part in mine) >= min(phases, room)


def test_phases_that_few_can_run_are_dealt_out_first() -> None:
    """So the machine with the label stays free for what only it can do."""
    gpu, plain = Engine(0, 2, frozenset({"gpu"})), Engine(0, 2)
    assert shares([gpu, plain], {(): 2, ("gpu",): 2}) == [{("gpu",): 2}, {(): 2}]
    assert shares([gpu, plain], {(): 4}) == [{(): 2}, {(): 2}]


@pytest.mark.parametrize(
    ("loads", "phases", "parts"),
    [
        (((0, 4), (0, 2)), 3, [2, 1]),
        (((0, 2), (0, 4)), 3, [1, 2]),
        (((1, 4), (0, 2)), 2, [1, 1]),
        (((3, 4), (0, 4)), 3, [0, 3]),
        (((4, 4), (0, 1)), 3, [0, 1]),
        (((0, 1), (0, 8), (7, 8)), 9, [1, 8, 0]),
    ],
)
def test_a_load_is_what_runs_by_how_many_may(
    loads: tuple[tuple[int, int], ...], phases: int, parts: list[int]
) -> None:
    engines = [Engine(running, workers) for running, workers in loads]
    assert [part.total() for part in shares(engines, {(): phases})] == parts


def test_engines_of_one_host_share_its_room() -> None:
    here = [Engine(0, 4, host="a", host_room=3)] * 2
    assert [part.total() for part in shares(here, {(): 9})] == [2, 1]


@pytest.mark.parametrize(("room", "parts"), [(0, [1, 0]), (1, [1, 1]), (2, [1, 2])])
def test_what_one_host_is_given_takes_no_room_of_another(room: int, parts: list[int]) -> None:
    gpu = Engine(0, 1, frozenset({"gpu"}), host="a", host_room=1)
    other = Engine(0, 4, host="b", host_room=room)
    dealt = shares([gpu, other], {(): 4, ("gpu",): 1})
    assert [part.total() for part in dealt] == parts


# Who counts as another engine.


def other(**fields: object) -> dict[str, object]:
    return {"session_id": "t", "leased_by": 2, "host": "h", "open": 1, **fields}


OTHERS: list[tuple[str, dict[str, object], bool]] = [
    ("it runs", {}, True),
    ("its lease has lapsed", {"leased_by": None}, False),
    ("it starts nothing more", {"status": "draining"}, False),
    ("it has ended", {"status": "ended"}, False),
    ("it has not begun", {"limits": None}, False),
    ("all of its workers are busy", {"open": 2}, False),
    ("it is for one run", {"limits": limits(run_id="r")}, False),
    ("its host is full", {"limits": limits(workers=9, host_workers=1)}, False),
    ("its host has room", {"limits": limits(workers=9, host_workers=2)}, True),
    ("its account rests", {"limits": limits(account="resting")}, False),
    ("its policy is beyond us", {"policy_json": '{"name":"t","beyond":1}'}, False),
    ("it let work lie", {"attempts": 7}, False),
    ("it has started since", {"attempts": 8}, True),
]


@pytest.mark.parametrize(("why", "fields", "counts"), OTHERS, ids=[why for why, _, _ in OTHERS])
def test_another_engine_counts_when_it_lives_and_may_take_any_work(
    why: str, fields: dict[str, object], *, counts: bool
) -> None:
    of = policy(provider_pause_ms=5)
    standing = session(**other(**{"policy_json": of.json, **fields}))
    rows = board(session(), standing, account("resting", until_us=NOW_US + 1))
    assert len(others(rows, scope(of), NOW_US, {"t": 7})) == counts, why


def test_another_engine_is_seen_with_its_labels_its_load_and_the_room_of_its_host() -> None:
    bound = limits(workers=9, host_workers=4, labels=("gpu",))
    rows = board(session(), session(**other(limits=bound, policy_json=policy().json)))
    (seen,) = others(rows, scope(), NOW_US, {})
    assert seen == Engine(1, 4, frozenset({"gpu"}), "h", 3)


# Engines at work.

NO_START = boundary()


class World:
    """Equal engines that are idle on one board, some of which do nothing, and ready phases."""

    def __init__(self, engines: int, workers: int, phases: int, attempts: int = 0) -> None:
        rows = [run(run_id=f"r{n}", standing="promising") for n in range(phases)]
        work = [phase(run_id=f"r{n}", registered_pos=n + 1) for n in range(phases)]
        bound, of = limits(workers=workers, batch_size=99), policy()
        known = session(limits=bound, policy_json=of.json, attempts=attempts)
        there = [replace(known, session_id=f"s{n}", leased_by=n + 1) for n in range(engines)]
        self.board: Board = board(*rows, *work, *there)
        self.scopes = [Scope(f"s{n}", of, bound) for n in range(engines)]
        self.queues = [Queue(self.board, of) for of in self.scopes]
        self.clock = HandSetClock()
        self.patience = [Patience(self.clock) for _ in range(engines)]

    def pick(self, number: int, between: Iterable[int] = ()) -> int:
        """What an engine starts when it asks now.

        ``between``: after so many starts something comes that is no start.
        """
        of, queue = self.scopes[number], self.queues[number]
        room = of.limits.workers - self.board.sessions.states[of.session_id].open
        turn = self.patience[number].turn(self.board, queue, of, room)
        started = 0
        for event in picks(Picker(self.board, queue, of, NOW_US, lambda: f"a{id(turn)}"), room):
            if turn is not None and started in between:
                assert not turn.leaves(self.board, NO_START, NOW_US)
            if turn is not None and turn.leaves(self.board, event, NOW_US):
                break
            started += isinstance(event, AttemptStarted)
            self.board.feed(Seen(1, NOW_US, event))
            for each in self.queues:
                each.heed(event)
        self.patience[number].heed(self.board, turn)
        return started


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 30))
def test_engines_that_ask_in_turn_get_equal_parts_and_leave_nothing(
    engines: int, workers: int, phases: int
) -> None:
    world = World(engines, workers, phases)
    taken = [world.pick(number) for number in range(engines)]
    assert sum(taken) == min(phases, engines * workers)
    assert max(taken) - min(taken) <= 1


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 30))
def test_what_others_let_lie_is_taken_in_bounded_time(
    engines: int, workers: int, phases: int
) -> None:
    world = World(engines, workers, phases)
    mine = min(phases, workers)
    taken = world.pick(0)
    assert taken <= -(-phases // engines) or phases >= engines * workers
    left_s = world.patience[0].left_s()
    assert (left_s == LEAVE_S) == (taken < mine)
    world.clock.advance(LEAVE_S)
    assert taken + world.pick(0) == mine
    assert world.patience[0].left_s() is None


@given(
    st.integers(2, 4), st.integers(1, 6), st.integers(0, 30), st.sets(st.integers(0, 5), min_size=1)
)
def test_what_was_taken_counts_when_the_rest_is_dealt_anew(
    engines: int, workers: int, phases: int, between: set[int]
) -> None:
    """As it is behind everything that is no start, for a run that comes back is more work."""
    whole, dealt_anew = (World(engines, workers, phases) for _ in range(2))
    assert dealt_anew.pick(0, between) == whole.pick(0)


@pytest.mark.parametrize("made", [0, 7])
def test_who_let_work_lie_is_not_waited_for_until_it_starts_something(made: int) -> None:
    world = World(2, 4, 6, attempts=made)
    assert world.pick(0) == 3
    world.clock.advance(LEAVE_S)
    assert world.pick(0) == 1
    idle = World(2, 4, 2, attempts=made)
    idle.patience[0] = world.patience[0]
    assert idle.pick(0) == 2
    awake = World(2, 4, 2, attempts=made + 1)
    awake.patience[0] = world.patience[0]
    assert awake.pick(0) == 1


def test_what_was_taken_by_another_is_waited_for_no_more() -> None:
    """Another engine took what was left; what is left then has a time of its own."""
    world = World(3, 2, 3)
    assert world.pick(0) == 1
    world.clock.advance(LEAVE_S * 0.9)
    assert world.pick(1) == 1
    assert world.pick(0) == 0
    assert world.patience[0].left_s() == pytest.approx(LEAVE_S)
    world.clock.advance(LEAVE_S * 0.9)
    assert world.pick(0) == 0
    assert world.patience[0].left_s() == pytest.approx(LEAVE_S * 0.1)
    assert world.pick(2) == 1
    world.clock.advance(LEAVE_S)
    world.pick(0)
    assert world.patience[0].left_s() is None


def test_what_was_taken_by_another_is_no_sign_that_others_are_idle() -> None:
    world = World(3, 2, 3)
    assert world.pick(0) == 1
    assert world.pick(1) == 1
    world.clock.advance(LEAVE_S)
    assert world.pick(0) == 0  # the third phase is the third engine's, which was not waited for yet
    assert world.patience[0].left_s() == LEAVE_S == 0.25


def test_what_another_takes_while_a_pick_is_decided_was_not_left_by_all() -> None:
    world = World(3, 2, 3)
    assert world.pick(0) == 1
    world.clock.advance(LEAVE_S * 0.9)
    of, queue, patience = world.scopes[0], world.queues[0], world.patience[0]
    turn = patience.turn(world.board, queue, of, 1)
    assert turn is not None
    assert world.pick(1) == 1
    turn.left = "r2\np"
    patience.heed(world.board, turn)
    assert patience.left_s() == pytest.approx(LEAVE_S)


def test_a_named_phase_is_left_to_nobody() -> None:
    rows = board(session(), run(), phase())
    patience = Patience(HandSetClock())
    assert patience.turn(rows, Queue(rows, named()), named(), 1) is None
    assert isinstance(patience.turn(rows, Queue(rows, scope()), scope(), 1), Turn)


@pytest.mark.parametrize("is_due", [False, True])
def test_a_probe_is_dealt_out_like_other_work_once_it_is_due(*, is_due: bool) -> None:
    of = policy(breaker_runs=2, breaker_probes_max=0, breaker_cool_down_ms=1)
    opened = breaker(opened_pos=1, opened_us=NOW_US - (1000 if is_due else 999))
    busier = session(limits=limits(workers=2), open=1, leased_by=1)
    free = replace(busier, session_id="t", open=0, leased_by=2, policy_json=of.json)
    rows = board(busier, free, run(), phase(), opened)
    mine = Scope("s", of, limits(workers=2))
    turn = Turn(Queue(rows, mine), mine, 1, {})
    assert turn.leaves(rows, started(), NOW_US) == is_due


def test_a_pick_that_is_decided_once_more_is_shared_out_anew() -> None:
    world = World(2, 4, 4)
    of, queue = world.scopes[0], world.queues[0]
    turn = Turn(queue, of, 4, {})
    for _ in range(2):
        turn.begin()
        assert turn.left is None
        events = list(picks(Picker(world.board, queue, of, NOW_US, lambda: "a"), 1))
        told = [turn.leaves(world.board, event, NOW_US) for event in events * 3]
        assert told == [False, False, True]
        assert turn.left == "r0\np"


def test_what_a_turn_has_taken_already_is_its_load_when_a_run_that_comes_back_is_dealt() -> None:
    world = World(2, 4, 4)
    of, queue = world.scopes[0], world.queues[0]
    turn = Turn(queue, of, 4, {})
    (start,) = picks(Picker(world.board, queue, of, NOW_US, lambda: "a"), 1)
    back = RunCooledDown(
        session_id="s0", run_id="r9", generation=2, reason=because("cool_down", "")
    )
    told = [turn.leaves(world.board, event, NOW_US) for event in (start, start, back)]
    assert told == [False, False, False]
    # With two of its four workers taken it gets one of four more, and the idle engine three.
    assert [turn.leaves(world.board, start, NOW_US) for _ in "ab"] == [False, True]


@pytest.mark.parametrize(("runs", "most", "counted"), [(9, 99, 9), (9, 4, 4), (1001, 2000, 1000)])
def test_counting_stops_when_there_is_plenty(runs: int, most: int, counted: int) -> None:
    found = World(1, 1, runs).queues[0].ready_by_needs(NOW_US, most)
    assert found == {(): counted}


def test_counting_goes_on_until_there_is_plenty_of_every_kind() -> None:
    kinds = [(), ("arm",), (), (), ("arm",), ()]
    rows = [run(run_id=f"r{n}", standing="promising") for n in range(len(kinds))]
    work = [phase(run_id=f"r{n}", needs=of, registered_pos=n + 1) for n, of in enumerate(kinds)]
    of = scope(labels=("arm",))
    there = board(session(), *rows, *work)
    assert Queue(there, of).ready_by_needs(NOW_US, 2) == {(): 3, ("arm",): 2}
    assert Queue(there, of).ready_by_needs(NOW_US, 1) == {(): 1}
