"""Move a log from one database to another, row by row, as it stands: bytes, hashes, positions.

Nothing is decided, decoded or written anew.  Every row is checked against the chain before it is
appended, and read back afterwards.  A page is one transaction of whole commands, so a copy that was
cut short has copied a beginning of the log, and can go on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path

from engine.errors import AppendRefused, LogUnreadable, StorageFailed
from engine.events import Head, Record, chain_hash
from engine.store.blobs import Blobs
from engine.store.boards import refuse_unreadable
from engine.store.protocol import EventStore, LogReader, Query

_REST_ROWS = 256
"""So many rows are looked at behind a page for the rest of its last command."""


async def copy_log(
    source: LogReader, target: EventStore, *, resume: bool, tell: Callable[[int, int], None]
) -> Head:
    """Copy all that ``source`` holds now into ``target``; the head that both then have.

    ``tell``: called after every page with the positions reached and to reach.  ``resume``: the
    target may hold a beginning of the source.  Raises AppendRefused when it holds anything else,
    LogUnreadable when the source's chain is broken or of a newer program.
    """
    end = await source.head()
    await refuse_unreadable(source, end.pos)
    at = await target.head()
    await _refuse_other(source, end, target, at, resume=resume)
    while at.pos < end.pos:
        page = await _page(source, at.pos, end.pos)
        head = _checked(page, at)
        async with target.transaction() as transaction:
            await transaction.append(page)
        if await target.records(Query(), after=at.pos, limit=len(page)) != page:
            raise StorageFailed(
                f"the copy differs behind position {at.pos}.",
                remedy="do not use it; check the target's disk, then copy again.",
            )
        at = head
        tell(at.pos, end.pos)
    return at


async def _page(source: LogReader, after: int, until: int) -> list[Record]:
    """The next rows, whole commands: half of one is no beginning of a log that anybody wrote."""
    page = await source.records(Query(until=until), after=after)
    command_id = page[-1].command_id if page else ""
    is_cut = bool(page)
    while is_cut:
        more = await source.records(Query(until=until), after=page[-1].pos, limit=_REST_ROWS)
        rest = list(takewhile(lambda row: row.command_id == command_id, more))
        page += rest
        is_cut = len(rest) == _REST_ROWS
    return page


async def _refuse_other(
    source: LogReader, end: Head, target: EventStore, at: Head, *, resume: bool
) -> None:
    """Raise AppendRefused unless what ``target`` holds up to ``at`` begins the source's log."""
    if at.pos == 0:
        return
    if not resume:
        raise AppendRefused(
            f"the target holds {at.pos} events already.",
            remedy="name an empty database; --resume goes on with a copy that was cut short.",
        )
    if await source.hash_at(at.pos) == at.hash:
        return
    if end.pos < at.pos and (end.pos == 0 or await target.hash_at(end.pos) == end.hash):
        raise AppendRefused(
            f"the target goes on to position {at.pos}, the source ends at {end.pos}.",
            remedy="keep the target, if the source is an older backup: it has what that lacks.",
        )
    raise AppendRefused(
        "the target holds another log, or one of both has gone on by itself.",
        remedy="name an empty database; keep this one, if the source was restored from an older"
        " backup: it may have what that lacks.",
    )


def _checked(page: Sequence[Record], at: Head) -> Head:
    """The head behind ``page``, of which every row continues the chain from ``at``."""
    for row in page:
        if row.pos != at.pos + 1 or chain_hash(at.hash, tuple(row)[:-1]) != row.hash:
            raise LogUnreadable(
                f"the chain of the source breaks at position {at.pos + 1}.",
                remedy="`runoff verify` says more; what is broken is not copied.",
            )
        at = Head(row.pos, row.hash)
    if not page:
        raise LogUnreadable(
            f"the source ends at position {at.pos}, before its head.",
            remedy="restore it from a backup; `runoff verify` names what is missing.",
        )
    return at


def copy_blobs(source: Path, target: Path) -> int:
    """Copy kept output that the target folder has not; how many files.

    What is not what its name says stays behind; an audit names it.
    """
    old, new, count = Blobs(source), Blobs(target), 0
    for path in sorted(source.glob("??/*")):
        if new.get(path.name) is None and (data := old.get(path.name)) is not None:
            new.put(data)
            count += 1
    return count
