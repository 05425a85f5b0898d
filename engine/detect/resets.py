"""When a provider says that its limit is lifted again, from the words around the limit.

Only what is stated near a limit counts.  Three forms: a span of time ("try again in 1m 30s",
``retry-after: 20``), a point in time (``resets_at: 2026-11-26T03:00:00Z``, an HTTP-date, a Unix
time), and a time of day ("resets 3pm (UTC)").  Sources: RFC 9110 sections 5.6.7 and 10.2.3 (HTTP-
date, Retry-After); the error texts of the Anthropic, OpenAI and Gemini APIs and of Claude Code as
collected in the catalogue.

Nothing here knows what time it is or where the machine stands, so that the same text always says
the same.  A point in time without a zone is UTC, as APIs mean it; in a zone that is not known it
is no time at all.  A time of day is recorded with the zone that it names, or with none.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from engine.events import ClockTime
from engine.zones import fixed_zone

_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_NUMBER = r"\d{1,9}(?:\.\d{1,6})?"
_WORDS = (
    r"(?:ms|milliseconds?|w(?:eeks?)?|d(?:ays?)?|h(?:ours?|rs?)?|m(?:in(?:ute)?s?)?"
    r"|s(?:ec(?:ond)?s?)?)(?![a-z])"
)
_PART = rf"{_NUMBER}\s?{_WORDS}"
_SPAN = re.compile(
    r"(?:try again|retry(?:-after)?|reset(?:s|ting)?|available|wait)[ \w\"':]{0,24}?"
    rf"\b(?:in|after|for)?[ :\"']{{0,4}}((?:{_PART}[ ,]{{0,2}}(?:and )?){{1,4}})",
    re.IGNORECASE,
)
_ONE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s?(ms|milli|w|d|h|m|s)", re.IGNORECASE)
_HEADER = re.compile(
    r"retry[-_ ]?after(?:[-_ ]?(ms|seconds))?[\"']?\s?[:=]\s?[\"']?(\d{1,9}(?:\.\d{1,6})?)"
    rf"(?!\.?\d|[:/-]\d|[\d.]*\s?{_WORDS})",
    re.IGNORECASE,
)
_SECONDS = re.compile(  # a number with which a clause ends
    r"retry[-_ ]after (\d{1,9}(?:\.\d{1,6})?)"
    r"(?=[.,;)\]}\"']{1,3}(?:\s|$)| ?\(|[ \t\r]{0,3}(?:\n|$))",
    re.IGNORECASE,
)
_HOURS = re.compile(
    r"(?:try again|retry|reset(?:s|ting)?|available|wait)(?: again)? (?:in|for|after)"
    r"[ :\"']{1,4}(\d{1,3}):([0-5]\d):([0-5]\d)(?![\d:]|\.\d)",
    re.IGNORECASE,
)
_ZONE = (
    r"(?:[ ]{0,2}(\([\w/+:-]{1,40}\)|(?:utc|gmt)[+-]\d\d?(?::?\d\d)?|[+-]\d\d:?\d\d"
    r"|[a-z]{2,14}/[a-z_/+-]{2,30}|(?:utc|gmt|[ecmp][sd]t|z|[ap]\.?m)\b|(?-i:[A-Z]{2,5})\b))?"
)
_POINT = re.compile(
    r"(?:reset|retry|available)[\w \"':=-]{0,40}?"
    rf"(\d{{4}}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{{1,9}})?)?){_ZONE}",
    re.IGNORECASE,
)
NOON = 12
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_HTTP_DATE = re.compile(
    r"(?:reset|retry|available)[\w \"':=-]{0,40}?\b(?:mon|tue|wed|thu|fri|sat|sun), "
    rf"(\d\d) ({'|'.join(_MONTHS)}) (\d{{4}}) (\d\d:\d\d:\d\d) gmt",
    re.IGNORECASE,
)
_EPOCH = re.compile(
    r"(?:reset[\w \"'=:-]{0,24}?\b|limit reached\|)(1[5-9]\d{8}|[2-3]\d{9})(\d{3})?\b",
    re.IGNORECASE,
)
_CLOCK = re.compile(
    r"(?:try again|retry|reset(?:s|ting)?|available(?: again)?)(?:[ _-]at)?[ :=\"']{1,4}"
    r"(?:(\d{1,2})(?::([0-5]\d))? ?([ap])\.?m\b\.?|(\d{1,2}):([0-5]\d)(?::[0-5]\d)?(?![\d:]|\.\d))"
    rf"{_ZONE}",
    re.IGNORECASE,
)


def resets_in_ms(text: str) -> int | None:
    """Milliseconds until a limit is lifted, if ``text`` says so: a header, or the first span."""
    header = _HEADER.search(text)
    if header:
        unit = 1 if (header[1] or "").lower() == "ms" else 1000
        return round(float(header[2]) * unit)
    found = [(at.start(), _span_ms(at)) for at in _spans(text)]
    return min(found)[1] if found else None


def _spans(text: str) -> list[re.Match[str]]:
    return [at for form in (_SPAN, _HOURS, _SECONDS) if (at := form.search(text))]


def _span_ms(span: re.Match[str]) -> int:
    if span.re is _SECONDS:
        return round(float(span[1]) * 1000)
    if span.re is _HOURS:
        return ((int(span[1]) * 60 + int(span[2])) * 60 + int(span[3])) * 1000
    parts = _ONE.findall(span[1])
    return round(sum(float(number) * _unit_ms(unit) for number, unit in parts))


def _unit_ms(unit: str) -> int:
    lower = unit.lower()
    return 1 if lower == "milli" else _UNIT_MS[lower]


def resets_at_us(text: str) -> int | None:
    """The Unix time in microseconds at which a limit is lifted, if ``text`` says so."""
    point = _POINT.search(text)
    if point:
        return _unix_us(point[1].replace(" ", "T"), point[2])
    date = _HTTP_DATE.search(text)
    if date:
        month = _MONTHS.index(date[2].lower()) + 1
        return _unix_us(f"{date[3]}-{month:02}-{date[1]}T{date[4]}", None)
    epoch = _EPOCH.search(text)
    return None if epoch is None else int(epoch[1]) * 1_000_000


def _unix_us(moment: str, zone: str | None) -> int | None:
    """A moment as ISO 8601 writes it, in ``zone``; None when there is no such moment or zone."""
    where = UTC if zone is None else fixed_zone(zone.strip("()"))
    try:
        found = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return None if where is None else round(found.replace(tzinfo=where).timestamp() * 1e6)


def resets_clock(text: str) -> ClockTime | None:
    """The time of day at which a limit is lifted, if ``text`` says so; which day is not said."""
    clock = _CLOCK.search(text)
    if clock is None:
        return None
    hour, minute = int(clock[1] or clock[4]), int(clock[2] or clock[5] or 0)
    half = (clock[3] or "").lower()
    if hour not in (range(1, NOON + 1) if half else range(2 * NOON)):
        return None
    if half:
        hour = hour % NOON + (NOON if half == "p" else 0)
    return ClockTime(minute=hour * 60 + minute, zone=clock[6] and clock[6].strip("()"))
