"""The catalogue: every pattern of ``plain-1`` with its kind and where it comes from.

The patterns are data, in ``catalogue.toml``.  They are written in lower case, a blank stands for
any run of white space (terminals wrap lines), and each has an ``anchor``: pieces of text without
which it cannot match, so that most patterns cost one substring search.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources
from typing import Literal

import msgspec

from engine.events.diagnosis import BoundaryKind
from engine.prebuilt import prebuilt

_PARTS = re.compile(r"\\.|\[[^\]]*\]| ")
_BLANK = {" ": r"\s{1,20}"}


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A field of a machine-readable record whose value names a limit, or a good end."""

    keys: tuple[str, ...]
    values: tuple[str, ...]
    kind: BoundaryKind | Literal["success"]
    source: str


class Phrase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words that assert an event.  ``weak`` ones count after every other."""

    name: str
    pattern: str
    anchor: str
    kind: BoundaryKind
    source: str
    weak: bool = False


class Early(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Words of a failure that comes before any call of a model."""

    pattern: str
    anchor: str
    source: str


class Guard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes a line no evidence: how it begins, or whose limit it talks about."""

    line: str
    foreign: str
    success: str
    worked: str


class Catalogue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    record: tuple[Record, ...]
    phrase: tuple[Phrase, ...]
    early: tuple[Early, ...]
    guard: Guard


@cache
def catalogue() -> Catalogue:
    """The catalogue that this version ships; read once."""
    text = resources.files("engine.detect").joinpath("catalogue.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), Catalogue)


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """A phrase, ready for folded text; blanks inside character classes stay what they are."""
    return re.compile(_PARTS.sub(lambda part: _BLANK.get(part[0], part[0]), pattern))


def anchored(anchor: str, text: str) -> bool:
    """Whether every piece of an anchor stands somewhere in ``text``."""
    return all(piece in text for piece in anchor.split())


@cache
def meanings() -> dict[tuple[str, str], BoundaryKind | Literal["success"]]:
    """What each (key, value) of a record means; keys and values in lower case."""
    return {
        (key.lower(), value.lower()): record.kind
        for record in catalogue().record
        for key in record.keys
        for value in record.values
    }


prebuilt(Catalogue)
