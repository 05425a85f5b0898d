"""Policies by the name, file or changes that a command line gives."""

from __future__ import annotations

from collections.abc import Sequence

from engine.cli.render import asked
from engine.cli.text_file import origin_of, text_of
from engine.detect import DETECTORS
from engine.errors import UsageProblem
from engine.triage.policy import POLICIES, Policy
from engine.triage.policy_fields import closest
from engine.triage.policy_file import (
    POLICY_BYTES_MAX,
    policy_from_toml,
    setting_from,
    with_changes,
)

SETTINGS_MAX = 256


def policy_of(name_or_path: str) -> Policy:
    """A built-in policy by its name, or one in a file: what has a ``/`` or ends in ``.toml``.

    Raises UsageProblem for a name that there is not, and as ``policy_in_file`` does.
    """
    if name_or_path in POLICIES:
        return POLICIES[name_or_path]
    if is_path(name_or_path):
        return policy_in_file(name_or_path)
    near = closest(name_or_path, POLICIES)
    hint = f"did you mean {near}? " if near else ""
    raise UsageProblem(
        f"there is no policy named {name_or_path[:80]!a}.",
        remedy=f"{hint}use one of {', '.join(POLICIES)}, or a file such as ./mine.toml.",
    )


def is_path(text: str) -> bool:
    """Whether ``text`` names a file rather than a policy or a session."""
    return "/" in text or text.endswith(".toml")


def policy_in_file(path: str) -> Policy:
    """The policy in a TOML file of at most 64 KiB.

    Raises UsageProblem for anything but a regular file of UTF-8 text that holds a policy.
    """
    origin = origin_of(path)
    policy = policy_from_toml(text_of(path, POLICY_BYTES_MAX, "policy"), origin)
    return _with_known_detectors(policy, origin)


def with_settings(policy: Policy, settings: Sequence[str], origin: str = "--set") -> Policy:
    """``policy`` with changes such as ``attempts_per_phase_max=3``; ``none`` means no such rule.

    Name and version stay, and the sha256 tells the two apart.  Raises UsageProblem as for a file,
    which names ``origin``.
    """
    if len(settings) > SETTINGS_MAX:
        raise UsageProblem(
            f"{origin} was given {len(settings)} times.", remedy="write a policy file instead."
        )
    pairs = [setting_from(_setting(text, origin), origin) for text in settings]
    keys = [key for key, _ in pairs]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise UsageProblem(f"{origin} gives {twice} twice.", remedy="give it once.")
    return _with_known_detectors(with_changes(policy, dict(pairs), origin), origin)


def _setting(text: str, origin: str) -> str:
    return asked(text, f"{origin} {text.partition('=')[0][:40]!a}")


def _with_known_detectors(policy: Policy, origin: str) -> Policy:
    if policy.detectors in DETECTORS:
        return policy
    near = closest(policy.detectors, DETECTORS)
    raise UsageProblem(
        f"{origin}: detectors: there is no set {policy.detectors[:80]!a}.",
        remedy=(f"did you mean {near}? " if near else "")
        + f"the sets are {', '.join(DETECTORS)} (docs/reference/detectors.md).",
    )
