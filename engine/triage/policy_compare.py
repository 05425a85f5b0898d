"""Two policies side by side, and what about one of them a person should know."""

from __future__ import annotations

from typing import Any, NamedTuple

from engine.events import PhaseState
from engine.triage.policy import POLICIES, Policy
from engine.triage.policy_words import words_of
from projections.backlog import UNFINISHED

IDENTITY = frozenset({"name", "version"})
ATTEMPTS = "attempts_per_phase_max"


class Difference(NamedTuple):
    """A field in which two policies differ."""

    field: str
    old: Any
    new: Any


def differences(old: Policy, new: Policy) -> list[Difference]:
    """The fields that differ, in the order of Policy; name and version apart."""
    return [
        Difference(name, getattr(old, name), getattr(new, name))
        for name in Policy.__struct_fields__
        if name not in IDENTITY and getattr(old, name) != getattr(new, name)
    ]


def warnings_of(policy: Policy) -> list[str]:
    """What may be meant, but does more than it seems to; a sentence each."""
    default = POLICIES["default"]
    found = [
        f"{name} is none (default: {old}), which switches this off: {words_of(name).meaning}"
        for name, old, new in differences(default, policy)
        if new is None and name != ATTEMPTS
    ]
    if policy.detectors != default.detectors:
        found.append(
            f"detectors is {policy.detectors} (default: {default.detectors}); fingerprints of"
            " sessions with other detectors cannot be compared."
        )
    if (policy.provider_pause_ms or 0) > policy.provider_pause_max_ms:
        found.append("provider_pause_max_ms is shorter than provider_pause_ms, and bounds it.")
    return found + _unprobed(policy) + _endless(policy) + _foreign(policy)


def _unprobed(policy: Policy) -> list[str]:
    probes = policy.breaker_probes_max or policy.breaker_cool_down_ms
    if policy.breaker_runs is None or probes:
        return []
    closes = "only `runoff breaker reset` or a run that had failed by its cause and does well"
    none = "breaker_probes_max and breaker_cool_down_ms are none"
    return [f"{none}: no probe closes a breaker that opens, {closes}."]


def _endless(policy: Policy) -> list[str]:
    if getattr(policy, ATTEMPTS) is not None:
        return []
    if policy.once_per_session:
        return [f"{ATTEMPTS} is none: a phase that fails is tried in every session."]
    return [f"{ATTEMPTS} is none: a phase that fails is tried until the session ends."]


def _foreign(policy: Policy) -> list[str]:
    """States that phases are in when others than the drain have them in hand."""
    foreign: list[PhaseState] = [state for state in policy.drains if state not in UNFINISHED]
    missing = [state for state in POLICIES["default"].drains if state not in policy.drains]
    found = [f"drains names {state}, where others than the drain go on." for state in foreign]
    return found + [
        f"drains leaves out {state}: such phases are not attempted." for state in missing
    ]
