"""Backlogs to measure on."""

from __future__ import annotations

from engine.backlog.batch import Registration
from engine.drain.intake import registering
from engine.events import PhaseRegistered, RunRegistered
from engine.store.recorder import Recorder


def queued(run_id: str, phase_id: str, *needs: str) -> PhaseRegistered:
    """A phase of no particular kind that waits, and the labels that it needs."""
    return PhaseRegistered(
        run_id=run_id,
        phase_id=phase_id,
        tier_id="T",
        tier_index=0,
        phase_index=0,
        name="",
        state="QUEUED",
        needs=needs,
    )


async def register(recorder: Recorder, runs: int, phases: int) -> None:
    """``runs`` runs of ``phases`` phases each, all in one tier and in no order."""
    for run in range(runs):
        run_id = f"run-{run}"
        registered = RunRegistered(run_id=run_id, origin="harness", state="NEW")
        events = [queued(run_id, f"p{number}") for number in range(phases)]
        name = f"run/{run_id}"
        command = registering(Registration(key=name, stream=name, events=(registered, *events)))
        if run + 1 < runs:
            recorder.enqueue(command)
        else:
            await recorder.submit(command)
