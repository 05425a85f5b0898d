"""Where rows come from: the stream, the actor, the program and the time that their events call for.

Written here a second time, from the reference alone, as the writer's commands have it (S36).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from engine.audit.chain import Report, Row

Event = dict[str, Any]

SESSION, OPERATOR = "drain/", "operator/"
BACKLOG = ("run/", "import/")
LIMITS = ("batch_size", "total_time", "session_budget", "day_budget")
"""What a session stops at when it is about to start an attempt, which the picker says."""


class Origin(NamedTuple):
    """Streams, each whole or up to and with its slash, and actors that write events of a type."""

    streams: tuple[str, ...]
    actors: tuple[str, ...]


_STARTS = Origin((SESSION,), ("picker",))
_ENDS = Origin((SESSION,), ("worker",))
_SESSIONS = Origin((SESSION,), ("cli",))
_WORK = Origin(BACKLOG, ("cli",))
_PERSONS = Origin((OPERATOR,), ("cli",))
_DAEMONS = Origin(("daemon",), ("daemon",))

ORIGINS: Mapping[str, Origin] = {
    "attempt.adopted": _ENDS,
    "attempt.estimated": _STARTS,
    "attempt.finished": _ENDS,
    "attempt.spawned": _ENDS,
    "attempt.started": _STARTS,
    "backlog.import_finished": _WORK,
    "backlog.phase_registered": _WORK,
    "backlog.phase_requeued": _PERSONS,
    "backlog.run_registered": _WORK,
    "backlog.tier_registered": _WORK,
    "calibration.coefficients_adopted": _PERSONS,
    "calibration.drift_alarmed": Origin(("calibration",), ("drift",)),
    "calibration.proposed": _PERSONS,
    "daemon.configured": _DAEMONS,
    "daemon.paused": _DAEMONS,
    "daemon.resumed": _DAEMONS,
    "diagnosis.boundary_detected": _ENDS,
    "diagnosis.fingerprinted": _ENDS,
    "diagnosis.reclassified": Origin(("reclassification",), ("operator",)),
    "diagnosis.zero_yield_explained": _ENDS,
    "engine.started": Origin(("engine",), ()),
    "operator.account_resumed": _PERSONS,
    "operator.breaker_reset": _PERSONS,
    "operator.run_reinstated": _PERSONS,
    "session.coefficients_in_force": _SESSIONS,
    "session.draining": Origin((SESSION,), ("worker", "picker", "cli")),
    "session.ended": _SESSIONS,
    "session.lapsed": _SESSIONS,
    "session.leased": _SESSIONS,
    "session.part_lost": _SESSIONS,
    "session.policy_adopted": _SESSIONS,
    "session.resumed": _SESSIONS,
    "session.started": _SESSIONS,
    "triage.account_paused": _ENDS,
    "triage.account_recovered": _ENDS,
    "triage.attempt_deferred": _ENDS,
    "triage.breaker_closed": _ENDS,
    "triage.breaker_opened": _ENDS,
    "triage.breaker_probed": _ENDS,
    "triage.budget_reached": Origin((SESSION,), ("worker", "picker")),
    "triage.fingerprint_stopped": _ENDS,
    "triage.run_cooled_down": _STARTS,
    "triage.run_judged": _ENDS,
    "triage.run_stopped": _ENDS,
    "usage.estimate_imported": _WORK,
    "usage.imported": _WORK,
    "usage.recorded": _ENDS,
    "usage.rejected": _ENDS,
}

BACKLOG_TYPES = tuple(kind for kind, origin in ORIGINS.items() if origin is _WORK)
"""Types that come into a log from outside its sessions, with what is to be done."""

DATED = (
    "backlog.phase_registered",
    "backlog.run_registered",
    "usage.estimate_imported",
    "usage.imported",
)
"""Types whose events may say when their source made what they are about, and so occurred then."""

_SUBJECTS: Mapping[str, str] = {
    "backlog.phase_requeued": "run_id",
    "operator.account_resumed": "account",
    "operator.breaker_reset": "fingerprint",
    "operator.run_reinstated": "run_id",
}
"""Which field of a person's word is the last part of its stream."""

_TOPICS: Mapping[str, str] = {
    "calibration.coefficients_adopted": "coefficients",
    "calibration.proposed": "calibration",
}
_ODD = ("engine.started", "session.draining", "session.part_lost", "triage.budget_reached")
IN_DATA = (*_ODD, *_SUBJECTS, *_TOPICS)
"""Types whose stream or actor shows only in their data or their cause."""


def is_plain(kind: str, stream: str, session: str | None, actor: str) -> bool:
    """Whether all rows of a type that share these columns plainly come from where they should."""
    origin = ORIGINS.get(kind)
    if origin is None or kind in IN_DATA or actor not in origin.actors:
        return False
    if origin.streams == (SESSION,):
        return stream == f"{SESSION}{session}"
    return stream in origin.streams or (origin is _WORK and stream.startswith(BACKLOG))


def run_of(stream: str) -> str | None:
    """The run that all of a stream is about; None for any other stream."""
    return stream.removeprefix("run/") if stream.startswith("run/") else None


def _odd_stream(row: Row, event: Event) -> str | None:
    """What is wrong with the stream of a row; None for nothing."""
    origin = ORIGINS[row.type]
    if origin is _WORK and run_of(row.stream) in (None, row.run):
        is_right = row.stream.startswith(BACKLOG)
    elif row.type == "session.part_lost":  # another session says it, when it begins
        is_right = row.stream.startswith(SESSION)
    else:
        is_right = row.stream == _stream_due(row, origin, event)
    return None if is_right else f"a {row.type} of {_about(row)} stands in {row.stream[:80]!a}"


def _about(row: Row) -> str:
    return f"{row.session or row.run or 'all'}"


def _stream_due(row: Row, origin: Origin, event: Event) -> str:
    if origin is _PERSONS:
        return OPERATOR + (_TOPICS.get(row.type) or str(event.get(_SUBJECTS[row.type])))
    one = origin.streams[0]
    return f"{SESSION}{row.session}" if one == SESSION else one


def _actors_due(row: Row, event: Event) -> tuple[str, ...]:
    actors = ORIGINS[row.type].actors
    if row.type == "engine.started":
        return (str(event.get("program")),)
    if row.type == "triage.breaker_opened" and event.get("carried") is True:
        return ("cli",)  # an earlier program said so as its session began
    if len(actors) == 1:
        return actors
    if row.cause is not None:
        return ("worker",)
    is_picked = row.type == "triage.budget_reached" or event.get("because") in LIMITS
    return ("picker",) if is_picked else ("cli",)


def _occurred_us(row: Row, event: Event) -> int:
    """When a row must say that its event occurred."""
    created = event.get("created_us") if row.type in DATED else None
    return created if type(created) is int and created else row.recorded_us


def is_dated(data: bytes, occurred: int, recorded: int) -> bool:
    """Whether an event of ``DATED`` plainly occurred when its data says, without parsing it."""
    if b'"created_us":' not in data:
        return occurred == recorded
    at = data.rfind(b'"created_us":')
    if data.startswith(b"null", at + 13):
        return occurred == recorded
    told = (b'"created_us":%d}' % occurred, b'"created_us":%d,' % occurred)
    return occurred != 0 and data.startswith(told, at)


class Origins:
    """Checks where each row comes from, of which it knows what the attributes say.

    ``command`` is the last row's; ``last`` its request, and the place (stream, actor and program)
    of the last row of the command that was right, None without one.
    ``programs``: the versions of all engines that have begun, each of which may have written a row,
    since rows of a log that engines share say only which of them was the newest.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self.command = ""
        self.last: tuple[bytes, tuple[str, str, str] | None] = (b"", None)
        self.programs: set[str] = set()

    def take(self, row: Row, event: Event | None) -> None:
        """Check one row; ``event`` is its data, None when that could not be read."""
        if row.type == "engine.started" and event is not None:
            self.programs.add(str(event.get("package_version")))
        odd = [] if event is None else list(self._odd(row, event))
        for what in odd:
            self._report(f"S36: {what}", row.pos)
        self._hold_together(row, is_odd=bool(odd))

    def _hold_together(self, row: Row, *, is_odd: bool) -> None:
        """Whether the events of a command come from one place; what is odd itself is no measure."""
        place = (row.stream, row.actor, row.code)
        if row.command_id != self.command:
            self.command, self.last = row.command_id, (row.request, None)
        request, measure = self.last
        if row.request != request:
            self._report(f"S36: the command {row.command_id} asks for something else here", row.pos)
        elif not is_odd and measure not in (None, place):
            self._report(f"S36: the command {row.command_id} is of another place here", row.pos)
        self.last = (row.request, measure if is_odd else place)

    def _odd(self, row: Row, event: Event) -> Iterator[str]:
        where = _odd_stream(row, event)
        if where is not None:
            yield where
        if row.actor not in _actors_due(row, event):
            yield f"such a {row.type} is not by {row.actor[:80]!a}"
        if self.programs and row.code not in self.programs:
            yield f"no engine of version {row.code[:80]!a} has begun"
        if row.occurred_us != _occurred_us(row, event):
            yield "it occurred at another time than was recorded, or than its data says"
