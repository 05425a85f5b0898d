"""Stored projections against the log, as verify reports them (S28, S29)."""

from __future__ import annotations

from engine.audit.stored import differences
from engine.audit.verify import Violation
from engine.store.protocol import LogReader


async def check_projections(reader: LogReader) -> list[Violation]:
    """Rows, digest and checkpoint of every stored projection, held against one built from zero.

    Each is compared at its own checkpoint, byte for byte.  Raises LogUnreadable when the log
    cannot be folded up to there.
    """
    return [Violation(*difference) for difference in await differences(reader)]
