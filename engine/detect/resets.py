"""When a provider says that its limit is lifted again, from the words around the limit.

Only what is stated near a limit counts.  Two forms: a span of time ("try again in 1m 30s",
``retry-after: 20``) and a point in time (``resets_at: 2026-11-26T03:00:00Z``, a Unix time).
Sources: RFC 9110 section 10.2.3 (Retry-After); the error texts of the Anthropic, OpenAI and Gemini
APIs as collected in the catalogue.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_NUMBER = r"\d{1,9}(?:\.\d{1,6})?"
_WORDS = r"ms|milliseconds?|d(?:ays?)?|h(?:ours?|rs?)?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?"
_PART = rf"{_NUMBER}\s?(?:{_WORDS})(?![a-z])"
_SPAN = re.compile(
    r"(?:try again|retry(?:-after)?|reset(?:s|ting)?|available|wait)[ \w\"':]{0,24}?"
    rf"\b(?:in|after|for)?[ :\"']{{0,4}}((?:{_PART}[ ,]{{0,2}}(?:and )?){{1,4}})",
    re.IGNORECASE,
)
_ONE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s?(ms|milli|d|h|m|s)", re.IGNORECASE)
_HEADER = re.compile(
    r"retry[-_ ]?after(?:[-_ ]?(ms|seconds))?[\"']?\s?[:=]\s?[\"']?(\d{1,9}(?:\.\d{1,6})?)"
    r"(?![\d.]*\s?(?:ms|[dhms])\b)",
    re.IGNORECASE,
)
_POINT = re.compile(
    r"(?:reset|retry|available)[\w \"':=-]{0,40}?"
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:?\d\d)?)",
    re.IGNORECASE,
)
_EPOCH = re.compile(r"reset[\w \"'=:-]{0,24}?\b(1[5-9]\d{8}|[2-3]\d{9})(\d{3})?\b", re.IGNORECASE)


def resets_in_ms(text: str) -> int | None:
    """Milliseconds until a limit is lifted, if ``text`` says so."""
    header = _HEADER.search(text)
    if header:
        unit = 1 if (header[1] or "").lower() == "ms" else 1000
        return round(float(header[2]) * unit)
    span = _SPAN.search(text)
    if span is None:
        return None
    parts = _ONE.findall(span[1])
    return round(sum(float(number) * _unit_ms(unit) for number, unit in parts))


def _unit_ms(unit: str) -> int:
    lower = unit.lower()
    return 1 if lower == "milli" else _UNIT_MS[lower]


def resets_at_us(text: str) -> int | None:
    """The Unix time in microseconds at which a limit is lifted, if ``text`` says so."""
    point = _POINT.search(text)
    if point:
        try:
            found = datetime.fromisoformat(point[1].replace(" ", "T"))
        except ValueError:
            return None
        aware = found if found.tzinfo else found.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1e6)
    epoch = _EPOCH.search(text)
    return None if epoch is None else int(epoch[1]) * 1_000_000
