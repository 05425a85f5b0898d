"""Last words: the ends of attempts that a full disk kept out of the log.

The handle on which an append failed is never tried again.  The reserve's room is given back, the
log is opened anew, and what is known is appended there: facts first, and what follows from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from engine.drain import commands
from engine.drain.diagnose import Diagnosed
from engine.errors import AppendRefused
from engine.store.recorder import Recorder
from engine.triage.scope import Scope


class Unrecorded(NamedTuple):
    """An attempt that has ended, and whose end the log could not take."""

    diagnosed: Diagnosed
    scope: Scope


async def last_words(recorder: Recorder, unrecorded: Sequence[Unrecorded]) -> int:
    """Append the ends that the log does not hold yet; how many that were.

    Raises StorageFailed when there is still no room; the attempts then stay open, and the next
    engine closes them by what their guardians left.
    """
    said = 0
    for diagnosed, scope in unrecorded:
        try:
            receipt = await recorder.submit(commands.finish(diagnosed, scope, None))
        except AppendRefused:
            continue  # somebody has closed it meanwhile
        said += bool(receipt.records and not receipt.repeated)
    return said
