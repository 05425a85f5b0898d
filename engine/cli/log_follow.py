"""Following a log as it grows, for as long as it is the same log."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio

from engine.errors import LogWentBack
from engine.store.boards import refuse_gone_back
from engine.store.location import Location
from engine.store.protocol import LogReader

POLL_S = 0.2


class SameName:
    """Which file bears the name of a log; to be made before that is opened."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._opened = self._borne()

    def check(self) -> None:
        """Raise LogWentBack when it is another now, or none: nobody would see what goes there."""
        if self._borne() != self._opened:
            raise LogWentBack.replaced(self._location.shown)

    def _borne(self) -> tuple[int, int] | None:
        if self._location.address is not None:
            return None
        try:
            found = self._location.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


async def growth(
    store: LogReader, name: SameName, after: int
) -> AsyncGenerator[tuple[int, int], None]:
    """Whenever the log has grown: from behind which position to which, beginning behind ``after``.

    Never ends by itself.  Raises LogWentBack when the log no longer holds what was seen of it, or
    is not the one any more that bears the name.
    """
    seen = await store.head()
    while True:
        if seen.pos > after:
            yield after, seen.pos
            after = seen.pos
        await anyio.sleep(POLL_S)
        name.check()
        head = await store.head()
        await refuse_gone_back(seen, store, head)
        seen = head
