"""The clock that simulations run on."""

from __future__ import annotations

import time

import anyio


async def test_a_day_passes_in_no_time_and_deadlines_fire_in_order() -> None:
    began_s = time.monotonic()
    woken: list[int] = []

    async def sleeper(hours: int) -> None:
        await anyio.sleep(hours * 3600)
        woken.append(hours)

    async with anyio.create_task_group() as group:
        for hours in (24, 1, 7):
            group.start_soon(sleeper, hours)
    with anyio.move_on_after(3600) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert woken == [1, 7, 24]
    assert time.monotonic() - began_s < 60
