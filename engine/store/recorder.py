"""The recorder: the one writer of a log.

Callers submit commands and wait; one task takes what has queued up, decides each command against
the board at the head, and appends everything in one transaction together with the projections.
Only after the commit are callers answered.  There is no timer: a batch is what queued while the
last commit ran, so one caller alone pays one commit, and sixty-four share one.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.lowlevel
from anyio import to_thread

from engine.clock import REAL_WORK, Clock
from engine.errors import (
    CommandReused,
    Fenced,
    RunoffError,
    ServerLost,
    StorageFailed,
    WrongVersion,
)
from engine.events import (
    AnyEvent,
    EngineStarted,
    Head,
    Record,
    Seen,
    SessionLapsed,
    chain_hash,
    decode,
    encode,
    event_type,
    tags_of,
)
from engine.store.anchors import Anchors
from engine.store.batch import Batch, Pending
from engine.store.boards import followed, load_board
from engine.store.command import Command, Draft, Moment, Receipt
from engine.store.protocol import EventStore, Kept, Query, Transaction
from projections.board import FOLDS, Board
from projections.fold import Checkpoint

BATCH_EVENTS_MAX = 512
BATCH_BYTES_MAX = 1024 * 1024
STREAMS_REMEMBERED = 4096
DOUBT_S = 2.0
"""How long to look for a server that was lost in the middle of an append, before ending."""
LAPSES_READ = 100
PROJECTION_EVENTS = 256
"""Projections are written with the batch that brings this many events, and when the writer closes;
a reader folds what is missing, which takes about a millisecond."""


class Writer(NamedTuple):
    """Who writes: what the envelope and the first event of an epoch say."""

    host: str
    boot_id: str
    pid: int
    program: str
    package_version: str


class Recorder:
    """Use ``recording`` to make one.  ``board`` stands at the head; read it, never change it.

    In a shared log the board follows what others append whenever this one is about to; then those
    are told who asked for it with ``followed_by``.
    """

    def __init__(
        self,
        store: EventStore,
        board: Board,
        clock: Clock,
        writer: Writer,
        anchors: Anchors | None = None,
    ) -> None:
        self.store = store
        self.board = board
        self._clock = clock
        self._writer = writer
        self._epoch = 0
        self._announced = False
        self._recorded_us = 0
        self._versions: dict[str, int] = {}
        self._queue: deque[Pending] = deque()
        self._wake = anyio.Event()
        self._closing = False
        self._failed: RunoffError | None = None
        self._anchors = anchors
        self._unanchored = anyio.Event()
        self._finished = False
        self._unkept = 0
        self._committed = board.head
        self._log_epoch = 0
        self._followers: list[Callable[[Seen], None]] = []

    @property
    def head(self) -> Head:
        """The end of the log as far as it is committed and folded."""
        return self.board.head

    @property
    def epoch(self) -> int:
        """The epoch of this writer; one more than any before it."""
        return self._epoch

    @contextmanager
    def followed_by(self, follower: Callable[[Seen], None]) -> Generator[None]:
        """While the block runs, ``follower`` is called with each event of another writer.

        The board holds it by then.
        """
        self._followers.append(follower)
        try:
            yield
        finally:
            self._followers.remove(follower)

    @property
    def failed(self) -> RunoffError | None:
        """Why nothing can be recorded any more; None while all is well."""
        return self._failed

    async def submit(self, command: Command) -> Receipt:
        """Record ``command`` and return once it is durable.

        A caller that is cancelled while waiting has still submitted: the writer owns the
        transaction, and submitting the same command id again gives the same receipt.
        Raises what the decision raised, CommandReused, WrongVersion, AppendRefused, or
        StorageFailed when the log can no longer be written, in which case the process must end.
        """
        return await self.enqueue(command).answer()

    def enqueue(self, command: Command) -> Pending:
        """Submit without waiting."""
        if self._failed or self._closing:
            raise self._failed or StorageFailed(
                "the log is closed.", remedy="start the program again."
            )
        pending = Pending(command, hashlib.sha256(command.request).digest())
        self._queue.append(pending)
        self._wake.set()
        return pending

    async def open(self) -> None:
        """Take the next epoch and make the stored projections current."""
        self._log_epoch = self._epoch = await self.store.last_epoch() + 1
        newest = await self.store.records(Query(newest_first=True), limit=1)
        self._recorded_us = newest[0].recorded_us if newest else 0
        await self._refresh_projections()

    async def _refresh_projections(self) -> None:
        """Make the stored rows those of the board; old versions go when the new ones stand."""
        current = {(fold.name, fold.version) for fold in FOLDS.values()}
        stored = {(p.name, p.version) for p in await self.store.projections()}
        if self.board.is_rebuilt and self.board.head.pos:
            for name, version in current & stored:
                await self.store.drop_projection(name, version)
            await self._keep_all()
        for name, version in stored - current:
            await self.store.drop_projection(name, version)

    async def run(self) -> None:
        """Write batches until closed and drained, or until storage fails."""
        async with anyio.create_task_group() as group:
            if self._anchors is not None:
                group.start_soon(self._anchor, self._anchors)
            while not self._failed and not (self._closing and not self._queue):
                if self._queue:
                    # One turn for others who are about to submit, so that they share the commit.
                    await anyio.lowlevel.checkpoint()
                    await self._write_batch()
                else:
                    self._wake = anyio.Event()
                    await self._wake.wait()
            if self._unkept and not self._failed:
                await self._keep_at_close()
            self._finished = True
            self._unanchored.set()

    async def _anchor(self, anchors: Anchors) -> None:
        """Anchor the newest commit, again and again; one anchor covers all before it.

        Beside the commits, not between them: callers are answered before, and an anchor that lags
        is covered by the next.
        """
        last = self._committed.pos
        try:
            while not self._finished or self._committed.pos > last:
                await self._unanchored.wait()
                self._unanchored = anyio.Event()
                head = self._committed
                if head.pos > last:
                    with REAL_WORK:
                        await to_thread.run_sync(anchors.write, head)
                    last = head.pos
        except StorageFailed as error:
            self._fail(error, ())
            self._wake.set()
        finally:
            anchors.close()

    async def _keep_at_close(self) -> None:
        try:
            await self._keep_all()
        except RunoffError as error:
            self._fail(error, ())

    async def _keep_all(self) -> None:
        """Write the projections as of the head; in a shared log others may have moved it."""
        async with self.store.transaction() as transaction:
            if self.store.is_shared:
                await transaction.look([], [])
                await self._follow_others()
            await transaction.append([], self._all_kept())

    def close(self) -> None:
        """Finish what is queued, then let ``run`` return."""
        self._closing = True
        self._wake.set()

    async def _write_batch(self) -> None:
        taken = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_EVENTS_MAX))]
        batch: Batch | None = None
        try:
            async with self.store.transaction() as transaction:
                batch = await self._begin(transaction, taken)
                self._decide_all(batch, taken)
                if batch.records:
                    await transaction.append(batch.records, self._kept(batch))
        except ServerLost as error:
            # Before anything was decided the board says what the log says: nothing is lost by
            # waiting.  Behind that nobody knows whether it was committed; who starts again will.
            is_back = await self._until_back(None if batch is None else DOUBT_S)
            if batch is not None or not is_back:
                self._fail(await self._told(error) if is_back else error, taken)
                return
            self._queue.extendleft(reversed(taken))
        except Exception as error:  # noqa: BLE001  whatever failed, callers must hear of it
            self._fail(error, taken)
        else:
            assert batch is not None
            await self._acknowledge(batch)

    async def _until_back(self, limit_s: float | None) -> bool:
        """Wait for the server, at most ``limit_s``, unless this writer is about to close."""
        if self._closing:
            return False
        with anyio.move_on_after(limit_s):
            try:
                await self.store.until_back()
            except RunoffError:
                return False
            return True
        return False

    async def _told(self, error: RunoffError) -> RunoffError:
        """The reason to end that counts more than a lost connection: another has taken over."""
        query = Query(types=(event_type(SessionLapsed),), newest_first=True)
        for record in await self.store.records(query, limit=LAPSES_READ):
            event = decode(
                record.data, event_type=record.type, schema=record.schema, pos=record.pos
            )
            try:
                self._refuse_lapsed(event)
            except Fenced as fenced:
                return fenced
        return error

    async def _begin(self, transaction: Transaction, taken: Sequence[Pending]) -> Batch:
        streams = {pending.command.stream for pending in taken}
        if not self._announced:
            streams.add("engine")
        if len(self._versions) > STREAMS_REMEMBERED:
            self._versions.clear()
        if self.store.is_shared:
            self._versions.clear()
        unknown = [stream for stream in streams if stream not in self._versions]
        ids = [pending.command.command_id for pending in taken]
        prior, versions = await transaction.look(ids, unknown)
        self._versions.update(versions)
        if self.store.is_shared:
            await self._follow_others()
        return Batch(self.board.head, self._versions, prior)

    async def _follow_others(self) -> None:
        """Fold what other writers have appended; the transaction holds the head still."""
        known = self.board.head.pos
        async for seen in followed(self.board, self.store):
            self._refuse_lapsed(seen.event)
            self._recorded_us = max(self._recorded_us, seen.recorded_us)
            for follower in self._followers:
                follower(seen)
        if self.board.head.pos > known or not self._announced:
            self._log_epoch = await self.store.last_epoch()
            if not self._announced:
                # Another may have begun since this one was opened: numbers are given out here.
                self._epoch = self._log_epoch = self._log_epoch + 1

    def _refuse_lapsed(self, event: AnyEvent) -> None:
        """A writer whose lease another has seen lapse may append nothing more."""
        if isinstance(event, SessionLapsed) and self._announced and event.epoch == self._epoch:
            raise Fenced(
                f"the lease of this engine lapsed, and engine {event.noticed_by} has noticed.",
                remedy="start again; what it was at has been taken over.",
            )

    def _decide_all(self, batch: Batch, taken: list[Pending]) -> None:
        """Decide as many of ``taken`` as fit; the rest goes back to the front of the queue."""
        self._recorded_us = max(self._recorded_us, self._clock.now_us())
        for done, pending in enumerate(taken):
            full = len(batch.records) >= BATCH_EVENTS_MAX or batch.size_bytes >= BATCH_BYTES_MAX
            if full:
                self._queue.extendleft(reversed(taken[done:]))
                del taken[done:]
                break
            batch.settled.append((pending, self._decide(batch, pending)))

    def _decide(self, batch: Batch, pending: Pending) -> Receipt | BaseException:
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

    def _next_pos(self, batch: Batch) -> int:
        """Where the next command's first event will stand: behind the first event of an epoch."""
        return batch.head.pos + 1 + (not self._announced and not batch.records)

    def _check_version(self, batch: Batch, command: Command) -> None:
        if command.expected_version is None:
            return
        found = batch.versions[command.stream]
        if found != command.expected_version:
            raise WrongVersion(
                f"{command.stream} is at version {found}, not {command.expected_version}.",
                remedy="read it again and decide anew.",
            )

    def _add(self, batch: Batch, pending: Pending, draft: Draft, idx: int) -> None:
        if not self._announced and not batch.records:
            self._announce(batch)
        command = pending.command
        self._append(
            batch, draft, (command.stream, command.command_id, idx, pending.digest, command.actor)
        )

    def _announce(self, batch: Batch) -> None:
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
        self, batch: Batch, draft: Draft, envelope: tuple[str, str, int, bytes, str]
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
            self._log_epoch,
            *tags_of(event),
            actor,
            self._writer.package_version,
            data,
        )
        record = Record(*columns, chain_hash(batch.head.hash, columns))
        batch.records.append(record)
        batch.size_bytes += len(data)
        batch.head = self.board.head = Head(pos, record.hash)
        self.board.feed(Seen(pos, self._recorded_us, event))

    def _kept(self, batch: Batch) -> list[Kept]:
        """What of the projections goes with this batch: nothing, or all that changed."""
        self._unkept += len(batch.records)
        return self._all_kept() if self._unkept >= PROJECTION_EVENTS else []

    def _all_kept(self) -> list[Kept]:
        """Every projection's changes since they were last written, with its checkpoint."""
        self._unkept = 0
        head, kept = self.board.head, list[Kept]()
        for keyed in self.board.all:
            changes = keyed.take_changes()
            checkpoint = Checkpoint(head.pos, head.hash, keyed.digest)
            kept.append(Kept(keyed.fold.name, keyed.fold.version, changes, checkpoint))
        return kept

    async def _acknowledge(self, batch: Batch) -> None:
        if batch.records:
            self._announced = True
            self._committed = batch.head
            self._unanchored.set()
        for pending, outcome in batch.settled:
            if isinstance(outcome, Receipt) and outcome.repeated and not outcome.records:
                outcome = await self._first_receipt(pending.command.command_id, batch)  # noqa: PLW2901
            pending.settle(outcome)

    async def _first_receipt(self, command_id: str, batch: Batch) -> Receipt:
        prior = batch.prior[command_id]
        query = Query(until=prior.last_pos)
        count = prior.last_pos - prior.first_pos + 1
        records = await self.store.records(query, after=prior.first_pos - 1, limit=count)
        return Receipt(command_id, tuple(records), repeated=True)

    def _fail(self, error: Exception, taken: Sequence[Pending]) -> None:
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
    store: EventStore, clock: Clock, writer: Writer, *, anchors: Path | None = None
) -> AsyncGenerator[Recorder, None]:
    """A recorder that runs while the block does, and drains its queue at the end.

    ``anchors``: the file that each commit is anchored in, None for none.  When the writer stops by
    itself, whoever submits hears why (StorageFailed, Fenced).
    """
    anchored = Anchors(anchors) if anchors else None
    recorder = Recorder(store, await load_board(store), clock, writer, anchored)
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
