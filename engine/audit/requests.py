"""What was asked for: a command keeps the digest of it, and its events say it again (S37).

Whoever alters an event, and every hash behind it, has to know this digest, too.  The bytes of what
was asked are put together here a second time, from the text of the events as it is stored.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from typing import Any

from engine.audit.chain import Report
from engine.audit.origins import BACKLOG_TYPES
from engine.collector import without_collector

WORKERS_MAX = 1024
ENDS = (
    "nothing_eligible",
    "held_back",
    "run_budgets",
    "batch_size",
    "total_time",
    "zero_yield_streak",
    "interrupted",
    "storage",
    "session_budget",
    "day_budget",
    "paused",
    "window_closed",
)
"""What a session may end for."""


_STREAMS = (
    *(("run/", "run0"), ("import/", "import0"), ("operator/", "operator0")),
    *((name, f"{name}\1") for name in ("calibration", "daemon", "engine", "reclassification")),
)
"""What comes into a log from outside its sessions: the streams from one name up to another."""
_ROWS = """
SELECT type, attempt, data, pos, command_id, request FROM events
 WHERE stream >= ? AND stream < ? ORDER BY stream, version"""


def check_requests(connection: sqlite3.Connection, report: Report) -> None:
    """Check whatever was asked of a log from outside: sessions are decided again elsewhere."""
    requests = Requests(report)
    with without_collector():
        for streams in _STREAMS:
            for row in connection.execute(_ROWS, streams):
                requests.take(row[3], row[4], row[5], row)
    requests.close()


Part = Sequence[Any]
"""An event of a command, as far as it was asked for: its type, attempt and data."""
_KIND, _ATTEMPT, _DATA = range(3)


class Requests:
    """Feed it every row, or whole commands of them; it reports commands of other words."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._command, self._request, self._pos = "", b"", 0
        self._parts: list[Part] = []

    def take(self, pos: int, command_id: str, request: bytes, part: Part) -> None:
        """Heed one row."""
        if command_id != self._command:
            self.close()
            self._command, self._request = command_id, request
        self._pos = pos
        self._parts.append(part)

    def close(self) -> None:
        """Judge the last command."""
        parts, self._parts = self._parts, []
        if not parts:
            return
        kind = parts[0][_KIND]
        ask = _judge_of(parts)
        if ask is None:
            return
        try:
            is_asked = ask(self._command, self._request, parts)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
            is_asked = False
        if not is_asked:
            what = f"S37: what {self._command} asked for is not what its {kind} says"
            self._report(what, self._pos)


Judge = Callable[[str, bytes, Sequence[Part]], bool]
"""Whether a command of this id and digest asked for these events."""


def _judge_of(parts: Sequence[Part]) -> Judge | None:
    """How to judge a command; None for one that does not say what it was asked."""
    kinds = {part[_KIND] for part in parts}
    if "attempt.finished" in kinds:
        return _end_of_attempt
    if "session.ended" in kinds:
        return _ended
    return _JUDGES.get(parts[0][_KIND])


def _is(request: bytes, *text: str) -> bool:
    return sha256("".join(text).encode()).digest() == request


def _whole(_command_id: str, request: bytes, parts: Sequence[Part]) -> bool:
    return _is(request, *(part[_DATA] for part in parts))


def _registered(command_id: str, request: bytes, parts: Sequence[Part]) -> bool:
    return command_id.startswith("reg_") and _is(request, "\n".join(part[_DATA] for part in parts))


def _engine(command_id: str, request: bytes, parts: Sequence[Part]) -> bool:
    epoch = json.loads(parts[0][_DATA])["epoch"]
    return command_id == f"engine-{epoch}" and _whole(command_id, request, parts)


def _about_attempt(command_id: str, request: bytes, parts: Sequence[Part]) -> bool:
    one = parts[0]
    what = (
        "spawned"
        if one[_KIND] == "attempt.spawned"
        else f"adopted-{json.loads(one[_DATA])['epoch']}"
    )
    return command_id == f"{one[_ATTEMPT]}.{what}" and _whole(command_id, request, parts)


def _end_of_attempt(command_id: str, request: bytes, parts: Sequence[Part]) -> bool:
    at = next(n for n, part in enumerate(parts) if part[_KIND] == "attempt.finished")
    usage, end = ",".join(part[_DATA] for part in parts[:at]), parts[at]
    is_named = command_id == f"{end[_ATTEMPT]}.finished"
    return is_named and _is(request, "[[", usage, "],", end[_DATA], "]")


def _reclassified(_command_id: str, request: bytes, parts: Sequence[Part]) -> bool:
    return _is(request, "[", ",".join(part[_DATA] for part in parts), "]")


def _alarmed(command_id: str, request: bytes, parts: Sequence[Part]) -> bool:
    return command_id == f"drift.{request.hex()[:32]}" and _whole(command_id, request, parts)


def _leased(_command_id: str, request: bytes, _parts: Sequence[Part]) -> bool:
    return _is(request, "lease")


def _lapsed(_command_id: str, request: bytes, _parts: Sequence[Part]) -> bool:
    return _is(request, "lapse")


def _stopped(command_id: str, request: bytes, parts: Sequence[Part]) -> bool:
    """A session that drains was told why; one that reached a limit wanted to pick."""
    because = json.loads(parts[-1][_DATA])["because"]
    return _is(request, because) or _picked(command_id, request, parts)


def _ended(_command_id: str, request: bytes, _parts: Sequence[Part]) -> bool:
    """What ends a session gives a reason, and the event an earlier one, if there was any."""
    return any(_is(request, because) for because in ENDS)


def _picked(_command_id: str, request: bytes, parts: Sequence[Part]) -> bool:
    starts: int = sum(part[_KIND] == "attempt.started" for part in parts)
    return _capacities().get(request, -1) >= starts


@cache
def _capacities() -> Mapping[bytes, int]:
    """How many attempts a pick wanted to start at most, by the digest of its request."""
    return {sha256(b"pick %d" % count).digest(): count for count in range(1, WORKERS_MAX + 1)}


def _said(operation: str, *names: str) -> Judge:
    """What a person asked for, with what it is about, in the order that it is written.

    Before words could be handed to a daemon, what was asked for was the event itself.
    """

    def judge(command_id: str, request: bytes, parts: Sequence[Part]) -> bool:
        if _whole(command_id, request, parts):
            return True
        event = json.loads(parts[0][_DATA])
        asked = {"operation": operation, "by": event["by"], "why": event["why"]}
        return _is(request, _json(asked | {name: event.get(name) for name in names}))

    return judge


def _proposed(_command_id: str, request: bytes, parts: Sequence[Part]) -> bool:
    return _is(request, '{"operation":"propose_calibration","proposal":', parts[0][_DATA], "}")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_JUDGES: Mapping[str, Judge] = {
    **dict.fromkeys(BACKLOG_TYPES, _registered),
    "attempt.adopted": _about_attempt,
    "attempt.spawned": _about_attempt,
    "attempt.started": _picked,
    "backlog.phase_requeued": _said("requeue_phase", "run_id", "phase_id"),
    "calibration.coefficients_adopted": _said(
        "adopt_coefficients",
        "coefficient_version",
        "coefficients_sha256",
        "coefficients_json",
        "replaces",
    ),
    "calibration.drift_alarmed": _alarmed,
    "calibration.proposed": _proposed,
    "daemon.configured": _whole,
    "daemon.paused": _whole,
    "daemon.resumed": _whole,
    "diagnosis.reclassified": _reclassified,
    "engine.started": _engine,
    "operator.account_resumed": _said("resume_account", "account"),
    "operator.breaker_reset": _said("reset_breaker", "fingerprint"),
    "operator.run_reinstated": _said("reinstate_run", "run_id"),
    "session.draining": _stopped,
    "session.lapsed": _lapsed,
    "session.leased": _leased,
    "triage.run_cooled_down": _picked,
}
