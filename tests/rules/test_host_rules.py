"""Hosts, whole: which attempts count there, and that no host ever has more than it may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from engine.audit.casefile import Around
from engine.events import AttemptStarted, Seen
from engine.triage.case import Case
from engine.triage.hindrances import of_session
from engine.triage.hosts import host_is_full, open_on
from engine.triage.phase_hindrances import of_phase
from engine.triage.picking import Picker, picks
from engine.triage.scope import Scope
from engine.triage.select import Queue, pick_by_scan
from projections.board import Board
from projections.sessions import SessionStanding
from tests.rules.standings import (
    NOW_US,
    board,
    limits,
    named,
    phase,
    policy,
    run,
    scope,
    session,
)


@pytest.mark.parametrize("most", [None, 1, 2, 3])
def test_a_host_is_full_when_all_that_is_open_there_is_as_much_as_the_session_lets_it(
    most: int | None,
) -> None:
    for mine, here, there, status in product((0, 1), (0, 2), (0, 5), ("running", "lost", "ended")):
        rows = board(
            session(host="here", open=mine),
            session(session_id="t", host="here", open=here, status=status),
            session(session_id="u", host="there", open=there),
        )
        assert open_on(rows.sessions.values(), "here") == mine + here
        full = most is not None and mine + here >= most
        for of in (scope(host_workers=most), named(host_workers=most)):
            assert host_is_full(rows, of) == full


def test_a_log_in_a_file_has_one_host_and_a_session_to_come_has_that() -> None:
    rows = board(session(session_id="old", open=2, status="lost"))
    assert host_is_full(rows, scope(host_workers=2))
    assert not host_is_full(rows, scope(host_workers=3))


def test_nothing_is_picked_on_a_full_host_named_or_not() -> None:
    rows = board(session(host="here"), session(session_id="t", host="here", open=2), run(), phase())
    for of in (scope(), named()):
        for most, goes in ((2, False), (3, True)):
            bounded = Scope("s", of.policy, replace(of.limits, host_workers=most))
            queue = Queue(rows, bounded)
            assert (queue.pick(NOW_US) is not None) == goes
            assert (pick_by_scan(rows, bounded, NOW_US) is not None) == goes
            assert queue.next_ready(NOW_US) is not None


HOSTS = ("a", "b")


class Engines:
    """Engines on two hosts that share a board, each with a queue of its own."""

    def __init__(self, hosts: list[str], most: int, phases: int) -> None:
        rows = [run(run_id=f"r{n}", standing="promising") for n in range(phases)]
        work = [phase(run_id=f"r{n}", registered_pos=n + 1) for n in range(phases)]
        there = [session(session_id=f"s{n}", host=host) for n, host in enumerate(hosts)]
        self.board: Board = board(*rows, *work, *there)
        bound = limits(workers=9, host_workers=most, batch_size=99)
        self.scopes = [Scope(f"s{n}", policy(), bound) for n in range(len(hosts))]
        self.queues = [Queue(self.board, of) for of in self.scopes]
        self.ids: Iterator[str] = (f"a{n}" for n in range(999))

    def pick(self, engine: int, capacity: int) -> int:
        of, started = self.scopes[engine], 0
        picker = Picker(self.board, self.queues[engine], of, NOW_US, lambda: next(self.ids))
        for event in picks(picker, capacity):
            started += isinstance(event, AttemptStarted)
            self.board.feed(Seen(self.board.head.pos + started, NOW_US, event))
            for queue in self.queues:
                queue.heed(event)
        return started

    def open(self) -> Counter[str]:
        found = Counter[str]()
        for each in self.board.sessions.values():
            found[each.host] += each.open
        return found


@given(
    st.lists(st.sampled_from(HOSTS), min_size=1, max_size=4),
    st.integers(1, 4),
    st.integers(0, 12),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=12),
)
def test_no_host_ever_has_more_open_than_it_may_and_none_has_less_than_it_can(
    hosts: list[str], most: int, phases: int, turns: list[tuple[int, int]]
) -> None:
    world = Engines(hosts, most, phases)
    for engine, capacity in turns:
        before, at = world.open(), engine % len(hosts)
        started = world.pick(at, capacity)
        left = phases - sum(before.values())
        assert started == min(capacity, most - before[hosts[at]], left)
        assert all(count <= most for count in world.open().values())


def full(standing: SessionStanding, host_open: int, most: int | None) -> list[str]:
    of = scope(host_workers=most)
    case = Case(of, standing, run(), (), (), None, None, NOW_US, host_open)
    return [each.text for each in of_session(case) if each.kind == "host_full"]


def test_a_person_is_told_of_a_full_host_by_its_name() -> None:
    there = session(host="build-1", part_started_us=NOW_US)
    assert full(there, 2, 2) == ["the host is full (build-1: 2 of 2 attempts)"]
    assert full(session(part_started_us=NOW_US), 3, 2) == ["the host is full (3 of 2 attempts)"]
    assert full(there, 1, 2) == full(there, 9, None) == []


def test_a_person_is_told_where_a_label_is_offered_if_anywhere() -> None:
    needs = phase(needs=("gpu",))
    case = Case(scope(), session(), run(), (needs,), (), None, None, NOW_US)
    (held,) = of_phase(case, needs)
    assert held.change == "An engine on a machine that has it, begun with `--label gpu`."
    there = [
        session(session_id=name, host=f"host-{name}", limits=limits(labels=offered))
        for name, offered in (("t", ("arm",)), ("u", ("arm", "gpu")))
    ]
    (held,) = of_phase(case._replace(elsewhere=tuple(there)), needs)
    assert held.change == "Its turn at the session u on host-u, where that is offered."


def test_of_the_other_sessions_those_count_that_are_at_work() -> None:
    rows = board(
        session(part_started_us=2, leased_by=1, host="h", policy_json=policy().json),
        session(session_id="t", leased_by=2, host="h", open=3),
        session(session_id="u", leased_by=3, status="draining"),
        session(session_id="v", open=1),
    )
    case = Around.of(rows).case(run(), (), NOW_US)
    assert [each.session_id for each in case.elsewhere] == ["t"]
    assert case.host_open == 3
    assert case.anew().host_open == 3
