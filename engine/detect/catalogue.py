"""Rule sets: patterns as data, each with its kind, where it comes from and since when.

A released set is a file in ``rule_sets`` that never changes; its digest stands in
``engine/detect/released.py`` and is checked whenever it is loaded, so that what an event names is
what decided.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from typing import Literal, TypeVar

import msgspec

from engine.detect.released import BOUNDARY, ZERO_YIELD, text_of
from engine.events.diagnosis import BoundaryKind
from engine.prebuilt import prebuilt

T = TypeVar("T", bound=msgspec.Struct)
_WORD = re.compile(r"\{([a-z]+)\}")
_PARTS = re.compile(r"\\.|\[[^\]]*\]| \?| ")
_BLANK = {" ": r"\s{1,20}", " ?": r"\s{0,20}"}


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A field of a machine-readable record whose value names a limit, or a good end."""

    keys: tuple[str, ...]
    values: tuple[str, ...]
    kind: BoundaryKind | Literal["success"]
    source: str
    date: str


class Phrase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words that assert an event.

    ``rank``: 1 for one program's own wording, 2 for any wording of a kind, 3 for words that say
    little; a lower one wins.  ``needs`` names a scope of which a word must stand nearby.
    """

    name: str
    pattern: str
    anchor: str
    kind: BoundaryKind
    source: str
    date: str
    rank: Literal[1, 2, 3] = 1
    needs: str | None = None


class Suspect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words in the shape of a limit, which are no rule."""

    kind: BoundaryKind
    pattern: str
    anchor: str
    source: str
    date: str


class GuardPatterns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes a match no evidence, and what a good end and an error look like.

    ``line``: how its line begins; ``code``: what stands in its line; ``before`` and ``after``:
    words in its sentence; ``host``: the engine's own words; ``foreign``: whose limit it is.
    """

    line: str
    code: str
    before: str
    after: str
    host: str
    foreign: str
    success: str
    error: str


class BoundaryRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of a ``boundary-N``."""

    name: str
    version: int
    date: str
    word: dict[str, str]
    scope: dict[str, str]
    event: tuple[str, ...]
    record: tuple[Record, ...]
    phrase: tuple[Phrase, ...]
    suspect: tuple[Suspect, ...]
    guard: GuardPatterns


class Early(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words of a failure that comes before any call of a model."""

    name: str
    pattern: str
    anchor: str
    source: str
    date: str


class Hint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words that tell more about why no usage came; ``detail`` is what is recorded."""

    name: str
    detail: str
    pattern: str
    anchor: str
    source: str
    date: str


class ZeroYieldRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of a ``zero-yield-N``; ``worked`` only comes after a model was called."""

    name: str
    version: int
    date: str
    worked: str
    hint: tuple[Hint, ...]
    early: tuple[Early, ...]


@cache
def boundary_rules() -> BoundaryRules:
    """The boundary rules in use; read once."""
    return _loaded(BOUNDARY, BoundaryRules)


@cache
def zero_yield_rules() -> ZeroYieldRules:
    """The zero-yield rules in use; read once."""
    return _loaded(ZERO_YIELD, ZeroYieldRules)


def _loaded(name: str, kind: type[T]) -> T:
    return msgspec.convert(tomllib.loads(text_of(name)), kind)


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern, ready for folded text: words put in, blanks standing for any white space."""
    return re.compile(_PARTS.sub(lambda part: _BLANK.get(part[0], part[0]), expanded(pattern)))


def expanded(pattern: str) -> str:
    """``pattern`` with its words written out; words may use words that stand before them."""
    words = boundary_rules().word
    while "{" in pattern:
        wider = _WORD.sub(lambda word: words[word[1]], pattern)
        if wider == pattern:
            break
        pattern = wider
    return pattern


def anchored(anchor: str, text: str) -> bool:
    """Whether every piece of an anchor stands somewhere in ``text``; of a|b one is enough."""
    for piece in _pieces(anchor):
        for one in piece:
            if one in text:
                break
        else:
            return False
    return True


@cache
def _pieces(anchor: str) -> tuple[tuple[str, ...], ...]:
    """What an anchor is made of; it is asked of every output, and hardly ever holds."""
    return tuple(tuple(piece.split("|")) for piece in anchor.split())


@cache
def meanings() -> dict[tuple[str, str], BoundaryKind | Literal["success"]]:
    """What each (key, value) of a record means; keys and values in lower case."""
    return {
        (key.lower(), value.lower()): record.kind
        for record in boundary_rules().record
        for key in record.keys
        for value in record.values
    }


prebuilt(BoundaryRules, ZeroYieldRules)
