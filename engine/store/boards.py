"""Bring stored projections to a position of the log."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from engine.errors import LogUnreadable, LogWentBack
from engine.events import GENESIS, Head, Seen, decode_page, event_type, refuse_unknown
from engine.pace import Pace
from engine.store.protocol import FoldRow, LogReader
from projections.board import FOLDS, Board, Stored
from projections.fold import Checkpoint, Fold, Keyed

_CONTRADICTED = (AssertionError, LookupError, TypeError, ValueError, AttributeError)
"""What folds raise over a log that contradicts itself."""


def seen_page(rows: list[FoldRow]) -> list[Seen]:
    """Decoded events of one page, as folds take them."""
    events = decode_page(rows)
    return [Seen(row[0], row[1], event) for row, event in zip(rows, events, strict=True)]


class Takes(Protocol):
    """Whatever is fed events in order: a board, or one fold."""

    def feed(self, seen: Seen) -> object:
        """Fold one event."""
        ...


def feed(seen: Seen, *takers: Takes) -> None:
    """Feed one recorded event to all ``takers``.

    Raises LogUnreadable, naming its position, when it contradicts what stands before it: no writer
    appends such an event, but whoever has the file in hand may have.
    """
    try:
        for taker in takers:
            taker.feed(seen)
    except _CONTRADICTED as error:
        raise LogUnreadable(
            f"the event at position {seen.pos} ({event_type(type(seen.event))}) contradicts the log"
            f" before it: {str(error) or type(error).__name__}.",
            remedy="`runoff verify` lists what does not hold; restore the database from a backup.",
        ) from error


async def load_board(
    reader: LogReader, until: int | None = None, pace: Pace | None = None
) -> Board:
    """The board at the head, or at position ``until``.

    Raises UnknownEvent when the log holds up to there what this program does not know, even if
    stored projections stand beyond it: a newer program's log is neither read past that nor
    appended to.

    Starts from the stored rows when they stand at one position that the log still has, and
    from nothing otherwise: stored projections are a saving, never a source.
    """
    head = await reader.head()
    end = head.pos if until is None else min(until, head.pos)
    await refuse_unreadable(reader, end)
    board = Board(await _stored(reader, FOLDS, end))
    await catch_up(board, reader, end, pace)
    return board


async def refuse_unreadable(reader: LogReader, end: int) -> None:
    """Raise UnknownEvent if the log up to ``end`` holds what this program does not know."""
    for shape in sorted(await reader.shapes(), key=lambda shape: shape.first_pos):
        if shape.first_pos <= end:
            refuse_unknown(*shape)


async def load_folds(
    reader: LogReader, folds: Iterable[Fold[Any]], end: int
) -> Mapping[str, Keyed[Any]]:
    """Some projections at position ``end``, by name, without the rest of the board.

    Stored rows are trusted as far as ``load_board`` trusts them; without, all of the log's events
    that these folds handle are read.
    """
    wanted = {fold.name: fold for fold in folds}
    stored = await _stored(reader, wanted, end)
    pos = max((point.pos for point, _ in stored.values()), default=0)
    found = {name: keyed for name, (_, keyed) in stored.items()}
    found = found or {name: Keyed(fold) for name, fold in wanted.items()}
    types = frozenset(event_type(kind) for fold in wanted.values() for kind in fold.handles)
    while rows := await reader.fold_rows(pos, end, types):
        for seen in seen_page(rows):
            feed(seen, *found.values())
        pos = rows[-1][0]
    return found


async def catch_up(board: Board, reader: LogReader, end: int, pace: Pace | None = None) -> None:
    """Feed ``board`` every event up to position ``end``."""
    pos = board.head.pos
    while pos < end:
        rows = await reader.fold_rows(pos, end)
        if not rows:
            break
        for seen in seen_page(rows):
            feed(seen, board)
        pos = rows[-1][0]
        if pace is not None:
            pace(pos, end)
    board.head = Head(pos, await reader.hash_at(pos) or GENESIS)


async def followed(board: Board, reader: LogReader, head: Head) -> AsyncGenerator[Seen, None]:
    """Feed ``board`` every event up to ``head``, and hand each on.

    Raises UnknownEvent at what this program does not know, LogWentBack when the log does not hold
    what the board was fed.
    """
    await refuse_gone_back(board.head, reader, head)
    pos = board.head.pos
    while pos < head.pos and (rows := await reader.fold_rows(pos, head.pos)):
        pos = rows[-1][0]
        reached = head if pos == head.pos else Head(pos, await reader.hash_at(pos) or b"")
        for seen in seen_page(rows):
            feed(seen, board)
            yield seen
        # So that one who is cut short here goes on behind what was fed.
        board.head = reached


async def refuse_gone_back(seen: Head, reader: LogReader, end: Head) -> None:
    """Raise LogWentBack unless the log, which ends at ``end``, holds what was ``seen`` of it."""
    if seen.pos and seen != end and await reader.hash_at(seen.pos) != seen.hash:
        raise LogWentBack.behind(seen.pos)


async def _stored(reader: LogReader, folds: Mapping[str, Fold[Any]], end: int) -> Stored:
    """What is stored of ``folds``, all at one position up to ``end``; else nothing at all."""
    current = {(fold.name, fold.version) for fold in folds.values()}
    stored = {p.name: p.checkpoint for p in await reader.projections() if p[:2] in current}
    if len(stored) < len(folds) or not await _usable(stored.values(), reader, end):
        return {}
    found: dict[str, tuple[Checkpoint, Keyed[Any]]] = {}
    for name, point in stored.items():
        try:
            keyed = await _read(reader, folds[name])
        except (LogUnreadable, msgspec.MsgspecError):
            # A missing table, or no rows of ours: the log has everything that they had.
            return {}
        if keyed.digest != point.digest:
            return {}
        found[name] = (point, keyed)
    return found


async def _read(reader: LogReader, fold: Fold[Any]) -> Keyed[Any]:
    def keyed(rows: Iterable[tuple[str, str]]) -> Keyed[Any]:
        return Keyed(fold, rows)

    return await reader.read_projection(fold.name, fold.version, keyed)


async def _usable(checkpoints: Iterable[Checkpoint], reader: LogReader, end: int) -> bool:
    points = {(point.pos, point.hash) for point in checkpoints}
    if len(points) != 1:
        return False
    pos, digest = points.pop()
    return pos <= end and await reader.hash_at(pos) == digest
