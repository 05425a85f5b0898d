"""A drain in this process, over a log that is there, by an executor that starts nothing."""

from __future__ import annotations

from engine.clock import SystemClock
from engine.drain.loop import Drain
from engine.events import Limits
from engine.executors.port import Executor
from engine.ids import IdMaker
from engine.store.blobs import BlobStore
from engine.store.recorder import Recorder
from engine.triage.policy import policy_named
from engine.triage.scope import Scope


def drain_by(
    executor: Executor, recorder: Recorder, blobs: BlobStore, *, attempts: int, workers: int
) -> Drain:
    """A drain of so many attempts at most, by workers that may all be at one run."""
    limits = Limits(
        batch_size=attempts,
        workers=workers,
        per_run_max=workers,
        phase_timeout_ms=60_000,
        grace_ms=100,
    )
    clock = SystemClock()
    return Drain(
        recorder=recorder,
        executor=executor,
        scope=Scope("ses", policy_named("default"), limits),
        clock=clock,
        ids=IdMaker(clock.now_us, lambda: 7),
        blobs=blobs,
        tell=lambda _records: None,
    )
