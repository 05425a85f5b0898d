"""The recorded executor: outcomes of a log played again, and borrowed where it has none.

It starts no process and uses the event loop's own time, like the scripted one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import anyio
import msgspec

from engine.executors.port import Assignment, Executor, PhaseSheet, Report, Watch

Source = Literal[
    "its own outcome", "a script", "its last outcome", "another of its run", "the most common"
]
Outcomes = Mapping[tuple[str, str], Sequence[Report]]
"""Reports by run and phase, in the order of their attempts."""


class RecordedExecutor:
    """Plays the recorded outcome of each attempt; where there is none, it says what it borrowed.

    First the phase's own outcome of that attempt number; then ``script``, if given; then the
    phase's last outcome; then the last one of another phase of the run; then the most common of
    all.
    ``sources`` counts where outcomes came from.
    """

    def __init__(self, outcomes: Outcomes, script: Executor | None = None) -> None:
        self._outcomes = outcomes
        self._script = script
        self._of_run = {run: reports[-1] for (run, _), reports in outcomes.items() if reports}
        self._common = _most_common(outcomes)
        self.sources: Counter[Source] = Counter()

    @property
    def name(self) -> str:
        """As it stands in the log."""
        return "recorded"

    async def run(self, assignment: Assignment, watch: Watch) -> Report:
        """Play one attempt."""
        sheet = assignment.sheet
        known = self._outcomes.get((sheet.run_id, sheet.phase_id), ())
        if sheet.attempt <= len(known):
            self.sources["its own outcome"] += 1
            report = known[sheet.attempt - 1]
        elif self._script is not None:
            self.sources["a script"] += 1
            return await self._script.run(assignment, watch)
        else:
            report = self._borrowed(sheet, known)
        with anyio.move_on_after(min(report.duration_ms / 1000, assignment.timeout_s)):
            await watch.abandon.wait()
        if watch.abandon.is_set():
            return msgspec.structs.replace(report, ended="abandoned")
        return report

    def _borrowed(self, sheet: PhaseSheet, known: Sequence[Report]) -> Report:
        if known:
            self.sources["its last outcome"] += 1
            return known[-1]
        of_run = self._of_run.get(sheet.run_id)
        if of_run is not None:
            self.sources["another of its run"] += 1
            return of_run
        self.sources["the most common"] += 1
        return self._common


def _most_common(outcomes: Outcomes) -> Report:
    """The outcome seen most often by how it ended; of those, the last."""
    last: dict[tuple[object, ...], Report] = {}
    counts: Counter[tuple[object, ...]] = Counter()
    for reports in outcomes.values():
        for report in reports:
            key = (report.ended, report.exit_code, report.final_state)
            last[key] = report
            counts[key] += 1
    if not counts:
        return Report(ended="exited", duration_ms=0, exit_code=0, final_state="COMPLETE")
    return last[counts.most_common(1)[0][0]]
