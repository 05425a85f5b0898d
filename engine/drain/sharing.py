"""An engine's part in a log that several share: its lease, and what it sees of the others.

An engine takes a lease on its session by appending it, and renews it three times in its life,
whatever else it waits for meanwhile: what it reads, what it appends, or whom it takes over.
Whoever sees another's lease run out, or its process gone on the same machine, appends the lapse;
from there on that engine's appends are refused, and what it was at may be taken over.

A lease counts as lapsed only once it has been seen standing still for a whole life of it, by the
clock that counts seconds: when the server was away, everybody comes back late, and nobody is to
blame; and clocks on the wall are set.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import anyio

from engine.clock import Clock
from engine.drain.adoptions import Adoption
from engine.drain.commands import stream_of
from engine.drain.sheets import assignment_for
from engine.errors import LogHeld, RunoffError, ServerLost
from engine.events import (
    AttemptAdopted,
    AttemptSpawned,
    AttemptStarted,
    Record,
    SessionLapsed,
    SessionLeased,
    event_of,
)
from engine.executors.adoption import is_known_here
from engine.executors.port import Report
from engine.executors.processes import boot_id, is_alive, process_start_ticks
from engine.ids import IdMaker
from engine.store.command import Command, Draft, Moment
from engine.store.leases import BEATS_PER_LEASE, LEASE_S, Holder, Leases
from engine.store.protocol import Query
from engine.store.recorder import Recorder
from engine.triage.scope import scope_of
from projections.board import Board
from projections.sessions import SessionStanding

OVERSTAY_S = 60.0
"""What a guardian elsewhere is granted beyond deadline and grace, before it counts as ended."""
CLOCKS_APART_US = 3_600_000_000
"""So long ago, by the log, is long ago whatever the clocks of machines say."""
FOLLOW_S = 1.0
"""How long to wait for a hint before looking at the head without one."""


class Opened(NamedTuple):
    """An open attempt, and whose it is.

    ``owner``: the epoch of the living engine that is at it, or that has to take it over.
    ``is_elsewhere``: its guardian is on another machine, and has ended it ``lasts_s`` after its
    start ``started_us`` (Unix microseconds, by the clock there) at the latest.
    """

    started: AttemptStarted
    owner: int | None
    is_elsewhere: bool
    started_us: int
    lasts_s: float

    def has_passed(self, since_us: int, now_us: int) -> bool:
        """Whether it is over by ``now_us`` if it began at ``since_us``; clocks are apart."""
        age_us = now_us - since_us - CLOCKS_APART_US
        return age_us / 1e6 >= self.lasts_s


class Left(NamedTuple):
    """What other engines have left to this one.

    ``here``: open attempts whose life and death can be proved here.  ``over``: those on other
    machines that are over there, too, by now.
    """

    here: frozenset[str]
    over: list[Adoption]


def opened(
    records: Sequence[Record], session: SessionStanding, living: Mapping[int, str]
) -> Opened:
    """What the start, spawn and adoptions of an attempt say of it, in the order of the log.

    The newest living engine that adopted it has it, else the one at its session.  Behind a lapse
    it is one on its host, where its outcome is, and one elsewhere only when nobody lives there:
    who noticed the lapse, else the oldest.  So it is always exactly one.  ``living``: hosts by
    epoch.
    """
    started = event_of(records[0])
    assert isinstance(started, AttemptStarted), "an open attempt has a start"
    at_it = {epoch for epoch in living if epoch == session.leased_by}
    able, is_elsewhere = at_it or set(living), False
    for event in map(event_of, records[1:]):
        if isinstance(event, AttemptSpawned):
            # Another container of this machine has other process numbers, and another name.
            is_elsewhere = not is_known_here(event.host, event.boot_id, event.directory)
            there = {epoch for epoch, host in living.items() if host == event.host}
            able = at_it or there or able
        elif isinstance(event, AttemptAdopted) and event.epoch in living:
            able = {event.epoch}
    owner = session.heir if session.heir in able else min(able, default=None)
    grace_ms = session.limits.grace_ms if session.limits else 0
    lasts_s = (started.timeout_ms + grace_ms) / 1000 + OVERSTAY_S
    return Opened(started, owner, is_elsewhere, records[0].recorded_us, lasts_s)


class Share:
    """One engine at one session of a shared log.

    ``look_after`` is called at every beat, to take over what others have left.  ``here``: where
    this process runs, as ``place`` says.
    """

    def __init__(
        self,
        recorder: Recorder,
        leases: Leases,
        clock: Clock,
        ids: IdMaker,
        session_id: str,
        *,
        lease_s: float = LEASE_S,
        here: str | None = None,
    ) -> None:
        self._recorder = recorder
        self._leases = leases
        self._clock = clock
        self._ids = ids
        self._session_id = session_id
        self._lease_s = lease_s
        self._here = place() if here is None else here
        self._looked_s = 0.0
        self._seen: dict[tuple[str, int, int], float] = {}
        self._open_since: dict[str, float] = {}
        self._seen_alone: frozenset[str] | None = None
        self.look_after: Callable[[], Awaitable[None]] = _nothing

    async def join(self) -> None:
        """Take the lease, and say of engines that are provably dead that they are.

        Raises LogHeld when another engine is at the session.
        """
        await self._recorder.submit(self._leased())
        await self._through(self.renew)
        await self._through(self.notice)

    async def look(self) -> None:
        """Say of engines that are provably dead that they are, whatever began meanwhile."""
        await self._through(self.follow)
        await self._through(self.notice)

    async def keep(self) -> None:
        """Follow and notice, for ever; raises Fenced when this engine has lapsed itself."""
        while True:
            await self._through(self._beat)

    async def live(self) -> None:
        """Renew the lease, for ever; that it has lapsed is not noticed here."""
        while True:
            await anyio.sleep(self._lease_s / BEATS_PER_LEASE)
            await self._through(self.renew)

    async def _through(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do it, once more whenever the server was lost and is back."""
        while True:
            try:
                return await step()
            except ServerLost:
                if self._recorder.failed is not None:
                    raise
                await self._leases.until_back()
                # Nobody could renew meanwhile, so nobody has let anything lapse.
                self._seen = {}

    async def _beat(self) -> None:
        """Follow for a third of a lease, then notice."""
        due_s = self._clock.monotonic_s() + self._lease_s / BEATS_PER_LEASE
        while (left_s := due_s - self._clock.monotonic_s()) > 0:
            await self._leases.until_hint(min(FOLLOW_S, left_s))
            await self.follow()
        await self.notice()
        await self.look_after()

    async def renew(self) -> None:
        """Let the lease live on from now."""
        await self._leases.renew(self._me, self._lease_s)

    async def leave(self) -> None:
        """Give the lease back if the session has ended.

        Else it stays, for the log names this engine as at the session: that its process is gone
        proves its death to the next one here, and others see the lease stand still.
        """
        session = self._recorder.board.sessions.get(self._session_id)
        is_held = session is not None and session.leased_by == self._recorder.epoch
        # Behind a failure the board may hold an end that the log has not.
        if not is_held and self._recorder.failed is None:
            await self._leases.give_back(self._session_id, self._recorder.epoch)

    async def inherited(self) -> frozenset[str]:
        """Open attempts that fell to this engine, because no other one is at them any more.

        Without those on other machines, where an engine of that machine has to prove them dead.
        """
        fallen = await self._fallen(frozenset())
        return frozenset(each.started.attempt_id for each in fallen if not each.is_elsewhere)

    async def left(self, attended: frozenset[str]) -> Left:
        """What fell to this engine while its session is under way, but those ``attended``."""
        return await self._left(await self._fallen(attended))

    async def left_alone(self) -> Left:
        """What would fall to this engine, which is at no session; nothing that others see to.

        An engine at work on this host sees to all that there is here.  Of those that are not, who
        noticed the death goes first, and the others are in time at their next look.
        """
        board, host, me = self._recorder.board, socket.gethostname(), self._recorder.epoch
        living = _living(board)
        if host in living.values():
            return Left(frozenset(), [])
        fallen = await self._fallen(frozenset(), living | {me: host})
        seen = self._seen_alone
        self._seen_alone = frozenset(each.started.attempt_id for each in fallen)
        due = [
            each
            for each in fallen
            if seen is None
            or each.started.attempt_id in seen
            or board.sessions.states[each.started.session_id].heir == me
        ]
        return await self._left(due)

    async def _left(self, fallen: Sequence[Opened]) -> Left:
        here = frozenset(
            each.started.attempt_id
            for each in fallen
            if not each.is_elsewhere and each.started.session_id != self._session_id
        )
        over = [each for each in fallen if each.is_elsewhere and await self._is_over(each)]
        return Left(here, [await self._adoption(each.started) for each in over])

    async def _is_over(self, each: Opened) -> bool:
        """Whether it was seen open for as long as it can last, or is long ago by any clock.

        By this machine's and by the server's, either of which may be ahead.  The clock where it
        began may have been behind; but it had begun when the lapse of its engine was recorded.
        """
        seen_s = self._clock.monotonic_s() - self._open_since[each.started.attempt_id]
        if seen_s >= each.lasts_s:
            return True
        here_us = self._clock.now_us()
        if not each.has_passed(each.started_us, here_us):
            return False  # as nearly always, so that nothing is asked of the server at each beat
        query = Query(types=("session.lapsed",), session=each.started.session_id, newest_first=True)
        lapsed = await self._recorder.store.records(query, limit=1)
        since_us = max([each.started_us, *(record.recorded_us for record in lapsed)])
        return each.has_passed(since_us, min(here_us, await self._leases.now_us()))

    async def _adoption(self, started: AttemptStarted) -> Adoption:
        scope = scope_of(self._recorder.board.sessions.states[started.session_id])
        assignment = await assignment_for(self._recorder, started, scope, self._clock)
        return Adoption(started, assignment, _out_of_reach, lives=False)

    async def _fallen(
        self, attended: frozenset[str], living: Mapping[int, str] | None = None
    ) -> list[Opened]:
        """Open attempts that are this engine's, but those ``attended``, which are not asked for.

        ``living``: the hosts of those that they may fall to by epoch; all that live.
        """
        board = self._recorder.board
        living = _living(board) if living is None else living
        open_ids = {p.open_attempt for p in board.backlog.values() if p.open_attempt}
        now_s, before = self._clock.monotonic_s(), self._open_since
        self._open_since = {each: before.get(each, now_s) for each in open_ids}
        kinds = ("attempt.started", "attempt.spawned", "attempt.adopted")
        found: list[Opened] = []
        for attempt_id in sorted(open_ids - attended):
            query = Query(attempt=attempt_id, types=kinds)
            records = await self._recorder.store.records(query)
            if records:
                session = board.sessions.states[str(records[0].session)]
                found.append(opened(records, session, living))
        return [each for each in found if each.owner == self._recorder.epoch]

    @property
    def _me(self) -> Holder:
        pid = os.getpid()
        return Holder(
            self._session_id, self._recorder.epoch, self._here, pid, process_start_ticks(pid)
        )

    def _leased(self) -> Command:
        def decide(board: Board, _moment: Moment) -> Iterator[Draft]:
            session = board.sessions.get(self._session_id)
            holder = None if session is None else session.leased_by
            if holder == self._recorder.epoch:
                return
            if holder is not None:
                raise LogHeld(
                    f"engine {holder} is at the session {self._session_id}.",
                    remedy="begin another session; this one is free when its lease has lapsed.",
                )
            yield Draft(
                SessionLeased(
                    session_id=self._session_id,
                    epoch=self._recorder.epoch,
                    host=socket.gethostname(),
                    lease_ms=round(self._lease_s * 1000),
                )
            )

        return Command(self._ids("cmd"), stream_of(self._session_id), b"lease", decide)

    async def follow(self) -> None:
        """Have the writer fold what others have appended, if they have.

        Raises Fenced if this engine has lapsed, LogWentBack if the log lacks what it has seen.
        """
        known = self._recorder.committed
        head = await self._recorder.store.head()
        went_back = known is not None and head.pos <= known.pos and head != known
        if went_back or head.pos > self._recorder.head.pos:
            await self._recorder.submit(following(self._ids("cmd")))

    async def notice(self) -> None:
        """Append which engines have lapsed: those seen standing still, and those gone from here."""
        found = {lease.holder.session_id: lease for lease in await self._leases.all()}
        now_s = self._clock.monotonic_s()
        # Who was not there to look has not seen anything stand still.
        was_there = now_s - self._looked_s < self._lease_s * 2 / BEATS_PER_LEASE
        seen = self._seen if was_there else {}
        self._seen, self._looked_s = {}, now_s
        for session in list(self._recorder.board.sessions.values()):
            epoch, session_id = session.leased_by, session.session_id
            if epoch in (None, self._recorder.epoch):
                continue
            lease = found.get(session_id)
            if lease is not None and lease.holder.epoch != epoch:
                lease = None
            key = (session_id, epoch, lease.renewals if lease else -1)
            since_s = self._seen[key] = seen.get(key, now_s)
            proved = lease is not None and self._is_dead(lease.holder)
            if proved or await self._stands_still(session_id, now_s - since_s):
                host = lease.holder.place.partition(" ")[0] if lease else ""
                await self._recorder.submit(self._lapsed(session_id, epoch, host, proved=proved))
                await self._leases.give_back(session_id, epoch)

    async def _stands_still(self, session_id: str, stood_s: float) -> bool:
        """Whether a lease was seen standing still for all of its life, and of one like our own.

        Its life is what its engine said.  When it runs out by the server is not asked: that clock
        may be set, too, and back by a year it would keep a dead engine for as long.
        """
        if stood_s < self._lease_s:
            return False
        query = Query(types=("session.leased",), session=session_id, newest_first=True)
        (record,) = await self._recorder.store.records(query, limit=1)
        leased = event_of(record)
        return isinstance(leased, SessionLeased) and stood_s * 1000 >= leased.lease_ms

    def _is_dead(self, holder: Holder) -> bool:
        """Whether the engine ran right here, and does so no more."""
        is_here = holder.place == self._here
        return is_here and not is_alive(holder.pid, holder.start_ticks)

    def _lapsed(self, session_id: str, epoch: int, host: str, *, proved: bool) -> Command:
        def decide(board: Board, _moment: Moment) -> Iterator[Draft]:
            session = board.sessions.get(session_id)
            if session is not None and session.leased_by == epoch:
                yield Draft(
                    SessionLapsed(
                        session_id=session_id,
                        epoch=epoch,
                        host=host,
                        noticed_by=self._recorder.epoch,
                        proved=proved,
                    )
                )

        return Command(self._ids("cmd"), stream_of(session_id), b"lapse", decide)


@asynccontextmanager
async def keeping(share: Share) -> AsyncGenerator[None, None]:
    """Renew the lease while the block runs; leave behind it."""
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(share.live)
            group.start_soon(share.keep)
            try:
                yield
            finally:
                group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True), suppress(RunoffError):
            await share.leave()


def place() -> str:
    """Machine, boot and space of process numbers: where a number means one process."""
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = ""
    return f"{socket.gethostname()} {boot_id()} {space}"


async def _out_of_reach(_abandon: anyio.Event) -> Report:
    reason = "its machine was not heard of again, and its deadline has passed there, too"
    return Report(ended="lost", duration_ms=0, reason=reason)


def _living(board: Board) -> dict[int, str]:
    return {s.leased_by: s.host for s in board.sessions.values() if s.leased_by is not None}


def following(command_id: str) -> Command:
    """Have the writer fold what others have appended, and say nothing."""
    return Command(command_id, "engine", b"follow", _followed)


def _followed(_board: Board, _moment: Moment) -> Iterator[Draft]:
    """The writer has followed the others by now."""
    yield from ()


async def _nothing() -> None:
    """Nobody wants to know."""
