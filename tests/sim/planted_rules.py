"""Planted bugs of the rules: verdicts, stops, breakers, cool-downs, pauses and budgets."""

from __future__ import annotations

from tests.sim.planting import Bug, Change, bug

RULES = "engine.triage.rules"
SELECT = "engine.triage.select"
DECIDE = "engine.triage.decide"
BREAKER = "engine.triage.breaker"
PICKING = "engine.triage.picking"
PROVIDER = "engine.triage.provider"
LOOP = "engine.drain.loop"
BACKLOG = "projections.backlog"
RUNS = "projections.run_triage"
SESSIONS = "projections.sessions"

RULE_BUGS: tuple[Bug, ...] = (
    # Rules
    bug(
        "timeouts limit off by one",
        f"{RULES}:_times_out_too_often",
        "timeouts_before + 1 >= limit",
        "timeouts_before >= limit",
    ),
    bug(
        "fingerprint limit off by one",
        f"{RULES}:_repeats_too_often",
        "seen_before + 1 >= limit",
        "seen_before >= limit",
    ),
    bug(
        "streak limit off by one",
        f"{RULES}:_streak_ends",
        "zero_streak_before + 1 >= limit",
        "zero_streak_before >= limit",
    ),
    bug(
        "usage breaks no streak",
        f"{SESSIONS}:_finished",
        "0 if event.yield_events else streak",
        "streak",
    ),
    Bug(
        "an abandoned sample is judged",
        (
            Change(f"{RULES}:three_way", "or situation.ending not in JUDGED_ENDINGS", ""),
            Change(f"{DECIDE}:_judgement", "situation.ending not in JUDGED_ENDINGS", "False"),
        ),
        near=20,
    ),
    bug(
        "usage does not save a failed sample",
        f"{RULES}:three_way",
        "situation.yield_events > 0",
        "situation.yield_events > 99",
    ),
    bug(
        "a first failure is condemned",
        f"{RULES}:three_way",
        "situation.seen_before > 0",
        "situation.seen_before >= 0",
    ),
    bug(
        "a repeated timeout is promising",
        f"{RULES}:three_way",
        '"inconclusive", "repeated_timeout"',
        '"promising", "timeout"',
        near=20,
    ),
    bug(
        "a run is judged twice",
        f"{RULES}:three_way",
        'situation.standing != "unsampled"',
        'situation.standing == "promising"',
    ),
    bug(
        "a failure counts itself among the earlier ones",
        f"{DECIDE}:situation_of",
        "seen.count if seen else 0",
        "(seen.count if seen else 0) + 1",
    ),
    bug(
        "fingerprints are counted over all sessions",
        "projections.fingerprints:_keys",
        "join(event.session_id,",
        'join("",',
    ),
    bug(
        "a stopped fingerprint is stopped again",
        f"{DECIDE}:situation_of",
        "seen.stopped_pos is not None",
        "False",
        near=29,
    ),
    bug(
        "a fingerprint stop is not recorded",
        f"{RULES}:stops",
        'found.append("fingerprint")',
        "pass",
    ),
    bug(
        "a stopped run is stopped again",
        f"{RULES}:stops",
        "if not situation.run_stopped:",
        "if True:",
        near=47,
    ),
    bug(
        "a verdict of the wrong generation",
        f"{DECIDE}:_judged",
        "generation=run.generation",
        "generation=run.generation + 1",
    ),
    # The improvements on the original
    bug(
        "a stop does not outrank the verdict",
        f"{RULES}:outranked",
        'ruling.verdict == "promising"',
        "False",
        near=114,
    ),
    bug(
        "a stopped run stays promising",
        f"{DECIDE}:_stopped",
        "demoted=ground.policy.stop_outranks_verdict and",
        "demoted=False and",
    ),
    bug(
        "usage does not spare a repeated failure",
        f"{RULES}:_repeats_too_often",
        "policy.stops_spare_yield and",
        "False and",
        near=178,
    ),
    bug(
        "timeouts of all runs are one",
        "engine.detect.diagnosis:_fingerprinted",
        'timeouts == "run"',
        "False",
    ),
    bug(
        "the breaker opens one run late",
        f"{BREAKER}:opens",
        "runs_before + 1 >=",
        "runs_before >=",
        near=20,
    ),
    bug(
        "an open breaker holds nothing back",
        f"{BREAKER}:sampling_gate",
        'return Gate("breaker_open")\n    allowed',
        "pass\n    allowed",
        near=186,
    ),
    bug(
        "two probes at once",
        f"{BREAKER}:sampling_gate",
        "any(breaker.probe is not None for breaker in held)",
        "False",
        near=698,
    ),
    bug(
        "one probe too many",
        f"{BREAKER}:may_probe",
        "breaker.probes < policy",
        "breaker.probes <= policy",
        near=186,
    ),
    bug("probes need no rest", f"{BREAKER}:may_probe", "now_us >= due_us", "True", near=186),
    bug(
        "a lost probe counts",
        f"{BREAKER}:outcome_of",
        'deferred or finished.ending in ("abandoned", "orphaned")',
        "deferred",
        near=171,
    ),
    bug(
        "a probe with usage does not close the breaker",
        f"{BREAKER}:outcome_of",
        'finished.ending == "succeeded" or finished.yield_events > 0',
        'finished.ending == "succeeded"',
        near=81,
    ),
    bug(
        "a breaker holds back only the session that opened it",
        f"{BREAKER}:sampling_gate",
        "held = open_breakers(breakers)",
        "held = [b for b in open_breakers(breakers) if b.session_id == session.session_id]",
        near=455,
    ),
    bug(
        "a run that recovers closes no breaker",
        f"{BREAKER}:settled",
        'elif outcome == "did_well" and',
        'elif outcome == "lost" and',
        near=21,
    ),
    bug(
        "a breaker counts a run twice",
        f"{DECIDE}:_breaker_opened",
        "facts.finished.run_id in before",
        "False",
        near=800,
    ),
    bug(
        "the slow start lets one more sample begin",
        f"{BREAKER}:sampling_gate",
        "len(session.open_samples) >= allowed",
        "len(session.open_samples) > allowed",
        near=45,
    ),
    bug(
        "repeated failures quicken the slow start",
        f"{SESSIONS}:_within",
        'event.because != "repeated_failure"',
        "True",
        near=925,
    ),
    bug(
        "a run cools down before its time",
        "engine.triage.cooling:is_cool",
        "now_us >= due_us",
        "True",
        near=58,
    ),
    bug(
        "a cooled-down run keeps its generation",
        "engine.triage.cooling:cooled_down",
        "run.generation + 1",
        "run.generation",
        near=20,
    ),
    bug(
        "a limit of the model defers, too",
        f"{PROVIDER}:limit_met",
        "and b.kind in LIMITS",
        "",
        near=21,
    ),
    bug("deferrals have no end", f"{PROVIDER}:is_deferred", "limit is None or", "True or", near=19),
    bug(
        "a deferred attempt is used up",
        f"{BACKLOG}:_apply",
        "attempts=max(0, state.attempts - 1),",
        "",
        near=19,
    ),
    bug(
        "a deferred failure is counted",
        "projections.fingerprints:_apply",
        "count=state.count - 1,",
        "",
        near=155,
    ),
    bug(
        "a deferred attempt lengthens the streak",
        f"{SESSIONS}:_deferred",
        "state.streak_before",
        "state.zero_streak",
        near=19,
    ),
    bug(
        "a deferred phase stays failed",
        f"{PROVIDER}:deferral",
        "state=phase.state_before",
        "state=finished.final_state",
        near=56,
    ),
    bug("pauses do not grow", f"{PROVIDER}:pause_ms", "<< min(consecutive, 30)", "<< 0", near=155),
    bug(
        "pauses grow without bound",
        f"{PROVIDER}:pause_ms",
        "min(doubled, policy.provider_pause_max_ms)",
        "doubled",
        near=387,
    ),
    bug(
        "what the provider says about its limit is ignored",
        f"{PROVIDER}:stated_reset_us",
        "boundary.resets_in_ms is not None",
        "False",
        near=19,
    ),
    bug(
        "each limit met during a pause lengthens it",
        f"{PROVIDER}:paused",
        "lasting and (stated_us",
        "False and (stated_us",
        near=504,
    ),
    bug("an account never recovers", f"{PROVIDER}:recovered", "or not well", "or True", near=21),
    bug(
        "attempts start during a pause",
        f"{SELECT}:Queue.pick",
        "is not None",
        "is NotImplemented",
        near=19,
    ),
    bug(
        "a session does not wait for the end of a pause",
        f"{LOOP}:Drain._held_left_s",
        "return max(0, left_us) / 1e6",
        "return None",
        near=19,
    ),
    bug(
        "a session oversleeps a pause",
        f"{LOOP}:Drain._held_left_s",
        "return max(0, left_us) / 1e6",
        "return max(0, left_us) / 1e6 + 1",
        near=19,
    ),
    bug(
        "a budget may be exceeded by one",
        "engine.triage.budgets:phase_is_over",
        ">= b.limit",
        "> b.limit",
    ),
    bug(
        "a run's budget outlives its generation",
        f"{RUNS}:_begun_anew",
        "spent_attempts=0,",
        "",
    ),
    bug(
        "a requeued phase has its budget used up", f"{BACKLOG}:_apply", "spent_ms=0,", "", near=1161
    ),
    bug(
        "a session's budget is not looked at",
        f"{PICKING}:limit_reached",
        "if reached is None:",
        "if True:",
        near=193,
    ),
    bug(
        "a used-up budget is told again and again",
        "engine.triage.budgets:_crossed",
        "spent - more < budget.limit <= spent",
        "budget.limit <= spent",
    ),
    bug(
        "a phase's own token cap is ignored",
        "engine.triage.budgets:phase_budgets",
        "scope.policy.heed_incident_caps and",
        "False and",
        near=44,
    ),
    # What waited at a provider's limit until its deadline came
    bug(
        "a timeout at a limit is never put off",
        f"{PROVIDER}:limit_met",
        'finished.ending not in ("failed", "timed_out")',
        'finished.ending != "failed"',
        near=80,
    ),
    bug(
        "whatever went on behind a limit was waiting",
        f"{PROVIDER}:_is_last_word",
        "<= LAST_WORD_BYTES_MAX",
        "<= 99_999",
    ),
    bug(
        "a timeout that was put off counts for its run",
        f"{RUNS}:_deferred",
        "state.session_timeouts - event.timed_out",
        "state.session_timeouts",
        near=220,
    ),
)
