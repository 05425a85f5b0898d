"""What the drain asks the one writer to record, decided inside its transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from engine.calibration.attempts import estimated
from engine.calibration.estimator import Coefficients
from engine.drain.diagnose import Diagnosed
from engine.errors import AppendRefused
from engine.events import (
    AnyEvent,
    AttemptAdopted,
    AttemptEstimated,
    AttemptSpawned,
    AttemptStarted,
    CoefficientsInForce,
    PolicyAdopted,
    SessionEnd,
    SessionResumed,
    SessionStarted,
)
from engine.executors.port import Spawned
from engine.store.command import Command, Draft, Moment, just
from engine.triage.beginning import taken_over
from engine.triage.decide import following
from engine.triage.ending import ended, held_by_budgets
from engine.triage.fair_share import Turn
from engine.triage.picking import Picker, draining, picks
from engine.triage.reasons import Ground
from engine.triage.scope import Scope
from engine.triage.select import Queue
from projections.board import Board
from projections.fold import join

PICKER = "picker"
"""The actor of commands that pick."""


def stream_of(session_id: str) -> str:
    """The decision stream of a session."""
    return f"drain/{session_id}"


def begin(
    command_id: str,
    scope: Scope,
    executor: str,
    *,
    resume: bool,
    coefficients: Coefficients | None = None,
    queue: Queue | None = None,
) -> Command:
    """Open or resume a session, with its policy, its limits, and what it estimates with.

    Its ``queue`` is ordered by them.
    """
    kind = SessionResumed if resume else SessionStarted
    policy = scope.policy
    adopted = PolicyAdopted(
        session_id=scope.session_id,
        policy=policy.label,
        policy_sha256=policy.sha256,
        policy_json=policy.json,
    )
    begun = kind(session_id=scope.session_id, executor=executor, limits=scope.limits)

    def decide(board: Board, moment: Moment) -> Iterator[Draft]:
        yield Draft(adopted)
        yield Draft(begun)
        if coefficients is not None:
            yield Draft(_in_force(scope, coefficients))
        ground = Ground(scope, moment.next_pos + 1, moment.now_us)
        for event in list(taken_over(board, ground)):
            yield Draft(event)
        if queue is not None:
            queue.renew(scope)

    asked = [scope.session_id, executor, scope.limits, policy]
    request = msgspec.json.encode(asked if coefficients is None else [*asked, coefficients])
    return Command(command_id, stream_of(scope.session_id), request, decide)


def _in_force(scope: Scope, coefficients: Coefficients) -> CoefficientsInForce:
    return CoefficientsInForce(
        session_id=scope.session_id,
        coefficient_version=coefficients.version,
        coefficients_sha256=coefficients.sha256,
        coefficients_json=coefficients.json,
    )


def pick(
    command_id: str,
    scope: Scope,
    queue: Queue,
    *,
    capacity: int,
    new_attempt_id: Callable[[], str],
    coefficients: Coefficients | None = None,
    turn: Turn | None = None,
) -> Command:
    """Start up to ``capacity`` attempts, or find that the session must start no more.

    With ``coefficients``, every start is followed by what it is estimated at.  ``turn``: which of
    them to leave to other engines of the log.
    """

    def decide(board: Board, moment: Moment) -> Iterator[Draft]:
        picker = Picker(board, queue, scope, moment.now_us, new_attempt_id)
        if turn is not None:
            turn.begin()
        for event in picks(picker, capacity):
            if turn is not None and turn.leaves(board, event, moment.now_us):
                return
            yield Draft(event)
            queue.heed(event)
            if coefficients is not None and isinstance(event, AttemptStarted):
                yield Draft(_estimated(board, event, coefficients))

    request = f"pick {capacity}".encode()
    stream = stream_of(scope.session_id)
    return Command(command_id, stream, request, decide, actor=PICKER, is_fresh=True)


def _estimated(
    board: Board, started: AttemptStarted, coefficients: Coefficients
) -> AttemptEstimated:
    phase = board.backlog.states[join(started.run_id, started.phase_id)]
    return estimated(started, phase.category, phase.complexity, phase.deliverables, coefficients)


def drain_now(command_id: str, scope: Scope, because: SessionEnd, sentence: str) -> Command:
    """Stop starting attempts, unless the session already has."""

    def decide(board: Board, moment: Moment) -> Iterator[Draft]:
        if board.sessions.states[scope.session_id].status == "running":
            ground = Ground(scope, moment.next_pos - 1, moment.now_us)
            yield Draft(draining(because, sentence, {}, ground))

    return Command(command_id, stream_of(scope.session_id), because.encode(), decide)


def spawned(started: AttemptStarted, process: Spawned) -> Command:
    """The guardian of an attempt exists."""
    event = AttemptSpawned(
        session_id=started.session_id,
        run_id=started.run_id,
        phase_id=started.phase_id,
        attempt_id=started.attempt_id,
        **msgspec.structs.asdict(process),
    )
    return _about(started, "spawned", event, is_fresh=True)


def adopted(started: AttemptStarted, epoch: int) -> Command:
    """A living attempt of a dead engine was taken over by this one."""
    event = AttemptAdopted(
        session_id=started.session_id,
        run_id=started.run_id,
        phase_id=started.phase_id,
        attempt_id=started.attempt_id,
        epoch=epoch,
    )
    return _about(started, f"adopted-{epoch}", event)


def _about(
    started: AttemptStarted, what: str, event: AnyEvent, *, is_fresh: bool = False
) -> Command:
    request, stream = msgspec.json.encode(event), stream_of(started.session_id)
    command_id = f"{started.attempt_id}.{what}"
    return Command(command_id, stream, request, just(event), actor="worker", is_fresh=is_fresh)


def finish(
    diagnosed: Diagnosed, scope: Scope, queue: Queue | None, *, is_fresh: bool = False
) -> Command:
    """Close an attempt: its facts, its diagnosis, and what triage decides from them.

    The command id comes from the attempt, so that an attempt is closed once, whoever tries.
    ``is_fresh``: it was started here, so that nobody can have tried before.
    """
    finished = diagnosed.finished

    def decide(board: Board, moment: Moment) -> Iterator[Draft]:
        phase = board.backlog.get(join(finished.run_id, finished.phase_id))
        if phase is None or phase.open_attempt != finished.attempt_id:
            raise AppendRefused(
                f"the attempt {finished.attempt_id} is not open.", remedy="it was closed already."
            )
        for usage in diagnosed.usage:
            yield Draft(usage)
        pos = moment.next_pos + len(diagnosed.usage)
        ground = Ground(scope, pos - 1, moment.now_us)
        events = list(following(board, diagnosed.facts, ground))
        yield Draft(finished)
        _heed(queue, finished)
        for event in events:
            yield Draft(event, cause=pos)
            _heed(queue, event)

    request = msgspec.json.encode([diagnosed.usage, finished])
    command_id, stream = f"{finished.attempt_id}.finished", stream_of(finished.session_id)
    return Command(command_id, stream, request, decide, actor="worker", is_fresh=is_fresh)


def _heed(queue: Queue | None, event: AnyEvent) -> None:
    if queue is not None:
        queue.heed(event)


def end(command_id: str, scope: Scope, because: SessionEnd) -> Command:
    """The session is over: nothing of it is open any more.

    One that found nothing more to start says before which budgets hold back what is left, if any.
    """

    def decide(board: Board, moment: Moment) -> Iterator[Draft]:
        ground = Ground(scope, moment.next_pos - 1, moment.now_us)
        if because == "nothing_eligible" and (held := held_by_budgets(board, ground)) is not None:
            yield Draft(held)
        yield Draft(ended(board, scope, because, moment.now_us))

    return Command(command_id, stream_of(scope.session_id), because.encode(), decide)
