"""A log that contradicts itself is named, with the place, whatever stands there."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from engine.audit.lines import Line
from engine.errors import LogUnreadable
from engine.events import (
    AnyEvent,
    AttemptFinished,
    AttemptStarted,
    BreakerReset,
    PhaseRequeued,
    RunReinstated,
    SessionDraining,
    SessionEnded,
    SessionStarted,
)
from engine.triage.policy import POLICIES
from tests.audit.whatif_drains import Drained, Run, drained, fails, held_against, succeeds

OTHER = replace(POLICIES["default"], attempts_per_phase_max=1)


async def recorded() -> Drained:
    runs = [Run("r", "strict", [[fails("one"), succeeds(1)]])]
    return await drained(runs, POLICIES["default"], batch_sizes=(2,))


def with_event(log: Drained, event: AnyEvent) -> Drained:
    last = log.lines[-1]
    line = last._replace(pos=last.pos + 1, command_id="more", event=event)
    return log._replace(lines=[*log.lines, line])


@pytest.mark.parametrize(
    "event",
    [
        RunReinstated(run_id="nobody", generation=1, by="a", why="b"),
        PhaseRequeued(run_id="nobody", phase_id="p0", by="a", why="b"),
        PhaseRequeued(run_id="r", phase_id="nothing", by="a", why="b"),
        SessionEnded(
            session_id="none", because="nothing_eligible", active_ms=1, attempts=1, work_left=0
        ),
    ],
    ids=lambda event: type(event).__name__,
)
async def test_an_event_that_names_what_is_unknown_is_refused_at_its_place(event: AnyEvent) -> None:
    log = with_event(await recorded(), event)
    with pytest.raises(LogUnreadable, match=f"at position {log.lines[-1].pos}:"):
        held_against(log, OTHER)


async def test_a_breaker_that_nobody_knows_may_be_reset() -> None:
    log = await recorded()
    reset = BreakerReset(session_id="none", fingerprint="fp-1:00", by="a", why="b")
    assert held_against(with_event(log, reset), OTHER) == held_against(log, OTHER)


@pytest.mark.parametrize("kind", [AttemptStarted, AttemptFinished, SessionDraining])
async def test_what_a_session_did_that_never_began_is_refused(kind: type[AnyEvent]) -> None:
    log = await recorded()
    lines = [line for line in log.lines if not isinstance(line.event, SessionStarted)]
    kept = [line for line in lines if _is_before(line, kind)]
    with pytest.raises(LogUnreadable, match="contradicts itself at position"):
        held_against(log._replace(lines=kept), OTHER)


def _is_before(line: Line, kind: type[AnyEvent]) -> bool:
    of_a_session = isinstance(line.event, AttemptStarted | AttemptFinished | SessionDraining)
    return isinstance(line.event, kind) or not of_a_session
