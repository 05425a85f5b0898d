"""A long log: how fast it opens from its checkpoints, and what replaying all of it takes.

Also by a machine that has just been started, and has nothing of the log in memory.

Each question is asked in a process of its own, so that its memory is its own, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from engine.clock import SystemClock
from engine.store.command import Command, just
from engine.store.database import open_writer
from engine.store.location import Location, locate
from engine.store.recorder import recording
from tests.benchmarks.__main__ import WRITER, attempt
from tests.harness.backlogs import register
from tests.harness.engine_process import HOME, LIMIT_S, EngineProcess
from tests.harness.processes import wait_until
from tests.harness.tally import percentile

OPEN = """
import json, sys, time
import anyio
from engine.store.boards import load_board
from engine.store.database import open_reader
from engine.store.location import locate

async def main():
    began = time.monotonic(), time.process_time()
    reader = await open_reader(locate(sys.argv[1]))
    board = await load_board(reader)
    took = time.monotonic() - began[0], time.process_time() - began[1]
    await reader.close()
    print(json.dumps({"seconds": took[0], "cpu_seconds": took[1], "pos": board.head.pos}))

anyio.run(main)
"""
REPLAY = """
import json, sys, time
import anyio
from engine.store.boards import catch_up
from engine.store.database import open_reader
from engine.store.location import locate
from projections.board import Board

def peak_mb():
    # Not getrusage: what it tells includes the parent as it was before exec.
    status = open("/proc/self/status").read()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024

async def main():
    reader = await open_reader(locate(sys.argv[1]))
    before = peak_mb()
    began, board = time.monotonic(), Board()
    await catch_up(board, reader, (await reader.head()).pos)
    took = time.monotonic() - began
    await reader.close()
    print(json.dumps({
        "seconds": took, "events_per_s": board.head.pos / took, "rebuilt": board.is_rebuilt,
        "peak_mb": peak_mb(), "before_mb": before,
    }))

anyio.run(main)
"""
READY_ROUNDS = 5
COLD_ROUNDS = 3
READY = b'"daemon.ready"'
BATCH = 64


def longlog(
    folder: Path, events: int, tell: Callable[[str], None] = lambda _line: None
) -> dict[str, Any]:
    """Make a log of ``events`` events in ``folder``, unless it is there, and ask."""
    location = locate(f"sqlite:///{folder.resolve()}/long-{events}.db")
    if not location.path.exists():
        anyio.run(written, location, events)
    tell(f"written: {location.path}")
    ready = sorted(_ready_s(location) for _ in range(READY_ROUNDS))
    cold = [_lived_s(location) for _ in range(COLD_ROUNDS)]
    return {
        "ok": True,
        "events": events,
        "bytes": location.path.stat().st_size,
        "ready_s": {"p50": percentile(ready, 0.5), "max": ready[-1]},
        "cold_daemon": {
            "ready_s": max(ready_s for ready_s, _ in cold),
            "term_to_exit_s": max(exit_s for _, exit_s in cold),
        },
        "open": _asked(OPEN, location),
        "replay": _asked(REPLAY, location),
    }


def _asked(program: str, location: Location) -> Any:
    command = [sys.executable, "-c", program, location.url]
    return json.loads(subprocess.run(command, check=True, capture_output=True, cwd=HOME).stdout)


def _ready_s(location: Location) -> float:
    """From the start of a drain until it is ready; it has nothing to do."""
    argv = [sys.executable, "-m", "engine", "drain", "--database", location.url, "--ack-lines"]
    engine = EngineProcess([*argv, "--run-id", "run-0", "--", "true"], location.beside("out"))
    took_s = engine.ready_s()
    engine.process.terminate()
    engine.wait()
    assert took_s is not None, engine.complaint()
    return round(took_s, 3)


def _lived_s(location: Location) -> tuple[float, float]:
    """A daemon's first and last moments: until it is ready, and from TERM until it has ended."""
    _forget(location)
    argv = [sys.executable, "-m", "engine", "daemon", "--database", location.url, "--", "true"]
    daemon = EngineProcess(argv, location.beside("out"))
    is_ready = wait_until(lambda: READY in daemon.errors.read_bytes(), LIMIT_S, daemon.pid)
    ready_s = time.monotonic() - daemon.began_s
    began_s = time.monotonic()
    daemon.process.terminate()
    code = daemon.wait()
    assert (is_ready, code) == (True, 0), daemon.complaint()
    return round(ready_s, 3), round(time.monotonic() - began_s, 3)


def _forget(location: Location) -> None:
    """Have the machine read the log from its disk again."""
    for path in (location.path, location.beside("wal")):
        if path.exists():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


async def written(location: Location, events: int) -> None:
    """Attempts with six calls each, on a backlog of 640 phases."""
    store = await open_writer(location, create=True)
    anchors = location.beside("anchors")
    async with recording(store, SystemClock(), WRITER, anchors=anchors) as recorder:
        await register(recorder, 64, 10)
        start = 0
        while recorder.head.pos < events:
            batch = [e for number in range(start, start + BATCH) for e in attempt(number)]
            await recorder.submit(Command(f"c{start}", "drain/s", b"x", just(*batch)))
            start += BATCH
    await store.close()
