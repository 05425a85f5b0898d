"""Redaction of words that do not come as a stream: reasons, labels, excerpts."""

import re

from engine.redaction.stream import covered_bytes

_MARK = re.compile(r"\[redacted:([a-z_]{1,40})\*{0,65536}\]")
_STARS = re.compile(r"\*{4,65536}")
_FEW_STARS = "****"


def redacted(text: str, counts: dict[str, int]) -> str:
    """``text`` with its secrets covered by marks as long as their UTF-8, counted in ``counts``."""
    data = text.encode("utf-8", "surrogatepass")
    made = covered_bytes(data, counts)
    return text if made is data else made.decode("utf-8", "surrogatepass")


def marks(text: str) -> list[str]:
    """The kinds of the secrets that were covered in ``text``."""
    return _MARK.findall(text)


def plain_marks(text: str) -> str:
    """``text`` with marks, also of stars only, that do not tell how long a secret was."""
    if _FEW_STARS not in text and "[redacted:" not in text:
        return text
    return _STARS.sub(_FEW_STARS, _MARK.sub(r"[redacted:\1]", text))
