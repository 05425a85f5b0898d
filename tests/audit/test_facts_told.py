"""What events say as facts: each in its own words, with its rule where one decided it."""

from __future__ import annotations

import pytest

from engine.audit.facts import Rule, fact
from engine.events import (
    AnyEvent,
    BreakerReset,
    Classified,
    PhaseRequeued,
    Reclassified,
    RunReinstated,
    RunStopped,
    Seen,
    SessionLeased,
)
from tests.harness.backlogs import queued
from tests.rules.standings import because, boundary, fingerprinted, finished, silent, started

WHY = because("stops", "so it is")
RULE = Rule(rule="stops", version=1, policy="t@7")
BY = {"by": "ann", "why": "a new key"}
AFTER = Classified(detector="fp-1", name="g", detail="d", text="t")


def reclassified(after: Classified | None) -> Reclassified:
    return Reclassified(
        session_id="s",
        run_id="r",
        phase_id="p",
        attempt_id="a",
        what="fingerprint",
        detector="fp-1",
        timeouts="run",
        before=None,
        after=after,
        rules_sha256="",
        **BY,
    )


@pytest.mark.parametrize(
    ("event", "text", "rule"),
    [
        (queued("r", "p"), "p registered as QUEUED", None),
        (started(number=2, reason=WHY), "attempt 2 of p started: so it is", RULE),
        (finished(number=2, error="boom"), "attempt 2 of p failed: boom", None),
        (finished(error="x" * 200), f"attempt 1 of p failed: {'x' * 160}", None),
        (finished(ending="succeeded", error=None), "attempt 1 of p succeeded", None),
        (PhaseRequeued(run_id="r", phase_id="p", **BY), "p requeued by ann: a new key", None),
        (RunReinstated(run_id="r", generation=2, **BY), "reinstated by ann: a new key", None),
        (BreakerReset(session_id="s", fingerprint="f", **BY), "reset by ann: a new key", None),
        (fingerprinted(seen_before=1), "fingerprint f, seen 1 time before in its session", None),
        (fingerprinted(seen_before=2), "fingerprint f, seen 2 times before in its session", None),
        (boundary(), "limit rate_limit (stopped_by) by the pattern '429'", None),
        (silent(), "no usage: unknown (nothing)", None),
        (reclassified(AFTER), "fingerprint by fp-1: g (a new key)", None),
        (reclassified(None), "fingerprint by fp-1: nothing (a new key)", None),
        (RunStopped(session_id="s", run_id="r", because="timeouts", reason=WHY), "so it is", RULE),
        (SessionLeased(session_id="s", epoch=1, host="h", lease_ms=1), None, None),
    ],
)
def test_an_event_says_what_it_says_in_its_own_words(
    event: AnyEvent, text: str | None, rule: Rule | None
) -> None:
    told = fact(Seen(7, 9, event))
    if text is None:
        assert told is None
        return
    assert told is not None
    assert (told.text, told.rule) == (text, rule)
    assert (told.pos, told.recorded_us) == (7, 9)
