"""One failure in many languages: known messages are put back into English before they are masked.

A number that the system gave (errno, a Windows error) decides over the words behind it.  Without
one, messages of common programs are known in their translations.  The first text reads them all;
after that most cost one look at their words: a translation is only sought when its longest word
that is not English stands in the text.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from engine.detect.fingerprint_rules import tongues

_NUMBERED = re.compile(
    r"\[(Errno|WinError) (-?\d{1,6})\] [^\n]{0,300}?"
    r"(?=: ['(\[]|: [A-Za-z]:[\\/]|: /|\)?'(?:[),\s}\]]|$)|>|\n|$)"
)
_OS_ERROR = re.compile(r"[^\n:(']{1,200} \(os error (\d{1,6})\)")
_WORD = re.compile(r"[^\W\d_]{3,60}")
_BLANKED = str.maketrans(dict.fromkeys("'()[]{}<>,;:.=!?|/-_0123456789", " "))
_GLYPHS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_PUNCTUATION = str.maketrans(
    dict.fromkeys('"`´‘’‚‛“”„‟«»‹›「」『』', "'")
    | {"：": ":", "（": "(", "）": ")", "，": ",", "\u00a0": " ", "\u202f": " "}
)
_FRENCH_QUOTES = re.compile(r"«\s{0,2}|\s{0,2}»")
_SLOT = "%s"
_IN_QUOTES = r"([^'\n]{1,300}?)"
_AT_START = r"([^\s:'][^\n:']{0,200}?|'[^'\n]{1,300}')"
_ANYWHERE = r"([^\n]{1,300}?)"
_TO_END = r"([^\n]{1,300})"
_GLYPHS_ANCHOR = 12


class _Pair(NamedTuple):
    """A message in English, and in another language."""

    ours: str
    theirs: str


class _Phrase(NamedTuple):
    """A translation, ready: ``english`` replaces what ``pattern`` finds."""

    pattern: str
    english: str


def plain_quotes(text: str) -> str:
    """``text`` with one kind of quote, ``'``, and with narrow punctuation."""
    if text.isascii():
        return text.replace('"', "'").replace("`", "'")
    if 0 <= text.find("«") < text.find("»"):
        text = _FRENCH_QUOTES.sub("'", text)
    return text.translate(_PUNCTUATION)


def in_english(text: str) -> str:
    """``text``, whose quotes are plain, with the messages that are known put into English."""
    if "rr" in text:
        if "] " in text:
            text = _NUMBERED.sub(_by_number, text)
        if "(os error" in text:
            text = _OS_ERROR.sub(_by_os_error, text)
    for phrase in _candidates(text):
        text = _compiled(phrase.pattern).sub(phrase.english, text)
    return text


def _by_number(found: re.Match[str]) -> str:
    known = tongues().errno if found[1] == "Errno" else tongues().winerror
    words = known.get(found[2])
    return f"[{found[1]} {found[2]}] {words}" if words else found[0]


def _by_os_error(found: re.Match[str]) -> str:
    words = tongues().errno.get(found[1]) or tongues().winerror.get(found[1])
    return f" {words} (os error {found[1]})" if words else found[0]


def _candidates(text: str) -> list[_Phrase]:
    """The phrases whose anchors stand in ``text``, longest first, so that none hides another."""
    spaced, unspaced = _index()
    words = set(text.translate(_BLANKED).split())
    found = [pair for word in spaced.keys() & words for pair in spaced[word]]
    if not text.isascii() and _GLYPHS.search(text):
        found += [pair for anchor, pair in unspaced if anchor in text]
    # A pattern is made only when it may be needed, for making them all takes longer than the rest.
    return sorted(map(_phrase, found), key=_longest_first)


def _longest_first(phrase: _Phrase) -> tuple[int, str]:
    return -len(phrase.pattern), phrase.pattern


@cache
def _index() -> tuple[dict[str, list[_Pair]], list[tuple[str, _Pair]]]:
    """Pairs by their anchor word, and those of languages that put no blanks between words."""
    spaced: dict[str, list[_Pair]] = {}
    unspaced: list[tuple[str, _Pair]] = []
    english_words = {w for message in tongues().message for w in _WORD.findall(message.english)}
    for message in tongues().message:
        for other in message.others:
            pair = _without_same_ends(message.english, other)
            anchor = _anchor(pair.theirs, english_words)
            if anchor and _GLYPHS.search(anchor):
                unspaced.append((anchor, pair))
            elif anchor:
                spaced.setdefault(anchor, []).append(pair)
    return spaced, unspaced


def _anchor(theirs: str, english_words: set[str]) -> str:
    """The longest piece of a translation; empty when nothing in it tells it from English."""
    if _GLYPHS.search(theirs):
        pieces = re.split(rf"{_SLOT}|[^\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]", theirs)
        return max(pieces, key=len)[:_GLYPHS_ANCHOR]
    words = [w for w in _WORD.findall(theirs.replace(_SLOT, " ")) if w not in english_words]
    return max(words, key=len, default="")


@cache
def _phrase(pair: _Pair) -> _Phrase:
    count = iter(range(1, 10))
    english = re.sub(_SLOT, lambda _: rf"\g<{next(count)}>", pair.ours)
    return _Phrase(_pattern(pair.theirs), english)


def _pattern(theirs: str) -> str:
    """What finds a translation: its words with any white space between, and its slots."""
    # Languages without blanks between words have them around names or not, as it comes.
    blank = r"\s{0,4}" if _GLYPHS.search(theirs) else r"\s{1,4}"
    parts = [blank.join(map(re.escape, part.split(" "))) for part in theirs.split(_SLOT)]
    made = parts[0]
    for place, part in enumerate(parts[1:]):
        if made.endswith("'") and part.startswith("'"):
            slot = _IN_QUOTES
        elif place == 0 and not made:
            slot = _AT_START
        else:
            slot = _ANYWHERE if part else _TO_END
        made += slot + part
    return made if theirs.endswith((" ", ":", _SLOT)) else made + "[.。]?"


def _without_same_ends(english: str, other: str) -> _Pair:
    """Both without a slot at the same end, for what stands there stays where it is."""
    for quote in ("", "'"):
        end = f"{quote}{_SLOT}{quote}"
        if english.startswith(end) and other.startswith(end):
            english, other = english[len(end) :], other[len(end) :]
        if english.endswith(end) and other.endswith(end):
            english, other = english[: -len(end)], other[: -len(end)]
    return _Pair(english, other)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
