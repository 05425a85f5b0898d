"""Tidying: a daemon runs for months, and each attempt has a directory with half a dozen files.

What engines were storing when they were killed goes, too.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio import to_thread

from engine.errors import RunoffError, StorageFailed, limits_told
from engine.executors.old_files import names_of, remove, untouched_since
from engine.store.blobs import Blobs
from engine.store.recorder import Recorder

EVERY_S = 3600.0
KEEP_HOURS = 24.0
SHARED_S_MIN = 3600.0
"""In a shared log another engine may have begun what this one has not read yet."""

STORING_S_MAX = 3600.0
"""Nobody takes so long to store a blob; what is older was left by an engine that died."""

AT_ONCE = 100
"""So many are removed before the engine is asked whether it has to end."""


@dataclass(frozen=True)
class Tidying:
    """Removes what attempts left that have been over for ``keep_s``, hour by hour."""

    recorder: Recorder
    files_root: Path
    keep_s: float

    async def run(self) -> None:
        """Until cancelled; what a limit of the machine forbids is put off."""
        while True:
            with suppress(StorageFailed), limits_told():
                await self.once()
            await anyio.sleep(EVERY_S)

    async def once(self) -> None:
        """Remove what may go now.

        An attempt is open in the log before it has a directory.  One that has ended keeps it until
        that is committed: should it not be, the next engine looks there for the outcome.
        """
        kept_s = max(self.keep_s, SHARED_S_MIN) if self.recorder.store.is_shared else self.keep_s
        since_s = time.time() - kept_s
        blobs = Blobs(self.files_root / "blobs")
        await to_thread.run_sync(blobs.remove_left, time.time() - STORING_S_MAX)
        found = await to_thread.run_sync(untouched_since, self.files_root, since_s)
        try:
            await self.recorder.settled()
        except RunoffError:
            return  # the engine is about to end
        phases = self.recorder.board.backlog.values()
        still_open = [phase.open_attempt for phase in phases if phase.open_attempt]
        spared = names_of(self.files_root, still_open)
        old = [name for name in found if name not in spared]
        for first in range(0, len(old), AT_ONCE):
            await to_thread.run_sync(remove, self.files_root, old[first : first + AT_ONCE])
