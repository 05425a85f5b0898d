"""What waits for what, whole: every pair of phases, and the index against every change."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import pytest
from msgspec.structs import replace

from engine.triage.ordering import RunOrder, place, waits_for
from engine.triage.policy import Policy
from projections.backlog import PhaseStanding
from tests.rules.plain_pick import comes_first
from tests.rules.standings import phase, policy, scope

FLAGS = (False, True)
STATES = ("QUEUED", "EXECUTING", "FAILED", "GATE", "CI_RUNNING", "COMPLETE", "SKIPPED")


def ordered(**switches: bool) -> Policy:
    return policy(
        drains=("FAILED", "GATE") if switches.get("gates") else ("QUEUED", "FAILED"),
        order_tiers=switches.get("tiers", True),
        order_phases=switches.get("phases", True),
        order_deliverables=switches.get("deliverables", True),
    )


def test_a_phase_stands_by_tier_then_index_then_registration() -> None:
    assert place(phase(tier_index=1, phase_index=2, registered_pos=3)) == (1, 2, 3)


def test_whether_one_phase_waits_for_another_is_the_tables_word() -> None:
    waited = 0
    for tiers, phases, deliverables, order, names, state in product(
        FLAGS, FLAGS, FLAGS, ("strict", "free"), FLAGS, STATES
    ):
        rules = ordered(tiers=tiers, phases=phases, deliverables=deliverables)
        for tier, index, pos in product((0, 1, 2), (4, 5, 6), (1, 3)):
            other = phase(
                phase_id="o", state=state, tier_index=tier, phase_index=index, registered_pos=pos
            )
            me = phase(
                tier_index=1,
                phase_index=5,
                registered_pos=2,
                order=order,
                after=("o",) if names else (),
            )
            unfinished = state in ("QUEUED", "EXECUTING", "FAILED")
            earlier = index < 5 or (index == 5 and pos < 2)
            expected = unfinished and (
                (deliverables and names)
                or (tiers and tier < 1)
                or (phases and order == "strict" and tier == 1 and earlier)
            )
            assert waits_for(me, [other, me], rules) == ([other] if expected else [])
            assert comes_first(other, me, scope(rules)) == expected
            waited += expected
    assert waited > 500


def test_a_phase_never_waits_for_itself() -> None:
    me = phase(after=("p",))
    assert waits_for(me, [me], ordered()) == []


def test_what_a_phase_waits_for_is_told_in_order() -> None:
    me = phase(tier_index=1, phase_index=5, registered_pos=9, after=("late",))
    late = phase(phase_id="late", tier_index=1, phase_index=7, registered_pos=2)
    near = phase(phase_id="near", tier_index=1, phase_index=4, registered_pos=8)
    twin = phase(phase_id="twin", tier_index=1, phase_index=4, registered_pos=1)
    early = phase(phase_id="early", tier_index=0, phase_index=8, registered_pos=5)
    found = waits_for(me, [late, me, near, twin, early], ordered())
    assert [each.phase_id for each in found] == ["early", "twin", "near", "late"]


# The index.


def backlog_of(dice: random.Random) -> list[PhaseStanding]:
    count = dice.randint(1, 6)
    return [
        phase(
            phase_id=f"p{number}",
            tier_index=dice.randint(0, 2),
            phase_index=dice.randint(0, 2),
            registered_pos=number + 1,
            order=dice.choice(["strict", "strict", "free"]),
            after=tuple(f"p{n}" for n in range(count) if dice.random() < 0.2),
            state=dice.choice(STATES),
        )
        for number in range(count)
    ]


def waiting(phases: dict[str, PhaseStanding], rules: Policy) -> dict[str, bool]:
    of = scope(rules)
    return {
        name: any(comes_first(other, me, of) for other in phases.values())
        for name, me in phases.items()
    }


@pytest.mark.parametrize("switches", list(product(FLAGS, repeat=4)), ids=str)
def test_the_index_says_of_every_phase_after_every_change_what_a_look_at_all_says(
    switches: tuple[bool, bool, bool, bool],
) -> None:
    tiers, in_order, deliverables, gates = switches
    rules = ordered(tiers=tiers, phases=in_order, deliverables=deliverables, gates=gates)
    matter = {"QUEUED", "EXECUTING", "FAILED", *rules.drains}
    dice, changed = random.Random(str(switches)), 0
    for _ in range(25):
        index, known = RunOrder(rules), dict[str, PhaseStanding]()
        coming = backlog_of(dice)
        for _ in range(24):
            before = waiting(known, rules)
            if coming and (not known or dice.random() < 0.5):
                told = coming.pop(0)
            else:
                told = replace(known[dice.choice(list(known))], state=dice.choice(STATES))
            known[told.phase_id] = told
            touched = index.update(told)
            after = waiting(known, rules)
            assert index.phases == known
            assert {name: index.waits(name) for name in known} == after
            # Whoever waits no more and could go is told; and so is the phase itself.
            moved = {
                name
                for name in before
                if before[name] and not after[name] and known[name].state in matter
            }
            assert moved | {told.phase_id} <= touched <= set(known)
            changed += bool(moved)
    assert (changed > 0) == any(switches[:3])


def opened(rules: Policy, *phases: PhaseStanding) -> RunOrder:
    index = RunOrder(rules)
    for each in phases:
        index.update(each)
    return index


def test_a_change_that_leaves_a_phase_as_unfinished_as_it_was_touches_it_alone() -> None:
    first, second = phase(phase_id="a"), phase(phase_id="b", phase_index=1, after=("a",))
    index = opened(ordered(), first, second)
    assert index.update(replace(first, state="EXECUTING")) == {"a"}
    assert index.update(replace(first, state="FAILED", number=3)) == {"a"}
    assert index.update(replace(first, state="COMPLETE")) == {"a", "b"}
    assert index.update(replace(first, state="GATE")) == {"a"}
    assert index.waits("b") is False
    assert index.update(replace(first, state="QUEUED")) == {"a", "b"}
    assert index.waits("b") is True


def chain(count: int, **fields: Any) -> list[PhaseStanding]:
    return [
        phase(phase_id=f"p{n}", phase_index=n, registered_pos=n + 1, **fields) for n in range(count)
    ]


def test_a_finished_phase_lets_only_the_next_in_its_tier_go() -> None:
    first, *rest = chain(50)
    index = opened(ordered(), first, *rest)
    assert index.update(replace(first, state="COMPLETE")) == {"p0", "p1"}


def test_a_tier_that_is_through_opens_the_next_and_only_that() -> None:
    last = phase(phase_id="last", tier_index=0)
    second = [phase(phase_id=f"s{n}", tier_index=4, phase_index=n, order="free") for n in (0, 1)]
    third = phase(phase_id="third", tier_index=7)
    index = opened(ordered(), last, *second, third)
    assert index.update(replace(last, state="COMPLETE")) == {"last", "s0", "s1"}
    unordered = opened(ordered(tiers=False), last, *second, third)
    assert unordered.update(replace(last, state="COMPLETE")) == {"last"}


def test_a_phase_that_is_drained_though_nothing_waits_for_it_is_told_of_what_it_waits_for() -> None:
    first, gate = phase(phase_id="a"), phase(phase_id="b", phase_index=2, state="GATE")
    index = opened(ordered(gates=True), first, gate)
    assert index.waits("b")
    assert index.update(replace(first, state="COMPLETE")) == {"a", "b"}
    assert not index.waits("b")
    # Once it is through itself nothing is said to it any more.
    index.update(replace(gate, state="SKIPPED"))
    assert index.update(replace(first, state="FAILED")) == {"a"}
    assert opened(ordered(), first, gate).update(replace(first, state="COMPLETE")) == {"a"}


@pytest.mark.parametrize("tier", [0, 1, 2, 3, 9, 10**9])
def test_what_is_drained_though_it_is_through_waits_for_no_tier_where_none_is_unfinished(
    tier: int,
) -> None:
    rules = ordered(gates=True)
    gate = phase(phase_id="g", state="GATE", tier_index=tier)
    order = RunOrder(rules)
    order.update(gate)
    order.update(phase(phase_id="d", state="COMPLETE", tier_index=0))
    assert not order.waits("g")
    assert waits_for(gate, order.phases.values(), rules) == []
