"""Policies of one's own: from TOML to a checked Policy, field by field as Policy declares them.

Pure: text in, value out.  Which detectors there are is for the caller to check, since triage
knows none.  ``docs/reference/policy-file.md`` is the same for users.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec

from engine.errors import UsageProblem
from engine.toml_text import DOTS_PER_LINE_MAX, has_too_many_dots
from engine.triage.policy import POLICIES, Policy
from engine.triage.policy_fields import (
    FIELDS,
    MAY_BE_ZERO,
    closest,
    expected_of,
    may_be_none,
)
from projections.causes import RUNS_MAX

POLICY_BYTES_MAX = 64 * 1024
WHY_CHARS_MAX = 2000
TEXT_CHARS_MAX = 2000
LIST_LENGTH_MAX = 256
EXACT_MAX = 2**53
BASE_OF_FILES = "default"
NAME = re.compile(r"[a-z0-9-]{1,40}")
REMEDY = "docs/reference/policy-file.md says what every key may hold."
_SETTINGS = tuple(name for name in FIELDS if name not in {"name", "version", "why"})
_KEYS = ("name", "version", "base", "why", *_SETTINGS)
_SHOWN_CHARS = 60


def policy_from_toml(text: str, origin: str) -> Policy:
    """The policy that a file describes: a base, and what the file says otherwise.

    ``origin`` names the file in errors.  Raises UsageProblem, with the key, what was expected and
    the closest known key, for whatever is not a policy.
    """
    table = _parsed(text, origin)
    for key in table:
        _refuse_unknown(key, _KEYS, origin)
    table = {"base": BASE_OF_FILES, "why": "", **table}
    identity = {"name": _name(table, origin), "version": _version(table, origin)}
    base, why = _base(table, origin), _why(table, origin)
    if "why" in FIELDS:
        identity["why"] = why
    settings = {key: value for key, value in table.items() if key in _SETTINGS}
    return with_changes(msgspec.structs.replace(base, **identity), settings, origin)


def with_changes(policy: Policy, settings: Mapping[str, Any], origin: str) -> Policy:
    """``policy`` with ``settings``, values as TOML has them; name and version stay.

    Raises UsageProblem for an unknown key, a value out of place, and settings that contradict.
    """
    for key in settings:
        _refuse_unknown(key, _SETTINGS, origin)
    changes = {key: _value(key, value, origin) for key, value in settings.items()}
    changed = msgspec.structs.replace(policy, **changes)
    for key, refuses, problem in CONTRADICTIONS:
        if refuses(changed):
            raise _problem(origin, key, problem)
    return changed


def setting_from(text: str, origin: str) -> tuple[str, Any]:
    """``key=value`` in two; the value is TOML, or ``none``, or a bare text.

    Raises UsageProblem for anything else.
    """
    key, equals, written = text.partition("=")
    key, written = key.strip(), written.strip()
    if not equals or not written:
        raise UsageProblem(
            f"{origin} {_shown(text)} is not KEY=VALUE.",
            remedy="write it as attempts_per_phase_max=3, without blanks or in quotes.",
        )
    _refuse_unknown(key, _SETTINGS, origin)
    if written == "none" and may_be_none(key):
        return key, 0
    return key, _toml_value(key, written, origin)


def _toml_value(key: str, written: str, origin: str) -> Any:
    """The value of a setting.  A shell takes quotes away, so a bare word is a text."""
    if re.fullmatch(r"[A-Za-z][\w-]*", written) and written not in {"true", "false", "inf", "nan"}:
        return written
    table = _parsed(f"value = {written}", f"{origin} {key}")
    if list(table) != ["value"]:
        raise _problem(origin, key, f"{_shown(written)} is more than one value")
    return table["value"]


def _parsed(text: str, origin: str) -> dict[str, Any]:
    if has_too_many_dots(text):
        raise UsageProblem(
            f"{origin} has a line with more than {DOTS_PER_LINE_MAX} dots.",
            remedy="break it; no key of a policy has parts.",
        )
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UsageProblem(f"{origin} is nested too deeply.", remedy=REMEDY) from None
    except ValueError as error:
        raise UsageProblem(
            f"{origin} is not TOML: {str(error)[:200]!a}.", remedy="correct it at that place."
        ) from None


def _refuse_unknown(key: str, known: tuple[str, ...], origin: str) -> None:
    if key in known:
        return
    near = closest(key, known)
    if key in {"name", "version", "base", "why"}:
        remedy = "name, version and reason belong into a policy file."
    elif near:
        remedy = f"did you mean {near}?"
    else:
        remedy = f"the keys are {', '.join(known)}."
    raise UsageProblem(f"{origin}: there is no key {_shown(key)}.", remedy=remedy)


def _name(table: dict[str, Any], origin: str) -> str:
    expected = "1 to 40 of the characters a-z, 0-9 and -"
    if "name" not in table:
        raise _problem(origin, "name", f"is missing; expected {expected}")
    name = table["name"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise _misplaced(origin, "name", name, expected)
    if name in POLICIES:
        raise UsageProblem(
            f"{origin}: name: {name} is a built-in policy.",
            remedy=f'choose another name, such as "my-{name}"; base = "{name}" builds on it.',
        )
    return name


def _version(table: dict[str, Any], origin: str) -> int:
    expected = f"a whole number from 1 to {EXACT_MAX}"
    if "version" not in table:
        raise _problem(origin, "version", f"is missing; expected {expected}")
    version = table["version"]
    if type(version) is not int or not 1 <= version <= EXACT_MAX:
        raise _misplaced(origin, "version", version, expected)
    return version


def _base(table: dict[str, Any], origin: str) -> Policy:
    base = table["base"]
    if not isinstance(base, str) or base not in POLICIES:
        expected = f"one of {', '.join(POLICIES)}"
        raise _misplaced(origin, "base", base, expected, tuple(POLICIES))
    return POLICIES[base]


def _why(table: dict[str, Any], origin: str) -> str:
    why = table["why"]
    if not isinstance(why, str) or len(why) > WHY_CHARS_MAX:
        raise _misplaced(origin, "why", why, f"a text of at most {WHY_CHARS_MAX} characters")
    return why


def _value(key: str, written: Any, origin: str) -> Any:
    """What ``written`` means for the field ``key``; 0 is none where that may stand."""
    if type(written) in {int, float} and not written:
        if type(written) is int and may_be_none(key):
            return None
        if key not in MAY_BE_ZERO:
            raise _misplaced(origin, key, written, expected_of(key).words)
    _refuse_beyond(key, written, origin)
    try:
        # msgspec refuses an integer of thousands of digits with a plain ValueError.
        return msgspec.convert(written, FIELDS[key].type)
    except (msgspec.ValidationError, ValueError):
        choices = expected_of(key)
        raise _misplaced(origin, key, written, choices.words, choices.values) from None


def _refuse_beyond(key: str, value: Any, origin: str, least: int = 0) -> None:
    """The limits on numbers, texts and lists, at every depth of ``value``."""
    if isinstance(value, int | float) and not least <= value <= EXACT_MAX:
        top = f" (at most {EXACT_MAX})" if value > EXACT_MAX else ""
        raise _misplaced(origin, key, value, expected_of(key).words + top)
    if isinstance(value, str) and len(value) > TEXT_CHARS_MAX:
        raise _misplaced(origin, key, value, f"at most {TEXT_CHARS_MAX} characters")
    if isinstance(value, list | dict):
        inner = cast("list[Any] | dict[str, Any]", value)
        if len(inner) > LIST_LENGTH_MAX:
            raise _problem(origin, key, f"holds {len(inner)} values; {LIST_LENGTH_MAX} at most")
        for item in inner.values() if isinstance(inner, dict) else inner:
            _refuse_beyond(key, item, origin, least=-EXACT_MAX)


def _misplaced(
    origin: str, key: str, value: Any, expected: str, values: tuple[str, ...] = ()
) -> UsageProblem:
    """The error for a value that cannot stand at ``key``, with the closest of ``values``."""
    items = cast("Sequence[Any]", value) if isinstance(value, list) else [value]
    wrong = [item for item in items if isinstance(item, str) and item not in values]
    near = closest(wrong[0], values) if wrong else None
    return UsageProblem(
        f"{origin}: {key}: expected {expected}, not {_shown(value)}.",
        remedy=f"did you mean {near}?" if near else REMEDY,
    )


def _problem(origin: str, key: str, problem: str) -> UsageProblem:
    return UsageProblem(f"{origin}: {key}: {problem}.", remedy=REMEDY)


def _shown(value: Any) -> str:
    """``value`` for an error: printable, short, as TOML has it where that is another word."""
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        text = f"{value!a}" if isinstance(value, str | int | float | list | dict) else f"{value}"
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def _twice(values: tuple[object, ...]) -> bool:
    return len(set(values)) < len(values)


Contradiction = tuple[str, Callable[[Policy], bool], str]

CONTRADICTIONS: tuple[Contradiction, ...] = (
    ("drains", lambda p: not p.drains, "is empty, so that nothing would ever be attempted"),
    ("drains", lambda p: "COMPLETE" in p.drains, "names COMPLETE, but what is done is no backlog"),
    ("drains", lambda p: _twice(p.drains), "names a state twice"),
    (
        "timeout_exit_codes",
        lambda p: any(not -64 <= c <= 255 or c == 0 for c in p.timeout_exit_codes),  # noqa: PLR2004
        "holds what no failing program exits with; expected 1 to 255, or -N for signal N",
    ),
    ("timeout_exit_codes", lambda p: _twice(p.timeout_exit_codes), "names an exit code twice"),
    (
        "breaker_runs",
        lambda p: (p.breaker_runs or 0) > RUNS_MAX,
        f"waits for more than {RUNS_MAX} runs, which is as many as are counted",
    ),
)
"""Field, what is refused, and why: settings that are well formed but cannot be meant."""
