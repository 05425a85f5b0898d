"""Provider limits: an account that met one rests, and the attempt does not count as a failure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.events import (
    AccountPaused,
    AccountRecovered,
    AnyEvent,
    AttemptDeferred,
    AttemptFinished,
    BoundaryDetected,
    BoundaryKind,
    ClockTime,
)
from engine.triage.policy import Policy
from engine.triage.reasons import Facts, Ground
from engine.zones import next_time_us, zone
from projections.accounts import AccountStanding
from projections.backlog import PhaseStanding

RULE = "provider_pause"
LIMITS: frozenset[BoundaryKind] = frozenset({"rate_limit", "quota", "spend_limit", "overloaded"})
"""Limits that a provider sets an account, and lifts again."""

STATED_MAX_MS = 7 * 24 * 3_600_000
"""No text that a child printed stops an account for longer than a week."""

LAST_WORD_BYTES_MAX = 2000
"""So much may stand behind a limit: the rest of its error, a trace, words of waiting."""


def limit_met(
    finished: AttemptFinished, boundaries: Sequence[BoundaryDetected], policy: Policy
) -> BoundaryDetected | None:
    """The provider's limit that ended an attempt, or None.

    An attempt that timed out met one if it was its last word: it waited for the limit to be lifted
    until its deadline came.  One that went on to print more was not waiting.
    """
    if policy.provider_pause_ms is None or finished.ending not in ("failed", "timed_out"):
        return None
    met = next((b for b in boundaries if b.disposition == "stopped_by" and b.kind in LIMITS), None)
    waited = met is not None and (finished.ending == "failed" or _is_last_word(met, finished))
    return met if waited else None


def _is_last_word(boundary: BoundaryDetected, finished: AttemptFinished) -> bool:
    """Whether hardly anything was printed behind a limit, or the child declared it itself."""
    evidence = boundary.evidence
    if evidence is None:
        return boundary.declared is not None
    stream = finished.stdout if evidence.stream == "stdout" else finished.stderr
    return stream.head_bytes + stream.tail_bytes - evidence.byte_end <= LAST_WORD_BYTES_MAX


def is_deferred(phase: PhaseStanding, policy: Policy) -> bool:
    """Whether an attempt that met a provider's limit leaves the phase as it was.

    Only so often; a phase that meets limits without end fails like any other.
    """
    limit = policy.deferrals_per_phase_max
    return limit is None or phase.deferrals < limit


def deferral(
    finished: AttemptFinished,
    boundary: BoundaryDetected,
    fingerprint: str | None,
    phase: PhaseStanding,
    ground: Ground,
) -> AttemptDeferred:
    """The event by which an attempt does not count."""
    facts: Facts = {"kind": boundary.kind, "deferrals_before": phase.deferrals}
    sentence = (
        f"The provider's {boundary.kind} ended the attempt, which says nothing about the phase;"
        " it stands as before."
    )
    return AttemptDeferred(
        session_id=finished.session_id,
        run_id=finished.run_id,
        phase_id=finished.phase_id,
        attempt_id=finished.attempt_id,
        state=phase.state_before,
        kind=boundary.kind,
        fingerprint=fingerprint,
        no_yield=finished.yield_events == 0,
        timed_out=finished.ending == "timed_out",
        reason=ground.reason(RULE, facts, sentence),
    )


def paused(
    account: AccountStanding,
    finished: AttemptFinished,
    boundary: BoundaryDetected,
    ground: Ground,
) -> Iterator[AccountPaused]:
    """The pause that a limit calls for at ``now_us``, when the attempt that met it has ended.

    While one lasts, another limit only lengthens it if the provider names a later time: attempts
    that were under way met the same limit.
    """
    stated_us = stated_reset_us(boundary, ground.now_us, finished.duration_ms)
    lasting = ground.now_us < account.until_us
    if lasting and (stated_us is None or stated_us <= account.until_us):
        return
    consecutive = account.consecutive if lasting else account.consecutive + 1
    until_us = stated_us or ground.now_us + pause_ms(account.consecutive, ground.policy) * 1000
    seconds = max(0, until_us - ground.now_us) / 1e6
    said = "the provider says so" if stated_us else "no time that could be read"
    facts: Facts = {
        "kind": boundary.kind,
        "now_us": ground.now_us,
        "stated_us": stated_us,
        "consecutive_before": account.consecutive,
    }
    yield AccountPaused(
        session_id=ground.scope.session_id,
        account=account.account,
        kind=boundary.kind,
        until_us=until_us,
        stated=stated_us is not None,
        consecutive=consecutive,
        reason=ground.reason(
            RULE,
            facts,
            f"The account {account.account} met its {boundary.kind} and rests for"
            f" {seconds:.0f} s ({said}).",
        ),
    )


def stated_reset_us(boundary: BoundaryDetected, now_us: int, duration_ms: int) -> int | None:
    """When the provider says that its limit is lifted; None when it says nothing usable.

    ``duration_ms``: how long the attempt took that ended at ``now_us``.  A time in the past says
    nothing, and one too far ahead is cut to a week.
    """
    stated_us = boundary.resets_at_us
    if stated_us is None and boundary.resets_in_ms is not None:
        stated_us = now_us + boundary.resets_in_ms * 1000
    if stated_us is None and boundary.resets_clock is not None:
        stated_us = _time_of_day_us(boundary.resets_clock, now_us, duration_ms)
    if stated_us is None or stated_us <= now_us:
        return None
    return min(stated_us, now_us + STATED_MAX_MS * 1000)


def _time_of_day_us(clock: ClockTime, now_us: int, duration_ms: int) -> int | None:
    """When clocks show that time for the first time since the attempt began, if that lies ahead.

    One that came round while the attempt was under way may be the one that was meant, and to wait
    for the next would be a day too much.  In a zone that is not named, or not known here, it may
    be any hour.
    """
    where = None if clock.zone is None else zone(clock.zone)
    if where is None:
        return None
    return next_time_us(clock.minute, where, now_us - duration_ms * 1000)


def pause_ms(consecutive: int, policy: Policy) -> int:
    """How long an account rests when no time could be read: doubling, up to a bound."""
    assert policy.provider_pause_ms is not None
    doubled = policy.provider_pause_ms << min(consecutive, 30)
    return int(min(doubled, policy.provider_pause_max_ms))


def recovered(
    account: AccountStanding | None, finished: AttemptFinished, ground: Ground
) -> Iterator[AnyEvent]:
    """An attempt that does well ends the row of pauses."""
    if ground.policy.provider_pause_ms is None:
        return
    well = finished.ending == "succeeded" or finished.yield_events > 0
    if account is None or account.consecutive == 0 or not well:
        return
    yield AccountRecovered(
        session_id=ground.scope.session_id,
        account=account.account,
        attempt_id=finished.attempt_id,
        reason=ground.reason(
            RULE,
            {"ending": finished.ending, "consecutive_before": account.consecutive},
            f"An attempt on the account {account.account} did well again.",
        ),
    )
