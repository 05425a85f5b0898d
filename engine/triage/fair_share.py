"""Fair share: how much of scarce work an engine takes at once, and what it leaves to others.

What is ready is dealt out, a phase at a time, to the engine whose load would be least with it, and
an engine takes its own part.  Phases that few can run are dealt out first.  It bounds what is taken
at once and not what is picked first, so every pick stays the one that the queue says.  Pure; how
long something is left is the loop's business (``engine.drain.patience``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from heapq import heapify, heappop, heapreplace
from typing import NamedTuple

from engine.errors import LogUnreadable
from engine.events import AnyEvent, AttemptStarted, Limits
from engine.triage.hosts import open_on
from engine.triage.scope import Scope, scope_of
from engine.triage.select import Queue, paused_until_us
from projections.board import Board
from projections.fold import join
from projections.sessions import SessionStanding

Needs = tuple[str, ...]
"""The labels that a phase needs, by name."""


class Engine(NamedTuple):
    """An engine as the others see it.

    ``host_room``: how many more attempts its host takes, None for any number.
    """

    running: int
    workers: int
    labels: frozenset[str] = frozenset()
    host: str = ""
    host_room: int | None = None

    @property
    def has_room(self) -> bool:
        """Whether it could take another attempt."""
        return self.running < self.workers and (self.host_room is None or self.host_room > 0)

    @property
    def load_after(self) -> float:
        """Its load with one attempt more."""
        return (self.running + 1) / self.workers


def shares(engines: Sequence[Engine], ready: Mapping[Needs, int]) -> list[Counter[Needs]]:
    """How many of the ready phases each engine gets, by what they need, in the same order.

    Of engines that would have the same load the first gets the phase, so who asks goes first.
    """
    able = {
        needs: [n for n, each in enumerate(engines) if each.labels.issuperset(needs)]
        for needs in ready
    }
    dealt = [Counter[Needs]() for _ in engines]
    now = list(engines)
    for needs in sorted(ready, key=lambda needs: (len(able[needs]), needs)):
        for number in _dealt(now, able[needs], ready[needs]):
            dealt[number][needs] += 1
    return dealt


def _dealt(now: list[Engine], able: Sequence[int], phases: int) -> list[int]:
    """Who gets each of so many phases that are alike; ``now`` is brought up to date."""
    found: list[int] = []
    on_host = Counter[str]()
    heap = [(now[number].load_after, number) for number in able]
    heapify(heap)
    while heap and len(found) < phases:
        number = heap[0][1]
        engine = now[number]
        if not _with_others(engine, on_host).has_room:
            heappop(heap)
            continue
        found.append(number)
        on_host[engine.host] += 1
        engine = now[number] = engine._replace(running=engine.running + 1)
        heapreplace(heap, (engine.load_after, number))
    now[:] = [_with_others(engine, on_host) for engine in now]
    return found


def _with_others(engine: Engine, on_host: Mapping[str, int]) -> Engine:
    """An engine whose host has been given more, to whichever engine there."""
    if engine.host_room is None:
        return engine
    return engine._replace(host_room=engine.host_room - on_host.get(engine.host, 0))


def others(board: Board, scope: Scope, now_us: int, idle: Mapping[str, int]) -> list[Engine]:
    """The other engines of the log that may take what is ready, and have room.

    Those whose lease lives, whose session runs for any run, and whose account does not rest.
    ``idle``: sessions that let work lie when they had made so many attempts; they are not waited
    for until they make another.
    """
    found: list[Engine] = []
    for session in board.sessions.values():
        if session.session_id == scope.session_id or session.leased_by is None:
            continue
        if idle.get(session.session_id) == session.attempts or not _takes_any(session):
            continue
        with suppress(LogUnreadable):  # one whose policy is beyond us is not waited for
            of = scope_of(session)
            engine = engine_of(board, session, of.limits, session.open)
            if engine.has_room and paused_until_us(board, of, now_us) is None:
                found.append(engine)
    return found


def _takes_any(session: SessionStanding) -> bool:
    limits = session.limits
    return session.status == "running" and limits is not None and limits.run_id is None


def engine_of(board: Board, session: SessionStanding, limits: Limits, running: int) -> Engine:
    """How an engine at a session stands that has so many workers busy."""
    most = limits.host_workers
    room = None if most is None else most - open_on(board.sessions.values(), session.host)
    workers = limits.workers if most is None else min(limits.workers, most)
    return Engine(running, workers, frozenset(limits.labels), session.host, room)


class Turn:
    """One pick of an engine among others: which of the starts it leaves to them.

    ``room``: as many attempts as it has workers free.  ``left``: the key of the phase at which it
    stopped, None when it left nothing that it could have taken.
    """

    def __init__(self, queue: Queue, scope: Scope, room: int, idle: Mapping[str, int]) -> None:
        self._queue = queue
        self._scope = scope
        self._room = room
        self._idle = idle
        self.begin()

    def begin(self) -> None:
        """The pick is decided from here, maybe once more."""
        self.left: str | None = None
        self._taken = 0
        self._mine: Counter[Needs] | None = None
        self._ready: Mapping[Needs, int] = {}

    def leaves(self, board: Board, event: AnyEvent, now_us: int) -> bool:
        """Whether an event that would come next is a start that another engine should make."""
        if not isinstance(event, AttemptStarted):
            self._mine = None  # a run that comes back is work that was not dealt out
            return False
        if self._mine is None:
            self._deal(board, now_us)
        key = join(event.run_id, event.phase_id)
        needs = board.backlog.states[key].needs
        assert self._mine is not None, "dealt out above"
        if needs in self._ready and not self._mine[needs]:
            self.left = key
            return True
        self._mine[needs] -= 1
        self._taken += 1
        return False

    def _deal(self, board: Board, now_us: int) -> None:
        found = others(board, self._scope, now_us, self._idle)
        if not found:
            self._ready, self._mine = {}, Counter()
            return
        limits, session = self._scope.limits, board.sessions.states[self._scope.session_id]
        busy = limits.workers - self._room + self._taken
        me = engine_of(board, session, limits, busy)
        room = sum(engine.workers - engine.running for engine in (me, *found))
        self._ready = self._queue.ready_by_needs(now_us, room)
        self._mine = shares([me, *found], self._ready)[0]
