"""From events to the bytes in the log and back, exactly.

Canonical bytes are msgspec's JSON with fields in declared order: the same event gives the same
bytes on every machine.  Stored bytes are never written again; older shapes are upcast on read by
named pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, cast, get_args

import msgspec

from engine.errors import UnknownEvent, UsageProblem
from engine.events.attempts import AttemptAdopted, AttemptFinished, AttemptSpawned, AttemptStarted
from engine.events.backlog import (
    ImportFinished,
    PhaseRegistered,
    PhaseRequeued,
    RunRegistered,
    TierRegistered,
)
from engine.events.base import Event
from engine.events.calibration import (
    AttemptEstimated,
    CalibrationProposed,
    CoefficientsAdopted,
    CoefficientsInForce,
    DriftAlarmed,
)
from engine.events.daemon import DaemonConfigured, DaemonPaused, DaemonResumed
from engine.events.diagnosis import (
    BoundaryDetected,
    FailureFingerprinted,
    Reclassified,
    ZeroYieldExplained,
)
from engine.events.operator import AccountResumed, BreakerReset, RunReinstated
from engine.events.session import (
    EngineStarted,
    PolicyAdopted,
    SessionDraining,
    SessionEnded,
    SessionPartLost,
    SessionResumed,
    SessionStarted,
)
from engine.events.sharing import SessionLapsed, SessionLeased
from engine.events.triage import (
    AccountPaused,
    AccountRecovered,
    AttemptDeferred,
    BreakerClosed,
    BreakerOpened,
    BreakerProbed,
    BudgetReached,
    FingerprintStopped,
    RunCooledDown,
    RunJudged,
    RunStopped,
)
from engine.events.usage import EstimateImported, UsageImported, UsageRecorded, UsageRejected

EVENT_BYTES_MAX = 256 * 1024

AnyEvent = (
    RunRegistered
    | TierRegistered
    | PhaseRegistered
    | PhaseRequeued
    | ImportFinished
    | EngineStarted
    | PolicyAdopted
    | SessionStarted
    | SessionResumed
    | SessionPartLost
    | SessionLeased
    | SessionLapsed
    | SessionDraining
    | SessionEnded
    | AttemptStarted
    | AttemptSpawned
    | AttemptAdopted
    | AttemptFinished
    | UsageRecorded
    | UsageRejected
    | UsageImported
    | EstimateImported
    | FailureFingerprinted
    | BoundaryDetected
    | ZeroYieldExplained
    | Reclassified
    | RunJudged
    | FingerprintStopped
    | RunStopped
    | RunCooledDown
    | BreakerOpened
    | BreakerProbed
    | BreakerClosed
    | AttemptDeferred
    | AccountPaused
    | AccountRecovered
    | BudgetReached
    | RunReinstated
    | BreakerReset
    | AccountResumed
    | CoefficientsInForce
    | AttemptEstimated
    | CalibrationProposed
    | DriftAlarmed
    | CoefficientsAdopted
    | DaemonConfigured
    | DaemonPaused
    | DaemonResumed
)

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


def _as_it_was(fields: dict[str, Any]) -> dict[str, Any]:
    """To a version that only added fields, and whose defaults say that they were not recorded."""
    return fields


_ONLY_ADDED = {
    "attempt.started": 2,
    "attempt.finished": 3,
    "backlog.phase_registered": 2,
    "diagnosis.boundary_detected": 4,
    "diagnosis.fingerprinted": 2,
    "diagnosis.zero_yield_explained": 2,
    "session.draining": 3,
    "session.ended": 3,
    "session.resumed": 3,
    "session.started": 3,
    "triage.attempt_deferred": 2,
    "triage.run_judged": 2,
    "triage.run_stopped": 2,
}
"""Types whose later versions, up to this one, only added fields."""

UPCASTERS: Mapping[tuple[str, int], Upcaster] = {
    (name, version): _as_it_was
    for name, newest in _ONLY_ADDED.items()
    for version in range(1, newest)
}
"""(type, schema) → the pure function that turns that shape into the next one."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_decoder_many: msgspec.json.Decoder[list[AnyEvent]] = msgspec.json.Decoder(list[AnyEvent])


@cache
def event_type(kind: type[Event]) -> str:
    """The tag of an event class, ``attempt.started`` for AttemptStarted."""
    return str(kind.__struct_config__.tag)


TAGS = ("session_id", "run_id", "phase_id", "attempt_id")
"""The fields of an event that its row in the log repeats as columns, in this order."""

Tagged = tuple[str | None, str | None, str | None, str | None]


def tags_of(event: AnyEvent) -> Tagged:
    """What an event is about: its ``TAGS``, None for those that it does not have."""
    return _tagger(type(event))(event)


@cache
def _tagger(kind: type[Event]) -> Callable[[Any], Tagged]:
    """Reads all four in one call where there are all four, which is where there are many events."""
    if set(TAGS) <= set(kind.__struct_fields__):
        return attrgetter(*TAGS)
    return lambda event: cast("Tagged", tuple(getattr(event, name, None) for name in TAGS))


EVENT_CLASSES: Mapping[str, type[Event]] = {event_type(kind): kind for kind in get_args(AnyEvent)}
SCHEMAS: Mapping[str, int] = {name: kind.schema for name, kind in EVENT_CLASSES.items()}


def encode(event: AnyEvent) -> str:
    """Canonical JSON text of ``event``.

    Raises UsageProblem over 256 KiB, which no event that this program makes by itself reaches:
    it means that something from outside was not bounded.
    """
    data = _encoder.encode(event)
    if len(data) > EVENT_BYTES_MAX:
        raise UsageProblem(
            f"an event of type {event_type(type(event))} has {len(data)} bytes.",
            remedy=f"shorten its texts; the limit is {EVENT_BYTES_MAX} bytes.",
        )
    return data.decode()


def decode(data: str, *, event_type: str, schema: int, pos: int) -> AnyEvent:
    """The event at ``pos``, upcast to today's shape if it is older.

    Raises UnknownEvent, naming position and remedy, for a type, schema or field unknown here.
    """
    refuse_unknown(event_type, schema, pos)
    current = SCHEMAS[event_type]
    try:
        if schema == current:
            return _of_its_type(_decoder.decode(data), event_type, pos)
        shape = msgspec.json.decode(data, type=dict[str, Any])
        fields = _upcast(shape, event_type, schema, pos)
        upcast: AnyEvent = msgspec.convert(fields, type=AnyEvent)
    except (msgspec.ValidationError, msgspec.DecodeError, LookupError) as error:
        raise _unknown(pos, f"does not read as {event_type} version {schema} ({error})") from error
    return _of_its_type(upcast, event_type, pos)


def _of_its_type(event: AnyEvent, event_type: str, pos: int) -> AnyEvent:
    """``event``, if it is what its row was found by."""
    if type(event) is not EVENT_CLASSES[event_type]:
        raise _unknown(pos, f"does not read as {event_type}: its data is of another type")
    return event


def refuse_unknown(event_type: str, schema: int, pos: int) -> None:
    """Raise UnknownEvent if this program has no such type, or not yet that version of it."""
    current = SCHEMAS.get(event_type)
    if current is None or schema > current:
        raise _unknown(pos, f"is of type {event_type} version {schema}")


def decode_page(page: Sequence[tuple[int, int, str, int, str]]) -> list[AnyEvent]:
    """Events of many rows ``(pos, recorded_us, type, schema, data)``, several times faster.

    Falls back to ``decode`` row by row when any needs upcasting or cannot be read, so that the
    error names the row.
    """
    shapes = {(row[2], row[3]) for row in page}
    if all(SCHEMAS.get(kind) == schema for kind, schema in shapes):
        try:
            events = _decoder_many.decode("[" + ",".join([row[4] for row in page]) + "]")
        except (msgspec.ValidationError, msgspec.DecodeError):
            pass
        else:
            # One row may hold two events, or one of another type.
            if list(map(type, events)) == [EVENT_CLASSES[row[2]] for row in page]:
                return events
    return [decode(row[4], event_type=row[2], schema=row[3], pos=row[0]) for row in page]


def _upcast(fields: dict[str, Any], event_type: str, schema: int, pos: int) -> dict[str, Any]:
    while schema < SCHEMAS[event_type]:
        step = UPCASTERS.get((event_type, schema))
        if step is None:
            raise _unknown(pos, f"is {event_type} version {schema}, which nothing here upcasts")
        fields, schema = step(fields), schema + 1
    return fields


def _unknown(pos: int, what: str) -> UnknownEvent:
    return UnknownEvent(
        f"the event at position {pos} {what}, which this program cannot read.",
        remedy="upgrade runoff to the version that wrote this log"
        f" (`runoff log show --at {pos} --raw` names it); nothing was changed.",
    )
