"""One word of a failure's text: what it stands for, and what of it stays.

Numbers that mean something (a status, an errno, an error code, a pinned version) stay, the others
become ``<*>``, places ``<path>`` or ``<url>``.  One placeholder stands for numbers, times, sizes,
ids and hosts alike, for the same slot is now a name and now an address.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import NamedTuple

from engine.detect.fingerprint_rules import compiled_shapes, rules

WORD_CHARS_MAX = 256
STAR = "<*>"
NAME, FILE = 1, 2
"""What a text says is missing: something with a name, or a file."""

_WORDS_CACHED = 8192
_BEFORE_CHARS = 24
_KEPT_DIGITS_MAX = 3
_MADE_ID_CHARS_MIN = 12
_RANDOM_CHARS_MIN = 20
_RANDOM_DIGITS_MIN = 4
_LONG_NUMBER_CHARS = 4
_LONG_ID_DIGITS = 6
_FOLDERS_MIN = 2
_PUNCTUATION = "\"'`()[]{}<>,;:.=*!?|"
_SLASHES = re.compile(r"[\\/]{1,2}")
_DIGIT = re.compile(r"\d")


class Shapes(NamedTuple):
    """The ``[[shape]]`` entries of the rule set, compiled."""

    odd: re.Pattern[str]
    odd_or_host: re.Pattern[str]
    url: re.Pattern[str]
    path: re.Pattern[str]
    rooted: re.Pattern[str]
    extended: re.Pattern[str]
    base_name: re.Pattern[str]
    file_place: re.Pattern[str]
    sha: re.Pattern[str]
    colon_hex: re.Pattern[str]
    host_port: re.Pattern[str]
    piece: re.Pattern[str]
    number: re.Pattern[str]
    identity: re.Pattern[str]
    made_id: re.Pattern[str]
    pod: re.Pattern[str]
    result: re.Pattern[str]
    code: re.Pattern[str]
    host: re.Pattern[str]
    mail: re.Pattern[str]
    pinned: re.Pattern[str]
    version_after: re.Pattern[str]
    meaning_key: re.Pattern[str]
    small_number: re.Pattern[str]
    http_status: re.Pattern[str]
    host_key: re.Pattern[str]
    segment: re.Pattern[str]
    trailing: re.Pattern[str]
    hex_segment: re.Pattern[str]
    identifier: re.Pattern[str]
    hunk: re.Pattern[str]
    units: re.Pattern[str]
    dates: re.Pattern[str]
    restated: re.Pattern[str]
    runs: re.Pattern[str]
    paths: re.Pattern[str]
    annotation: re.Pattern[str]
    telling: re.Pattern[str]
    module_name: re.Pattern[str]
    repeats: re.Pattern[str]


@cache
def shapes() -> Shapes:
    """Every shape, compiled once."""
    return Shapes(**compiled_shapes())


@cache
def _known_words() -> frozenset[str]:
    return rules().semantic.known_words


def says_any(words: tuple[str, ...], text: str) -> bool:
    """Whether one of ``words`` stands in ``text``."""
    return any(word in text for word in words)


def absent_in(text: str) -> int:
    """``FILE`` or ``NAME`` when ``text`` says that such a thing is missing, else 0."""
    lowered, words = text.lower(), rules().words
    if says_any(words.file_absent, lowered):
        return FILE
    return NAME if says_any(words.name_absent, lowered) else 0


def has_date_names(text: str) -> bool:
    """Whether a day or a month may be named in ``text``."""
    return says_any(rules().words.date_names, text)


def looks_wrong(line: str) -> bool:
    """Whether a line says that something failed."""
    return says_any(rules().words.looks_wrong, line.lower())


def has_meaning(word: str, before: str, after: str) -> bool:
    """Whether ``word`` is a number that means something, by the words around it."""
    shape, meanings = shapes(), rules().semantic
    if shape.small_number.fullmatch(word):
        key = before.strip(_PUNCTUATION).lower()
        if key in meanings.words and not (key in ("error", "err") and before.endswith(":")):
            return True
    if shape.http_status.fullmatch(word) is None:
        return False
    named = after.rstrip("':,.") in meanings.reasons
    return named or word.startswith("(") or before.endswith("rror:")


def unquoted(word: str) -> tuple[str, str]:
    """A word and the punctuation behind it."""
    core = word.rstrip(_PUNCTUATION)
    return core, word[len(core) :]


@lru_cache(maxsize=_WORDS_CACHED)
def masked_word(word: str, absent: int) -> str:
    """A word of at most 256 characters with its places and numbers masked.

    ``absent``: ``FILE`` or ``NAME`` when the text says that such a thing is missing, else 0.
    Pure, so remembering it changes nothing.
    """
    shape = shapes()
    if ":/" in word:
        word = shape.url.sub("<url>", word)
    if "sha" in word:
        word = shape.sha.sub(STAR, word)
    if ":" in word:
        word = shape.host_port.sub(STAR, shape.colon_hex.sub(STAR, word))
    if "\\042" in word:
        word = word.replace("\\042", "'")
    if "/" in word or "\\" in word:
        word = shape.path.sub(lambda found: _path(found, absent), word)
    elif ":" in word:
        word = shape.file_place.sub(lambda found: _place(found, absent), word)
    return shape.piece.sub(lambda found: _piece(found, absent), word)


def _place(found: re.Match[str], absent: int) -> str:
    """``a.py:12``, which is a place; but ``node.example.net:80`` is a host."""
    if shapes().host.fullmatch(found[1]):
        return STAR
    return f"<path>/{found[1]}" if absent == FILE else "<path>"


def _path(found: re.Match[str], absent: int) -> str:
    """The placeholder of a path, with the base name of a file that is missing."""
    path = found[0]
    if found.string[: found.start()].endswith("<") and path.startswith("/"):
        return f"/{STAR}" if _DIGIT.search(path) else path
    if path.lower() in _known_words() or not _is_path(path):
        return path
    if absent != FILE:
        return "<path>"
    name = shapes().base_name.search(path[-140:]) or shapes().module_name.match(path)
    shown = name[name.lastindex or 0] if name else ""
    # Names that begin so are made up for a moment, like the folders they stand in.
    return f"<path>/{shown}" if shown and not shown.startswith("tmp") else "<path>"


def _is_path(path: str) -> bool:
    """Whether slashes stand for folders: not in ``and/or``, ``1/2`` or ``/10.0.0.1:80``."""
    parts = [part for part in _SLASHES.split(path) if part]
    if all(part[0].isdigit() for part in parts):
        return False
    if shapes().rooted.match(path) or len(parts) > _FOLDERS_MIN:
        return True
    return shapes().extended.fullmatch(parts[-1].split(":")[0]) is not None


def _piece(found: re.Match[str], absent: int) -> str:
    """One run of characters that may belong to one value, masked; what is around it stays."""
    piece = found[0]
    core = piece.rstrip(".-+")
    before = found.string[max(0, found.start() - _BEFORE_CHARS) : found.start()]
    if core.lower() in _known_words():
        return piece
    if _DIGIT.search(core) is None:
        return _without_digits(piece, core, before)
    if _is_kept(core, before):
        return piece
    shape, end = shapes(), piece[len(core) :]
    if any(whole.fullmatch(core) for whole in (shape.number, shape.identity, shape.host)):
        return STAR + end
    around = before[-1:] + found.string[found.end() : found.end() + 1]
    bracketed = around == "[]" and "-" in core
    if bracketed or shape.host_key.search(before) or _is_mail(core):
        return STAR + end
    quoted = around == "''"
    return _named(core, keeps_names=absent > 0 or quoted) + end


def _without_digits(piece: str, core: str, before: str) -> str:
    """A word without digits: itself, or the placeholder of a host or a mail address."""
    shape = shapes()
    if shape.host.fullmatch(core) or _is_mail(core) or (before and shape.host_key.search(before)):
        return STAR + piece[len(core) :]
    return piece


def _is_mail(core: str) -> bool:
    return "@" in core and "." in core and shapes().mail.fullmatch(core) is not None


def _is_kept(core: str, before: str) -> bool:
    """A code, a pinned version, or a number behind a key that gives it a meaning."""
    shape = shapes()
    if shape.code.fullmatch(core) or shape.result.fullmatch(core):
        return True
    if shape.version_after.search(before[-3:]) and not before.endswith("=>"):
        return True
    if "@" in core and shape.pinned.fullmatch(core) and "." in core.rpartition("@")[2]:
        return True
    return bool(before) and core[-1:].isdigit() and shape.meaning_key.search(before) is not None


def _named(core: str, *, keeps_names: bool) -> str:
    """A name with digits in it: ``node-17`` is any node, but a short quoted name is a name."""
    shape = shapes()
    if shape.made_id.fullmatch(core) and len(core) >= _MADE_ID_CHARS_MIN:
        return STAR
    if pod := shape.pod.fullmatch(core):
        return f"{pod[1]}-{STAR}"
    digits = sum(map(str.isdigit, core))
    if keeps_names and digits <= _KEPT_DIGITS_MAX and shape.identifier.fullmatch(core):
        return core
    if digits >= _RANDOM_DIGITS_MIN and len(core) >= _RANDOM_CHARS_MIN and core.isalnum():
        return STAR
    shown: list[str] = []
    last = 0
    for segment in shape.segment.finditer(core):
        shown += (core[last : segment.start()], _segment(segment[0]))
        last = segment.end()
        is_long = len(segment[0]) >= _LONG_NUMBER_CHARS and shown[-1] == STAR
        if is_long and digits >= _LONG_ID_DIGITS:
            # Behind a long number stand more numbers of the same id: attempt_1445_0020_m_01.
            return "".join(shown)
    return "".join(shown) + core[last:]


def _segment(segment: str) -> str:
    shape = shapes()
    if segment.isalpha() or segment.lower() in _known_words():
        return segment
    if segment[0].isdigit() or shape.hex_segment.fullmatch(segment):
        return STAR
    if trailing := shape.trailing.fullmatch(segment):
        return f"{trailing[1]}{STAR}"
    digits = sum(map(str.isdigit, segment))
    return STAR if digits > 1 or (digits and len(segment) == 1 + digits) else segment
