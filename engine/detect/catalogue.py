"""Rule sets: patterns as data, each with its kind, where it comes from and since when.

A released set is a file in ``rule_sets`` that never changes; its digest stands here and is checked
whenever it is loaded, so that what an event names is what decided.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Literal, TypeVar

import msgspec

from engine.errors import RunoffError
from engine.events.diagnosis import BoundaryKind
from engine.prebuilt import prebuilt

RULE_SETS: Mapping[str, str] = MappingProxyType(
    {
        "boundary-1": "6c12a96758229a5543ffe9500b1f7694e894e3f4959900a239a06b0f87d2abcb",
        "zero-yield-1": "9c2aac310fb6fc6d8977e83a3e168c03191864e5e9ae1641aaa2295beb7a882a",
    }
)
"""Every released set and the sha256 of its file."""

BOUNDARY = "boundary-1"
ZERO_YIELD = "zero-yield-1"

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


class Guard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes a match no evidence, and what a good end and an error look like.

    ``line``: how its line begins; ``code``: what stands in its line; ``before`` and ``after``:
    words in its sentence; ``host``: the engine's own
    words; ``foreign``: whose limit it is.
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
    guard: Guard


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
    data = resources.files("engine.detect").joinpath("rule_sets", f"{name}.toml").read_bytes()
    check(name, data)
    return msgspec.convert(tomllib.loads(data.decode()), kind)


def check(name: str, data: bytes) -> None:
    """Raises RunoffError unless ``data`` is the released rule set ``name``, byte for byte."""
    found = hashlib.sha256(data).hexdigest()
    if found != RULE_SETS[name]:
        raise RunoffError(
            f"The rule set {name} is not the released one: its sha256 is {found[:12]}…, not"
            f" {RULE_SETS[name][:12]}….",
            remedy="install Runoff again; changed rules need a new name.",
        )


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
    return all(any(one in text for one in piece.split("|")) for piece in anchor.split())


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
