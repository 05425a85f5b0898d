"""What the log alone gives: projections rebuilt (S28, S29), decisions taken again (S16, S17)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.audit.lines import UNSEEN, Line, commands
from engine.audit.redecide import Redecision
from engine.events import Record, Seen, decode_page, event_of
from engine.store.blobs import BlobStore
from engine.store.memory import MemoryStore
from projections.board import FOLDS, Board
from projections.fold import row_digest

_MODULUS = 1 << 256


class Rebuilt:
    """A board that reads nothing but stored events, one life after the other."""

    def __init__(self, report: Callable[[str, int | None], None]) -> None:
        self._board = Board()
        self._pos = 0
        self._report = report

    async def take(self, disk: MemoryStore, records: Sequence[Record]) -> None:
        """Read what is new, stopping where stored projections stand to compare them."""
        stored = [p for p in await disk.projections() if FOLDS[p.name].version == p.version]
        points = sorted({p.checkpoint.pos for p in stored})
        for point in points:
            if point < self._pos:
                continue  # compared when it was written
            self._feed(records, point)
            for projection in stored:
                if projection.checkpoint.pos == point:
                    rows = await disk.projection_rows(projection.name, projection.version)
                    self._compare(projection.name, rows, projection.checkpoint.digest)
                    if projection.checkpoint.hash != await disk.hash_at(point) and point:
                        self._report(f"S29: {projection.name} has read another log", point)
        self._feed(records, records[-1].pos if records else self._pos)

    def _feed(self, records: Sequence[Record], until: int) -> None:
        page = [
            (r.pos, r.recorded_us, r.type, r.schema, r.data)
            for r in records
            if self._pos < r.pos <= until
        ]
        for row, event in zip(page, decode_page(page), strict=True):
            self._board.feed(Seen(row[0], row[1], event))
        self._pos = max(self._pos, until)

    def _compare(self, name: str, rows: list[tuple[str, str]], digest: bytes) -> None:
        keyed = next(keyed for keyed in self._board.all if keyed.fold.name == name)
        expected = sorted(keyed.rows())
        if rows != expected:
            keys = sorted(dict(set(rows) ^ set(expected)))
            self._report(f"S29: stored {name} differs at {keys[0]!a}", self._pos)
        elif sum(row_digest(*row) for row in rows) % _MODULUS != int.from_bytes(digest, "big"):
            self._report(f"S29: {name} has another digest", self._pos)

    def compare_board(self, board: Board) -> None:
        """The board of an engine at the end of its life, if it stands at the head."""
        if board.head.pos != self._pos:
            return
        for kept, rebuilt in zip(board.all, self._board.all, strict=True):
            if kept.states != rebuilt.states:
                self._report(f"S28: the engine's {kept.fold.name} is not the log's", self._pos)


class Redecided:
    """Every decision taken again by the audit's code, from the stored log and its output."""

    def __init__(self, report: Callable[[str, int | None], None], blobs: BlobStore) -> None:
        self._redecision = Redecision(blobs.get)
        self._report = report

    def take(self, records: Sequence[Record]) -> None:
        """Decide again what stands in these records, which are whole commands."""
        lines = (
            Line(r.pos, r.recorded_us, r.command_id, r.cause, r.data, event_of(r))
            for r in records
            if r.type not in UNSEEN
        )
        for command in commands(lines):
            self._redecision.take(command)
        for difference in self._redecision.differences:
            self._report(f"S17: {difference.sentence}", difference.pos)
        for each in self._redecision.unverifiable:
            self._report(f"S17: {each.what} cannot be decided again: {each.why}", each.pos)
        self._redecision.differences.clear()
        self._redecision.unverifiable.clear()
