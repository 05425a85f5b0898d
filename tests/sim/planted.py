"""Planted bugs: small changes of the engine that the simulation must find.

Add one for every new rule; a bug that no invariant shows means that the checker needs a better eye,
not that the bug may go.
"""

from __future__ import annotations

from tests.sim.planted_rules import RULE_BUGS
from tests.sim.planting import Bug, Change, Misplanted, bug

ELIGIBLE = "engine.triage.eligible"
ORDERING = "engine.triage.ordering"
SELECT = "engine.triage.select"
HOSTS = "engine.triage.hosts"
PICKING = "engine.triage.picking"
COMMANDS = "engine.drain.commands"
LOOP = "engine.drain.loop"
ATTENDANCE = "engine.drain.attendance"
DIAGNOSE = "engine.drain.diagnose"
RECOVERY = "engine.drain.recovery"
RECORDER = "engine.store.recorder"
DECISION = "engine.store.decision"
MEMORY = "engine.store.memory"
BACKLOG = "projections.backlog"
RUNS = "projections.run_triage"
SESSIONS = "projections.sessions"
FOLD = "projections.fold"

BUGS: tuple[Bug, ...] = (
    *RULE_BUGS,
    # Selection
    bug(
        "no guard around a sample",
        f"{ELIGIBLE}:run_hindrance",
        'run.standing == "unsampled" and run.open > 0',
        "False",
        near=25,
    ),
    bug(
        "deprioritized runs go on",
        f"{ELIGIBLE}:run_hindrance",
        'run.standing == "deprioritized"',
        "False",
        near=20,
    ),
    bug(
        "stopped runs go on",
        f"{ELIGIBLE}:run_hindrance",
        "run.stopped_in(scope.session_id) is not None",
        "False",
    ),
    bug(
        "the limit per run is off by one",
        f"{ELIGIBLE}:run_hindrance",
        "run.open >= limits",
        "run.open > limits",
        near=75,
    ),
    bug(
        "skipped prefixes are not skipped",
        f"{ELIGIBLE}:run_hindrance",
        "run.run_id.startswith(limits.skip_run_prefixes)",
        "False",
    ),
    bug(
        "one attempt too many of a phase",
        f"{ELIGIBLE}:phase_hindrance",
        "phase.attempts >= policy",
        "phase.attempts > policy",
    ),
    bug(
        "orphans are not limited",
        f"{ELIGIBLE}:phase_hindrance",
        "phase.orphans >= policy",
        "phase.orphans > 9 + policy",
        near=24,
    ),
    bug(
        "tried once more in a session",
        f"{ELIGIBLE}:phase_hindrance",
        "policy.once_per_session and tried_now",
        "False",
    ),
    bug(
        "phases with an open attempt are picked",
        f"{ELIGIBLE}:phase_hindrance",
        "phase.open_attempt is not None",
        "False",
    ),
    bug(
        "the last failure does not matter for the order",
        f"{ELIGIBLE}:sort_key",
        "reason_class(phase.reason)",
        "5",
    ),
    bug(
        "later phases of a run go first",
        f"{ELIGIBLE}:sort_key",
        "tier_index, phase.phase_index",
        "tier_index, -phase.phase_index",
        near=14,
    ),
    Bug(
        "tier order ignored",
        (
            Change(f"{ORDERING}:RunOrder.waits", "if policy.order_tiers and", "if False and"),
            Change(f"{ORDERING}:_comes_first", "if policy.order_tiers and", "if False and"),
        ),
        near=18,
    ),
    bug(
        "a strict order also binds across a tier's end",
        f"{ORDERING}:RunOrder.waits",
        "< place(phase)",
        "<= place(phase)",
    ),
    bug(
        "what is read from another phase is not waited for",
        f"{ORDERING}:RunOrder.waits",
        "self._blocked_by.get(phase_id, 0) > 0",
        "False",
        near=46,
    ),
    bug(
        "phases of a tier that opens are forgotten",
        f"{ORDERING}:RunOrder.update",
        "touched |= self._tier_opened(phase.tier_index)",
        "pass",
        near=72,
    ),
    bug(
        "a judged run keeps its place in the queue",
        f"{SELECT}:Queue.heed",
        "self.touch(event.run_id, None)",
        "pass",
    ),
    bug(
        "promising runs come last",
        f"{SELECT}:group_of",
        'standing in ("unsampled", "promising")',
        'standing == "unsampled"',
    ),
    # Sessions
    bug(
        "one attempt more than the session may make",
        f"{PICKING}:limit_reached",
        "attempts >= limits",
        "attempts > limits",
        near=20,
    ),
    bug(
        "the session's time is not limited",
        f"{PICKING}:limit_reached",
        "elapsed_ms >= limits.total_ms_max",
        "False",
    ),
    # Each of these two alone is held up by the rule, which counts what is open in the session.
    Bug(
        "one worker too many",
        (
            Change(
                f"{LOOP}:Drain._feed",
                "self.scope.limits.workers - self._attendance.busy",
                "self.scope.limits.workers + 1 - self._attendance.busy",
            ),
            Change(f"{HOSTS}:is_full", "session.open >= scope.limits.workers", "False"),
        ),
        near=14,
    ),
    Bug(
        "adopted attempts take no worker",
        (
            Change(
                f"{ATTENDANCE}:Attendance.attend",
                "self._running.add(started.attempt_id)",
                "self._running.add(started.attempt_id) if report is None else None",
            ),
            Change(f"{HOSTS}:is_full", "session.open >= scope.limits.workers", "False"),
        ),
        near=480,
    ),
    bug(
        "nobody picks when an attempt ends",
        f"{ATTENDANCE}:Attendance._free",
        "self.free()",
        "pass",
    ),
    bug(
        "the session ends with open attempts",
        f"{LOOP}:Drain._feed",
        "if not self.attended and not started",
        "if len(self.attended) < 2 and not started",
    ),
    bug(
        "what comes due is left until an attempt ends",
        f"{LOOP}:Drain._due_s",
        "not (self.standing or self.attended)",
        "not self.standing",
        near=94,
    ),
    bug(
        "work left is counted without its filter",
        "engine.triage.ending:work_left",
        "limits.run_id in (None, phase.run_id)",
        "True",
        near=21,
    ),
    bug(
        "the session counts its parts apart",
        f"{SESSIONS}:_begun",
        "work_left=None,",
        "work_left=None, attempts=0,",
    ),
    bug(
        "a resumed session forgets its streak",
        f"{SESSIONS}:_begun",
        "work_left=None,",
        "work_left=None, zero_streak=0,",
    ),
    bug(
        "a resumed session forgets how long it took",
        f"{SESSIONS}:_begun",
        "active_ms=state.active_ms + lost",
        "active_ms=0",
    ),
    bug(
        "a resumed session forgets what it has stopped",
        f"{RUNS}:RunStanding.stopped_in",
        "return self.stopped",
        "return self.stopped if self.open else None",
    ),
    # Attempts
    bug("the attempt number goes on after a requeue", f"{BACKLOG}:_apply", "number=0,", ""),
    bug("a requeue leaves the used-up attempts", f"{BACKLOG}:_apply", "attempts=0,", ""),
    bug(
        "an orphan counts as an attempt",
        f"{BACKLOG}:_finished",
        'event.ending in ("abandoned", "orphaned")',
        'event.ending == "abandoned"',
        near=20,
    ),
    bug(
        "an old failure's reason stays",
        f"{BACKLOG}:_finished",
        "state.reason if unproved else",
        "state.reason if True else",
    ),
    Bug(
        "an attempt can be finished twice",
        (
            Change(
                f"{COMMANDS}:finish",
                "phase is None or phase.open_attempt != finished.attempt_id",
                "phase is None",
            ),
            Change(
                f"{MEMORY}:MemoryStore._broken_rule",
                'record.type == "attempt.finished" and not_open',
                "False",
            ),
            Change(
                f"{MEMORY}:MemoryStore.add", "del self._open[phase]", "self._open.pop(phase, None)"
            ),
        ),
        near=23,
    ),
    bug(
        "the cause of a decision is the event before its own",
        f"{COMMANDS}:finish",
        "Draft(event, cause=pos)",
        "Draft(event, cause=pos - 1)",
    ),
    bug(
        "a decision claims to have seen its own fact",
        f"{COMMANDS}:finish",
        "Ground(scope, pos - 1,",
        "Ground(scope, pos,",
    ),
    bug(
        "usage is credited to the attempt that ended before",
        f"{DIAGNOSE}:_usage_events",
        "for name in TAGS}",
        """for name in TAGS}
    tags["attempt_id"] = vars(_usage_events).get("last", finished.attempt_id)
    vars(_usage_events)["last"] = finished.attempt_id""",
    ),
    bug(
        "one usage record is lost",
        f"{DIAGNOSE}:_usage_events",
        "in report.telemetry.usage",
        "in report.telemetry.usage[1:]",
    ),
    bug(
        "no reason when nothing was used",
        "engine.detect.diagnosis:_zero_yield",
        "finished.yield_events > 0",
        'finished.yield_events > 0 or finished.ending == "broke"',
        near=20,
    ),
    bug(
        "an exit code makes a timeout",
        "engine.triage.policy:Policy.is_timeout",
        "code in self.timeout_exit_codes",
        "code in (3, 143)",
        near=12,
    ),
    bug(
        "a guardian lost to a living engine is an orphan",
        f"{DIAGNOSE}:diagnose",
        '(report.ended == "lost" and not adopted)',
        "False",
    ),
    bug(
        "a succeeded phase is failed",
        f"{DIAGNOSE}:_final_state",
        'report.final_state or "COMPLETE"',
        '"COMPLETE"',
    ),
    # Recovery
    bug(
        "living attempts of a dead engine are not waited for",
        f"{RECOVERY}:_Look._of_process",
        "lives = guardian_lives(process) and not self.end",
        "lives = guardian_lives(process) and not self.end\n"
        "    if lives: return Adoption(started, assignment, _never_spawned, lives=False)",
    ),
    bug(
        "what began before it was recorded never began",
        f"{RECOVERY}:_Look._by_its_directory",
        "if self.files_root is None or",
        "if True or",
        near=270,
    ),
    bug(
        "a dead engine's attempts stay open",
        f"{RECOVERY}:open_attempts",
        "for each in found]",
        "for each in found[1:]]",
    ),
    bug(
        "an adopted attempt is judged by the new session",
        f"{LOOP}:Drain._scope_of",
        "if started.session_id == self.scope.session_id",
        "if True",
        near=169,
    ),
    # The log
    Bug(
        "a stale epoch is let through",
        (
            Change(
                f"{MEMORY}:MemoryStore._refuse",
                "record.pos != len(self._log) + 1 or (",
                "False and (",
            ),
            Change(
                f"{MEMORY}:MemoryStore._broken_rule",
                "record.version != self.versions.get(record.stream, 0) + 1",
                "False",
            ),
        ),
    ),
    bug(
        "a repeated command is decided anew",
        f"{DECISION}:Decisions._decide",
        "if known is not None:",
        "if False:",
    ),
    bug(
        "what could not be committed is acknowledged",
        f"{RECORDER}:Recorder._write_batch",
        "self._fail(error, taken)",
        "self._fail(error, ()); await self._acknowledge(batch)",
    ),
    bug(
        "the chain forgets the epoch",
        "engine.events.envelope:chain_hash",
        "for value in columns:",
        "for value in columns[:11] + columns[12:]:",
    ),
    bug(
        "a projection misses changes of rows that it knows",
        f"{FOLD}:Keyed.take_changes",
        "changes.append(Change(key, data))",
        "changes.append(Change(key, data)) if before is None else None",
    ),
    bug(
        "a projection is counted twice after a restart",
        "engine.store.boards:catch_up",
        "pos = board.head.pos\n",
        "pos = max(0, board.head.pos - 1)\n",
        near=480,
    ),
)


def named(name: str) -> Bug:
    """One of them.  Raises LookupError."""
    return {bug.name: bug for bug in BUGS}[name]


__all__ = ["BUGS", "Bug", "Change", "Misplanted", "named"]
