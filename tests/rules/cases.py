"""Cases to look at, and what is to be told of them."""

from __future__ import annotations

from typing import Any, cast

from engine.triage.case import Case
from engine.triage.hindrance import Hindrance
from engine.triage.scope import Scope
from projections.backlog import PhaseStanding
from tests.rules.standings import NOW_US, run, scope, session

REQUEUE = "`runoff phase requeue r p --why TEXT` puts it back, with its counts at nothing."
REQUEUE_FOR_OTHERS = (
    f"{REQUEUE[:-1]}; a policy that drains QUEUED, such as default, attempts it then."
)
HOUR_US = 3_600_000_000
NEW_SESSION = "A new session tries it again."


def case(of: Scope | None = None, *phases: PhaseStanding, **fields: Any) -> Case:
    known: dict[str, Any] = {"session": session(), "run": run(), "account": None, "day": None}
    known |= {"breakers": (), "now_us": NOW_US}
    return Case(scope=of or scope(), phases=phases, **{**known, **fields})


def told(kind: str, of: str, text: str, change: str, **more: Any) -> Hindrance:
    return Hindrance(kind=cast("Any", kind), of=cast("Any", of), text=text, change=change, **more)
