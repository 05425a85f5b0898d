"""A policy as a TOML file that ``policy_from_toml`` reads back to the same thresholds."""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec

from engine.triage.policy import POLICIES, Policy
from engine.triage.policy_file import NAME
from engine.triage.policy_words import words_of

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def policy_toml(policy: Policy) -> str:
    """All fields of ``policy``, each with its meaning; none is written as 0.

    A built-in policy gets a name of its own, ``my-default``, since a file may not take its name.
    """
    renamed = msgspec.structs.replace(policy, name=own_name(policy.name))
    return "\n".join(
        f"# {words_of(name).meaning}\n{name} = {value_in_toml(value)}\n"
        for name, value in msgspec.to_builtins(renamed).items()
    )


def own_name(name: str) -> str:
    """``name`` if a file may have it, else one like it that a file may have."""
    if name in POLICIES:
        return f"my-{name}"
    return name if NAME.fullmatch(name) else "my-policy"


def value_in_toml(value: Any) -> str:
    """A value as TOML; None as 0.  Nothing unprintable is left in it."""
    if value is None:
        return "0"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        items = cast("list[Any]", value)
        return f"[{', '.join(value_in_toml(item) for item in items)}]"
    if isinstance(value, dict):
        return _table(cast("dict[str, Any]", value))
    return repr(value)


def _table(table: dict[str, Any]) -> str:
    pairs = [
        f"{key if _BARE_KEY.fullmatch(key) else _text(key)} = {value_in_toml(value)}"
        for key, value in table.items()
    ]
    return f"{{{', '.join(pairs)}}}"


def _text(text: str) -> str:
    return f'"{"".join(map(_character, text))}"'


def _character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character.isprintable() else f"\\U{ord(character):08x}"
