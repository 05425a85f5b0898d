"""Whether the files that a writer has open are still the ones that bear their names.

A database that is replaced or removed under its writer goes on taking commits, in a file that
nobody will ever find again.
"""

from __future__ import annotations

import os
from pathlib import Path

from engine.errors import StorageFailed


class SameFiles:
    """The database at ``path`` and its write-ahead log, as they were when they were opened."""

    def __init__(self, path: Path) -> None:
        names = (str(path), f"{path}-wal")
        self._known = {name: _identity(name) for name in names}

    def check(self) -> None:
        """Raise StorageFailed when one of them is another file now, or gone.

        Cheap enough for every commit: two calls that ask for a name.
        """
        for name, known in self._known.items():
            now = _identity(name)
            if known is None:
                self._known[name] = now  # the write-ahead log is made by the first commit
            elif now != known:
                raise StorageFailed(
                    f"{name} was replaced or removed while it was written to.",
                    remedy="put the newest copy in place, then start again; `runoff verify` says"
                    " whether it holds everything that was acknowledged.",
                )


def _identity(name: str) -> tuple[int, int] | None:
    try:
        found = os.stat(name)  # noqa: PTH116  on every commit
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
