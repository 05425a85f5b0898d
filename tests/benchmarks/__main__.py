"""``python -m tests.benchmarks``: measure append, replay, overhead, import and start; print JSON.

Every figure stands beside a floor measured in the same run on the same disk, so that machines can
be compared by the ratios.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio

from engine.backlog.sample import write_sample
from engine.clock import SystemClock
from engine.drain.loop import Drain
from engine.events import (
    AnyEvent,
    AttemptFinished,
    AttemptStarted,
    Limits,
    PhaseRegistered,
    Reason,
    RunRegistered,
    UsageRecorded,
    event_type,
)
from engine.executors.scripted import Rule, ScriptedExecutor
from engine.ids import IdMaker
from engine.store.boards import seen_page
from engine.store.command import Command, just
from engine.store.database import open_reader, open_writer
from engine.store.location import locate
from engine.store.recorder import Recorder, Writer, recording
from engine.triage.policy import policy_named
from engine.triage.scope import Scope
from projections.fold import Keyed
from projections.run_triage import RUN_TRIAGE

APPENDERS = 64
EVENTS_EACH = 200
ROUNDS = 5
EVENTS_PER_ATTEMPT = 8
REPLAYED = 200_000
WRITER = Writer("bench", "boot", 1, "benchmarks", "0")


def floor_commits_per_s(path: Path) -> float:
    """One commit per event with the standard library, WAL and synchronous FULL."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE events (pos INTEGER PRIMARY KEY, data TEXT)")
    start, count = time.perf_counter(), 1000
    for _ in range(count):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO events (data) VALUES (?)", ("x" * 400,))
        connection.execute("COMMIT")
    rate = count / (time.perf_counter() - start)
    connection.close()
    return rate


def usage(worker: int, number: int) -> UsageRecorded:
    """An ordinary event."""
    return UsageRecorded(
        session_id="s",
        run_id=f"run-{worker}",
        phase_id="p",
        attempt_id=f"a-{worker}",
        line=number + 1,
        source="file",
        provider="x",
        model="m",
        input_tokens=1000,
        output_tokens=300,
    )


def attempt(number: int) -> list[AnyEvent]:
    """What a successful attempt with six calls leaves in the log."""
    run_id, phase_id = f"run-{number % 64}", f"p{number // 64 % 10}"
    reason = Reason(rule="pick", version=1, policy="p", basis=1, sentence="It came first.")
    started = AttemptStarted(
        session_id="s",
        attempt_id=f"att-{number}",
        number=number,
        group="promising",
        category="unknown",
        initial_state="QUEUED",
        phase_index=0,
        executor="x",
        timeout_ms=1000,
        reason=reason,
        run_id=run_id,
        phase_id=phase_id,
    )
    finished = AttemptFinished(
        session_id="s",
        attempt_id=f"att-{number}",
        number=number,
        ending="succeeded",
        final_state="QUEUED",
        duration_ms=5,
        timeout_ms=1000,
        yield_events=6,
        run_id=run_id,
        phase_id=phase_id,
    )
    return [started, *[usage(number % 64, line) for line in range(6)], finished]


async def append(folder: Path) -> dict[str, float]:
    """64 appenders through the full API, each waiting for its own acknowledgement.

    Rounds of floor and append in turn, since a disk's speed drifts; the median of the ratios.
    """
    rounds: list[tuple[float, float]] = []
    for number in range(ROUNDS):
        floor = floor_commits_per_s(folder / f"floor-{number}.db")
        rounds.append((await _append_round(folder / f"append-{number}.db"), floor))
    return {
        "events_per_s": statistics.median(rate for rate, _ in rounds),
        "floor_commits_per_s": statistics.median(floor for _, floor in rounds),
        "ratio": statistics.median(rate / floor for rate, floor in rounds),
    }


async def _append_round(path: Path) -> float:
    store = await open_writer(locate(f"sqlite:///{path}"), create=True)
    anchors = path.with_name(f"{path.name}-anchors")
    async with recording(store, SystemClock(), WRITER, anchors=anchors) as recorder:
        ids = IdMaker(SystemClock().now_us, lambda: 7)

        async def appender(worker: int) -> None:
            for number in range(EVENTS_EACH):
                event = usage(worker, number)
                await recorder.submit(Command(ids("cmd"), "drain/s", b"x", just(event)))

        start = time.perf_counter()
        async with anyio.create_task_group() as group:
            for worker in range(APPENDERS):
                group.start_soon(appender, worker)
        rate = APPENDERS * EVENTS_EACH / (time.perf_counter() - start)
    await store.close()
    return rate


async def replay(folder: Path) -> dict[str, float]:
    """A projection from nothing over 200 000 events, beside a loop over the bare rows."""
    path = folder / "replay.db"
    store = await open_writer(locate(f"sqlite:///{path}"), create=True)
    async with recording(store, SystemClock(), WRITER) as recorder:
        await _register(recorder, 640)
        for start in range(0, REPLAYED // EVENTS_PER_ATTEMPT, 64):
            events = [e for number in range(start, start + 64) for e in attempt(number)]
            await recorder.submit(Command(f"c{start}", "drain/s", b"x", just(*events)))
        count = recorder.head.pos
    await store.close()
    floor = _row_loop_per_s(path)
    reader = await open_reader(locate(f"sqlite:///{path}"))
    types = frozenset(event_type(kind) for kind in RUN_TRIAGE.handles)
    keyed, pos, begun = Keyed(RUN_TRIAGE), 0, time.perf_counter()
    while rows := await reader.fold_rows(pos, count, types):
        for seen in seen_page(rows):
            keyed.feed(seen)
        pos = rows[-1][0]
    rate = count / (time.perf_counter() - begun)
    await reader.close()
    return {"events_per_s": rate, "row_loop_per_s": floor, "ratio": rate / floor}


def _row_loop_per_s(path: Path) -> float:
    connection = sqlite3.connect(path)
    start, count = time.perf_counter(), 0
    for _row in connection.execute("SELECT pos, recorded_us, type, schema, data FROM events"):
        count += 1
    connection.close()
    return count / (time.perf_counter() - start)


async def overhead(folder: Path, phases: int) -> dict[str, Any]:
    """Engine time per attempt when the work itself takes none, one worker."""
    store = await open_writer(locate(f"sqlite:///{folder}/o{phases}.db"), create=True)
    async with recording(store, SystemClock(), WRITER) as recorder:
        await _register(recorder, phases)
        policy = policy_named("default")
        limits = Limits(
            batch_size=300, workers=1, per_run_max=1, phase_timeout_ms=60_000, grace_ms=100
        )
        clock = SystemClock()
        ends: list[float] = []
        drain = Drain(
            recorder=recorder,
            executor=ScriptedExecutor([Rule(state="COMPLETE", rc=0)]),
            scope=Scope("ses", policy, limits),
            clock=clock,
            ids=IdMaker(clock.now_us, lambda: 7),
            blobs=None,
            tell=lambda records: ends.extend(
                time.perf_counter() for r in records if r.type == "attempt.finished"
            ),
        )
        await drain.run(resume=False)
    await store.close()
    each_ms = [(b - a) * 1000 for a, b in pairwise(ends)]
    return {"phases": phases, "attempts": len(ends), "median_ms": statistics.median(each_ms)}


async def _register(recorder: Recorder, phases: int) -> None:
    for run in range(max(1, phases // 10)):
        run_id = f"run-{run}"
        events = [
            PhaseRegistered(
                run_id=run_id,
                phase_id=f"p{number}",
                tier_id="T",
                tier_index=0,
                phase_index=number,
                name="",
                state="QUEUED",
            )
            for number in range(10)
        ]
        registered = RunRegistered(run_id=run_id, origin="bench", state="NEW")
        recorder.enqueue(Command(f"reg-{run}", f"run/{run_id}", b"", just(registered, *events)))
    await recorder.submit(Command("last", "bench", b"", just()))


def import_seconds(folder: Path) -> dict[str, float]:
    """``runoff import`` of the real legacy database where it is at hand, else of the sample."""
    source = Path(__file__).parents[3] / "shared" / "data" / "autopack_legacy.db"
    if not source.exists():
        source = folder / "sample.db"
        write_sample(source)
    url = f"sqlite:///{folder}/import.db"
    return {
        "seconds": _timed(
            [sys.executable, "-m", "engine", "import", str(source), "--database", url]
        )
    }


def help_seconds() -> dict[str, float]:
    """``runoff --help``, median of five, beside a bare start of Python."""
    shown = statistics.median(_timed([sys.executable, "-m", "engine", "--help"]) for _ in range(5))
    bare = statistics.median(_timed([sys.executable, "-c", "pass"]) for _ in range(5))
    return {"seconds": shown, "bare_python_seconds": bare}


def _timed(argv: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(argv, check=True, capture_output=True)
    return time.perf_counter() - start


MEASURES: dict[str, Callable[[Path], Any]] = {
    "append": lambda folder: anyio.run(append, folder),
    "replay": lambda folder: anyio.run(replay, folder),
    "overhead": lambda folder: [anyio.run(overhead, folder, size) for size in (456, 50_000)],
    "import": import_seconds,
    "help": lambda _folder: help_seconds(),
}


def main() -> None:
    """Run what was asked for, or everything, and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("measure", nargs="*", help=f"of {', '.join(MEASURES)}; all without any")
    asked: list[str] = parser.parse_args().measure
    if unknown := sorted(set(asked) - set(MEASURES)):
        parser.error(f"there is no measure {unknown[0]!r}; there are {', '.join(MEASURES)}")
    folder = Path(tempfile.mkdtemp(prefix="runoff-bench-"))
    try:
        found = {name: MEASURES[name](folder) for name in asked or MEASURES}
    finally:
        shutil.rmtree(folder)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
