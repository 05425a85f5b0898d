"""Stored projections against what the log says: rebuilt from nothing, byte for byte (S28, S29)."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from engine.errors import LogUnreadable
from engine.store.boards import catch_up
from engine.store.protocol import LogReader
from projections.board import FOLDS, Board
from projections.fold import Checkpoint, row_digest

_MODULUS = 1 << 256


class Difference(NamedTuple):
    """A stored projection that is not what the log says, and up to which position it had read."""

    what: str
    pos: int | None


async def differences(reader: LogReader) -> list[Difference]:
    """Compare every stored projection of today's versions at its own checkpoint."""
    found: list[Difference] = []
    board = Board()
    points = await _checkpoints(reader)
    for name in sorted(points, key=lambda name: points[name].pos):
        stored = await _stored(reader, name)
        if stored is None:
            continue
        (pos, chain, digest), rows = stored
        if await reader.hash_at(pos) != chain and pos:
            found.append(Difference(f"S29: {name} has read another log", pos))
            continue
        await catch_up(board, reader, pos)
        keyed = next(keyed for keyed in board.all if keyed.fold.name == name)
        expected = sorted(keyed.rows())
        if rows != expected:
            # A row that stands there twice is one too many, although no set shows it.
            (odd, _) = min(
                (Counter(rows) - Counter(expected)) | (Counter(expected) - Counter(rows))
            )
            found.append(Difference(f"S29: {name} differs at {odd!a}", pos))
        elif sum(row_digest(*row) for row in rows) % _MODULUS != int.from_bytes(digest, "big"):
            found.append(Difference(f"S29: {name} has another digest", pos))
    return found


async def _stored(reader: LogReader, name: str) -> tuple[Checkpoint, list[tuple[str, str]]] | None:
    """A projection's checkpoint, and the rows that were there with it; None when it is gone.

    A writer at work replaces both at one stroke, at any moment: rows are of a checkpoint if that
    stands before and behind the reading of them.
    """
    point = (await _checkpoints(reader)).get(name)
    while point is not None:
        rows, trouble = list[tuple[str, str]](), None
        try:
            rows = await reader.projection_rows(name, FOLDS[name].version)
        except LogUnreadable as error:  # it has just been dropped, or is damaged
            trouble = error
        before, point = point, (await _checkpoints(reader)).get(name)
        if point == before:
            if trouble is not None:
                raise trouble
            return before, rows
    return None


async def _checkpoints(reader: LogReader) -> dict[str, Checkpoint]:
    """Where the stored projections of today's versions stand."""
    current = {(fold.name, fold.version) for fold in FOLDS.values()}
    return {p.name: p.checkpoint for p in await reader.projections() if p[:2] in current}
