"""Recorded against due: every difference once, with what it is about, where, and both values."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from engine.audit.compared import Difference, Expected, compared, out_of_place, without
from engine.events import AnyEvent, BudgetReached, encode
from tests.rules.standings import because, boundary, fingerprinted, finished

WHY = because("budget", "x", spent=5, limit=5)


def reached(**fields: Any) -> BudgetReached:
    known = BudgetReached(
        session_id="s",
        run_id="r",
        phase_id="p",
        scope="phase",
        measure="tokens",
        limit=5,
        spent=5,
        reason=WHY,
    )
    return replace(known, **fields)


def due(*events: AnyEvent, cause: int = 7) -> list[Expected]:
    return [Expected(event, cause) for event in events]


def at(*events: AnyEvent, cause: int = 7) -> list[tuple[int, Expected]]:
    return list(enumerate(due(*events, cause=cause), 10))


def test_an_event_is_stored_as_it_is_due_with_its_cause_and_to_the_last_byte() -> None:
    event = reached()
    data = encode(event)
    assert Expected(event, 7).is_stored_as(event, data, 7)
    assert not Expected(event, 7).is_stored_as(event, data, 8)
    assert not Expected(event, 7).is_stored_as(event, data, None)
    assert not Expected(event, 7).is_stored_as(event, data.replace(":", ": ", 1), 7)
    assert not Expected(None, 7).is_stored_as(event, data, 7)
    assert not Expected(finished(), 7).is_stored_as(event, data, 7)


def test_what_differs_is_told_with_what_was_recorded_before_what_was_due() -> None:
    told = reached(spent=9, reason=replace(because("budget", "y", spent=9, limit=5), basis=3))
    (found,) = compared(due(reached()), at(told, cause=8), 7)
    assert found == Difference(
        10,
        "differs",
        "triage.budget_reached",
        "r/p/phase/tokens",
        {
            "spent": (9, 5),
            "reason.basis": (3, 41),
            "reason.sentence": ("y", "x"),
            "reason.inputs.spent": (9, 5),
            "cause": (8, 7),
        },
    )
    assert found.sentence.startswith(
        "triage.budget_reached of r/p/phase/tokens differs: spent is 9, not 5"
    )


def test_events_of_one_type_are_paired_by_what_they_are_about() -> None:
    tokens, time = reached(), reached(measure="ms")
    (found,) = compared(due(tokens, time), at(time, replace(tokens, spent=9)), 7)
    assert (found.pos, found.subject, found.fields) == (11, "r/p/phase/tokens", {"spent": (9, 5)})
    # Without one that is about the same, another of its type is the one that was meant.
    (other,) = compared(due(tokens), at(replace(tokens, run_id="q")), 7)
    assert (other.what, other.fields) == ("differs", {"run_id": ("q", "r")})


def test_what_is_missing_stands_at_the_fact_and_what_is_unexpected_at_itself() -> None:
    found = compared(due(boundary(), fingerprinted()), at(reached(), boundary(), reached()), 11)
    assert [(each.pos, each.what, each.type) for each in found] == [
        (10, "unexpected", "triage.budget_reached"),
        (11, "missing", "diagnosis.fingerprinted"),
        (12, "unexpected", "triage.budget_reached"),
    ]
    assert found[0].sentence == "triage.budget_reached of r/p/phase/tokens is unexpected"


def test_the_same_in_another_order_is_a_difference_too() -> None:
    one, other, last = reached(), boundary(), reached(measure="ms")
    found = compared(due(one, other, last), at(other, one, last), 7, {10, 11})
    assert [(each.pos, each.what, list(each.fields)) for each in found] == [
        (10, "differs", ["bytes"]),
        (11, "differs", ["bytes"]),
    ]
    assert compared(due(), at(), 7) == []


def test_of_the_same_lines_those_are_told_that_stand_where_another_is_due() -> None:
    first, second, third = at(reached(), boundary(), fingerprinted())
    found = out_of_place([first, second, third], [first, third, second])
    assert [(each.pos, each.type) for each in found] == [
        (12, "diagnosis.fingerprinted"),
        (11, "diagnosis.boundary_detected"),
    ]
    assert found[0].sentence.endswith(
        "'another order or another writing', not 'as this program writes it'"
    )


def test_what_stands_for_unknown_rules_is_taken_out_once() -> None:
    every = due(reached(), reached(measure="ms"), boundary())
    left = without(every, due(reached(measure="ms"), fingerprinted()))
    assert left == [every[0], every[2]]
    assert without(every, due(reached(run_id="q"))) == every[1:]
