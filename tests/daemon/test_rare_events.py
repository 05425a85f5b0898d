"""What an engine looks for in a log at its start stands rarely: an index finds it, no search does.

A log of a million events that is read to its other end for one of them takes a minute from a disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from engine.calibration.estimator import shipped_toml
from engine.cli.coefficients_file import coefficients_for, coefficients_in_file
from engine.clock import HandSetClock
from engine.drain.virtual import VirtualTimeLoop
from engine.events import CoefficientsInForce, Record
from engine.store.command import Command, just
from engine.store.database import open_writer
from engine.store.location import locate
from engine.store.memory import MemoryStore
from engine.store.protocol import PAGE_ROWS, Query
from engine.store.recorder import recording
from tests.living import WRITER, Living, group


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


SAID = 5


class Asked(MemoryStore):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.queries: list[Query] = []
        self.limits: list[int] = []

    async def records(self, query: Query, after: int = 0, limit: int = PAGE_ROWS) -> list[Record]:
        self.queries.append(query)
        self.limits.append(limit)
        return await super().records(query, after, limit)


def is_searched_for(query: Query) -> bool:
    """Whether only the types tell, so that whatever stands before must be read."""
    found_by = (query.stream, query.session, query.run, query.attempt)
    return bool(query.types) and not any(found_by)


async def test_a_daemon_searches_no_log_for_what_a_person_said_last() -> None:
    living, store = Living(), Asked()
    living.store = store
    async with living.life(group("r", 2)) as service:
        await service.pause("ann", "lunch")
    for _ in range(2):  # the second is behind a start that found it so
        async with living.life() as service:
            await anyio.sleep(1)
            assert service.state == "paused"
    async with living.life() as service:
        await service.resume("ann", "back")
    asked = [query for query in store.queries if query.types or query.stream]
    assert len(asked) >= 4
    assert [query for query in asked if is_searched_for(query)] == []


async def test_coefficients_that_nobody_adopted_are_not_searched_for() -> None:
    store = Asked()
    await coefficients_for(None, store)
    (query,) = store.queries
    assert query.types
    assert not is_searched_for(query)


def of_version(version: str) -> str:
    return shipped_toml().replace('version = "1"', f'version = "{version}"')


async def test_coefficients_that_are_in_force_are_known_by_the_last_word_on_them(
    tmp_path: Path,
) -> None:
    """Whoever goes by a file says so at every start, so that the next start need not look far."""
    file, store = tmp_path / "mine.toml", Asked()
    file.write_text(of_version("2"))
    mine = coefficients_in_file(str(file))
    said = CoefficientsInForce(
        session_id="s",
        coefficient_version=mine.version,
        coefficients_sha256=mine.sha256,
        coefficients_json=mine.json,
    )
    async with recording(store, HandSetClock(), WRITER) as recorder:
        for number in range(SAID):
            await recorder.submit(Command(f"c{number}", "drain/s", b"", just(said)))
    store.limits.clear()
    assert await coefficients_for(str(file), store) == mine
    assert store.limits == [1], "a second one may be a million events away"
    file.write_text(of_version("3"))
    await coefficients_for(str(file), store)
    assert len(store.limits) == 1 + SAID + 1, "a new version may be at the other end"


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("types", [(), ("daemon.paused",)])
@pytest.mark.parametrize("of", [{"stream": "daemon"}, {"session": "s"}])
async def test_a_stream_is_read_by_its_index(
    tmp_path: Path,
    of: dict[str, str],
    newest_first: bool,
    types: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And none of it is sorted: a session may have a million events, and is read by pages."""
    store = await open_writer(locate(f"sqlite:///{tmp_path}/b.db"), create=True)
    plans: list[str] = []
    execute = store.execute

    async def explained(sql: str, *parameters: Any) -> list[Any]:
        plans.extend(row[3] for row in await execute(f"EXPLAIN QUERY PLAN {sql}", *parameters))
        return await execute(sql, *parameters)

    monkeypatch.setattr(store, "execute", explained)
    query = Query(types=types, newest_first=newest_first, until=7, **of)
    assert await store.records(query, after=3, limit=1) == []
    await store.close()
    assert plans == ["SEARCH events USING INDEX events_by_stream (stream=?)"]
