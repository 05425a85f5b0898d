"""The policy ``classic`` at one worker against nine recorded drains of the original."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from engine.backlog.batch import Known
from engine.backlog.legacy import read_legacy
from engine.drain.loop import Drain
from engine.drain.sheets import event_of
from engine.drain.virtual import VirtualClock
from engine.events import (
    AttemptFinished,
    AttemptStarted,
    BoundaryDetected,
    FailureFingerprinted,
    Limits,
    RunJudged,
    ZeroYieldExplained,
)
from engine.executors.scripted import ScriptedExecutor, load_script
from engine.ids import IdMaker
from engine.store.command import Command, just
from engine.store.memory import MemoryStore
from engine.store.protocol import Query
from engine.store.recorder import Writer, recording
from engine.triage.eligible import Scope
from engine.triage.policy import policy_named

DATA = Path(__file__).parents[3] / "shared" / "data"
GOLDEN = DATA / "golden_decisions.json"
WRITER = Writer("golden", "boot", 1, "golden", "0")

pytestmark = pytest.mark.skipif(not GOLDEN.exists(), reason="the recorded drains are not at hand")


def scenarios() -> list[Any]:
    if not GOLDEN.exists():
        return []
    found = json.loads(GOLDEN.read_text(encoding="utf-8"))["scenarios"]
    return [pytest.param(scenario, id=scenario["name"]) for scenario in found]


def options(arguments: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in zip(arguments[::2], arguments[1::2], strict=True):
        found.setdefault(name, []).append(value)
    return found


def scope_of(given: dict[str, list[str]]) -> Scope:
    def number(name: str, default: int | None) -> int | None:
        return int(given[name][0]) if name in given else default

    policy = replace(
        policy_named("classic"),
        timeouts_per_run_max=number("--max-timeouts-per-run", 2),
        fingerprint_repeats_max=number("--max-fingerprint-repeats", 3),
        consecutive_zero_yield_max=number("--max-consecutive-zero-yield", None),
    )
    limits = Limits(
        batch_size=number("--batch-size", 10) or 10,
        workers=1,
        per_run_max=1,
        phase_timeout_ms=1000 * (number("--phase-timeout-seconds", 900) or 900),
        grace_ms=1000,
        run_id=given["--run-id"][0] if "--run-id" in given else None,
        skip_run_prefixes=tuple(given.get("--skip-run-prefix", ())),
    )
    return Scope("golden", policy, limits)


async def drained(scenario: Any, tmp_path: Path) -> MemoryStore:
    (tmp_path / "script.json").write_text(json.dumps(scenario["rules"]))
    store, clock = MemoryStore(), VirtualClock()
    async with recording(store, clock, WRITER) as recorder:
        found = read_legacy(DATA / "autopack_legacy.db", Known())
        for group in found.registrations:
            await recorder.submit(Command(group.key, group.stream, b"", just(*group.events)))
        drain = Drain(
            recorder=recorder,
            executor=ScriptedExecutor(load_script(tmp_path / "script.json")),
            scope=scope_of(options(scenario["args"])),
            clock=clock,
            ids=IdMaker(clock.now_us, lambda: 7),
            blobs=None,
            tell=lambda _records: None,
            in_threads=False,
        )
        await drain.run(resume=False)
    return store


async def decisions(store: MemoryStore) -> list[dict[str, Any]]:
    """One object an attempt, in the keys of the recording."""
    found: dict[str, dict[str, Any]] = {}
    for event in map(event_of, await store.records(Query(session="golden"), limit=100_000)):
        match event:
            case AttemptStarted():
                found[event.attempt_id] = {
                    "run": event.run_id,
                    "phase": event.phase_id,
                    "phase_index": event.phase_index,
                    "group": event.group,
                    "category": event.category,
                    "initial_state": event.initial_state,
                    "verdict": None,
                    "fingerprint": None,
                    "zero_yield": None,
                    "boundary": False,
                }
            case AttemptFinished():
                found[event.attempt_id]["success"] = event.ending == "succeeded"
            case FailureFingerprinted():
                found[event.attempt_id]["fingerprint"] = event.fingerprint
            case ZeroYieldExplained():
                found[event.attempt_id]["zero_yield"] = event.reason
            case BoundaryDetected():
                found[event.attempt_id]["boundary"] = True
            case RunJudged():
                found[event.attempt_id]["verdict"] = event.verdict
            case _:
                pass
    return list(found.values())


@pytest.mark.parametrize("scenario", scenarios())
async def test_every_decision_is_the_recorded_one(scenario: Any, tmp_path: Path) -> None:
    made = await decisions(await drained(scenario, tmp_path))
    expected = [{key: each[key] for key in made[0]} for each in scenario["decisions"]]
    assert made == expected
