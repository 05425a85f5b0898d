"""The built-in policies, value by value, and the reasons that decisions carry.

A threshold that changes is another policy: it gets another version, and this table changes with it.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import asdict

from engine.errors import LogUnreadable, UsageProblem
from engine.events import Input, PhaseState, Reason
from engine.triage.policy import POLICIES, Policy, policy_from_json, policy_named
from engine.triage.reasons import RULES, Ground, is_known
from tests.rules.standings import scope

MINUTE_MS, HOUR_MS = 60_000, 3_600_000

BARE: dict[str, Any] = {
    "name": "bare",
    "version": 1,
    "verdict_rule": "three-way-1",
    "detectors": "standard-1",
    "drains": ("QUEUED", "FAILED"),
    "order_tiers": True,
    "order_phases": True,
    "order_deliverables": True,
    "once_per_session": False,
    "attempts_per_phase_max": 2,
    "orphans_per_phase_max": 5,
    "timeouts_per_run_max": 2,
    "fingerprint_repeats_max": 3,
    "consecutive_zero_yield_max": None,
    "timeout_exit_codes": (),
    "timeouts_lose_yield": False,
    "timeout_fingerprints": "detected",
    "stops_spare_yield": False,
    "stop_outranks_verdict": False,
    "breaker_runs": None,
    "breaker_probes_max": 2,
    "breaker_cool_down_ms": None,
    "samples_at_first": None,
    "cool_down_ms": None,
    "provider_pause_ms": None,
    "provider_pause_max_ms": HOUR_MS,
    "deferrals_per_phase_max": 5,
    "heed_incident_caps": False,
}
DEFAULT = {
    **BARE,
    "name": "default",
    "version": 2,
    "drains": ("QUEUED", "FAILED", "EXECUTING"),
    "timeout_fingerprints": "run",
    "stops_spare_yield": True,
    "stop_outranks_verdict": True,
    "breaker_runs": 3,
    "breaker_cool_down_ms": 15 * MINUTE_MS,
    "samples_at_first": 3,
    "cool_down_ms": 24 * HOUR_MS,
    "provider_pause_ms": MINUTE_MS,
    "heed_incident_caps": True,
}
CLASSIC = {
    **BARE,
    "name": "classic",
    "version": 2,
    "verdict_rule": "classic-1",
    "detectors": "classic-1",
    "drains": ("FAILED",),
    "order_tiers": False,
    "order_phases": False,
    "order_deliverables": False,
    "once_per_session": True,
    "attempts_per_phase_max": None,
    "orphans_per_phase_max": None,
    "timeout_exit_codes": (-1, 143),
    "timeouts_lose_yield": True,
}


def test_a_policy_that_names_nothing_has_no_improvement_switched_on() -> None:
    assert asdict(Policy(name="bare")) == BARE


@pytest.mark.parametrize(("name", "values"), [("default", DEFAULT), ("classic", CLASSIC)])
def test_a_built_in_policy_has_these_very_values(name: str, values: dict[str, Any]) -> None:
    found = policy_named(name)
    assert asdict(found) == values
    assert POLICIES[name] is found
    assert found.label == f"{name}@{values['version']}"
    assert policy_from_json(found.json) == found


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name":"x","beyond":1}', '{"name":1}'])
def test_a_policy_that_cannot_be_read_says_so_and_what_to_do(text: str) -> None:
    with pytest.raises(LogUnreadable, match=r"^a recorded policy cannot be read: .+\.") as caught:
        policy_from_json(text)
    assert caught.value.remedy == "use the version of runoff that wrote it, or a newer one."


def test_there_are_two_built_in_policies_and_an_error_names_them() -> None:
    assert list(POLICIES) == ["default", "classic"]
    with pytest.raises(UsageProblem) as caught:
        policy_named("other")
    assert caught.value.problem == "there is no policy named 'other'."
    assert caught.value.remedy == "use one of: default, classic."


def test_policies_that_differ_have_other_digests() -> None:
    digests = {each.sha256 for each in (*POLICIES.values(), Policy(name="bare"))}
    assert len(digests) == 3
    assert {len(digest) for digest in digests} == {64}


# Reasons.

VERSIONS = {
    "pick": 1,
    "session_limits": 1,
    "verdict/three-way-1": 1,
    "verdict/classic-1": 1,
    "stops": 1,
    "breaker": 1,
    "cool_down": 1,
    "provider_pause": 1,
    "budget": 1,
}


def test_every_rule_is_cited_by_its_version() -> None:
    """A rule that means something else gets the next number, in the rules and here."""
    assert dict(RULES) == VERSIONS


@pytest.mark.parametrize("rule", VERSIONS)
def test_a_reason_cites_rule_version_policy_basis_and_what_was_read_in_order(rule: str) -> None:
    of = scope(Policy(name="mine", version=4))
    found = Ground(of, 41, 99).reason(rule, {"b": 2, "a": None}, "So it is.")
    assert found == Reason(
        rule=rule,
        version=VERSIONS[rule],
        policy="mine@4",
        basis=41,
        inputs=(Input("b", 2), Input("a", None)),
        sentence="So it is.",
    )
    assert Ground(of, 41, 99).policy is of.policy
    assert is_known(found)


@pytest.mark.parametrize(("rule", "version"), [("pick", 0), ("pick", 99), ("other", 1)])
def test_a_rule_that_this_program_does_not_have_is_not_known(rule: str, version: int) -> None:
    assert not is_known(Reason(rule=rule, version=version, policy="p@1", basis=0, sentence=""))


@pytest.mark.parametrize(
    ("exit_code", "signal", "state", "is_timeout"),
    [
        (143, None, None, True),
        (143, None, "FAILED", True),
        (143, None, "COMPLETE", False),
        (None, 9, None, True),
        (None, 9, "COMPLETE", False),
        (9, None, None, False),
        (None, 15, None, False),
        (1, None, None, False),
        (0, None, None, False),
        (None, None, None, False),
        (143, 15, None, False),
    ],
)
def test_a_program_timed_out_by_the_codes_of_its_policy_unless_its_phase_is_complete(
    exit_code: int | None, signal: int | None, state: PhaseState | None, *, is_timeout: bool
) -> None:
    """A signal is a negative code, and counts before an exit code."""
    policy = Policy(name="mine", timeout_exit_codes=(143, -9))
    assert policy.is_timeout(exit_code, signal, state) is is_timeout
