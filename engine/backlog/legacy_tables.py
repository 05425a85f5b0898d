"""The tables of the legacy family, and the column names that each fact has gone by."""

from __future__ import annotations

from engine.backlog.legacy_source import Table

RUNS = Table(
    "runs",
    {
        "run_id": ("id", "run_id"),
        "state": ("state", "status"),
        "token_cap": ("token_cap",),
        "phases_max": ("max_phases",),
        "duration_minutes_max": ("max_duration_minutes",),
        "failure_reason": ("failure_reason", "last_failure_reason"),
        "created": ("created_at", "timestamp"),
    },
    required=("run_id",),
)
TIERS = Table(
    "tiers",
    {
        "key": ("id",),
        "tier_id": ("tier_id", "id"),
        "run_id": ("run_id",),
        "tier_index": ("tier_index", "position"),
        "name": ("name", "title"),
        "description": ("description",),
        "state": ("state", "status"),
        "ci_run_cap": ("ci_run_cap",),
    },
)
PHASES = Table(
    "phases",
    {
        "phase_id": ("phase_id", "id"),
        "run_id": ("run_id",),
        "tier": ("tier_id",),
        "phase_index": ("phase_index", "position"),
        "name": ("name", "title"),
        "goal": ("description", "goal"),
        "state": ("state", "status"),
        "category": ("task_category", "category"),
        "complexity": ("complexity",),
        "scope": ("scope", "scope_json"),
        "builder_attempts_max": ("max_builder_attempts", "max_attempts"),
        "auditor_attempts_max": ("max_auditor_attempts",),
        "incident_token_cap": ("incident_token_cap",),
        "builder_attempts": ("builder_attempts", "attempts_used"),
        "retry_attempt": ("retry_attempt",),
        "last_failure_reason": ("last_failure_reason", "failure_reason"),
        "created": ("created_at", "timestamp"),
    },
    required=("run_id", "phase_id"),
)
USAGE = Table(
    "llm_usage_events",
    {
        "run_id": ("run_id",),
        "phase_id": ("phase_id",),
        "provider": ("provider",),
        "model": ("model",),
        "role": ("role",),
        "prompt_tokens": ("prompt_tokens",),
        "completion_tokens": ("completion_tokens",),
        "total_tokens": ("total_tokens",),
        "created": ("created_at", "timestamp"),
    },
)
ESTIMATES = Table(
    "token_estimation_v2_events",
    {
        "run_id": ("run_id",),
        "phase_id": ("phase_id",),
        "category": ("category", "task_category"),
        "complexity": ("complexity",),
        "deliverable_count": ("deliverable_count",),
        "predicted_output_tokens": ("predicted_output_tokens",),
        "actual_output_tokens": ("actual_output_tokens",),
        "selected_budget": ("selected_budget",),
        "success": ("success",),
        "truncated": ("truncated", "is_truncated_output"),
        "stop_reason": ("stop_reason",),
        "model": ("model",),
        "created": ("timestamp", "created_at"),
    },
)
