"""Guards: why words of a limit are no evidence where they stand.

A limit is talked about far more often than it is met: in code, tests, diffs, documents, plans, and
as the limit of something else.  A guard looks at the line and the sentence around a match.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Literal

from engine.detect.catalogue import boundary_rules, compiled
from engine.detect.folded import Folded

REACH = 300
"""How far from a match, in characters, its line is looked at."""

_CODE_SPAN_CHARS = 60
_NEIGHBOURS_MAX = 3
_CODE_LINES_MIN = 4
_TEST_RESULT = re.compile(r"\b(?:passed|failed|skipped|xfail)\b")
_SENTENCE_END = re.compile(r"[.:;!?|•·][ \t]")
_OPENS = re.compile(r"(?P<before>[^\s\"'])?\s{0,4}[\"']\Z")

Guard = Literal[
    "line", "test", "code", "before", "after", "quoted", "host", "foreign", "document", "scope"
]


def line_around(text: str, start: int, end: int) -> tuple[int, int]:
    """The line or lines from ``start`` to ``end``, at most 300 characters to either side."""
    first = max(0, start - REACH)
    last = min(len(text), end + REACH)
    newline = text.rfind("\n", first, start)
    first = newline + 1 if newline >= 0 else first
    newline = text.find("\n", end, last)
    return first, newline if newline >= 0 else last


def guarded(
    folded: Folded, start: int, end: int, needs: str | None = None, *, quoted: bool = False
) -> Guard | None:
    """The guard that holds a match back, or None.

    ``needs``: the scope it must stand in.  ``quoted``: it may be all of a string.
    """
    text = folded.text
    first, last = line_around(text, start, end)
    rules = boundary_rules().guard
    if _begins().match(text, first, last):
        return "line"
    names_a_test = "::" in text[first:last] or text.startswith("test_", start)
    if names_a_test and _TEST_RESULT.search(text, first, last):
        return "test"
    if compiled(rules.host).search(text, first, last):
        return "host"
    if compiled(rules.foreign).search(text, first, last):
        return "foreign"
    if compiled(rules.code).search(text, first, last):
        return "code"
    before, after = text[first:start], text[end:last]
    if compiled(rules.before).search(_sentence(before)):
        return "before"
    if compiled(rules.after).search(after):
        return "after"
    if _is_quoted(folded, start, end) or (not quoted and _is_only_named(before, after)):
        return "quoted"
    if needs is not None and not _in_scope(text, start, end, needs):
        return "scope"
    return "document" if _in_a_document(text, first, last) else None


@cache
def _begins() -> re.Pattern[str]:
    return re.compile(boundary_rules().guard.line)


def _sentence(before: str) -> str:
    """What stands before a match in its sentence."""
    start = 0
    for stop in _SENTENCE_END.finditer(before):
        start = stop.end()
    return before[start:]


def _is_only_named(before: str, after: str) -> bool:
    """Whether the match is all of a string that no key and no error introduces."""
    opening = _OPENS.search(before)
    if opening is None or not after.startswith(before[-1]):
        return False
    return (opening["before"] or "") not in (":", "=", "{", "(", "") or not before[:-1].strip()


def _is_quoted(folded: Folded, start: int, end: int) -> bool:
    """Whether the match starts a span of code in Markdown, or is one alternative of a|b."""
    raw = folded.raw
    if raw[start - 1 : start] == "`":
        return "`" not in raw[start:end] and "`" in raw[end : end + _CODE_SPAN_CHARS]
    beside = raw[start - 1 : start] == "|" or raw[end : end + 1] == "|"
    return beside and not raw[end + 1 : end + 2].isdigit()


def _in_scope(text: str, start: int, end: int, scope: str) -> bool:
    pattern = compiled(boundary_rules().scope[scope])
    return pattern.search(text, max(0, start - REACH), end + REACH) is not None


def _in_a_document(text: str, first: int, last: int) -> bool:
    """Whether the lines around are mostly code or lists, and this one looks like no error."""
    if compiled(boundary_rules().guard.error).search(text, first, last):
        return False
    before = text[max(0, first - REACH) : max(0, first - 1)].split("\n")[-_NEIGHBOURS_MAX:]
    after = text[last + 1 : last + 1 + REACH].split("\n")[:_NEIGHBOURS_MAX]
    lines = [line for line in before + after if "::" not in line]
    return sum(bool(_begins().match(line)) for line in lines) >= _CODE_LINES_MIN
