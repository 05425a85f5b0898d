"""Policies by the name, file or changes that a command line gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.cli.render import asked, clean
from engine.detect import DETECTORS
from engine.errors import UsageProblem
from engine.executors.untrusted import read_at_most
from engine.triage.policy import POLICIES, Policy
from engine.triage.policy_fields import closest
from engine.triage.policy_file import (
    POLICY_BYTES_MAX,
    policy_from_toml,
    setting_from,
    with_changes,
)

SETTINGS_MAX = 256
ORIGIN_CHARS = 200


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
    origin = clean(path[:ORIGIN_CHARS])
    policy = policy_from_toml(_text(path, origin), origin)
    return _with_known_detectors(policy, origin)


def with_settings(policy: Policy, settings: Sequence[str]) -> Policy:
    """``policy`` with changes such as ``attempts_per_phase_max=3``; ``none`` means no such rule.

    Name and version stay, and the sha256 tells the two apart.  Raises UsageProblem as for a file.
    """
    if len(settings) > SETTINGS_MAX:
        raise UsageProblem(
            f"--set was given {len(settings)} times.", remedy="write a policy file instead."
        )
    pairs = [setting_from(_setting(text), "--set") for text in settings]
    keys = [key for key, _ in pairs]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise UsageProblem(f"--set gives {twice} twice.", remedy="give it once.")
    return _with_known_detectors(with_changes(policy, dict(pairs), "--set"), "--set")


def _setting(text: str) -> str:
    return asked(text, f"--set {text.partition('=')[0][:40]!a}")


def _with_known_detectors(policy: Policy, origin: str) -> Policy:
    if policy.detectors in DETECTORS:
        return policy
    near = closest(policy.detectors, DETECTORS)
    raise UsageProblem(
        f"{origin}: detectors: there is no set {policy.detectors[:80]!a}.",
        remedy=(f"did you mean {near}? " if near else "")
        + f"the sets are {', '.join(DETECTORS)} (docs/reference/detectors.md).",
    )


def _text(path: str, origin: str) -> str:
    try:
        # A link is the user's own here, so it may be followed; a pipe is still not waited for.
        data = read_at_most(Path(path).resolve(), POLICY_BYTES_MAX + 1)
        if len(data) > POLICY_BYTES_MAX:
            raise UsageProblem(
                f"{origin} has more than {POLICY_BYTES_MAX} bytes.",
                remedy="name a policy file; it holds a few lines.",
            )
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageProblem(
            f"there is no file {origin}.", remedy="check its path; it is looked for from here."
        ) from None
    except UnicodeDecodeError as error:
        raise UsageProblem(
            f"{origin} is not UTF-8 (byte {error.start}).", remedy="save it as UTF-8."
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        # RuntimeError and ValueError come from paths: links in a circle, or a NUL.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageProblem(
            f"{origin} cannot be read: {clean(reason)}.",
            remedy="name a regular file that you may read.",
        ) from None
