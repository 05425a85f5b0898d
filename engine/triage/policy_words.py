"""What every field of a policy means: one table, for the command line and for written files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Words(NamedTuple):
    """A field for people: its ``meaning`` in one sentence, and what its value counts."""

    meaning: str
    unit: str = ""


POLICY_WORDS: Mapping[str, Words] = {
    "name": Words("Names the policy in the log, with its version."),
    "version": Words("Goes up by one whenever the policy is changed."),
    "verdict_rule": Words("The rule that judges a run by its sample.", "rule"),
    "detectors": Words("The set of detectors that reads failures, limits and silence.", "set"),
    "drains": Words("A phase in one of these states is backlog.", "states"),
    "order_tiers": Words("A phase waits for the unfinished phases of earlier tiers."),
    "order_phases": Words("In a strict tier a phase waits for the unfinished phases before it."),
    "order_deliverables": Words("A phase waits for the unfinished phases that it names or reads."),
    "once_per_session": Words("A phase is tried at most once in a session."),
    "attempts_per_phase_max": Words(
        "After so many attempts a phase is not tried again until it is requeued.", "attempts"
    ),
    "orphans_per_phase_max": Words(
        "After so many orphaned attempts (lost with their engine and guardian) a phase is not tried"
        " again.",
        "attempts",
    ),
    "timeouts_per_run_max": Words(
        "At the Nth timeout of a run in a session the run is stopped for the session.", "timeouts"
    ),
    "fingerprint_repeats_max": Words(
        "At the Nth carrier a failure is stopped, and each run that carries it from there on.",
        "attempts",
    ),
    "consecutive_zero_yield_max": Words(
        "After so many attempts in a row without usage the session starts nothing more.",
        "attempts",
    ),
    "timeout_exit_codes": Words("A program that exits with one of these timed out.", "exit codes"),
    "timeouts_lose_yield": Words(
        "Usage of an attempt that its deadline ended counts for nothing in verdicts and stops."
    ),
    "timeout_fingerprints": Words(
        "Whether timeouts of different runs are one failure: as detected, per run, or per session.",
        "choice",
    ),
    "stops_spare_yield": Words("Failures that yielded usage stop nothing by repeating."),
    "stop_outranks_verdict": Words("A run that is stopped is not called promising."),
    "breaker_runs": Words(
        "A cause that failed the samples of so many runs without usage holds back unsampled runs.",
        "runs",
    ),
    "breaker_probes_max": Words(
        "So many probes of such a cause go one after the other without a cool-down.", "attempts"
    ),
    "breaker_cool_down_ms": Words(
        "Each further probe waits this long; with none, none goes.", "ms"
    ),
    "samples_at_first": Words(
        "So many samples are in flight at first, and more once samples tell something.", "attempts"
    ),
    "cool_down_ms": Words("So long after its verdict a deprioritized run is sampled again.", "ms"),
    "provider_pause_ms": Words(
        "At a provider's limit without a readable time accounts rest so long, doubling each time.",
        "ms",
    ),
    "provider_pause_max_ms": Words("The doubling of such pauses ends here.", "ms"),
    "deferrals_per_phase_max": Words(
        "After so many attempts ended by a provider's limit, a further one counts as failed.",
        "attempts",
    ),
    "heed_incident_caps": Words("A phase's own token cap bounds what its attempts may take."),
}
"""Field of Policy → what it means; ``tests/rules/test_policy_file.py`` holds it complete."""


def words_of(field: str) -> Words:
    """What ``field`` means; its name in words for one that the table does not know."""
    return POLICY_WORDS.get(field) or Words(f"{field.replace('_', ' ').capitalize()}.")
