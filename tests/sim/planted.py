"""Planted bugs: small changes of the engine that the simulation must find.

Each replaces a few words in the source of one function, which is compiled again in its place.  A
bug whose words no longer stand in the source exactly once is refused: then the engine has moved on,
and the bug must follow it.  Add one for every new rule; a bug that no invariant shows means that
the checker needs a better eye, not that the bug may go.
"""

from __future__ import annotations
import __future__

import importlib
import inspect
import textwrap
import types
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any


class Misplanted(Exception):
    """The words that a bug replaces are not there, or more than once."""


@dataclass(frozen=True)
class Change:
    """In ``place`` (``module:function`` or ``module:class.function``), ``old`` becomes ``new``."""

    place: str
    old: str
    new: str

    @contextmanager
    def made(self) -> Generator[None]:
        """While it lasts, the function is the changed one, wherever it is known already."""
        function = self._function()
        before, function.__code__ = function.__code__, self._changed(function)
        try:
            yield
        finally:
            function.__code__ = before

    def _function(self) -> types.FunctionType:
        module, _, path = self.place.partition(":")
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = inspect.getattr_static(found, name)
        found = inspect.unwrap(found) if callable(found) else found
        if isinstance(found, property):
            found = found.fget
        if not isinstance(found, types.FunctionType):
            raise Misplanted(f"{self.place} is no function")
        return found

    def _changed(self, function: types.FunctionType) -> types.CodeType:
        source = textwrap.dedent(inspect.getsource(function))
        if source.count(self.old) != 1:
            times = source.count(self.old)
            raise Misplanted(f"{self.old!r} stands {times} times in {self.place}")
        source = source.replace(self.old, self.new)
        start = inspect.getsourcelines(function)[1]
        flags = __future__.annotations.compiler_flag
        tree = compile(
            "\n" * (start - 1) + source,
            function.__code__.co_filename,
            "exec",
            flags=flags,
            dont_inherit=True,
        )
        return _code_of(tree, function.__name__)


def _code_of(tree: types.CodeType, name: str) -> types.CodeType:
    return next(
        const
        for const in tree.co_consts
        if isinstance(const, types.CodeType) and const.co_name == name
    )


@dataclass(frozen=True)
class Bug:
    """Something that somebody could get wrong.

    ``near``: where the search starts in the short run under pytest, for bugs that take long.
    """

    name: str
    changes: tuple[Change, ...]
    near: int = 0

    @contextmanager
    def planted(self) -> Generator[None]:
        """While it lasts, the engine has this bug."""
        with ExitStack() as stack:
            for change in self.changes:
                stack.enter_context(change.made())
            yield


def _bug(name: str, place: str, old: str, new: str, near: int = 0) -> Bug:
    return Bug(name, (Change(place, old, new),), near)


RULES = "engine.triage.rules"
ELIGIBLE = "engine.triage.eligible"
ORDERING = "engine.triage.ordering"
SELECT = "engine.triage.select"
DECIDE = "engine.triage.decide"
PICKING = "engine.triage.picking"
COMMANDS = "engine.drain.commands"
LOOP = "engine.drain.loop"
DIAGNOSE = "engine.drain.diagnose"
RECOVERY = "engine.drain.recovery"
RECORDER = "engine.store.recorder"
MEMORY = "engine.store.memory"
BACKLOG = "projections.backlog"
RUNS = "projections.run_triage"
SESSIONS = "projections.sessions"
FOLD = "projections.fold"

BUGS: tuple[Bug, ...] = (
    # Rules
    _bug(
        "timeouts limit off by one",
        f"{RULES}:_times_out_too_often",
        "timeouts_before + 1 >= limit",
        "timeouts_before >= limit",
    ),
    _bug(
        "fingerprint limit off by one",
        f"{RULES}:_repeats_too_often",
        "seen_before + 1 >= limit",
        "seen_before >= limit",
    ),
    _bug(
        "streak limit off by one",
        f"{RULES}:_streak_ends",
        "zero_streak_before + 1 >= limit",
        "zero_streak_before >= limit",
    ),
    _bug(
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
    ),
    _bug(
        "usage does not save a failed sample",
        f"{RULES}:three_way",
        "situation.yield_events > 0",
        "situation.yield_events > 99",
    ),
    _bug(
        "a first failure is condemned",
        f"{RULES}:three_way",
        "situation.seen_before > 0",
        "situation.seen_before >= 0",
    ),
    _bug(
        "a repeated timeout is promising",
        f"{RULES}:three_way",
        '"inconclusive", "repeated_timeout"',
        '"promising", "timeout"',
        near=461,
    ),
    _bug(
        "a run is judged twice",
        f"{RULES}:three_way",
        'situation.standing != "unsampled"',
        'situation.standing == "promising"',
    ),
    _bug(
        "a failure counts itself among the earlier ones",
        f"{DECIDE}:situation_of",
        "seen.count if seen else 0",
        "(seen.count if seen else 0) + 1",
    ),
    _bug(
        "fingerprints are counted over all sessions",
        "projections.fingerprints:_keys",
        "join(event.session_id,",
        'join("",',
    ),
    _bug(
        "a stopped fingerprint is stopped again",
        f"{DECIDE}:situation_of",
        "seen.stopped_pos is not None",
        "False",
    ),
    _bug(
        "a fingerprint stop is not recorded",
        f"{RULES}:stops",
        'found.append("fingerprint")',
        "pass",
    ),
    _bug(
        "a stopped run is stopped again",
        f"{RULES}:stops",
        "if not situation.run_stopped:",
        "if True:",
        near=113,
    ),
    _bug(
        "a verdict of the wrong generation",
        f"{DECIDE}:_judged",
        "generation=run.generation",
        "generation=run.generation + 1",
    ),
    # Selection
    _bug(
        "no guard around a sample",
        f"{ELIGIBLE}:run_hindrance",
        'run.standing == "unsampled" and run.open > 0',
        "False",
    ),
    _bug(
        "deprioritized runs go on",
        f"{ELIGIBLE}:run_hindrance",
        'run.standing == "deprioritized"',
        "False",
    ),
    _bug(
        "stopped runs go on",
        f"{ELIGIBLE}:run_hindrance",
        "run.stopped_in(scope.session_id) is not None",
        "False",
    ),
    _bug(
        "the limit per run is off by one",
        f"{ELIGIBLE}:run_hindrance",
        "run.open >= limits",
        "run.open > limits",
    ),
    _bug(
        "skipped prefixes are not skipped",
        f"{ELIGIBLE}:run_hindrance",
        "run.run_id.startswith(limits.skip_run_prefixes)",
        "False",
    ),
    _bug(
        "one attempt too many of a phase",
        f"{ELIGIBLE}:phase_hindrance",
        "phase.attempts >= policy",
        "phase.attempts > policy",
    ),
    _bug(
        "orphans are not limited",
        f"{ELIGIBLE}:phase_hindrance",
        "phase.orphans >= policy",
        "phase.orphans > 9 + policy",
        near=87,
    ),
    _bug(
        "tried once more in a session",
        f"{ELIGIBLE}:phase_hindrance",
        "policy.once_per_session and tried_now",
        "False",
    ),
    _bug(
        "phases with an open attempt are picked",
        f"{ELIGIBLE}:phase_hindrance",
        "phase.open_attempt is not None",
        "False",
    ),
    _bug(
        "the last failure does not matter for the order",
        f"{ELIGIBLE}:sort_key",
        "reason_class(phase.reason)",
        "5",
    ),
    _bug(
        "later phases of a run go first",
        f"{ELIGIBLE}:sort_key",
        "tier_index, phase.phase_index",
        "tier_index, -phase.phase_index",
    ),
    Bug(
        "tier order ignored",
        (
            Change(f"{ORDERING}:RunOrder.waits", "if policy.order_tiers and", "if False and"),
            Change(f"{ORDERING}:_comes_first", "if policy.order_tiers and", "if False and"),
        ),
    ),
    _bug(
        "a strict order also binds across a tier's end",
        f"{ORDERING}:RunOrder.waits",
        "< place(phase)",
        "<= place(phase)",
    ),
    _bug(
        "what is read from another phase is not waited for",
        f"{ORDERING}:RunOrder.waits",
        "self._blocked_by.get(phase_id, 0) > 0",
        "False",
    ),
    _bug(
        "phases of a tier that opens are forgotten",
        f"{ORDERING}:RunOrder.update",
        "touched |= self._tier_opened(phase.tier_index)",
        "pass",
    ),
    _bug(
        "a judged run keeps its place in the queue",
        f"{SELECT}:Queue.heed",
        "self.touch(event.run_id, None)",
        "pass",
    ),
    _bug(
        "promising runs come last",
        f"{SELECT}:group_of",
        'standing in ("unsampled", "promising")',
        'standing == "unsampled"',
    ),
    # Sessions
    _bug(
        "one attempt more than the session may make",
        f"{PICKING}:limit_reached",
        "attempts >= limits",
        "attempts > limits",
    ),
    _bug(
        "the session's time is not limited",
        f"{PICKING}:limit_reached",
        "elapsed_ms >= limits.total_ms_max",
        "False",
    ),
    _bug(
        "one worker too many",
        f"{LOOP}:Drain._feed",
        "self.scope.limits.workers - len",
        "self.scope.limits.workers + 1 - len",
    ),
    _bug(
        "adopted attempts take no worker",
        f"{LOOP}:Drain._launch",
        "self._running.add(started.attempt_id)",
        "self._running.add(started.attempt_id) if report is None else None",
        near=178,
    ),
    _bug(
        "nobody picks when an attempt ends",
        f"{LOOP}:Drain._free",
        "self._changed.set()",
        "pass",
    ),
    _bug(
        "the session ends with open attempts",
        f"{LOOP}:Drain._feed",
        "if not self._attended and not started",
        "if len(self._attended) < 2 and not started",
    ),
    _bug(
        "work left is counted without its filter",
        "engine.triage.ending:work_left",
        "limits.run_id in (None, phase.run_id)",
        "True",
    ),
    _bug(
        "the session counts its parts apart",
        f"{SESSIONS}:_begun",
        "work_left=None,",
        "work_left=None, attempts=0,",
    ),
    _bug(
        "a resumed session forgets its streak",
        f"{SESSIONS}:_begun",
        "work_left=None,",
        "work_left=None, zero_streak=0,",
        near=52,
    ),
    _bug(
        "a resumed session forgets how long it took",
        f"{SESSIONS}:_begun",
        "active_ms=state.active_ms + lost",
        "active_ms=0",
    ),
    _bug(
        "a resumed session forgets what it has stopped",
        f"{RUNS}:RunStanding.stopped_in",
        "self.stopped if",
        "self.stopped if self.open and",
    ),
    # Attempts
    _bug(
        "the attempt number goes on after a requeue",
        f"{BACKLOG}:_apply",
        "number=0,",
        "",
    ),
    _bug(
        "a requeue leaves the used-up attempts",
        f"{BACKLOG}:_apply",
        "attempts=0,",
        "",
    ),
    _bug(
        "an orphan counts as an attempt",
        f"{BACKLOG}:_finished",
        'event.ending in ("abandoned", "orphaned")',
        'event.ending == "abandoned"',
    ),
    _bug(
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
    ),
    _bug(
        "the cause of a decision is the event before its own",
        f"{COMMANDS}:finish",
        "Draft(event, cause=pos)",
        "Draft(event, cause=pos - 1)",
    ),
    _bug(
        "a decision claims to have seen its own fact",
        f"{COMMANDS}:finish",
        "Ground(scope, pos - 1,",
        "Ground(scope, pos,",
    ),
    _bug(
        "usage is credited to the attempt that ended before",
        f"{DIAGNOSE}:_usage_events",
        "for name in _TAGS}",
        """for name in _TAGS}
    tags["attempt_id"] = vars(_usage_events).get("last", finished.attempt_id)
    vars(_usage_events)["last"] = finished.attempt_id""",
    ),
    _bug(
        "one usage record is lost",
        f"{DIAGNOSE}:_usage_events",
        "in report.telemetry.usage",
        "in report.telemetry.usage[1:]",
    ),
    _bug(
        "no reason when nothing was used",
        "engine.detect.diagnosis:_zero_yield",
        "finished.yield_events > 0",
        'finished.yield_events > 0 or finished.ending == "broke"',
    ),
    _bug(
        "an exit code makes a timeout",
        f"{DIAGNOSE}:_ending",
        "_code(report) in policy.timeout_exit_codes",
        "_code(report) in (3, 143)",
    ),
    _bug(
        "a guardian lost to a living engine is an orphan",
        f"{DIAGNOSE}:diagnose",
        '(report.ended == "lost" and not adopted)',
        "False",
    ),
    _bug(
        "a succeeded phase is failed",
        f"{DIAGNOSE}:_final_state",
        'report.final_state or "COMPLETE"',
        '"COMPLETE"',
    ),
    # Recovery
    _bug(
        "living attempts of a dead engine are not waited for",
        f"{RECOVERY}:_of_process",
        "lives = guardian_lives(process) and not end",
        "lives = guardian_lives(process) and not end\n"
        "    if lives: return Adoption(started, assignment, _never_spawned, lives=False)",
    ),
    _bug(
        "a dead engine's attempts stay open",
        f"{RECOVERY}:open_attempts",
        "for attempt_id in open_ids]",
        "for attempt_id in open_ids[1:]]",
    ),
    _bug(
        "an adopted attempt is judged by the new session",
        f"{LOOP}:Drain._scope_of",
        "if started.session_id == self.scope.session_id",
        "if True",
        near=356,
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
    _bug(
        "a repeated command is decided anew",
        f"{RECORDER}:Recorder._decide",
        "if known is not None:",
        "if False:",
    ),
    _bug(
        "what could not be committed is acknowledged",
        f"{RECORDER}:Recorder._write_batch",
        "self._fail(error, taken)",
        "self._fail(error, ()); await self._acknowledge(batch)",
    ),
    _bug(
        "the chain forgets the epoch",
        "engine.events.envelope:chain_hash",
        "for value in columns:",
        "for value in columns[:11] + columns[12:]:",
    ),
    _bug(
        "a projection misses changes of rows that it knows",
        f"{FOLD}:Keyed.take_changes",
        "changes.append(Change(key, data))",
        "changes.append(Change(key, data)) if before is None else None",
    ),
    _bug(
        "a projection is counted twice after a restart",
        "engine.store.boards:catch_up",
        "pos = board.head.pos\n",
        "pos = max(0, board.head.pos - 1)\n",
    ),
)


def named(name: str) -> Bug:
    """One of them.  Raises LookupError."""
    return {bug.name: bug for bug in BUGS}[name]
