"""The recorder: the one writer of a log.

Callers submit commands and wait; one task takes what has queued up, decides each command against
the board at the head, and appends everything in one transaction together with the projections.
Only after the commit are callers answered.  There is no timer: a batch is what queued while the
last commit ran, so one caller alone pays one commit, and sixty-four share one.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import anyio
from anyio import to_thread

from engine.clock import REAL_WORK, Clock
from engine.errors import CommandReused, RunoffError, StorageFailed, WrongVersion
from engine.events import EngineStarted, Head, Record, Seen, chain_hash, encode, event_type
from engine.store.anchors import Anchors
from engine.store.boards import load_board
from engine.store.command import Command, Draft, Moment, Receipt
from engine.store.protocol import EventStore, Kept, Prior, Query, Transaction
from projections.board import FOLDS, Board
from projections.fold import Checkpoint

BATCH_EVENTS_MAX = 512
BATCH_BYTES_MAX = 1024 * 1024
STREAMS_REMEMBERED = 4096


class Writer(NamedTuple):
    """Who writes: what the envelope and the first event of an epoch say."""

    host: str
    boot_id: str
    pid: int
    program: str
    package_version: str


@dataclass(eq=False)
class _Pending:
    """A submitted command and, once known, its outcome."""

    command: Command
    digest: bytes
    done: anyio.Event = field(default_factory=anyio.Event)
    receipt: Receipt | None = None
    error: BaseException | None = None

    def settle(self, outcome: Receipt | BaseException) -> None:
        if isinstance(outcome, Receipt):
            self.receipt = outcome
        else:
            self.error = outcome
        self.done.set()


@dataclass
class _Batch:
    """One transaction in the making."""

    head: Head
    versions: dict[str, int]
    prior: dict[str, Prior]
    records: list[Record] = field(default_factory=list[Record])
    size_bytes: int = 0
    receipts: dict[str, tuple[bytes, Receipt]] = field(
        default_factory=dict[str, tuple[bytes, Receipt]]
    )
    settled: list[tuple[_Pending, Receipt | BaseException]] = field(
        default_factory=list[tuple[_Pending, Receipt | BaseException]]
    )


class Recorder:
    """Use ``recording`` to make one.  ``board`` stands at the head; read it, never change it."""

    def __init__(self, store: EventStore, board: Board, clock: Clock, writer: Writer) -> None:
        self.store = store
        self.board = board
        self._clock = clock
        self._writer = writer
        self._epoch = 0
        self._announced = False
        self._recorded_us = 0
        self._versions: dict[str, int] = {}
        self._queue: deque[_Pending] = deque()
        self._wake = anyio.Event()
        self._closing = False
        self._failed: RunoffError | None = None
        self._anchors: Anchors | None = None
        self.committed: list[Callable[[Head], None]] = []

    @property
    def head(self) -> Head:
        """The end of the log as far as it is committed and folded."""
        return self.board.head

    @property
    def epoch(self) -> int:
        """The epoch of this writer; one more than any before it."""
        return self._epoch

    async def submit(self, command: Command) -> Receipt:
        """Record ``command`` and return once it is durable.

        A caller that is cancelled while waiting has still submitted: the writer owns the
        transaction, and submitting the same command id again gives the same receipt.
        Raises what the decision raised, CommandReused, WrongVersion, AppendRefused, or
        StorageFailed when the log can no longer be written, in which case the process must end.
        """
        pending = self.enqueue(command)
        await pending.done.wait()
        if pending.error is not None:
            raise pending.error
        assert pending.receipt is not None
        return pending.receipt

    def enqueue(self, command: Command) -> _Pending:
        """Submit without waiting."""
        if self._failed or self._closing:
            raise self._failed or StorageFailed(
                "the log is closed.", remedy="start the program again."
            )
        pending = _Pending(command, hashlib.sha256(command.request).digest())
        self._queue.append(pending)
        self._wake.set()
        return pending

    def anchor_to(self, path: Path) -> None:
        """From now on write an anchor after each batch."""
        self._anchors = Anchors(path)

    async def open(self) -> None:
        """Take the next epoch and make the stored projections current."""
        self._epoch = await self.store.last_epoch() + 1
        newest = await self.store.records(Query(newest_first=True), limit=1)
        self._recorded_us = newest[0].recorded_us if newest else 0
        await self._refresh_projections()

    async def _refresh_projections(self) -> None:
        stored = {(p.name, p.version): p.checkpoint for p in await self.store.projections()}
        current = {(fold.name, fold.version) for fold in FOLDS.values()}
        points = {(stored[key].pos, stored[key].hash) for key in current & set(stored)}
        rebuilt = len(points) > 1 or not current <= set(stored)
        for name, version in set(stored) if rebuilt else set(stored) - current:
            await self.store.drop_projection(name, version)
        if self.board.head.pos and (rebuilt or points != {self.board.head}):
            async with self.store.transaction() as transaction:
                await transaction.append([], self._kept(self.board.head))

    async def run(self) -> None:
        """Write batches until closed and drained, or until storage fails."""
        while True:
            if not self._queue:
                if self._closing:
                    if self._anchors:
                        self._anchors.close()
                    return
                self._wake = anyio.Event()
                await self._wake.wait()
                continue
            await self._write_batch()
            if self._failed:
                return

    def close(self) -> None:
        """Finish what is queued, then let ``run`` return."""
        self._closing = True
        self._wake.set()

    async def _write_batch(self) -> None:
        taken = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_EVENTS_MAX))]
        batch: _Batch | None = None
        try:
            async with self.store.transaction() as transaction:
                batch = await self._begin(transaction, taken)
                self._decide_all(batch, taken)
                if batch.records:
                    await transaction.append(batch.records, self._kept(batch.head))
        except Exception as error:  # noqa: BLE001  whatever failed, callers must hear of it
            self._fail(error, taken)
            return
        await self._acknowledge(batch)
        if batch.records and self._anchors:
            # After the callers are answered: an anchor that lags is covered by the next one.
            with REAL_WORK:
                await to_thread.run_sync(self._anchors.write, batch.head)

    async def _begin(self, transaction: Transaction, taken: Sequence[_Pending]) -> _Batch:
        streams = {pending.command.stream for pending in taken}
        if not self._announced:
            streams.add("engine")
        if len(self._versions) > STREAMS_REMEMBERED:
            self._versions.clear()
        unknown = [stream for stream in streams if stream not in self._versions]
        ids = [pending.command.command_id for pending in taken]
        prior, versions = await transaction.look(ids, unknown)
        self._versions.update(versions)
        return _Batch(self.board.head, self._versions, prior)

    def _decide_all(self, batch: _Batch, taken: list[_Pending]) -> None:
        """Decide as many of ``taken`` as fit; the rest goes back to the front of the queue."""
        self._recorded_us = max(self._recorded_us, self._clock.now_us())
        for done, pending in enumerate(taken):
            full = len(batch.records) >= BATCH_EVENTS_MAX or batch.size_bytes >= BATCH_BYTES_MAX
            if full:
                self._queue.extendleft(reversed(taken[done:]))
                del taken[done:]
                break
            batch.settled.append((pending, self._decide(batch, pending)))

    def _decide(self, batch: _Batch, pending: _Pending) -> Receipt | BaseException:
        command = pending.command
        known = batch.receipts.get(command.command_id)
        if known is not None:
            digest, receipt = known
            return receipt._replace(repeated=True) if digest == pending.digest else _reused(command)
        prior = batch.prior.get(command.command_id)
        if prior is not None:
            if prior.request != pending.digest:
                return _reused(command)
            return Receipt(command.command_id, (), repeated=True)
        try:
            self._check_version(batch, command)
            drafts = command.decide(self.board, Moment(self._recorded_us, self._next_pos(batch)))
            first = next(drafts, None)
        except RunoffError as refusal:
            return refusal
        if first is None:
            return Receipt(command.command_id, ())
        start = len(batch.records)
        self._add(batch, pending, first, 0)
        for idx, draft in enumerate(drafts, 1):
            self._add(batch, pending, draft, idx)
        # The first command of an epoch is preceded by the epoch's own event, which is not its.
        mine = (r for r in batch.records[start:] if r.command_id == command.command_id)
        receipt = Receipt(command.command_id, tuple(mine))
        batch.receipts[command.command_id] = (pending.digest, receipt)
        return receipt

    def _next_pos(self, batch: _Batch) -> int:
        """Where the next command's first event will stand: behind the first event of an epoch."""
        return batch.head.pos + 1 + (not self._announced and not batch.records)

    def _check_version(self, batch: _Batch, command: Command) -> None:
        if command.expected_version is None:
            return
        found = batch.versions[command.stream]
        if found != command.expected_version:
            raise WrongVersion(
                f"{command.stream} is at version {found}, not {command.expected_version}.",
                remedy="read it again and decide anew.",
            )

    def _add(self, batch: _Batch, pending: _Pending, draft: Draft, idx: int) -> None:
        if not self._announced and not batch.records:
            self._announce(batch)
        command = pending.command
        self._append(
            batch, draft, (command.stream, command.command_id, idx, pending.digest, command.actor)
        )

    def _announce(self, batch: _Batch) -> None:
        """The first event of an epoch, written with the first batch that has anything to say."""
        started = EngineStarted(
            epoch=self._epoch,
            host=self._writer.host,
            boot_id=self._writer.boot_id,
            pid=self._writer.pid,
            program=self._writer.program,
            package_version=self._writer.package_version,
        )
        digest = hashlib.sha256(encode(started).encode()).digest()
        envelope = ("engine", f"engine-{self._epoch}", 0, digest, self._writer.program)
        self._append(batch, Draft(started), envelope)

    def _append(
        self, batch: _Batch, draft: Draft, envelope: tuple[str, str, int, bytes, str]
    ) -> None:
        stream, command_id, idx, request, actor = envelope
        event = draft.event
        data = encode(event)
        pos = batch.head.pos + 1
        batch.versions[stream] += 1
        columns = (
            pos,
            stream,
            batch.versions[stream],
            command_id,
            idx,
            request,
            event_type(type(event)),
            event.schema,
            draft.occurred_us or self._recorded_us,
            self._recorded_us,
            draft.cause,
            self._epoch,
            getattr(event, "session_id", None),
            getattr(event, "run_id", None),
            getattr(event, "phase_id", None),
            getattr(event, "attempt_id", None),
            actor,
            self._writer.package_version,
            data,
        )
        record = Record(*columns, chain_hash(batch.head.hash, columns))
        batch.records.append(record)
        batch.size_bytes += len(data)
        batch.head = self.board.head = Head(pos, record.hash)
        self.board.feed(Seen(pos, self._recorded_us, event))

    def _kept(self, head: Head) -> list[Kept]:
        """Every projection's changes since the last batch, with its checkpoint at ``head``."""
        kept: list[Kept] = []
        for keyed in self.board.all:
            changes = keyed.take_changes()
            checkpoint = Checkpoint(head.pos, head.hash, keyed.digest)
            kept.append(Kept(keyed.fold.name, keyed.fold.version, changes, checkpoint))
        return kept

    async def _acknowledge(self, batch: _Batch) -> None:
        if batch.records:
            self._announced = True
            for listener in self.committed:
                listener(batch.head)
        for pending, outcome in batch.settled:
            if isinstance(outcome, Receipt) and outcome.repeated and not outcome.records:
                outcome = await self._first_receipt(pending.command.command_id, batch)  # noqa: PLW2901
            pending.settle(outcome)

    async def _first_receipt(self, command_id: str, batch: _Batch) -> Receipt:
        prior = batch.prior[command_id]
        query = Query(until=prior.last_pos)
        records = await self.store.records(query, after=prior.first_pos - 1)
        return Receipt(command_id, tuple(records), repeated=True)

    def _fail(self, error: Exception, taken: Sequence[_Pending]) -> None:
        """The board may be ahead of the log now, so nothing more can be decided here."""
        self._failed = error if isinstance(error, RunoffError) else _unexpected(error)
        self._failed.__cause__ = None if error is self._failed else error
        for pending in [*taken, *self._queue]:
            pending.settle(self._failed)
        self._queue.clear()


def _reused(command: Command) -> CommandReused:
    return CommandReused(
        f"the command id {command.command_id} was used before for something else.",
        remedy="make a new id for a new intent.",
    )


def _unexpected(error: Exception) -> StorageFailed:
    return StorageFailed(
        f"the writer stopped: {type(error).__name__}: {error}.",
        remedy="start again; everything acknowledged is in the log. Please report this.",
    )


@asynccontextmanager
async def recording(
    store: EventStore, clock: Clock, writer: Writer
) -> AsyncGenerator[Recorder, None]:
    """A recorder that runs while the block does, and drains its queue at the end.

    Raises Fenced or StorageFailed from the block's end when the writer stopped by itself.
    """
    recorder = Recorder(store, await load_board(store), clock, writer)
    await recorder.open()
    async with anyio.create_task_group() as group:
        group.start_soon(_shielded, recorder)
        try:
            yield recorder
        finally:
            recorder.close()


async def _shielded(recorder: Recorder) -> None:
    # A cancelled COMMIT usually commits: nobody but the recorder may interrupt a transaction.
    with anyio.CancelScope(shield=True):
        await recorder.run()


__all__ = ["BATCH_EVENTS_MAX", "Recorder", "Writer", "recording"]
