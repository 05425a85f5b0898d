"""What the drain asks the one writer to record, decided inside its transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
from msgspec.structs import replace

from engine.drain.diagnose import Diagnosis
from engine.errors import AppendRefused
from engine.events import (
    AnyEvent,
    AttemptAdopted,
    AttemptFinished,
    AttemptSpawned,
    AttemptStarted,
    Input,
    PolicyAdopted,
    Reason,
    RunJudged,
    RunStopped,
    SessionDraining,
    SessionEnd,
    SessionEnded,
    SessionResumed,
    SessionStarted,
)
from engine.executors.port import Spawned
from engine.store.command import Command, Draft, Moment, just
from engine.triage.decide import RULE_VERSION, decisions, pick_reason, situation_of
from engine.triage.eligible import Scope, phase_hindrance
from engine.triage.rules import REASON_CLASS_NAMES
from engine.triage.select import Choice, Queue
from projections.board import Board
from projections.fold import join

LIMIT_RULE = "session_limits"


def stream_of(session_id: str) -> str:
    """The decision stream of a session."""
    return f"drain/{session_id}"


def begin(command_id: str, scope: Scope, executor: str, *, resume: bool) -> Command:
    """Open or resume a session, with its policy and limits."""
    kind = SessionResumed if resume else SessionStarted
    policy = scope.policy
    adopted = PolicyAdopted(
        session_id=scope.session_id,
        policy=policy.label,
        policy_sha256=policy.sha256,
        policy_json=policy.json,
    )
    begun = kind(session_id=scope.session_id, executor=executor, limits=scope.limits)
    request = msgspec.json.encode([scope.session_id, executor, scope.limits, policy])
    return Command(command_id, stream_of(scope.session_id), request, just(adopted, begun))


def pick(
    command_id: str,
    scope: Scope,
    queue: Queue,
    *,
    executor: str,
    capacity: int,
    elapsed_ms: int,
    new_attempt_id: Callable[[], str],
) -> Command:
    """Start up to ``capacity`` attempts, or find that the session must start no more."""

    def decide(board: Board, moment: Moment) -> Iterator[Draft]:
        pos = moment.next_pos
        for _ in range(capacity):
            session = board.sessions.states[scope.session_id]
            if session.status != "running":
                return
            limit = _limit_reached(scope, session.attempts, elapsed_ms, pos - 1)
            if limit is not None:
                yield Draft(limit)
                return
            choice = queue.pick()
            if choice is None:
                return
            started = _started(choice, scope, executor, new_attempt_id(), pos - 1)
            yield Draft(started)
            pos += 1
            queue.touch(started.run_id, started.phase_id)

    request = f"pick {capacity} at {elapsed_ms}".encode()
    return Command(command_id, stream_of(scope.session_id), request, decide, actor="picker")


def _started(
    choice: Choice, scope: Scope, executor: str, attempt_id: str, basis: int
) -> AttemptStarted:
    phase = choice.phase
    reason = pick_reason(choice, scope, basis)
    return AttemptStarted(
        session_id=scope.session_id,
        run_id=phase.run_id,
        phase_id=phase.phase_id,
        attempt_id=attempt_id,
        number=phase.number + 1,
        group="named" if scope.is_named_phase else choice.group,
        category=REASON_CLASS_NAMES[choice.key.reason_class],
        initial_state=phase.state,
        phase_index=phase.phase_index,
        executor=executor,
        timeout_ms=scope.limits.phase_timeout_ms,
        reason=reason,
    )


def _limit_reached(
    scope: Scope, attempts: int, elapsed_ms: int, basis: int
) -> SessionDraining | None:
    limits = scope.limits
    because: SessionEnd
    if attempts >= limits.batch_size:
        because, sentence = "batch_size", f"The session has made {attempts} attempts, its limit."
    elif limits.total_ms_max and elapsed_ms >= limits.total_ms_max:
        because = "total_time"
        sentence = f"The session has run for {elapsed_ms / 60000:.1f} minutes, its limit."
    else:
        return None
    inputs = (Input("attempts", attempts), Input("elapsed_ms", elapsed_ms))
    return draining(scope, because, sentence, basis, inputs)


def draining(
    scope: Scope, because: SessionEnd, sentence: str, basis: int, inputs: tuple[Input, ...] = ()
) -> SessionDraining:
    """The event after which a session starts nothing more."""
    reason = Reason(
        rule=LIMIT_RULE,
        version=RULE_VERSION,
        policy=scope.policy.label,
        basis=basis,
        inputs=inputs,
        sentence=sentence,
    )
    return SessionDraining(session_id=scope.session_id, because=because, reason=reason)


def drain_now(command_id: str, scope: Scope, because: SessionEnd, sentence: str) -> Command:
    """Stop starting attempts, unless the session already has."""

    def decide(board: Board, moment: Moment) -> Iterator[Draft]:
        if board.sessions.states[scope.session_id].status == "running":
            yield Draft(draining(scope, because, sentence, moment.next_pos - 1))

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
    return _about(started, "spawned", event)


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


def _about(started: AttemptStarted, what: str, event: AnyEvent) -> Command:
    command_id = f"{started.attempt_id}.{what}"
    request = msgspec.json.encode(event)
    return Command(command_id, stream_of(started.session_id), request, just(event), actor="worker")


def finish(diagnosis: Diagnosis, scope: Scope, queue: Queue | None) -> Command:
    """Close an attempt: its facts, its diagnosis, and what triage decides from them.

    The command id comes from the attempt, so that an attempt is closed once, whoever tries.
    """
    finished = diagnosis.finished

    def decide(board: Board, moment: Moment) -> Iterator[Draft]:
        phase = board.backlog.get(join(finished.run_id, finished.phase_id))
        if phase is None or phase.open_attempt != finished.attempt_id:
            raise AppendRefused(
                f"the attempt {finished.attempt_id} is not open.", remedy="it was closed already."
            )
        for event in _finished_events(board, diagnosis, scope, moment.next_pos):
            yield event
            _touch(queue, event.event)

    request = msgspec.json.encode([diagnosis.usage, finished])
    command_id = f"{finished.attempt_id}.finished"
    return Command(command_id, stream_of(finished.session_id), request, decide, actor="worker")


def _finished_events(
    board: Board, diagnosis: Diagnosis, scope: Scope, next_pos: int
) -> Iterator[Draft]:
    finished = diagnosis.finished
    situation = situation_of(board, finished, diagnosis.fingerprinted)
    generation = board.runs.states[finished.run_id].generation
    for usage in diagnosis.usage:
        yield Draft(usage)
    pos = next_pos + len(diagnosis.usage)
    yield Draft(finished)
    if diagnosis.fingerprinted is not None:
        counted = replace(diagnosis.fingerprinted, seen_before=situation.seen_before)
        yield Draft(counted, cause=pos)
    for event in diagnosis.others:
        yield Draft(event, cause=pos)
    for event in decisions(situation, finished, scope, pos - 1, generation):
        yield Draft(event, cause=pos)


def _touch(queue: Queue | None, event: AnyEvent) -> None:
    if queue is None:
        return
    if isinstance(event, AttemptFinished):
        queue.touch(event.run_id, event.phase_id)
    elif isinstance(event, RunJudged | RunStopped):
        queue.touch(event.run_id, None)


def end(command_id: str, scope: Scope, because: SessionEnd, active_ms: int) -> Command:
    """The session is over: nothing of it is open any more."""

    def decide(board: Board, _moment: Moment) -> Iterator[Draft]:
        session = board.sessions.states[scope.session_id]
        yield Draft(
            SessionEnded(
                session_id=scope.session_id,
                because=session.because or because,
                active_ms=active_ms,
                attempts=session.attempts,
                work_left=work_left(board, scope),
            )
        )

    return Command(command_id, stream_of(scope.session_id), because.encode(), decide)


def work_left(board: Board, scope: Scope) -> int:
    """Phases of the session's filter that are still backlog and not used up."""
    limits = scope.limits
    return sum(
        1
        for phase in board.backlog.values()
        if limits.run_id in (None, phase.run_id)
        and limits.phase_id in (None, phase.phase_id)
        and not phase.run_id.startswith(limits.skip_run_prefixes or "\0")
        and phase_hindrance(phase, scope) is None
    )
