"""The part of verify that knows which facts cannot be: ends that deny themselves, false digests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

Event = dict[str, Any]
_COUNTS = ("duration_ms", "timeout_ms", "yield_events", "lines_read", "lines_other", "killed")


def tokens_of(usage: Event) -> int:
    """What one usage record adds to its attempt, in tokens."""
    return (usage.get("input_tokens") or 0) + (usage.get("output_tokens") or 0)


def odd_end(end: Event, *, timeout_ms: int, tokens: int) -> Iterator[str]:
    """What cannot be about the end of an attempt that had ``timeout_ms``, and used ``tokens``."""
    for name in _COUNTS:
        if end.get(name, 0) < 0:
            yield f"{name} is {end[name]}"
    if end["timeout_ms"] != timeout_ms:
        yield f"timeout_ms is {end['timeout_ms']}, and it was started with {timeout_ms}"
    if end.get("tokens", 0) != tokens:
        yield f"{end.get('tokens', 0)} tokens are claimed, and its usage records have {tokens}"
    if end["ending"] == "succeeded":
        yield from _odd_success(end)


def _odd_success(end: Event) -> Iterator[str]:
    """An exit code is outweighed by a child's own word that the phase is complete."""
    code, signal, told = end.get("exit_code"), end.get("signal"), end.get("told")
    if signal is not None:
        yield f"it succeeded by signal {signal}"
    said = end["final_state"] if told is None else told.get("state")
    if code not in (None, 0) and said != "COMPLETE":
        yield f"it succeeded with exit code {code}"


def odd_policy(adopted: Event) -> Iterator[str]:
    """Where the label and the digest of a policy are not those of its text."""
    text = adopted["policy_json"]
    if sha256(text.encode()).hexdigest() != adopted["policy_sha256"]:
        yield "policy_sha256 is not that of policy_json"
    policy = json.loads(text)
    label = f"{policy['name']}@{policy['version']}"
    if adopted["policy"] != label:
        yield f"the policy is called {adopted['policy']!a:.80}, and its text is {label!a:.80}"


def odd_coefficients(adopted: Event) -> Iterator[str]:
    """Where the version and the digest of coefficients are not those of their text."""
    text = adopted["coefficients_json"]
    if sha256(text.encode()).hexdigest() != adopted["coefficients_sha256"]:
        yield "coefficients_sha256 is not that of coefficients_json"
    version = json.loads(text)["version"]
    if adopted["coefficient_version"] != version:
        named = adopted["coefficient_version"]
        yield f"the coefficients are called {named!a:.80}, and their text is {version!a:.80}"
