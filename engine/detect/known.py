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
        text = re.sub(rf"{re.escape(workspace.rstrip('/'))}(?![\w-])", f"/{_NUMBER}", text)
    named = {known for known in ids if known and known in text and _is_told(known)}
    for known in sorted(named, key=len, reverse=True):
        text = re.sub(rf"(?<![\w-]){re.escape(known)}(?![\w-])", _NUMBER, text)
    return text


def _is_told(known: str) -> bool:
    return len(known) >= _KNOWN_CHARS_MIN and _LETTER.search(known) is not None
