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

import anyio
import anyio.lowlevel

from engine.clock import Clock
from engine.errors import RunoffError, ServerLost, StorageFailed, limit_met
from engine.events import Head, Seen
from engine.pace import Pace
from engine.store.anchoring import Anchoring
from engine.store.anchors import Anchors
from engine.store.batch import Batch, Pending
from engine.store.boards import followed, load_board, refuse_gone_back
from engine.store.command import Command, Receipt
from engine.store.decision import BATCH_EVENTS_MAX, Decisions, Writer
from engine.store.leaving import Leaving
from engine.store.log_time import LogTime
from engine.store.protocol import EventStore, Found, Kept, OnServer, Query, Transaction
from projections.board import FOLDS, Board
from projections.fold import Checkpoint

TURNS = 5
"""How often the loop goes round before a commit: an attempt that was just picked needs three or
four rounds until it submits what comes next, and one costs less than a hundredth of a commit."""

PROJECTION_EVENTS = 256
"""Projections are written with the batch that brings this many events, and when the writer closes;
a reader folds what is missing, which takes about a millisecond."""


class Recorder:
    """Use ``recording`` to make one.  ``board`` stands at the head; read it, never change it.

    In a shared log the board follows what others append whenever this one is about to; then those
    are told who asked for it with ``followed_by``.  ``leaving`` is begun when the process has to
    end.  ``turns``: how often the loop goes round before a commit; what is decided never depends
    on it.
    """

    def __init__(
        self,
        store: EventStore,
        board: Board,
        clock: Clock,
        writer: Writer,
        anchors: Anchors | None = None,
        *,
        turns: int = TURNS,
    ) -> None:
        self.store = store
        self.board = board
        self._turns = turns
        self._time = LogTime(clock)
        self._decisions = Decisions(board, writer)
        self._queue: deque[Pending] = deque()
        self._wake = anyio.Event()
        self._closing = False
        self._settled = anyio.Event()
        self._settled.set()
        self._failed: RunoffError | None = None
        self._fell = anyio.Event()
        self._anchoring = Anchoring(anchors, board.head) if anchors else None
        self._unkept = 0
        self._followers: list[Callable[[Seen], None]] = []
        self._relearners: list[Callable[[], None]] = []
        self.leaving = Leaving()
        if store.is_shared and isinstance(store, OnServer):  # which is slow to ask
            self.leaving = store.leaving

    @property
    def head(self) -> Head:
        """The end of the log as far as it is committed and folded."""
        return self.board.head

    @property
    def committed(self) -> Head | None:
        """The end of the log; None while something that was decided awaits its commit."""
        return self.board.head if self._settled.is_set() else None

    @property
    def epoch(self) -> int:
        """The epoch of this writer; one more than any before it."""
        return self._decisions.epoch

    @property
    def time_us(self) -> int:
        """By which time is decided now: the clock's, or the log's own where that was set back."""
        return self._time.now_us()

    @contextmanager
    def followed_by(
        self, follower: Callable[[Seen], None], relearn: Callable[[], None]
    ) -> Generator[None]:
        """While the block runs, ``follower`` is called with each event of another writer.

        The board holds it by then.  ``relearn`` is called when the board was taken back to what the
        log says, so that whatever was concluded from it has to be concluded anew.
        """
        self._followers.append(follower)
        self._relearners.append(relearn)
        try:
            yield
        finally:
            self._followers.remove(follower)
            self._relearners.remove(relearn)

    async def settled(self) -> None:
        """Wait until the board says what the log says, and nothing decided awaits its commit.

        What is shown of the board before could be of events that never come to be in the log.
        Raises why nothing can be recorded any more: the board may be ahead for good then.
        """
        while not self._settled.is_set():
            await self._settled.wait()
        if self._failed is not None:
            raise self._failed

    @property
    def failed(self) -> RunoffError | None:
        """Why nothing can be recorded any more; None while all is well."""
        return self._failed

    async def until_failed(self) -> RunoffError:
        """Wait until nothing can be recorded any more; why.  Whoever submits nothing learns it."""
        await self._fell.wait()
        assert self._failed is not None
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
        self._decisions.follow(await self.store.last_epoch())
        newest = await self.store.records(Query(newest_first=True), limit=1)
        self._time.reach(newest[0].recorded_us if newest else 0)
        await self._refresh_projections()

    async def _refresh_projections(self) -> None:
        """Make the stored rows those of the board; old versions go when the new ones stand.

        In a shared log they stay: an engine of an older program may be at work with them.
        """
        if self.board.is_rebuilt and self.board.head.pos:
            await self._keep_all(is_whole=True)
        if self.store.is_shared:
            return
        current = {(fold.name, fold.version) for fold in FOLDS.values()}
        stored = {(p.name, p.version) for p in await self.store.projections()}
        for name, version in stored - current:
            await self.store.drop_projection(name, version)

    async def run(self) -> None:
        """Write batches until closed and drained, or until storage fails."""
        async with anyio.create_task_group() as group:
            if self._anchoring is not None:
                group.start_soon(self._anchor, self._anchoring)
            while not self._failed and not (self._closing and not self._queue):
                if self._queue:
                    # For others who are about to submit, so that they share the commit.
                    for _ in range(self._turns):
                        await anyio.lowlevel.checkpoint()
                    await self._write_batch()
                    self._settled.set()
                else:
                    self._wake = anyio.Event()
                    await self._wake.wait()
            if self._unkept and not self._failed:
                await self._keep_at_close()
            if self._anchoring is not None:
                self._anchoring.finish()

    async def _anchor(self, anchoring: Anchoring) -> None:
        try:
            await anchoring.run()
        except StorageFailed as error:
            self._fail(error, ())
            self._wake.set()

    async def _keep_at_close(self) -> None:
        try:
            await self._keep_all()
        except RunoffError as error:
            self._fail(error, ())

    async def _keep_all(self, *, is_whole: bool = False) -> None:
        """Write the projections as of the head; in a shared log others may have moved it.

        ``is_whole``: the board was built from nothing, so that all rows are among its changes; they
        take the place of what is stored in one step, under the eyes of other engines.
        """
        async with self.store.transaction() as transaction:
            if self.store.is_shared:
                await self._follow_others(await transaction.look([], []))
            await transaction.append([], self._all_kept(is_whole=is_whole))

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
            await self._go_on(error, batch, taken)
        except Exception as error:  # noqa: BLE001  whatever failed, callers must hear of it
            self._fail(error, taken)
        else:
            assert batch is not None
            await self._acknowledge(batch)

    async def _go_on(self, error: RunoffError, batch: Batch | None, taken: list[Pending]) -> None:
        """Once the server is back: answer what it has committed, decide anew what it has not."""
        while await self._until_back():
            try:
                if batch is None or not batch.records:
                    break  # the board says what the log says
                if await self._is_committed(batch):
                    await self._acknowledge(batch)
                    return
                await self._take_back(batch)
                break
            except ServerLost as again:
                error = again
            except Exception as other:  # noqa: BLE001  whatever failed, callers must hear of it
                self._fail(other, taken)
                return
        else:
            self._fail(error, taken)
            return
        self._queue.extendleft(reversed(taken))

    async def _until_back(self) -> bool:
        """Wait for the server, unless this writer is about to close or the process has to end."""
        if self._closing or not isinstance(self.store, OnServer):
            return False
        try:
            await self.store.until_back()
        except RunoffError:
            return False
        return True

    async def _is_committed(self, batch: Batch) -> bool:
        """Whether a batch whose connection was lost is in the log.

        Who holds the head knows for certain: the lost transaction held it, so that it is over.
        """
        last = batch.records[-1]
        async with self.store.transaction() as transaction:
            await transaction.look([], [])
            return await self.store.hash_at(last.pos) == last.hash

    async def _take_back(self, batch: Batch) -> None:
        """Have the board stand again where ``batch`` was decided, which never was recorded.

        Raises LogWentBack when what was recorded before is not there either.
        """
        board = await load_board(self.store, batch.behind.pos)
        await refuse_gone_back(batch.behind, self.store, board.head)
        self.board.become(board)
        for relearn in self._relearners:
            relearn()

    async def _begin(self, transaction: Transaction, taken: Sequence[Pending]) -> Batch:
        is_shared = self.store.is_shared
        ids = [p.command.command_id for p in taken if not p.command.is_fresh]
        streams = self._decisions.unknown(taken, is_shared=is_shared)
        if not (ids or streams or is_shared):
            return self._decisions.batch(Found({}, {}))  # saves a hop to the disk
        found = await transaction.look(ids, streams)
        if is_shared:
            await self._follow_others(found)
        return self._decisions.batch(found)

    async def _follow_others(self, found: Found) -> None:
        """Fold what other writers have appended; the transaction holds the head still."""
        assert found.end is not None, "a shared log says where it ends"
        async for seen in followed(self.board, self.store, found.end.head):
            self._decisions.refuse_lapsed(seen.event)
            self._time.reach(seen.recorded_us)
            for follower in self._followers:
                follower(seen)
        self._decisions.follow(found.end.epoch)

    def _decide_all(self, batch: Batch, taken: list[Pending]) -> None:
        """Decide as many of ``taken`` as fit; the rest goes back to the front of the queue."""
        self._settled = anyio.Event()
        self._decisions.begin(self._time.now_us())
        done = self._decisions.decide_all(batch, taken)
        self._queue.extendleft(reversed(taken[done:]))
        del taken[done:]

    def _kept(self, batch: Batch) -> list[Kept]:
        """What of the projections goes with this batch: nothing, or all that changed."""
        self._unkept += len(batch.records)
        return self._all_kept() if self._unkept >= PROJECTION_EVENTS else []

    def _all_kept(self, *, is_whole: bool = False) -> list[Kept]:
        """Every projection's changes since they were last written, with its checkpoint."""
        self._unkept = 0
        head, kept = self.board.head, list[Kept]()
        for keyed in self.board.all:
            changes = keyed.take_changes()
            checkpoint = Checkpoint(head.pos, head.hash, keyed.digest)
            fold = keyed.fold
            kept.append(Kept(fold.name, fold.version, changes, checkpoint, is_whole))
        return kept

    async def _acknowledge(self, batch: Batch) -> None:
        if batch.records:
            self._decisions.is_announced = True
            if self._anchoring is not None:
                self._anchoring.committed(batch.head)
        try:
            for pending, outcome in batch.settled:
                if isinstance(outcome, Receipt) and outcome.repeated and not outcome.records:
                    outcome = await self._first_receipt(pending.command.command_id, batch)  # noqa: PLW2901
                pending.settle(outcome)
        except RunoffError as error:
            self._fail(error, [pending for pending, _ in batch.settled])

    async def _first_receipt(self, command_id: str, batch: Batch) -> Receipt:
        prior = batch.prior[command_id]
        query = Query(until=prior.last_pos)
        count = prior.last_pos - prior.first_pos + 1
        records = await self.store.records(query, after=prior.first_pos - 1, limit=count)
        return Receipt(command_id, tuple(records), repeated=True)

    def _fail(self, error: Exception, taken: Sequence[Pending]) -> None:
        """The board may be ahead of the log now, so nothing more can be decided here."""
        told = error if isinstance(error, RunoffError) else limit_met(error)
        self._failed = told or _unexpected(error)
        self._failed.__cause__ = None if error is self._failed else error
        self._fell.set()
        for pending in [*taken, *self._queue]:
            if not pending.done.is_set():
                pending.settle(self._failed)
        self._queue.clear()


def _unexpected(error: Exception) -> StorageFailed:
    return StorageFailed(
        f"the writer stopped: {type(error).__name__}: {error}.",
        remedy="start again; everything acknowledged is in the log. Please report this.",
    )


@asynccontextmanager
async def recording(
    store: EventStore,
    clock: Clock,
    writer: Writer,
    *,
    anchors: Path | None = None,
    pace: Pace | None = None,
    turns: int = TURNS,
) -> AsyncGenerator[Recorder, None]:
    """A recorder that runs while the block does, and drains its queue at the end.

    ``anchors``: the file that each commit is anchored in, None for none.  ``pace`` is told how far
    the log was read, if it has to be.  ``turns``: see Recorder.  When the writer stops by itself,
    whoever submits hears why (StorageFailed, Fenced).
    """
    anchored = Anchors(anchors) if anchors else None
    board = await load_board(store, pace=pace)
    recorder = Recorder(store, board, clock, writer, anchored, turns=turns)
    await recorder.open()
    async with anyio.create_task_group() as group:
        group.start_soon(_shielded, recorder)
        try:
            yield recorder
        except BaseException:
            recorder.leaving.begin()
            raise
        finally:
            recorder.close()


async def _shielded(recorder: Recorder) -> None:
    # A cancelled COMMIT usually commits: nobody but the recorder may interrupt a transaction.
    with anyio.CancelScope(shield=True):
        await recorder.run()


__all__ = ["BATCH_EVENTS_MAX", "Recorder", "Writer", "recording"]
