"""Who has to end waits for a server so long and no longer; who has not waits for as long."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from engine.drain.virtual import VirtualTimeLoop
from engine.store.leaving import ANSWER_S, BACK_S, CLOSE_S, Leaving, Silent

LATE_S = 100.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """A clock that goes on by itself whenever all tasks wait."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


async def given_up_s(leaving: Leaving, limit_s: float, answer_s: float = LATE_S) -> float | None:
    """When a wait for an answer that comes after so long is given up; None when it is not."""
    began_s = anyio.current_time()
    try:
        with leaving.bounded(limit_s):
            await anyio.sleep(answer_s)
    except Silent:
        return anyio.current_time() - began_s
    return None


async def test_nobody_who_stays_gives_up() -> None:
    leaving = Leaving()
    assert not leaving.is_begun
    assert await given_up_s(leaving, ANSWER_S) is None
    assert anyio.current_time() >= LATE_S


async def test_a_wait_that_begins_while_leaving_has_its_own_limit() -> None:
    leaving = Leaving()
    leaving.begin()
    assert leaving.is_begun
    for limit_s in (ANSWER_S, BACK_S, CLOSE_S):
        assert await given_up_s(leaving, limit_s) == pytest.approx(limit_s)
    assert await given_up_s(leaving, ANSWER_S, ANSWER_S / 2) is None


async def test_waits_that_are_under_way_have_theirs_from_then_on() -> None:
    leaving, found = Leaving(), dict[float, float | None]()

    async def wait(limit_s: float) -> None:
        found[limit_s] = await given_up_s(leaving, limit_s)

    async with anyio.create_task_group() as group:
        for limit_s in (1.0, 3.0):
            group.start_soon(wait, limit_s)
        await anyio.sleep(10)
        leaving.begin()
        await anyio.sleep(0.5)
        leaving.begin()  # the second time nothing begins anew
    assert found == {1.0: pytest.approx(11), 3.0: pytest.approx(13)}


async def test_what_was_answered_is_waited_for_no_more() -> None:
    leaving = Leaving()
    with leaving.bounded(ANSWER_S):
        pass
    with pytest.raises(KeyError), leaving.bounded(ANSWER_S):
        raise KeyError
    assert not vars(leaving)["_waits"]
    leaving.begin()
    await anyio.sleep(LATE_S)


async def test_an_error_is_not_taken_for_silence() -> None:
    leaving = Leaving()
    leaving.begin()
    with pytest.raises(KeyError), leaving.bounded(ANSWER_S):
        raise KeyError
    with anyio.move_on_after(CLOSE_S) as outer:
        await given_up_s(leaving, ANSWER_S)
        raise AssertionError("somebody else's limit came first")
    assert outer.cancelled_caught


async def test_silence_is_told_in_words() -> None:
    assert "gave no answer while this program was to end" in str(Silent())
    assert isinstance(Silent(), TimeoutError)
