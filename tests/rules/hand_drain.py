"""A drain by hand: the pure rules over a board, with any number of workers and its own clock.

Everything that a real drain adds (processes, a log on disk, an event loop) is left out, so that a
law can be tried on thousands of drains.  Who finishes next, and how, is up to the test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.events import (
    GENESIS,
    AnyEvent,
    AttemptFinished,
    AttemptStarted,
    BoundaryDetected,
    Ending,
    FailureFingerprinted,
    Head,
    Order,
    PhaseRegistered,
    PhaseState,
    PolicyAdopted,
    RunRegistered,
    Seen,
    SessionStarted,
)
from engine.triage.beginning import taken_over
from engine.triage.decide import Facts, following
from engine.triage.ending import ended
from engine.triage.picking import Picker, picks
from engine.triage.reasons import Ground
from engine.triage.scope import Scope
from engine.triage.select import Queue, paused_until_us
from projections.board import Board
from tests.rules.standings import NOW_US, boundary, fingerprinted

STEP_US = 1_000_000


class Fate(NamedTuple):
    """How an attempt ends.

    ``like``: what failures with the same name have in common; ``limited``: a provider's limit
    ended it, which is lifted ``resets_in_ms`` later, if it says so.
    """

    ending: Ending = "failed"
    like: str | None = None
    usage: int = 0
    limited: bool = False
    resets_in_ms: int | None = None


class Line(NamedTuple):
    """An event with its place, its time and the position of the fact that it belongs to."""

    pos: int
    now_us: int
    event: AnyEvent
    cause: int | None = None


class HandDrain:
    """A log in a list, its board, and sessions that are drained over it one after the other."""

    def __init__(self, backlog: Sequence[AnyEvent]) -> None:
        self.board = Board()
        self.log: list[Line] = []
        self.now_us = NOW_US
        self.queue: Queue | None = None
        self.made = 0
        for event in backlog:
            self.record(event)

    def record(self, event: AnyEvent, cause: int | None = None) -> int:
        """Append, fold, and tell the queue; the position."""
        pos = self.board.head.pos + 1
        self.log.append(Line(pos, self.now_us, event, cause))
        self.board.feed(Seen(pos, self.now_us, event))
        self.board.head = Head(pos, GENESIS)
        if self.queue is not None:
            self.queue.heed(event)
        return pos

    def drain(
        self,
        scope: Scope,
        fate_of: Callable[[AttemptStarted], Fate],
        next_of: Callable[[int], int] = lambda count: count - 1,
        watch: Callable[[], None] = lambda: None,
    ) -> list[Line]:
        """One session to its end; what it recorded.

        ``next_of``: which of so many open attempts ends next.  ``watch`` is called wherever a
        transaction would end.
        """
        begun = len(self.log)
        self._begin(scope)
        flying: list[AttemptStarted] = []
        while True:
            flying += self._start(scope, scope.limits.workers - len(flying))
            watch()
            if flying:
                self.now_us += STEP_US
                self._finish(scope, flying.pop(next_of(len(flying))), fate_of)
                watch()
            elif not self._waited(scope):
                break
        self.queue = None
        self.record(ended(self.board, scope, "nothing_eligible", self.now_us))
        return self.log[begun:]

    def _begin(self, scope: Scope) -> None:
        policy, name = scope.policy, scope.session_id
        self.record(
            PolicyAdopted(
                session_id=name,
                policy=policy.label,
                policy_sha256=policy.sha256,
                policy_json=policy.json,
            )
        )
        self.record(SessionStarted(session_id=name, executor="x", limits=scope.limits))
        for event in list(taken_over(self.board, self._ground(scope))):
            self.record(event)
        self.queue = Queue(self.board, scope)

    def _ground(self, scope: Scope) -> Ground:
        return Ground(scope, self.board.head.pos, self.now_us)

    def _start(self, scope: Scope, room: int) -> list[AttemptStarted]:
        assert self.queue is not None
        found: list[AttemptStarted] = []
        for event in picks(Picker(self.board, self.queue, scope, self.now_us, self._id), room):
            self.record(event)
            if isinstance(event, AttemptStarted):
                found.append(event)
        return found

    def _id(self) -> str:
        self.made += 1
        return f"a{self.made}"

    def _waited(self, scope: Scope) -> bool:
        """Whether the account rests and something could go when it wakes; time passes to there."""
        until_us = paused_until_us(self.board, scope, self.now_us)
        running = self.board.sessions.states[scope.session_id].status == "running"
        if until_us is None or not running or self.queue is None:
            return False
        if self.queue.next_ready(self.now_us) is None:
            return False
        self.now_us = until_us
        return True

    def _finish(
        self, scope: Scope, started: AttemptStarted, fate_of: Callable[[AttemptStarted], Fate]
    ) -> None:
        facts = facts_of(started, fate_of(started))
        events = list(following(self.board, facts, self._ground(scope)))
        pos = self.record(facts.finished)
        for event in events:
            self.record(event, pos)


def facts_of(started: AttemptStarted, fate: Fate) -> Facts:
    """What an attempt with that fate leaves behind."""
    proved = fate.ending not in ("abandoned", "orphaned")
    end = AttemptFinished(
        session_id=started.session_id,
        run_id=started.run_id,
        phase_id=started.phase_id,
        attempt_id=started.attempt_id,
        number=started.number,
        ending=fate.ending,
        final_state=_state(started, fate),
        duration_ms=STEP_US // 1000,
        timeout_ms=started.timeout_ms,
        error=fate.like,
        yield_events=fate.usage,
        tokens=10 * fate.usage,
    )
    fails = proved and fate.ending != "succeeded" and fate.like is not None
    return Facts(
        end,
        _like(started, fate.like or "") if fails else None,
        (_limit(started, fate),) if fate.limited else (),
    )


def _state(started: AttemptStarted, fate: Fate) -> PhaseState:
    if fate.ending in ("abandoned", "orphaned"):
        return started.initial_state
    return "COMPLETE" if fate.ending == "succeeded" else "FAILED"


def _like(started: AttemptStarted, like: str) -> FailureFingerprinted:
    return fingerprinted(
        session_id=started.session_id,
        run_id=started.run_id,
        phase_id=started.phase_id,
        attempt_id=started.attempt_id,
        fingerprint=like,
    )


def _limit(started: AttemptStarted, fate: Fate) -> BoundaryDetected:
    return boundary(
        session_id=started.session_id,
        run_id=started.run_id,
        phase_id=started.phase_id,
        attempt_id=started.attempt_id,
        declared="exit code",
        resets_in_ms=fate.resets_in_ms,
    )


def backlog_of(runs: int, phases: int = 1, order: Order = "strict") -> list[AnyEvent]:
    """So many runs of so many phases each, one tier, one after the other."""
    found: list[AnyEvent] = []
    for run in range(runs):
        run_id = f"run-{run:02}"
        found.append(RunRegistered(run_id=run_id, origin="test", state="NEW"))
        found += [
            PhaseRegistered(
                run_id=run_id,
                phase_id=f"p{number}",
                tier_id="T",
                tier_index=0,
                phase_index=number,
                name="",
                state="QUEUED",
                order=order,
            )
            for number in range(phases)
        ]
    return found
