"""Paths that a backlog may name: relative, downward, and the same for every system."""

from __future__ import annotations

from engine.errors import UsageProblem

PATH_BYTES_MAX = 1024
_REMEDY = (
    "name one file relative to the working directory, with forward slashes, without `..`,"
    f" wildcards or blank edges, in at most {PATH_BYTES_MAX} bytes."
)


def checked_path(text: str, what: str) -> str:
    """``text`` without ``.`` parts and doubled slashes, if it is a path that stays inside.

    A slash at the end is kept: it names a directory.  Raises UsageProblem naming ``what``.
    """
    wrong = _what_is_wrong(text)
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if not wrong and ".." in parts:
        wrong = "leads upward"
    if not wrong and not parts:
        wrong = "names nothing"
    if wrong:
        raise UsageProblem(f"{what} {wrong}: {text[:80]!a}.", remedy=_REMEDY)
    return "/".join(parts) + ("/" if text.endswith("/") else "")


def _what_is_wrong(text: str) -> str:
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if not 0 < size_bytes <= PATH_BYTES_MAX:
        return f"has {size_bytes} bytes"
    if not text.isprintable() or text != text.strip():
        return "has a control character or a blank edge"
    if text[0] in "/~" or "\\" in text or text[1:2] == ":":
        return "is not relative"
    if "*" in text or "?" in text:
        return "is a pattern"
    return ""
