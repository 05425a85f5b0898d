"""What a policy's fields may hold, read from the annotations of Policy itself."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
from msgspec import inspect

from engine.triage.policy import Policy

FIELDS: Mapping[str, msgspec.structs.FieldInfo] = {
    field.name: field for field in msgspec.structs.fields(Policy)
}


MAY_BE_ZERO = frozenset({"breaker_probes_max"})
"""Numbers of which 0 is one; elsewhere it means no limit, or nothing at all."""


class Expected(NamedTuple):
    """What a field may hold, in words, and the ``values`` when they can be listed."""

    words: str
    values: tuple[str, ...] = ()


def may_be_none(name: str) -> bool:
    """Whether the field may be none: no limit, no rule."""
    kind = inspect.type_info(FIELDS[name].type)
    return isinstance(kind, inspect.UnionType) and kind.includes_none


def expected_of(name: str) -> Expected:
    """What the field may hold, for errors and for pages."""
    if name in MAY_BE_ZERO:
        return Expected("a whole number from 0")
    return _expected(inspect.type_info(FIELDS[name].type))


def closest(word: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that ``word`` most likely misspells."""
    lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower()[:80], lower, n=1, cutoff=0.6)
    return lower[found[0]] if found else None


def _expected(kind: inspect.Type) -> Expected:
    match kind:
        case inspect.BoolType():
            return Expected("true or false")
        case inspect.IntType():
            return Expected("a whole number from 1")
        case inspect.FloatType():
            return Expected("a number above 0")
        case inspect.StrType():
            return Expected("a text")
        case inspect.LiteralType(values=values):
            names = tuple(str(value) for value in values)
            return Expected(f"one of {', '.join(names)}", names)
        case inspect.VarTupleType(item_type=item):
            inner = _expected(item)
            return Expected(f"a list, each {inner.words}", inner.values)
        case inspect.UnionType(types=types):
            return _any_of([_expected(each) for each in types])
        case inspect.NoneType():
            return Expected("0 for none")
        case inspect.StructType(fields=fields):
            return Expected(f"a table with {', '.join(field.name for field in fields)}")
        case _:
            return Expected("a value as `runoff policy show default --toml` has it")


def _any_of(options: list[Expected]) -> Expected:
    values = tuple(value for option in options for value in option.values)
    return Expected(", or ".join(option.words for option in options), values)
