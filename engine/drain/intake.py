"""Intake: what comes into a log from outside its sessions, as commands of whoever is the writer.

The same commands whether a command line writes the log itself or hands them to the daemon that
does; decided inside the writer, so that nothing is said of a board that has moved on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import msgspec

from engine.backlog.batch import Registration
from engine.detect.reclassification import Changed
from engine.errors import CommandReused, UsageProblem
from engine.events import AnyEvent, PhaseRegistered, RunRegistered, encode
from engine.ids import checked_id
from engine.store.command import Command, Draft, Moment, Receipt
from engine.store.recorder import Recorder
from engine.triage.operating import Operation, operated, stream_about, subject_of
from projections.board import Board
from projections.fold import join

_AS_ANOTHER = "register it as another run (`seed --run-id NEW-ID`); what is there never changes."

Heed = Callable[[AnyEvent], None]
"""Told of every event right after it was folded."""


def registering(group: Registration, heed: Heed | None = None) -> Command:
    """Register a group, each at most once; what its source dates is claimed to have occurred then.

    The command id comes from the group's key, so that asking again is answered, not repeated.
    Refused with UsageProblem when a run or a phase is there already under another key, in the
    stream of another run, and under names that no plan may give.
    """

    def decide(board: Board, _moment: Moment) -> Iterator[Draft]:
        _refuse_misplaced(group)
        _refuse_known(group, board)
        for event in group.events:
            yield Draft(event, occurred_us=getattr(event, "created_us", None))
            if heed is not None:
                heed(event)

    _refuse_misnamed(group)
    request = "\n".join(encode(event) for event in group.events).encode()
    command_id = "reg_" + hashlib.sha256(group.key.encode()).hexdigest()[:32]
    return Command(command_id, group.stream, request, decide)


async def register(recorder: Recorder, group: Registration, heed: Heed | None = None) -> Receipt:
    """Record a group; the receipt of the first time when it was recorded before.

    Raises UsageProblem as ``registering`` says, and when another group has the key.
    """
    try:
        return await recorder.submit(registering(group, heed))
    except CommandReused:
        raise UsageProblem(
            f"{group.key[:80]!a} is in the log already, and was registered otherwise.",
            remedy=_AS_ANOTHER,
        ) from None


def _refuse_misnamed(group: Registration) -> None:
    """What comes from elsewhere may not have been looked at, and a server takes no NUL."""
    _, slash, name = group.stream.partition("/")
    checked_id(name if slash else group.stream, "the stream")
    for event in group.events:
        for field in ("run_id", "tier_id", "phase_id"):
            if (given := getattr(event, field, None)) is not None:
                checked_id(given, field)


def _refuse_misplaced(group: Registration) -> None:
    run = group.stream.removeprefix("run/")
    if run != group.stream and any(getattr(e, "run_id", None) != run for e in group.events):
        raise UsageProblem(
            f"the stream {group.stream[:80]!a} is not that of all that is to be registered.",
            remedy="name each run's own stream, run/RUN, or one that begins with import/.",
        )


def _refuse_known(group: Registration, board: Board) -> None:
    here = set[str]()
    for event in group.events:
        if isinstance(event, RunRegistered) and board.runs.get(event.run_id):
            raise UsageProblem(
                f"the run {event.run_id!a} is in the log already.", remedy=_AS_ANOTHER
            )
        if not isinstance(event, PhaseRegistered):
            continue
        key = join(event.run_id, event.phase_id)
        if key in here or board.backlog.get(key):
            raise UsageProblem(
                f"the run {event.run_id!a} has a phase {event.phase_id[:80]!a} already.",
                remedy="somebody else registered it meanwhile; ask again to add what is missing.",
            )
        here.add(key)


def operating(command_id: str, operation: Operation, heed: Heed | None = None) -> Command:
    """Record what a person asks for; refused where it makes no sense at the head."""

    def decide(board: Board, moment: Moment) -> Iterator[Draft]:
        event = operated(operation, board, moment.now_us)
        yield Draft(event)
        if heed is not None:
            heed(event)

    stream = stream_about(subject_of(operation))
    return Command(command_id, stream, msgspec.json.encode(operation), decide)


async def reclassify(recorder: Recorder, changes: Sequence[Changed]) -> None:
    """Record what a rule set says of some attempts, at once, so that they share a commit.

    Raises UsageProblem when another word stands on the one that was read.
    """
    for pending in [recorder.enqueue(reclassifying(change)) for change in changes]:
        try:
            await pending.answer()
        except CommandReused as reused:
            raise UsageProblem(
                "somebody else recorded another word on an attempt meanwhile.",
                remedy="ask again: it is compared with the newest word then.",
            ) from reused


def reclassifying(change: Changed) -> Command:
    """What a rule set says of one attempt.

    The command id comes from the attempt and the last word on it, so that of two who read the same
    word the second is refused, or answered if it says the same.
    """

    def decide(_board: Board, moment: Moment) -> Iterator[Draft]:
        if not 0 < change.pos <= change.basis < moment.next_pos or len(named) > 1:
            raise UsageProblem(
                "the reclassification is of no attempt of this log.",
                remedy="let `runoff reclassify` make it.",
            )
        for event in change.events:
            encode(event)  # refuses what is too long while nothing is decided
        for event in change.events:
            yield Draft(event, cause=change.pos)

    named = {event.attempt_id for event in change.events}
    basis = f"{change.events[0].attempt_id}\n{change.basis}".encode()
    command_id = "recl_" + hashlib.sha256(basis).hexdigest()[:32]
    request = msgspec.json.encode(change.events)
    return Command(command_id, "reclassification", request, decide, actor="operator")
