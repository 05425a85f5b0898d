"""Bring stored projections to a position of the log."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from engine.errors import LogUnreadable
from engine.events import GENESIS, Head, Seen, decode_page, refuse_unknown
from engine.store.protocol import FoldRow, LogReader
from projections.board import FOLDS, Board
from projections.fold import Checkpoint, row_digest


def seen_page(rows: list[FoldRow]) -> list[Seen]:
    """Decoded events of one page, as folds take them."""
    events = decode_page(rows)
    return [Seen(row[0], row[1], event) for row, event in zip(rows, events, strict=True)]


async def load_board(reader: LogReader, until: int | None = None) -> Board:
    """The board at the head, or at position ``until``.

    Raises UnknownEvent when the log holds up to there what this program does not know, even if
    stored projections stand beyond it: a newer program's log is neither read past that nor
    appended to.

    Starts from the stored rows when they stand at one position that the log still has, and
    from nothing otherwise: stored projections are a saving, never a source.
    """
    head = await reader.head()
    end = head.pos if until is None else min(until, head.pos)
    for shape in sorted(await reader.shapes(), key=lambda shape: shape.first_pos):
        if shape.first_pos <= end:
            refuse_unknown(*shape)
    board = await _stored_board(reader, end)
    await catch_up(board, reader, end)
    return board


async def catch_up(board: Board, reader: LogReader, end: int) -> None:
    """Feed ``board`` every event up to position ``end``."""
    pos = board.head.pos
    while pos < end:
        rows = await reader.fold_rows(pos, end)
        if not rows:
            break
        for seen in seen_page(rows):
            board.feed(seen)
        pos = rows[-1][0]
    board.head = Head(pos, await reader.hash_at(pos) or GENESIS)


async def _stored_board(reader: LogReader, end: int) -> Board:
    current = {(fold.name, fold.version) for fold in FOLDS.values()}
    stored = {p.name: p.checkpoint for p in await reader.projections() if p[:2] in current}
    if len(stored) < len(FOLDS) or not await _usable(stored.values(), reader, end):
        return Board()
    try:
        rows = {name: await reader.projection_rows(name, FOLDS[name].version) for name in stored}
        if any(_digest(rows[name]) != point.digest for name, point in stored.items()):
            return Board()
        return Board({name: (point, rows[name]) for name, point in stored.items()})
    except (LogUnreadable, msgspec.MsgspecError):
        # A damaged row or a missing table: the log has everything that they had.
        return Board()


def _digest(rows: Iterable[tuple[str, str]]) -> bytes:
    return (sum(row_digest(*row) for row in rows) % (1 << 256)).to_bytes(32, "big")


async def _usable(checkpoints: Iterable[Checkpoint], reader: LogReader, end: int) -> bool:
    points = {(point.pos, point.hash) for point in checkpoints}
    if len(points) != 1:
        return False
    pos, digest = points.pop()
    return pos <= end and await reader.hash_at(pos) == digest
