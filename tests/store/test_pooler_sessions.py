"""Which of the server's sessions a pooler lends whom, and whether it is found that it is not ours.

A pooler that is made of words here: what it lends is chosen, one statement at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any, cast

import pytest
from hypothesis import given, strategies as st

from engine.errors import WrongDatabase
from engine.store.pooler import ROUNDS, is_between, mixed, mixes_sessions, refuses_settings, settle

asyncpg = pytest.importorskip("asyncpg", reason="the extra `postgres` is not installed")
SETTINGS = {"synchronous_commit": "on", "search_path": "runoff"}


class Lent:
    """A connection whose statements go to the session that ``which`` names, one after the other."""

    def __init__(self, sessions: dict[int, dict[str, str]], which: Iterator[int]) -> None:
        self._sessions, self._which = sessions, which
        self.asked: list[str] = []
        self.is_ended = False

    async def execute(self, sql: str) -> None:
        assert not self.is_ended
        self.asked.append(sql)
        session = self._sessions.setdefault(next(self._which), {})
        session.update(re.findall(r"set_config\('([\w.]+)', '(\w+)', false\)", sql))
        marked = re.search(r"current_setting\('([\w.]+)', true\) IS NOT DISTINCT FROM '(\w+)'", sql)
        if marked is not None and session.get(marked[1]) != marked[2]:
            raise asyncpg.DivisionByZeroError

    def terminate(self) -> None:
        self.is_ended = True


async def settled(
    ours: Sequence[int], others: Sequence[int]
) -> tuple[bool, Lent, Lent, dict[int, dict[str, str]]]:
    """Whether it was taken for a pool of sessions, when these were lent; the first one for more."""
    sessions: dict[int, dict[str, str]] = {}
    mine = Lent(sessions, chain(ours, repeat(ours[0])))
    another = Lent(sessions, chain(others, repeat(others[0])))

    async def opened() -> Any:
        return another

    try:
        await settle(cast("Any", mine), SETTINGS, opened)
    except WrongDatabase:
        return False, mine, another, sessions
    return True, mine, another, sessions


async def test_a_session_of_our_own_has_our_settings_and_is_looked_at_as_often_as_said() -> None:
    is_ours, mine, another, sessions = await settled([1], [2])
    assert is_ours
    assert SETTINGS.items() <= sessions[1].items()
    assert not SETTINGS.keys() & sessions[2].keys()
    assert len(mine.asked) == 1 + ROUNDS
    assert len(another.asked) == ROUNDS
    assert another.is_ended
    assert not mine.is_ended


@given(st.integers(0, ROUNDS - 1), st.booleans())
async def test_a_session_that_is_lent_to_another_is_found_in_whichever_round(
    at: int, ours: bool
) -> None:
    """Either another is lent our session, or we are lent one that bears no mark of ours."""
    mine = [1] * (1 + ROUNDS)
    others = [2] * ROUNDS
    if ours:
        mine[1 + at] = 3
    else:
        others[at] = 1
    is_ours, _, another, _ = await settled(mine, others)
    assert not is_ours
    assert another.is_ended


async def test_no_two_connections_bear_the_same_mark() -> None:
    """One that another of ours has settled is not taken for our own."""
    marks = [(await settled([1], [2]))[3][1]["runoff.session"] for _ in range(2)]
    assert len(set(marks)) == len(marks)
    assert "another" not in marks


async def test_a_connection_that_fails_is_not_left_open() -> None:
    class Failing(Lent):
        async def execute(self, sql: str) -> None:
            raise OSError(sql)

    failing = Failing({}, repeat(2))

    async def opened() -> Any:
        return failing

    with pytest.raises(OSError, match="another"):
        await settle(cast("Any", Lent({}, repeat(1))), SETTINGS, opened)
    assert failing.is_ended


class Greeted:
    """A connection by its greeting."""

    def get_server_pid(self) -> int:
        return 7


def test_whoever_serves_us_and_did_not_greet_us_stands_behind_a_pooler() -> None:
    assert [is_between(cast("Any", Greeted()), pid) for pid in (7, 8)] == [False, True]


@pytest.mark.parametrize(
    ("asked", "made", "words", "is_it"),
    [
        (refuses_settings, "ProtocolViolationError", "unsupported startup parameter: x", True),
        (refuses_settings, "ProtocolViolationError", "something else", False),
        (refuses_settings, "PostgresError", "unsupported startup parameter: x", False),
        (mixes_sessions, "DuplicatePreparedStatementError", "", True),
        (mixes_sessions, "InvalidSQLStatementNameError", "", True),
        (mixes_sessions, "PostgresError", "", False),
    ],
)
def test_errors_of_a_pooler_are_told_from_others(
    asked: Callable[[BaseException], bool], made: str, words: str, *, is_it: bool
) -> None:
    assert asked(getattr(asyncpg, made)(words)) is is_it


def test_who_pools_transactions_is_told_what_to_name_instead() -> None:
    error = mixed()
    assert "pools transactions" in str(error)
    assert "pool_mode = session" in error.remedy
