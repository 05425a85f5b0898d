"""Events put into a log as the writer's commands put them: stream, actor, id and request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from engine.backlog.batch import Registration
from engine.drain.commands import PICKER, stream_of
from engine.drain.intake import registering
from engine.events import (
    AnyEvent,
    AttemptFinished,
    AttemptStarted,
    PhaseRegistered,
    PhaseRequeued,
    PolicyAdopted,
    RunRegistered,
    RunReinstated,
    SessionDraining,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    UsageRecorded,
    UsageRejected,
)
from engine.store.command import Command, Draft, Moment
from engine.triage.operating import ReinstateRun, RequeuePhase
from projections.board import Board

Item = AnyEvent | tuple[AnyEvent, int]
"""An event, or one with its cause."""


def event_in(item: Item) -> AnyEvent:
    return item[0] if isinstance(item, tuple) else item


def placed(items: Sequence[Item]) -> list[Command]:
    """The commands that record ``items`` in their order."""
    groups: list[list[Item]] = []
    for item in items:
        if groups and _goes_on(groups[-1][-1], item):
            groups[-1].append(item)
        else:
            groups.append([item])
    used: dict[str, int] = {}
    return [_command(group, used) for group in groups]


def _goes_on(last: Item, item: Item) -> bool:
    """Whether an item belongs to the command of the one before it."""
    before, event = event_in(last), event_in(item)
    if isinstance(item, tuple):
        return isinstance(last, tuple) or isinstance(before, AttemptFinished)
    if isinstance(event, RunRegistered | PhaseRegistered):
        return isinstance(before, RunRegistered | PhaseRegistered)
    if isinstance(event, SessionStarted | SessionResumed):
        return isinstance(before, PolicyAdopted)
    is_of_end = isinstance(event, AttemptFinished | UsageRecorded | UsageRejected)
    return is_of_end and isinstance(before, UsageRecorded | UsageRejected)


def _command(group: Sequence[Item], used: dict[str, int]) -> Command:
    events = [event_in(item) for item in group]

    def decide(_board: Board, _moment: Moment) -> Iterator[Draft]:
        for item in group:
            yield Draft(*item) if isinstance(item, tuple) else Draft(item)

    name, stream, actor, request = _asked(events)
    count = used[name] = used.get(name, 0) + 1
    return Command(name if count == 1 else f"{name}-{count}", stream, request, decide, actor)


def _asked(events: Sequence[AnyEvent]) -> tuple[str, str, str, bytes]:
    """Id, stream, actor and request of the command that records ``events``."""
    first, end = events[0], next((e for e in events if isinstance(e, AttemptFinished)), None)
    if isinstance(first, RunRegistered | PhaseRegistered):
        name = f"run/{first.run_id}"
        made = registering(Registration(key=name, stream=name, events=tuple(events)))
        return made.command_id, made.stream, made.actor, made.request
    if isinstance(first, PhaseRequeued | RunReinstated):
        fields = {"by": first.by, "why": first.why, "run_id": first.run_id}
        asked = (
            RequeuePhase(phase_id=first.phase_id, **fields)
            if isinstance(first, PhaseRequeued)
            else ReinstateRun(**fields)
        )
        return "asked", f"operator/{first.run_id}", "cli", msgspec.json.encode(asked)
    stream = stream_of(str(getattr(first, "session_id", "")))
    if end is not None:
        told = msgspec.json.encode([events[: events.index(end)], end])
        return f"{end.attempt_id}.finished", stream, "worker", told
    if isinstance(first, AttemptStarted):
        return "picked", stream, PICKER, b"pick 1"
    if isinstance(first, SessionDraining | SessionEnded):
        picks = isinstance(first, SessionDraining) and first.because == "batch_size"
        return "over", stream, PICKER if picks else "cli", b"pick 1" if picks else b"interrupted"
    if isinstance(first, PolicyAdopted):
        return "begun", stream, "cli", b""
    return "said", stream, "cli" if isinstance(first, SessionResumed) else "worker", b""
