"""What the engine itself handed out: ids, directories, hosts.  They are cut out before anything."""

from __future__ import annotations

import re

_KNOWN_CHARS_MIN = 2
_LETTER = re.compile(r"[^\W\d_]")
_NUMBER = "000000"
"""What stands for a known value: a number, which every mask takes for one wherever it stands."""


def without_known(text: str, ids: tuple[str, ...], workspace: str | None) -> str:
    """``text`` with the ids and the directory that the engine itself handed out as plain numbers.

    Only whole words are replaced, longest first, so that ``p1`` leaves ``p12`` alone.  An id
    without letters is left to the masks, for it could be part of a time.
    """
    if workspace and len(workspace) > _KNOWN_CHARS_MIN and workspace.rstrip("/") in text:
        text = _without(text, workspace.rstrip("/"), f"/{_NUMBER}", wholly=False)
    named = {known for known in ids if known and known in text and _is_told(known)}
    for known in sorted(named, key=len, reverse=True):
        text = _without(text, known, _NUMBER)
    return text


def _without(text: str, known: str, instead: str, *, wholly: bool = True) -> str:
    """``text`` with ``instead`` wherever ``known`` ends a word and, ``wholly``, begins one.

    By hand, because ids are new every time, and to compile a pattern takes longer than all that is
    done with it.
    """
    parts: list[str] = []
    done = 0
    start = text.find(known)
    while start >= 0:
        end = start + len(known)
        if _goes_on(text, end) or (wholly and start > 0 and _goes_on(text, start - 1)):
            start = text.find(known, start + 1)
            continue
        parts += text[done:start], instead
        done = end
        start = text.find(known, end)
    return "".join([*parts, text[done:]])


def _goes_on(text: str, place: int) -> bool:
    """Whether a word goes on with the character at ``place``: a letter, digit, mark or hyphen."""
    character = text[place : place + 1]
    return character.isalnum() or character in {"_", "-"}


def _is_told(known: str) -> bool:
    return len(known) >= _KNOWN_CHARS_MIN and _LETTER.search(known) is not None
