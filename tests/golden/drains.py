"""Drains by the policy ``classic`` at one worker, in memory and in no time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from msgspec.structs import replace

from engine.audit.decisions import decisions_of
from engine.backlog.batch import Known
from engine.backlog.legacy import read_legacy
from engine.drain.loop import Drain
from engine.drain.virtual import VirtualClock
from engine.events import Limits
from engine.executors.scripted import ScriptedExecutor, load_script
from engine.ids import IdMaker
from engine.store.command import Command, just
from engine.store.memory import MemoryStore
from engine.store.recorder import Writer, recording
from engine.triage.policy import policy_named
from engine.triage.scope import Scope
from projections.board import Board

DATA = Path(__file__).parents[3] / "shared" / "data"
GOLDEN = DATA / "golden_decisions.json"
LEGACY = DATA / "autopack_legacy.db"
SESSION = "golden"
WRITER = Writer("golden", "boot", 1, "golden", "0")

needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason="the recorded drains are not at hand")


def scenarios() -> list[Any]:
    if not GOLDEN.exists():
        return []
    found = json.loads(GOLDEN.read_text(encoding="utf-8"))["scenarios"]
    return [pytest.param(scenario, id=scenario["name"]) for scenario in found]


def scope_of(arguments: list[str]) -> Scope:
    given: dict[str, list[str]] = {}
    for name, value in zip(arguments[::2], arguments[1::2], strict=True):
        given.setdefault(name, []).append(value)

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
        total_ms_max=60_000 * (number("--max-total-minutes", None) or 0) or None,
        run_id=given["--run-id"][0] if "--run-id" in given else None,
        skip_run_prefixes=tuple(given.get("--skip-run-prefix", ())),
    )
    return Scope(SESSION, policy, limits)


class Made(NamedTuple):
    """A drain that was made: its decisions, and where everything then stands."""

    store: MemoryStore
    decisions: list[dict[str, Any]]
    board: Board


async def drain(database: Path, rules: list[Any], arguments: list[str], scratch: Path) -> Made:
    (scratch / "script.json").write_text(json.dumps(rules))
    store, clock = MemoryStore(), VirtualClock()
    async with recording(store, clock, WRITER) as recorder:
        for group in read_legacy(database, Known()).registrations:
            await recorder.submit(Command(group.key, group.stream, b"", just(*group.events)))
        work = Drain(
            recorder=recorder,
            executor=ScriptedExecutor(load_script(scratch / "script.json")),
            scope=scope_of(arguments),
            clock=clock,
            ids=IdMaker(clock.now_us, lambda: 7),
            blobs=None,
            tell=lambda _records: None,
            in_threads=False,
        )
        await work.run(resume=False)
        board = recorder.board
    found = await decisions_of(store, SESSION, board.head.pos)
    return Made(store, msgspec.to_builtins(found), board)


def final_of(decisions: list[dict[str, Any]], board: Board) -> dict[str, Any]:
    """The sets that the original kept of a session, from the projections of ours.

    The original ended at a streak before it counted the failure that completed it.
    """
    (session,) = board.sessions.values()
    touched = {each["run"] for each in decisions}
    runs = [run for run in board.runs.values() if run.run_id in touched]
    counted = list(board.fingerprints.values())
    counts = {each.fingerprint: each.count for each in counted}
    if session.because == "zero_yield_streak" and decisions[-1]["fingerprint"]:
        counts[decisions[-1]["fingerprint"]] -= 1
    return {
        "sampled": sorted(run.run_id for run in runs if run.standing != "unsampled"),
        "promising": sorted(run.run_id for run in runs if run.standing == "promising"),
        "deprioritized": sorted(run.run_id for run in runs if run.standing == "deprioritized"),
        "stopped_runs": sorted(r.run_id for r in runs if r.stopped == "fingerprint_repeats"),
        "stopped_fingerprints": sorted(each.fingerprint for each in counted if each.stopped_pos),
        "fingerprints": {name: n for name, n in sorted(counts.items()) if n},
        "processed": session.attempts,
        "success": session.succeeded,
        "failed": session.failed + session.timed_out,
        "timeouts": session.timed_out,
        "events": session.yield_events,
    }
