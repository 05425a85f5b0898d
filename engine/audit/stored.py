"""Stored projections against what the log says: rebuilt from nothing, byte for byte (S28, S29)."""

from __future__ import annotations

from typing import NamedTuple

from engine.store.boards import catch_up
from engine.store.protocol import LogReader
from projections.board import FOLDS, Board
from projections.fold import row_digest

_MODULUS = 1 << 256


class Difference(NamedTuple):
    """A stored projection that is not what the log says, and up to which position it had read."""

    what: str
    pos: int | None


async def differences(reader: LogReader) -> list[Difference]:
    """Compare every stored projection of today's versions at its own checkpoint."""
    found: list[Difference] = []
    board = Board()
    stored = [p for p in await reader.projections() if p.name in FOLDS]
    for projection in sorted(stored, key=lambda p: p.checkpoint.pos):
        name, version, (pos, chain, digest) = projection
        if version != FOLDS[name].version:
            continue
        if await reader.hash_at(pos) != chain and pos:
            found.append(Difference(f"S29: {name} has read another log", pos))
            continue
        await catch_up(board, reader, pos)
        keyed = next(keyed for keyed in board.all if keyed.fold.name == name)
        expected = sorted(keyed.rows())
        rows = await reader.projection_rows(name, version)
        if rows != expected:
            keys = sorted(dict(set(rows) ^ set(expected)))
            found.append(Difference(f"S29: {name} differs at {keys[0]!a}", pos))
        elif sum(row_digest(*row) for row in rows) % _MODULUS != int.from_bytes(digest, "big"):
            found.append(Difference(f"S29: {name} has another digest", pos))
    return found
