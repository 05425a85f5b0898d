"""The recorded executor says where each outcome came from: the record, a script, or a loan."""

from __future__ import annotations

import anyio
import pytest

from engine.executors.port import Assignment, PhaseSheet, Report, Spawned, Watch
from engine.executors.recorded import RecordedExecutor
from engine.executors.scripted import Rule, ScriptedExecutor

FIRST = Report(ended="exited", duration_ms=1000, exit_code=1, final_state="FAILED")
LAST = Report(ended="exited", duration_ms=2000, exit_code=2, final_state="FAILED")
OUTCOMES = {("r", "p"): [FIRST, LAST]}
SCRIPT = ScriptedExecutor([Rule(rc=7)])


async def played(
    executor: RecordedExecutor, attempt: int, run: str = "r", phase: str = "p"
) -> Report:
    sheet = PhaseSheet(
        run_id=run,
        tier_id="t",
        phase_id=phase,
        phase_index=0,
        name=phase,
        state="QUEUED",
        attempt=attempt,
    )

    async def no_process(_: Spawned) -> None:
        pytest.fail("nothing recorded starts a process")

    assignment = Assignment(
        session_id="s", attempt_id="a", sheet=sheet, timeout_s=9, grace_s=1, deadline_us=0
    )
    return await executor.run(assignment, Watch(spawned=no_process, abandon=anyio.Event()))


@pytest.mark.parametrize(
    ("place", "script", "code", "source"),
    [
        ((1, "r", "p"), None, 1, "its own outcome"),
        ((2, "r", "p"), SCRIPT, 2, "its own outcome"),
        ((3, "r", "p"), SCRIPT, 7, "a script"),
        ((3, "r", "p"), None, 2, "its last outcome"),
        ((1, "r", "q"), SCRIPT, 7, "a script"),
        ((1, "r", "q"), None, 2, "another of its run"),
        ((1, "s", "p"), None, 1, "the most common"),
    ],
)
async def test_each_outcome_names_where_it_came_from(
    place: tuple[int, str, str], script: ScriptedExecutor | None, code: int, source: str
) -> None:
    executor = RecordedExecutor(OUTCOMES, script)
    report = await played(executor, *place)
    assert report.exit_code == code
    assert executor.sources == {source: 1}
