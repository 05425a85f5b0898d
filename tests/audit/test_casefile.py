"""What ``why`` looks at: the same from a few rows as from the whole board."""

from __future__ import annotations

import os

import pytest
from msgspec.structs import replace

from engine.audit.casefile import Around, case_file, case_on
from engine.events import Record
from engine.store.boards import load_board
from engine.store.protocol import Query
from engine.triage.case import newest_session
from tests.rules.standings import board, breaker, phase, policy, run, session
from tests.worlds import Simulation

JSON = policy().json
SEEDS = range(int(os.environ.get("RUNOFF_SIM_SEEDS", "60")))


async def drained(seed: int) -> tuple[Simulation, list[Record]]:
    world = Simulation(seed)
    await world.register()
    lives = world.random.randint(0, 3)
    for life in range(lives):
        await world.crash(resume=life > 0)
    await world.drain(resume=lives > 0, crash_after_s=None)
    return world, await world.store.records(Query(), limit=1_000_000)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
async def test_a_case_is_the_same_from_few_rows_as_from_the_whole_board(seed: int) -> None:
    world, records = await drained(seed)
    for record in records[seed % 7 :: 7]:
        board = await load_board(world.store, record.pos)
        around = await Around.load(world.store, record.pos)
        for run_id in board.runs.states:
            found = await case_file(world.store, around, run_id, record.pos, record.recorded_us)
            assert found is not None
            assert found.case == case_on(board, run_id, record.recorded_us)
        assert await case_file(world.store, around, "nope", record.pos, 0) is None


@pytest.mark.parametrize("seed", range(4))
async def test_a_case_file_holds_what_stands_for_or_decides_something_and_no_more(
    seed: int,
) -> None:
    world, records = await drained(seed)
    end = records[-1]
    around = await Around.load(world.store, end.pos)
    kinds = ("backlog.", "attempt.", "diagnosis.", "triage.", "operator.")
    unread = ("attempt.spawned", "attempt.estimated", "attempt.adopted")
    for run_id in (await load_board(world.store, end.pos)).runs.states:
        found = await case_file(world.store, around, run_id, end.pos, end.recorded_us)
        assert found is not None
        assert [seen.pos for seen in found.events] == [
            record.pos
            for record in records
            if record.run == run_id and record.type.startswith(kinds) and record.type not in unread
        ]
        assert found.position == end.pos


def test_a_case_counts_its_host_and_names_the_other_engines_that_are_at_work() -> None:
    mine = session(
        session_id="s", host="h", open=2, leased_by=1, part_started_us=9, policy_json=JSON
    )
    others = [
        session(session_id="same host", host="h", open=3, leased_by=2),
        session(session_id="over", host="h", open=1, leased_by=3, status="ended"),
        session(session_id="elsewhere", host="x", open=5, leased_by=4),
        session(session_id="nobody's", host="x", open=5, leased_by=None),
        session(session_id="left", host="x", status="lost"),
    ]
    seen = board(mine, *others, run(run_id="r"), phase(run_id="r"), phase(run_id="q"))
    case = case_on(seen, "r", 10)
    assert case.session.session_id == "s"
    assert case.host_open == 6
    assert [other.session_id for other in case.elsewhere] == ["same host", "elsewhere"]
    assert case.left == {"left"}
    assert [each.run_id for each in case.phases] == ["r"]


def test_phases_and_breakers_of_a_case_have_an_order() -> None:
    phases = [phase(phase_id=name, registered_pos=pos) for name, pos in (("a", 3), ("b", 1))]
    breakers = [breaker(fingerprint=name) for name in ("y", "x")]
    case = case_on(board(session(policy_json=JSON), run(), *phases, *breakers), "r", 10)
    assert [each.phase_id for each in case.phases] == ["b", "a"]
    assert [each.fingerprint for each in case.breakers] == ["x", "y"]


def test_a_session_that_an_engine_is_at_is_newer_than_any_that_is_over() -> None:
    working = session(session_id="a", part_started_us=1, leased_by=2)
    assert newest_session((working, session(session_id="b", part_started_us=5))) == working
    for others in ({"status": "lost"}, {"status": "ended"}, {"status": "draining", "leased_by": 3}):
        assert (
            newest_session((session(session_id="b", part_started_us=5, **others), working))
            == working
        )
    later = replace(working, session_id="c", part_started_us=2)
    assert newest_session((later, working)) == later
