"""Rule sets of the fingerprint: released data files, each proved by its digest when it is read.

A released set never changes, for the log names it in every event; a better one is a new number.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from functools import cache

import msgspec

from engine.detect.released import FINGERPRINT, TONGUES, text_of
from engine.prebuilt import prebuilt


class Pattern(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One shape of other programs' text; ``source`` and ``date`` say where and when it was seen."""

    name: str
    pattern: str
    source: str
    date: str


class Semantic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers that mean something: the words before them, the words after a status, whole names."""

    words: frozenset[str]
    reasons: frozenset[str]
    known_words: frozenset[str]
    source: str
    date: str


class Words(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What says, in small letters, that a file or a name is missing, or that a line is wrong."""

    file_absent: tuple[str, ...]
    name_absent: tuple[str, ...]
    looks_wrong: tuple[str, ...]
    date_names: tuple[str, ...]
    source: str
    date: str


class FingerprintRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of ``fp-N.toml``."""

    name: str
    version: int
    date: str
    tongues_sha256: str
    header: tuple[Pattern, ...]
    wrapper: tuple[Pattern, ...]
    noise: tuple[Pattern, ...]
    exception: tuple[Pattern, ...]
    shape: tuple[Pattern, ...]
    semantic: Semantic
    words: Words


class Tongue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message in English, and how other languages say it; ``%s`` stands for what varies."""

    english: str
    others: tuple[str, ...]
    source: str
    date: str


class Tongues(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of ``fp-N-tongues.toml``; errno and Windows numbers with their English words."""

    name: str
    errno: dict[str, str]
    winerror: dict[str, str]
    message: tuple[Tongue, ...]


@cache
def rules() -> FingerprintRules:
    """The shapes of set ``fp-1``; read once."""
    return msgspec.convert(tomllib.loads(text_of(FINGERPRINT)), FingerprintRules)


@cache
def tongues() -> Tongues:
    """What set ``fp-1`` knows of other languages; read once, by the first fingerprint."""
    return msgspec.convert(tomllib.loads(text_of(TONGUES, rules().tongues_sha256)), Tongues)


def joined(patterns: Iterable[Pattern]) -> str:
    """One alternation, in the file's order."""
    return "|".join(f"(?:{each.pattern})" for each in patterns)


@cache
def line_start() -> re.Pattern[str]:
    """A logger's header, or a wrapper that only says "error", at the beginning of a line."""
    return re.compile(rf"(?:{joined(rules().header + rules().wrapper)})[ ]{{0,8}}", re.VERBOSE)


@cache
def compiled_shapes() -> dict[str, re.Pattern[str]]:
    """What words and texts may look like, by name."""
    return {each.name: re.compile(each.pattern, re.VERBOSE) for each in rules().shape}


@cache
def noise() -> re.Pattern[str]:
    """A line that adds nothing."""
    return re.compile(joined(rules().noise), re.VERBOSE)


@cache
def exceptions() -> tuple[re.Pattern[str], ...]:
    """The beginning of a line that names an exception, one pattern for each family."""
    return tuple(re.compile(each.pattern, re.VERBOSE) for each in rules().exception)


prebuilt(FingerprintRules, Tongues)
