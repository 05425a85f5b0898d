"""The scope of a drain from its command line: policy, limits and budgets."""

from __future__ import annotations

from typing import Any, NamedTuple

import click
import msgspec
from click.core import ParameterSource

from engine.cli.policies import policy_of
from engine.detect import successor_of
from engine.errors import UsageProblem
from engine.events import Budget, BudgetScope, Limits
from engine.labels import checked_labels
from engine.triage.budgets import budget_from
from engine.triage.policy import Policy, policy_from_json
from engine.triage.scope import Scope
from projections.board import Board
from projections.fold import join
from projections.sessions import SessionStanding

BUDGET_HELP = "Such as day:tokens=1000000 or run:minutes=90; repeatable."
HOST_WORKERS_HELP = "On this host at once, over all engines of the log there."
LABEL_HELP = "What this machine offers to phases that need it; repeatable."


class Request(NamedTuple):
    """The command line, checked."""

    options: dict[str, Any]
    given: frozenset[str]
    argv: tuple[str, ...]

    @classmethod
    def of(cls, ctx: click.Context, options: dict[str, Any], argv: tuple[str, ...]) -> Request:
        """With the names of the options that were given, not left to their defaults."""
        unsaid = (ParameterSource.DEFAULT, None)
        given = (name for name in options if ctx.get_parameter_source(name) not in unsaid)
        return cls(options, frozenset(given), argv)


def _policy(request: Request, base: Policy) -> Policy:
    """The named policy, with the thresholds that were given on the command line."""
    options, changes = request.options, dict[str, Any]()
    for flag, name in (
        ("max_timeouts_per_run", "timeouts_per_run_max"),
        ("max_attempts_per_phase", "attempts_per_phase_max"),
        ("max_fingerprint_repeats", "fingerprint_repeats_max"),
        ("max_consecutive_zero_yield", "consecutive_zero_yield_max"),
    ):
        if options[flag] is not None:
            changes[name] = options[flag] or None
    if options["ignore_order"]:
        changes["order_phases"] = False
    return msgspec.structs.replace(base, **changes)


def _limits(request: Request, before: Limits | None) -> Limits:
    """The limits of the command line; on resume, those not given stay as they were."""
    options = request.options
    minutes = options["max_total_minutes"]
    values: dict[str, tuple[str, Any]] = {
        "batch_size": ("batch_size", options["batch_size"]),
        "workers": ("workers", options["workers"]),
        "per_run_max": ("max_per_run", options["max_per_run"]),
        "phase_timeout_ms": (
            "phase_timeout_seconds",
            round(options["phase_timeout_seconds"] * 1000),
        ),
        "grace_ms": ("grace_seconds", round(options["grace_seconds"] * 1000)),
        "total_ms_max": ("max_total_minutes", round(minutes * 60000) if minutes else None),
        "run_id": ("run_id", options["run_id"]),
        "phase_id": ("phase_id", options["phase_id"]),
        "skip_run_prefixes": ("skip_run_prefix", tuple(options["skip_run_prefix"])),
        "account": ("account", options["account"]),
        "host_workers": ("host_workers", options["host_workers"]),
        "labels": ("label", checked_labels(options["label"], "--label")),
    }
    if before is None:
        fresh = {name: value for name, (_, value) in values.items()}
        return Limits(**fresh, budgets=_budgets(options, ()))
    given = {name: value for name, (flag, value) in values.items() if flag in request.given}
    return msgspec.structs.replace(before, **given, budgets=_budgets(options, before.budgets))


def _budgets(options: dict[str, Any], before: tuple[Budget, ...]) -> tuple[Budget, ...]:
    """Those given, and of those before the ones that no given one replaces."""
    given = [budget_from(text) for text in options["budget"]]
    flags: tuple[tuple[str, BudgetScope], ...] = (
        ("max_total_tokens", "session"),
        ("max_run_tokens", "run"),
        ("max_day_tokens", "day"),
    )
    for flag, scope in flags:
        if options[flag] is not None:
            given.append(Budget(scope=scope, measure="tokens", limit=options[flag]))
    found = {(budget.scope, budget.measure): budget for budget in (*before, *given)}
    return tuple(found[key] for key in sorted(found))


def _resumable(board: Board) -> SessionStanding:
    """The newest session that has work left, as far as it knew, and that no engine is at."""
    for session in reversed(list(board.sessions.values())):
        if (
            session.limits
            and session.leased_by is None
            and not (session.status == "ended" and session.because == "nothing_eligible")
        ):
            return session
    why = " (each has ended with nothing left that it could attempt, or is another engine's)"
    raise UsageProblem(
        f"there is no session to resume{why if board.sessions.states else ''}.",
        remedy="the same command without --resume starts one; `runoff why` says what is left.",
    )


def scope_of(request: Request, board: Board, new_id: str) -> Scope:
    """What the command line asks for; on ``--resume``, what is left of the newest session.

    Raises UsageProblem when there is nothing to resume, or a policy or budget cannot be meant.
    """
    if not request.options["resume"]:
        policy = _policy(request, policy_of(request.options["policy_name"]))
        return Scope(new_id, policy, _limits(request, None))
    session = _resumable(board)
    if "policy_name" in request.given:
        base = policy_of(request.options["policy_name"])
    else:
        recorded = policy_from_json(session.policy_json)
        # Adopted anew where its detectors are gone, so that the log says whose word counts.
        base = msgspec.structs.replace(recorded, detectors=successor_of(recorded.detectors))
    return Scope(session.session_id, _policy(request, base), _limits(request, session.limits))


def refuse_unknown(scope: Scope, board: Board) -> None:
    """Raise UsageProblem if the session is for a run or phase that there is not."""
    run_id, phase_id = scope.limits.run_id, scope.limits.phase_id
    if run_id is not None and board.runs.get(run_id) is None:
        raise UsageProblem(f"there is no run {run_id!a}.", remedy="`runoff run list` names them.")
    if phase_id is None or run_id is None:
        return
    phase = board.backlog.get(join(run_id, phase_id))
    if phase is None:
        raise UsageProblem(
            f"the run has no phase {phase_id!a}.", remedy="`runoff run show RUN` names its phases."
        )
