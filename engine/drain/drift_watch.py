"""Watching for drift while a drain goes on: every so many successes the rank test looks again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import anyio
import msgspec

from engine.drain.group_watches import GroupWatches, News
from engine.events import (
    AttemptFinished,
    BoundaryDetected,
    DriftAlarmed,
    EstimateImported,
    PhaseRegistered,
    Record,
    Seen,
    event_of,
    event_type,
)
from engine.store.boards import seen_page
from engine.store.command import Command, just
from engine.store.recorder import Recorder
from projections.calibration import CALIBRATION, PhaseSamples

STREAM = "calibration"
LOOKS_EVERY = 25
"""Successful phases between two looks, over all sessions of the log."""

READ_AT_ONCE = 500
"""Events, of whatever type: commits wait for the reading of so many, a few milliseconds or, where
all of it has to come from the disk, a tenth of a second."""

LAST_LOOK_S = 0.5
"""Part of the two seconds within which an engine ends."""

_UNWATCHED = {EstimateImported, PhaseRegistered}
"""Imported estimates are of other coefficients than any of ours, so their drift is no news.  An
estimate names its group, so that a phase has to be known only once it is attempted."""

_TYPES = frozenset(event_type(kind) for kind in CALIBRATION.handles - _UNWATCHED)


def alarm_command(event: DriftAlarmed) -> Command:
    """Record an alarm; its id comes from what it says, so the log holds it once."""
    request = msgspec.json.encode(event)
    name = hashlib.sha256(request).hexdigest()[:32]
    return Command(f"drift.{name}", STREAM, request, just(event), actor="drift")


class DriftWatch:
    """Looks whenever the successes in the log pass another multiple of ``every``.

    ``say`` is told in words of alarms that are news; all are recorded.  The samples are folded from
    where the last look ended, so a look costs what came since.
    """

    def __init__(self, recorder: Recorder, every: int, say: Callable[[str], None]) -> None:
        self._recorder = recorder
        self._every = every
        self._say = say
        self._due = anyio.Event()
        self._turn = anyio.Lock()
        self._pos = 0
        self._phases: dict[str, PhaseSamples] = {}
        self._watches = GroupWatches()
        self._recorded: set[DriftAlarmed] = set()
        self._successes = sum(each.succeeded for each in recorder.board.sessions.values())

    def heed(self, records: Sequence[Record]) -> None:
        """Count the successes among what was committed."""
        ends = [each for each in records if each.type == "attempt.finished"]
        more = sum(_succeeded(each) for each in ends)
        before, self._successes = self._successes, self._successes + more
        if before // self._every != self._successes // self._every:
            self._due.set()

    async def run(self) -> None:
        """Look whenever it is due, until cancelled."""
        while True:
            await self._due.wait()
            await self.look()

    async def look(self) -> None:
        """Look once if it is due, one after the other.

        It may be cancelled while it reads, which takes long the first time in a long log; what it
        has found is recorded whole.
        """
        async with self._turn:
            if not self._due.is_set():
                return
            self._due = anyio.Event()
            await self._catch_up()
            with anyio.CancelScope(shield=True):
                for news in self._watches.alarms():
                    if news.event not in self._recorded:
                        self._recorded.add(news.event)
                        await self._record(news)

    async def look_at_last(self) -> None:
        """Look before the process ends, if that takes no more than a moment.

        Nothing is lost: whoever drains this log for longer finds the same.
        """
        with anyio.move_on_after(LAST_LOOK_S):
            await self.look()

    async def _record(self, news: News) -> None:
        receipt = await self._recorder.submit(alarm_command(news.event))
        if news.is_recent and not receipt.repeated:
            self._say(_in_words(news.event))

    async def _catch_up(self) -> None:
        end = self._recorder.head.pos
        while self._pos < end:
            until = min(end, self._pos + READ_AT_ONCE)
            for seen in seen_page(await self._recorder.store.fold_rows(self._pos, until, _TYPES)):
                self._feed(seen)
            self._pos = until

    def _feed(self, seen: Seen) -> None:
        (name,) = CALIBRATION.keys(seen)
        phase = CALIBRATION.apply(self._phases.get(name), seen)
        self._phases[name] = phase
        if isinstance(seen.event, AttemptFinished | BoundaryDetected):
            self._watches.put(phase)


def _succeeded(record: Record) -> bool:
    event = event_of(record)
    return isinstance(event, AttemptFinished) and event.ending == "succeeded"


def _in_words(event: DriftAlarmed) -> str:
    way = "larger" if event.z > 0 else "smaller"
    return (
        f"Estimates drift: {event.category}/{event.complexity} comes out {way} than before"
        f" (position {event.position}). Look with `runoff drift`, then `runoff calibrate`."
    )
