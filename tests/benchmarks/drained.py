"""``python -m tests.benchmarks.drained URL [PHASES]``: make a log to measure audits on.

A drain of so many phases, ten a run, whose attempts take no time: most succeed and tell of five
calls, some fail with what their run says over and over, some say nothing at all.
"""

from __future__ import annotations

import sys
from zlib import crc32

import anyio

from engine.clock import SystemClock
from engine.executors.port import Assignment, Output, Report, Telemetry, Usage, Watch
from engine.store.blobs import Blobs
from engine.store.database import open_writer
from engine.store.location import Location, locate
from engine.store.recorder import recording
from tests.benchmarks.__main__ import WRITER
from tests.harness.backlogs import register
from tests.harness.in_process import drain_by
from tests.harness.throughput import SPAWNED

PHASES = 30_000
WORKERS = 32
PHASES_EACH = 10
CALLS = 5
_LOTS = 20
_FAILING, _SILENT = 2, 3
_CALLED = Telemetry(
    lines_read=CALLS,
    usage=tuple(
        Usage(
            line=line,
            source="file",
            provider="anthropic",
            model="model-large",
            operation="build",
            input_tokens=12_000 + line,
            output_tokens=700,
            finish_reason="stop",
            duration_ms=900,
        )
        for line in range(1, CALLS + 1)
    ),
)


class Mixed:
    """An executor whose attempts end at once, each as its ids say."""

    name = "mixed"

    async def run(self, assignment: Assignment, watch: Watch) -> Report:
        """Succeed with usage mostly; else fail, or be silent."""
        await watch.spawned(SPAWNED)
        sheet = assignment.sheet
        lot = crc32(f"{sheet.run_id}/{sheet.phase_id}".encode()) % _LOTS
        if lot < _FAILING:
            said = f"Traceback (most recent call last):\nValueError: no {sheet.run_id} at {lot}\n"
            return Report(
                ended="exited",
                duration_ms=5,
                exit_code=1,
                telemetry=_CALLED if lot else Telemetry(),
                stderr=Output.of(said.encode()),
            )
        return Report(
            ended="exited",
            duration_ms=5,
            exit_code=0,
            telemetry=Telemetry() if lot == _SILENT else _CALLED,
            stdout=Output.of(f"{sheet.phase_id} is done\n".encode()),
        )


async def made(location: Location, phases: int) -> int:
    """Make the log; its last position."""
    store = await open_writer(location, create=True)
    clock = SystemClock()
    anchors = location.beside("anchors")
    async with recording(store, clock, WRITER, anchors=anchors) as recorder:
        await register(recorder, phases // PHASES_EACH, PHASES_EACH)
        blobs = Blobs(location.beside("files") / "blobs")
        drain = drain_by(Mixed(), recorder, blobs, attempts=phases, workers=WORKERS)
        await drain.run(resume=False)
        head = recorder.head.pos
    await store.close()
    return head


def main(url: str, phases: str = str(PHASES)) -> None:
    """Make it and say how long it is."""
    sys.stdout.write(f"{anyio.run(made, locate(url), int(phases))} events\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
