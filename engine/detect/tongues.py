"""One failure in many languages: known messages are put back into English before they are masked.

A number that the system gave (errno, a Windows error) decides over the words behind it.  Without
one, messages of common programs are known in their translations.  Most texts cost one look at their
words: a translation is only sought when its rarest word stands in the text.
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


class Phrase(NamedTuple):
    """A translation: where ``anchor`` stands, ``pattern`` may be found, ``english`` replaces it."""

    anchor: str
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


def _candidates(text: str) -> list[Phrase]:
    """The phrases whose anchors stand in ``text``, longest first, so that none hides another."""
    spaced, unspaced = _index()
    found = [
        p for word in spaced.keys() & set(text.translate(_BLANKED).split()) for p in spaced[word]
    ]
    if not text.isascii() and _GLYPHS.search(text):
        found += [phrase for phrase in unspaced if phrase.anchor in text]
    return sorted(found, key=_longest_first)


def _longest_first(phrase: Phrase) -> tuple[int, str]:
    return -len(phrase.pattern), phrase.pattern


@cache
def _index() -> tuple[dict[str, list[Phrase]], list[Phrase]]:
    """Phrases by their anchor word, and those of languages that put no blanks between words."""
    spaced: dict[str, list[Phrase]] = {}
    unspaced: list[Phrase] = []
    english_words = {w for message in tongues().message for w in _WORD.findall(message.english)}
    for message in tongues().message:
        for other in message.others:
            phrase = _phrase(message.english, other, english_words)
            if phrase is None:
                continue
            if _GLYPHS.search(phrase.anchor):
                unspaced.append(phrase)
            else:
                spaced.setdefault(phrase.anchor, []).append(phrase)
    return spaced, unspaced


def _phrase(english: str, other: str, english_words: set[str]) -> Phrase | None:
    """None when nothing in ``other`` tells it from English."""
    ours, theirs = _without_same_ends(english.replace("`", "'"), other)
    if _GLYPHS.search(theirs):
        pieces = re.split(rf"{_SLOT}|[^\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]", theirs)
        anchor = max(pieces, key=len)[:_GLYPHS_ANCHOR]
    else:
        words = [w for w in _WORD.findall(theirs.replace(_SLOT, " ")) if w not in english_words]
        anchor = max(words, key=len, default="")
    pattern = _pattern(theirs)
    count = iter(range(1, 10))
    words_again = re.sub(_SLOT, lambda _: rf"\g<{next(count)}>", ours.replace("\\", r"\\"))
    return Phrase(anchor, pattern, words_again) if anchor else None


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


def _without_same_ends(english: str, other: str) -> tuple[str, str]:
    """Both without a slot at the same end, for what stands there stays where it is."""
    for quote in ("", "'"):
        end = f"{quote}{_SLOT}{quote}"
        if english.startswith(end) and other.startswith(end):
            english, other = english[len(end) :], other[len(end) :]
        if english.endswith(end) and other.endswith(end):
            english, other = english[: -len(end)], other[: -len(end)]
    return english, other


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
