"""The part of verify that follows the rows: positions, keys, times, epochs and hashes (S1, S2, S4).

The hash encoding is written here a second time, on purpose, from its description alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

Report = Callable[[str, int | None], None]
"""Notes a violation: what does not hold, and the position where it shows."""


class Row(NamedTuple):
    """One row of the table ``events``, in the column order of the hash."""

    pos: int
    stream: str
    version: int
    command_id: str
    idx: int
    request: bytes
    type: str
    schema: int
    occurred_us: int
    recorded_us: int
    cause: int | None
    epoch: int
    session: str | None
    run: str | None
    phase: str | None
    attempt: str | None
    actor: str
    code: str
    data: str
    hash: bytes


class Chain:
    """Checks each row against the ones before it, of which it knows what the attributes say.

    ``pos``, ``hash``, ``command``, ``idx`` and ``recorded_us`` are the last row's; ``epoch`` is the
    newest one; ``versions`` has the last version of each stream, ``commands`` the ``hash`` of each
    command id, which takes a third of the memory of the ids.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self.versions: dict[str, int] = {}
        self.command, self.idx = "", -1
        self.commands: set[int] = set()
        self.recorded_us = 0
        self.hash = bytes(32)
        self.pos = 0
        self.epoch = 0

    def take(self, row: Row, event: dict[str, Any] | None) -> None:
        """Check one row; ``event`` is its data, None when that could not be read."""
        if row.pos != self.pos + 1:
            self._report(f"S1: position {row.pos} follows {self.pos}", row.pos)
        self._check_version(row)
        self._check_command(row)
        self._check_times(row)
        self._check_epoch(row, event)
        if chained(self.hash, row[:-1]) != row.hash:
            self._report("S2: the hash does not follow from the row and the one before", row.pos)
        self.hash, self.pos = row.hash, row.pos

    def _check_version(self, row: Row) -> None:
        expected = self.versions.get(row.stream, 0) + 1
        if row.version != expected:
            what = f"S1: {row.stream} goes on with version {row.version} instead of {expected}"
            self._report(what, row.pos)
        self.versions[row.stream] = row.version

    def _check_command(self, row: Row) -> None:
        if row.command_id == self.command:
            if row.idx != self.idx + 1:
                what = f"S1: event {row.idx} of command {row.command_id} is out of order"
                self._report(what, row.pos)
        else:
            key = hash(row.command_id)
            if row.idx != 0 or key in self.commands:
                self._report(f"S1: command {row.command_id} is not in one piece", row.pos)
            self.commands.add(key)
        self.command, self.idx = row.command_id, row.idx

    def _check_times(self, row: Row) -> None:
        if row.recorded_us < self.recorded_us:
            self._report("S1: the writer's time goes back", row.pos)
        self.recorded_us = row.recorded_us
        if row.cause is not None and not 0 < row.cause < row.pos:
            self._report(f"S1: the cause {row.cause} is no earlier position", row.pos)

    def _check_epoch(self, row: Row, event: dict[str, Any] | None) -> None:
        opens = row.type == "engine.started"
        if row.epoch < self.epoch:
            self._report(f"S4: epoch {row.epoch} after {self.epoch}", row.pos)
        elif row.epoch > self.epoch and not opens:
            self._report(f"S4: epoch {row.epoch} does not begin with engine.started", row.pos)
        elif opens and row.epoch == self.epoch:
            self._report(f"S4: epoch {row.epoch} begins twice", row.pos)
        if opens and event is not None and event.get("epoch") != row.epoch:
            self._report("S4: engine.started names another epoch than its row", row.pos)
        self.epoch = max(row.epoch, self.epoch)


def chained(previous: bytes, columns: tuple[str | int | bytes | None, ...]) -> bytes:
    """sha256 over ``previous`` and every column, each written with its kind and length."""
    parts = [previous]
    for value in columns:
        if isinstance(value, str):
            text = value.encode()
            parts.append(b"s%d:" % len(text))
            parts.append(text)
        elif isinstance(value, int):
            parts.append(b"i%d;" % value)
        elif value is None:
            parts.append(b"n;")
        else:
            parts.append(b"b%d:" % len(value))
            parts.append(value)
    return hashlib.sha256(b"".join(parts)).digest()
