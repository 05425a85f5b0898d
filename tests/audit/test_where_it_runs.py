"""An audit sees a pick that went where the labels or the room of the host did not allow it."""

from __future__ import annotations

import pytest

from engine.audit.lines import UNSEEN, Line, commands
from engine.audit.redecide import Redecision
from engine.drain.loop import Drain
from engine.drain.virtual import VirtualClock
from engine.events import Record, RunRegistered, event_of
from engine.executors.scripted import Rule, ScriptedExecutor
from engine.ids import IdMaker
from engine.store.command import Command, just
from engine.store.memory import MemoryStore
from engine.store.protocol import Query
from engine.store.recorder import recording
from engine.triage.policy import POLICIES
from engine.triage.scope import Scope
from tests.harness.backlogs import queued
from tests.rules.standings import limits
from tests.worlds import START_US, WRITER


async def drained() -> list[Record]:
    """Three runs that need a label, drained by an engine that offers it, two at once."""
    store, clock = MemoryStore(), VirtualClock(START_US)
    numbers = iter(range(10**6))
    ids = IdMaker(clock.now_us, lambda: next(numbers))
    async with recording(store, clock, WRITER) as recorder:
        for number in range(3):
            run = RunRegistered(run_id=f"r{number}", origin="test", state="NEW")
            phase = queued(f"r{number}", "p", "gpu")
            await recorder.submit(Command(f"{number}", "backlog", b"", just(run, phase)))
        bound = limits(workers=9, labels=("gpu",), host_workers=2)
        drain = Drain(
            recorder=recorder,
            executor=ScriptedExecutor([Rule(state="COMPLETE", rc=0, events=1, sleep=0.5)]),
            scope=Scope("s", POLICIES["default"], bound),
            clock=clock,
            ids=ids,
            blobs=None,
            tell=lambda _records: None,
            in_threads=False,
        )
        assert await drain.run(resume=False) == "nothing_eligible"
    return await store.records(Query(), limit=10_000)


def differing(records: list[Record], old: str, new: str) -> list[int]:
    """The positions where decisions differ, had the session begun with ``new`` in its limits."""
    redecision = Redecision(lambda _digest: None)
    lines: list[Line] = []
    for record in records:
        data = record.data.replace(old, new)
        if record.type not in UNSEEN:
            at = (record.pos, record.recorded_us, record.command_id, record.cause)
            lines.append(Line(*at, data, event_of(record._replace(data=data))))
    for command in commands(lines):
        redecision.take(command)
    return [difference.pos for difference in redecision.differences]


@pytest.mark.parametrize(
    ("old", "new", "first"),
    [
        ('"labels":["gpu"]', '"labels":["gpu"]', None),
        ('"labels":["gpu"]', '"labels":["big","gpu"]', None),
        ('"labels":["gpu"]', '"labels":["big"]', 0),
        ('"host_workers":2', '"host_workers":3', None),
        ('"host_workers":2', '"host_workers":1', 1),
    ],
)
async def test_a_start_that_the_limits_did_not_allow_is_a_difference(
    old: str, new: str, first: int | None
) -> None:
    records = await drained()
    starts = [record.pos for record in records if record.type == "attempt.started"]
    found = differing(records, old, new)
    assert found[:1] == ([] if first is None else [starts[first]])
