"""What holds a phase back that lies in itself or in those that it waits for, word by word."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from msgspec.structs import replace

from engine.triage.eligible import phase_hindrance
from engine.triage.hindrance import Hindrance
from engine.triage.phase_hindrances import of_phase
from engine.triage.scope import Scope
from projections.backlog import PhaseStanding
from tests.rules.cases import NEW_SESSION, REQUEUE, REQUEUE_FOR_OTHERS, case, told
from tests.rules.standings import budget, limits, named, phase, policy, scope, session


def phase_held(of: Scope, *phases: PhaseStanding) -> list[Hindrance]:
    return list(of_phase(case(of, *phases), phases[0]))


CAPPED = policy(heed_incident_caps=True)
ONCE = policy(once_per_session=True)
USED_UP = told("exhausted", "phase", "it has used up its attempts (2 of 2)", REQUEUE_FOR_OTHERS)
TRIED = {"last_session": "s", "last_ending": "failed", "state": "FAILED", "last_pos": 12}
TRIED_ONCE = told(
    "tried_this_session",
    "phase",
    "it was tried in this session (failed), which does so once",
    NEW_SESSION,
    pos=12,
)


@pytest.mark.parametrize(
    ("of", "fields", "found"),
    [
        (scope(), {}, []),
        (
            scope(),
            {"open_attempt": "a9", "state": "EXECUTING", "last_pos": 12},
            [told("open", "phase", "its attempt a9 is open", "The end of that attempt.", id="a9",
                  pos=12)],
        ),
        (
            scope(),
            {"state": "COMPLETE", "last_pos": 12, "attempts": 9, "needs": ("gpu",)},
            [told("done", "phase", "it is finished (COMPLETE)", REQUEUE, pos=12)],
        ),
        *[
            (
                scope(),
                {"state": state, "last_pos": 12, "attempts": 9},
                [told("done", "phase", f"it is past execution ({state})", REQUEUE, pos=12)],
            )
            for state in ("GATE", "CI_RUNNING")
        ],
        (
            scope(policy(drains=("FAILED", "GATE"))),
            {"last_pos": 12, "attempts": 2},
            [
                told("not_drained", "phase",
                     "its state is QUEUED, and the policy drains FAILED, GATE",
                     "A policy that drains QUEUED: `runoff drain --policy default -- PROGRAM`.",
                     pos=12),
                USED_UP,
            ],
        ),
        (
            scope(policy(drains=("QUEUED",))),
            {"state": "FAILED", "last_pos": 12},
            [told("not_drained", "phase",
                  "its state is FAILED, and the policy drains QUEUED", REQUEUE, pos=12)],
        ),
        (scope(policy(drains=("FAILED", "GATE"))), {"state": "GATE", "attempts": 2}, [USED_UP]),
        (
            named(policy(drains=("FAILED",))),
            {"state": "COMPLETE", "last_pos": 12},
            [told("done", "phase", "it is finished (COMPLETE)", REQUEUE, pos=12)],
        ),
        (named(policy(drains=("FAILED",))), {"attempts": 9, "orphans": 9}, []),
        (
            scope(),
            {"attempts": 3, "number": 7, "orphans": 5},
            [
                told("exhausted", "phase",
                     "it has used up its attempts (3 of 2; 4 more did not count)", REQUEUE),
                told("lost_too_often", "phase",
                     "its attempts were lost with engine and guardian 5 times, the limit is 5",
                     REQUEUE),
            ],
        ),
        (scope(), {"attempts": 1, "number": 7, "orphans": 4}, []),
        (scope(), TRIED, []),
        (scope(ONCE), TRIED, [TRIED_ONCE]),
        (named(), TRIED, [TRIED_ONCE]),
        (scope(ONCE), {**TRIED, "last_session": "t"}, []),
        (scope(ONCE), {**TRIED, "last_ending": "abandoned"}, []),
        (
            scope(ONCE),
            {**TRIED, "open_attempt": "a9"},
            [told("open", "phase", "its attempt a9 is open", "The end of that attempt.", id="a9",
                  pos=12)],
        ),
        (
            scope(CAPPED, budgets=(budget("phase", "attempts", 3), budget("phase", "ms", 9))),
            {"number": 3, "spent_ms": 8, "incident_token_cap": 50, "spent_tokens": 51},
            [
                told("over_budget", "phase",
                     "it has used 3 attempts of the 3 that it may use", REQUEUE),
                told("over_budget", "phase",
                     "it has used 51 tokens of the 50 that it may use", REQUEUE),
            ],
        ),
        (
            scope(CAPPED, budgets=(budget("phase", "tokens", 40),)),
            {"incident_token_cap": 50, "spent_tokens": 49},
            [
                told("over_budget", "phase",
                     "it has used 49 tokens of the 40 that it may use",
                     f"A higher budget; or {REQUEUE}"),
            ],
        ),
        (
            scope(phase_id="q", run_id="r"),
            {},
            [told("filtered", "phase", "the session is for another phase (q)",
                  "A session for all, or for this phase.", id="q")],
        ),
        *[
            (
                of,
                {"needs": ("arm", "gpu", "nvme")},
                [told("label_missing", "phase",
                      "it needs the labels gpu, nvme, which the session's engine does not offer",
                      "An engine on a machine that has it, begun with"
                      " `--label arm --label gpu --label nvme`.", id="gpu")],
            )
            for of in (scope(labels=("arm",)), named(labels=("arm",)))
        ],
    ],
)  # fmt: skip
def test_what_lies_in_a_phase(of: Scope, fields: dict[str, Any], found: list[Hindrance]) -> None:
    assert phase_held(of, phase(**fields)) == found


def test_the_first_hindrance_of_a_phase_is_the_one_by_which_phases_are_counted() -> None:
    rules = replace(ONCE, heed_incident_caps=True)
    earlier = phase(phase_id="e", phase_index=0)
    alike, firsts = 0, set[str | None]()
    for tried, used, lost, spent, label, waits in product((False, True), repeat=6):
        late = phase(
            phase_index=1,
            attempts=2 * used,
            orphans=5 * lost,
            incident_token_cap=50,
            spent_tokens=51 * spent,
            needs=("gpu",) * label,
            **(TRIED if tried else {}),
        )
        for of in (scope(rules), named(rules), scope(replace(rules, drains=("GATE",)))):
            expected: str | None = phase_hindrance(late, of)
            if waits and not of.is_named_phase:
                expected = expected or "waits"
            held = phase_held(of, late, *[earlier] * waits)
            assert (held[0].kind if held else None) == expected
            firsts.add(expected)
            alike += len(held) > 1
    assert alike > 100
    assert firsts >= {"exhausted", "tried_this_session", "over_budget", "label_missing", "waits"}


def test_an_engine_that_offers_some_of_the_labels_offers_none_of_the_work() -> None:
    needs = phase(needs=("arm", "gpu"))
    some = session(session_id="t", host="h1", limits=limits(labels=("gpu",)))
    every = session(session_id="u", host="h2", limits=limits(labels=("gpu", "arm")))
    held = case(None, needs, elsewhere=(some, every))
    (label,) = of_phase(held, needs)
    assert label.change == "Its turn at the session u on h2, where that is offered."
    (label,) = of_phase(held._replace(elsewhere=(some,)), needs)
    assert label.change.startswith("An engine on a machine that has it")


def test_what_a_phase_waits_for_is_named_in_order_with_why_that_waits_itself() -> None:
    last = phase(phase_id="z", phase_index=9)
    first = phase(phase_id="a b", phase_index=0, attempts=2, state="FAILED")
    others = [phase(phase_id=f"p{n}", phase_index=n) for n in (2, 1)]
    (held,) = phase_held(scope(), last, *others, first)
    assert held == told(
        "waits",
        "phase",
        "it waits for a b (FAILED, exhausted), p1 (QUEUED), p2 (QUEUED)",
        "The end of these; `runoff why r 'a b'` says what the first of them waits for.",
        id="a b",
    )
    more = [phase(phase_id=f"q{n}", phase_index=n) for n in (3, 4)]
    (held,) = phase_held(scope(), last, *others, *more, first)
    assert held.text.endswith("p1 (QUEUED), p2 (QUEUED) and 2 more")
