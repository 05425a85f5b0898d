"""Times as people and tables write them: ISO 8601 in UTC, to and from Unix microseconds.  Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


def iso(at_us: int) -> str:
    """Unix microseconds as ISO 8601 in UTC, exactly; the bare number where no calendar reaches."""
    try:
        found = _EPOCH + timedelta(microseconds=at_us)
    except OverflowError:
        return f"{at_us} us"
    return found.replace(tzinfo=None).isoformat() + "Z"


def unix_us(text: str) -> int:
    """What ``text`` says, in UTC if it names no zone.  Raises ValueError when it is no time."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return (found - _EPOCH) // _MICROSECOND
