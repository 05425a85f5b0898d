"""Decide commands against the board at the head, one behind the other.

What they come to is numbered, chained and folded into the board before the next one is asked for.

No transaction and no queue is known here.  Whatever was decided holds only once it is committed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from engine.errors import CommandReused, Fenced, RunoffError, UsageProblem, WrongVersion
from engine.events import (
    AnyEvent,
    EngineStarted,
    Head,
    Record,
    Seen,
    SessionLapsed,
    chain_hash,
    encode,
    event_type,
    tags_of,
)
from engine.store.batch import Batch, Pending
from engine.store.command import Command, Draft, Moment, Receipt
from engine.store.protocol import Found
from projections.board import Board

BATCH_EVENTS_MAX = 512
BATCH_BYTES_MAX = 1024 * 1024
STREAMS_REMEMBERED = 4096
ENGINES = "engine"
"""The stream in which every writer announces its epoch."""


class Writer(NamedTuple):
    """Who writes: what the envelope and the first event of an epoch say."""

    host: str
    boot_id: str
    pid: int
    program: str
    package_version: str


class Decisions:
    """What one writer decides, in one epoch.

    ``epoch``: this writer's own; it is announced by an event of its own, before the first that
    the writer has to say.
    """

    def __init__(self, board: Board, writer: Writer) -> None:
        self.board = board
        self.epoch = 0
        self.is_announced = False
        self._writer = writer
        self._log_epoch = 0
        self._recorded_us = 0
        self._versions: dict[str, int] = {}

    def begin(self, recorded_us: int) -> None:
        """What is decided from here on is recorded no earlier than ``recorded_us``."""
        self._recorded_us = max(self._recorded_us, recorded_us)

    def follow(self, epoch: int) -> None:
        """The log stands at ``epoch``.

        Another may have begun since this one was opened: until this one has said something, its
        own number is given out here.
        """
        self._log_epoch = epoch
        if not self.is_announced:
            self.epoch = self._log_epoch = epoch + 1

    def refuse_lapsed(self, event: AnyEvent) -> None:
        """A writer whose lease another has seen lapse may append nothing more."""
        if isinstance(event, SessionLapsed) and self.is_announced and event.epoch == self.epoch:
            raise Fenced(
                f"the lease of this engine lapsed, and engine {event.noticed_by} has noticed.",
                remedy="start again; what it was at has been taken over.",
            )

    def unknown(self, taken: Iterable[Pending], *, is_shared: bool) -> list[str]:
        """The streams of ``taken`` whose versions are to be looked up; in a shared log all."""
        streams = {pending.command.stream for pending in taken}
        if not self.is_announced:
            streams.add(ENGINES)
        if is_shared or len(self._versions) > STREAMS_REMEMBERED:
            self._versions.clear()
        return [stream for stream in streams if stream not in self._versions]

    def batch(self, found: Found) -> Batch:
        """A batch behind the head, of which the log holds ``found`` already."""
        self._versions.update(found.versions)
        return Batch(self.board.head, self._versions, found.prior)

    def decide_all(self, batch: Batch, taken: Sequence[Pending]) -> int:
        """Decide as many of ``taken`` as fit into ``batch``; how many did."""
        for pending in taken:
            if len(batch.records) >= BATCH_EVENTS_MAX or batch.size_bytes >= BATCH_BYTES_MAX:
                break
            batch.settled.append((pending, self._decide(batch, pending)))
        return len(batch.settled)

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
            _check_version(batch, command)
            drafts = command.decide(self.board, Moment(self._recorded_us, self._next_pos(batch)))
            first = next(drafts, None)
        except RunoffError as refusal:
            return refusal
        if first is None:
            return Receipt(command.command_id, ())
        start = len(batch.records)
        try:
            self._add(batch, pending, first, 0)
        except UsageProblem as too_long:
            return too_long  # nothing of it was folded yet
        for idx, draft in enumerate(drafts, 1):
            self._add(batch, pending, draft, idx)
        # The first command of an epoch is preceded by the epoch's own event, which is not its.
        mine = (r for r in batch.records[start:] if r.command_id == command.command_id)
        receipt = Receipt(command.command_id, tuple(mine))
        batch.receipts[command.command_id] = (pending.digest, receipt)
        return receipt

    def _next_pos(self, batch: Batch) -> int:
        """Where the next command's first event will stand: behind the first event of an epoch."""
        return batch.head.pos + 1 + (not self.is_announced and not batch.records)

    def _add(self, batch: Batch, pending: Pending, draft: Draft, idx: int) -> None:
        if not self.is_announced and not batch.records:
            self._announce(batch)
        command = pending.command
        self._append(
            batch, draft, (command.stream, command.command_id, idx, pending.digest, command.actor)
        )

    def _announce(self, batch: Batch) -> None:
        """The first event of an epoch, written with the first batch that has anything to say."""
        started = EngineStarted(
            epoch=self.epoch,
            host=self._writer.host,
            boot_id=self._writer.boot_id,
            pid=self._writer.pid,
            program=self._writer.program,
            package_version=self._writer.package_version,
        )
        digest = hashlib.sha256(encode(started).encode()).digest()
        envelope = (ENGINES, f"engine-{self.epoch}", 0, digest, self._writer.program)
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


def _check_version(batch: Batch, command: Command) -> None:
    if command.expected_version is None:
        return
    found = batch.versions[command.stream]
    if found != command.expected_version:
        raise WrongVersion(
            f"{command.stream} is at version {found}, not {command.expected_version}.",
            remedy="read it again and decide anew.",
        )


def _reused(command: Command) -> CommandReused:
    return CommandReused(
        f"the command id {command.command_id} was used before for something else.",
        remedy="make a new id for a new intent.",
    )
