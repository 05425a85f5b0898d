"""How much of the ideal throughput many short phases keep, and what an attempt costs the engine.

The work is a timer, so that everything measured is the engine: picks, events, commits, diagnosis.
Beside it stands a bare loop of the same timers, which is what the machine has left for anybody.
With ``children`` it is a process that sleeps as long, under its guardian, beside bare processes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import monotonic, process_time
from typing import Any

import anyio

from engine.clock import SystemClock
from engine.collector import collecting_rarely
from engine.executors.command import CommandExecutor
from engine.executors.port import Assignment, Output, Report, Spawned, Telemetry, Usage, Watch
from engine.store.blobs import Blobs
from engine.store.database import open_writer
from engine.store.location import locate
from engine.store.recorder import Writer, recording
from tests.harness.backlogs import register
from tests.harness.in_process import drain_by

WORKERS = 32
PHASE_S = 0.05
PHASES_EACH = 10
WRITER = Writer("harness", "boot", 1, "throughput", "0")
SPAWNED = Spawned(host="harness", boot_id="boot", pid=1, start_ticks=1, directory="/nowhere")


class Timers:
    """An executor whose attempts take their time and succeed, as a guardian would report it."""

    name = "timers"

    async def run(self, assignment: Assignment, watch: Watch) -> Report:
        """Take 50 ms."""
        await watch.spawned(SPAWNED)
        await anyio.sleep(PHASE_S)
        return Report(
            ended="exited",
            duration_ms=round(PHASE_S * 1000),
            exit_code=0,
            telemetry=Telemetry(usage=(Usage(line=1, source="file", input_tokens=2),)),
            stdout=Output.of(f"{assignment.attempt_id} is done\n".encode()),
        )


_USAGE = '{"type":"usage","input_tokens":2}'
_TELL_AND_SLEEP = f"echo '{_USAGE}' > ${{RUNOFF_EVENTS_FILE-/dev/null}}; exec sleep {PHASE_S}"
CHILD = ("sh", "-c", _TELL_AND_SLEEP)


def throughput(attempts: int, *, children: bool = False) -> dict[str, Any]:
    """Drain ``attempts`` phases with 32 workers; rates per second, times in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="runoff-throughput-") as folder:
        return anyio.run(_drain, Path(folder), attempts, children)


async def _drain(folder: Path, attempts: int, children: bool) -> dict[str, Any]:
    executor = CommandExecutor(CHILD, files_root=folder / "files") if children else Timers()
    store = await open_writer(locate(f"sqlite:///{folder}/b.db"), create=True)
    anchors = folder / "b.db-anchors"
    async with recording(store, SystemClock(), WRITER, anchors=anchors) as recorder:
        await register(recorder, max(1, attempts // PHASES_EACH), PHASES_EACH)
        blobs = Blobs(folder / "blobs")
        drain = drain_by(executor, recorder, blobs, attempts=attempts, workers=WORKERS)
        began_s, began_cpu_s = monotonic(), process_time()
        with collecting_rarely():
            await drain.run(resume=False)
        took_s, took_cpu_s = monotonic() - began_s, process_time() - began_cpu_s
        events, session = recorder.head.pos, recorder.board.sessions.states["ses"]
    await store.close()
    rate = attempts / took_s
    return {
        "ok": session.succeeded == session.yield_events == attempts,
        "children": children,
        "attempts": attempts,
        "events": events,
        "attempts_per_s": round(rate, 1),
        "ideal_per_s": WORKERS / PHASE_S,
        "share_of_ideal": round(rate / (WORKERS / PHASE_S), 3),
        "share_of_bare": round(rate / await _bare(attempts, children), 3),
        "cpu_ms_per_attempt": round(1000 * took_cpu_s / attempts, 3),
    }


async def _bare(attempts: int, children: bool) -> float:
    """The same without an engine, per second: what this machine has left for anybody."""
    waiting = iter(range(attempts))

    async def worker() -> None:
        for _ in waiting:
            if children:
                await anyio.run_process(CHILD, stdout=None, stderr=None)
            else:
                await anyio.sleep(PHASE_S)

    began_s = monotonic()
    async with anyio.create_task_group() as group:
        for _ in range(WORKERS):
            group.start_soon(worker)
    return attempts / (monotonic() - began_s)
