"""Masking: what is incidental in a failure's text becomes a placeholder, the rest stays.

Word by word: most words are letters only and cost nothing; a word with digits, slashes or dots is
looked at closely.  A word is cut at 256 characters and every repetition is bounded, so the time is
linear in the text.
"""

from __future__ import annotations

from engine.detect.words import (
    STAR,
    WORD_CHARS_MAX,
    absent_in,
    has_date_names,
    has_meaning,
    masked_word,
    shapes,
    unquoted,
)

_USER_BEFORE = frozenset({"for", "invalid", "Invalid", "by", "as", "Illegal", "illegal"})
_NUMBERED = frozenset(
    {"phase", "Phase", "run", "Run", "attempt", "session", "job", "Job", "container", "pod", "Pod",
     "instance", "node", "thread", "process", "worker", "request", "task", "Task"}
)  # fmt: skip
"""What is told apart by numbers: a word with digits behind these is a whole id."""

_NO_USER = frozenset({"is", "was", "has", "does", "did", "not", "in", "on", "with", "from"})


def masked(text: str) -> str:
    """``text`` with times, places, ids, hosts, durations, sizes and numbers as placeholders.

    White space is folded; quotes must be plain already.  The base name of a file, and a name that
    ends in digits, stay when the text says that something is missing.
    """
    shape = shapes()
    if "@@" in text:
        text = shape.hunk.sub("<hunk>", text)
    absent = absent_in(text)
    odd = (shape.odd_or_host if "host" in text else shape.odd).search
    words = text.split()
    shown: list[str] = []
    before = prev = ""
    for place, word in enumerate(words):
        made = word
        if (not word.isalpha() or word == "localhost") and odd(word):
            following = words[place + 1] if place + 1 < len(words) else ""
            if not has_meaning(word, prev, following):
                made = masked_word(word[:WORD_CHARS_MAX], absent)
        if made != word and prev in _NUMBERED and word[0].isalnum() and "=" not in word:
            made = STAR + unquoted(word)[1]
        if _is_user(word, prev, before):
            made = STAR + unquoted(word)[1]
        shown.append(made)
        before, prev = prev, word
    return _folded(" ".join(shown))


def _is_user(word: str, prev: str, before: str) -> bool:
    if prev == "for" and before == "password":
        return word != "invalid"
    return prev == "user" and before in _USER_BEFORE and word not in _NO_USER


def _folded(text: str) -> str:
    """``text`` with units, names of months and runs of placeholders as one placeholder."""
    shape = shapes()
    if STAR in text:
        text = shape.runs.sub(STAR, shape.units.sub(STAR, text)).replace("<<*>", STAR)
        if has_date_names(text):
            text = shape.dates.sub("", text)
        text = shape.runs.sub(STAR, shape.restated.sub(STAR, text)).replace("_-<*>", "_<*>")
        if "<*> " in text:
            text = shape.repeats.sub(r"\1", text)
    if text.endswith((")", ").", "<path>'")):
        text = shape.annotation.sub("", text)
    if "<path> <path>" in text:
        text = shape.paths.sub("<path>", text)
    return text.rstrip(" .:;,。")
