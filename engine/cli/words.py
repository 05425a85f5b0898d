"""Events in words: one short line each, for people who read the log."""

from __future__ import annotations

from engine.amounts import counted, lasting
from engine.events import (
    NO_BATCH,
    AccountPaused,
    AccountRecovered,
    AccountResumed,
    AnyEvent,
    AttemptAdopted,
    AttemptDeferred,
    AttemptEstimated,
    AttemptFinished,
    AttemptSpawned,
    AttemptStarted,
    BoundaryDetected,
    BreakerClosed,
    BreakerOpened,
    BreakerProbed,
    BreakerReset,
    BudgetReached,
    CalibrationProposed,
    CoefficientsAdopted,
    CoefficientsInForce,
    DaemonConfigured,
    DaemonPaused,
    DaemonResumed,
    DriftAlarmed,
    EngineStarted,
    EstimateImported,
    FailureFingerprinted,
    FingerprintStopped,
    ImportFinished,
    PhaseRegistered,
    PhaseRequeued,
    PolicyAdopted,
    Reclassified,
    RunCooledDown,
    RunJudged,
    RunRegistered,
    RunReinstated,
    RunStopped,
    SessionDraining,
    SessionEnded,
    SessionLapsed,
    SessionLeased,
    SessionPartLost,
    SessionResumed,
    SessionStarted,
    TierRegistered,
    UsageImported,
    UsageRecorded,
    UsageRejected,
    ZeroYieldExplained,
)

_Work = (
    AttemptStarted
    | AttemptSpawned
    | AttemptAdopted
    | AttemptFinished
    | UsageRecorded
    | UsageRejected
)
_Diagnosis = FailureFingerprinted | BoundaryDetected | ZeroYieldExplained | Reclassified
_Decided = (
    RunJudged
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
    | SessionDraining
)
_Rules = _Diagnosis | _Decided
_Operator = (
    PhaseRequeued | RunReinstated | BreakerReset | AccountResumed | DaemonPaused | DaemonResumed
)
_Sessions = (
    EngineStarted
    | PolicyAdopted
    | SessionStarted
    | SessionResumed
    | SessionPartLost
    | SessionEnded
    | SessionLeased
    | SessionLapsed
)
_Calibration = (
    CoefficientsInForce
    | AttemptEstimated
    | CalibrationProposed
    | DriftAlarmed
    | CoefficientsAdopted
)
_Backlog = (
    RunRegistered
    | TierRegistered
    | PhaseRegistered
    | ImportFinished
    | UsageImported
    | EstimateImported
)


def in_words(event: AnyEvent) -> str:
    """What ``event`` says, on one line; not yet made harmless for a terminal."""
    if isinstance(event, _Work):
        return _work(event)
    if isinstance(event, _Rules):
        return _rules(event)
    if isinstance(event, _Sessions):
        return _sessions(event)
    if isinstance(event, DaemonConfigured):
        return f"{event.because} under {event.policy}: {event.settings_json}"
    if isinstance(event, _Operator):
        return f"by {event.by}: {event.why}"
    if isinstance(event, _Calibration):
        return _calibration(event)
    return _backlog(event)


def _backlog(event: _Backlog) -> str:
    match event:
        case RunRegistered():
            return f"a run of {event.origin}, {event.state} there"
        case TierRegistered():
            return f"tier {event.tier_index} {event.tier_id}: {event.name}"
        case PhaseRegistered():
            needs = f", needs {', '.join(event.needs)}" if event.needs else ""
            return f"{event.state}: {event.name}{needs}"
        case ImportFinished():
            runs, phases = counted(event.runs, "run"), counted(event.phases, "phase")
            return f"{runs}, {phases}, {counted(event.usage_rows, 'usage row')}"
        case UsageImported():
            return f"{counted(event.total_tokens, 'token')}, {event.model}, row {event.source_row}"
        case EstimateImported():
            return f"{event.predicted_output_tokens} expected, {event.actual_output_tokens} came"


def _calibration(event: _Calibration) -> str:
    match event:
        case CoefficientsInForce():
            return f"estimates by coefficients {event.coefficient_version}"
        case AttemptEstimated():
            estimated = counted(event.estimated_tokens, "token")
            tokens = f"{estimated} estimated, {event.budget_tokens} allowed"
            return f"{tokens}, coefficients {event.coefficient_version}"
        case CalibrationProposed():
            return f"as of position {event.position}: {event.sentence}"
        case DriftAlarmed():
            group = f"{event.category}/{event.complexity}"
            way = "larger" if event.z > 0 else "smaller"
            return (
                f"{group} changed at position {event.position}: newest are {way} (z {event.z:.1f})"
            )
        case CoefficientsAdopted():
            return f"coefficients {event.coefficient_version} by {event.by}: {event.why}"


def _work(event: _Work) -> str:
    match event:
        case AttemptStarted():
            return f"attempt {event.number} from {event.initial_state}: {event.reason.sentence}"
        case AttemptSpawned():
            return f"guardian process {event.pid} on {event.host}"
        case AttemptAdopted():
            return f"taken over by the writer of epoch {event.epoch}"
        case AttemptFinished():
            return _finished(event)
        case UsageRecorded():
            tokens = (event.input_tokens or 0) + (event.output_tokens or 0)
            return (
                f"{counted(tokens, 'token')}, {event.model or 'model not said'}, line {event.line}"
            )
        case UsageRejected():
            return f"{counted(event.count, 'line')} ({event.why}): {event.excerpt}"


def _finished(event: AttemptFinished) -> str:
    how = f", exit code {event.exit_code}" if event.exit_code is not None else ""
    how += f", signal {event.signal}" if event.signal is not None else ""
    error = f": {event.error}" if event.error else ""
    return (
        f"{event.ending} after {event.duration_ms / 1000:.1f} s{how}, now {event.final_state},"
        f" {counted(event.yield_events, 'usage event')}, {counted(event.tokens, 'token')}{error}"
    )


def _rules(event: _Rules) -> str:
    match event:
        case FailureFingerprinted():
            before = counted(event.seen_before, "time")
            return f"{event.fingerprint}, seen {before} before: {event.template}"
        case BoundaryDetected():
            excerpt = f": {event.evidence.excerpt}" if event.evidence else ""
            return f"{event.disposition} {event.kind} ({event.pattern}){excerpt}"
        case ZeroYieldExplained():
            return f"0 usage events: {event.reason} ({event.evidence})"
        case Reclassified():
            before = event.before.name if event.before else "nothing"
            after = event.after.name if event.after else "nothing"
            return f"{event.what} by {event.detector}: {after}, not {before} ({event.why})"
        case _:
            return event.reason.sentence


def _sessions(event: _Sessions) -> str:
    match event:
        case EngineStarted():
            return f"epoch {event.epoch}: {event.program}, process {event.pid} on {event.host}"
        case PolicyAdopted():
            return f"policy {event.policy}"
        case SessionStarted() | SessionResumed():
            limits = event.limits
            batch = "no batch" if limits.batch_size >= NO_BATCH else f"batch of {limits.batch_size}"
            return f"{event.executor}, {limits.workers} workers, {batch}"
        case SessionPartLost():
            return f"its engine had died; it had been at it for {lasting(event.active_ms)}"
        case SessionLeased():
            seconds = event.lease_ms / 1000
            return f"engine {event.epoch} on {event.host} is at it, with a lease of {seconds:g} s"
        case SessionLapsed():
            how = "is gone" if event.proved else "let its lease lapse"
            return f"engine {event.epoch} on {event.host} {how}, noticed by {event.noticed_by}"
        case SessionEnded():
            attempts, left = counted(event.attempts, "attempt"), counted(event.work_left, "phase")
            return f"{event.because}: {attempts}, {left} left"
