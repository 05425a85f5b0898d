"""What ``runoff replay`` says, in words: a board in short, one step, the difference of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.amounts import counted
from engine.audit.replay import FieldChange, Overview, ProjectionChange, RowChange, Step
from engine.cli.log import record_words
from engine.cli.render import clean, when
from engine.iso_time import iso
from projections.days import DAY_US, DAYS
from projections.timeline import MINUTE_US, TIMELINE

VALUE_CHARS = 60
OPEN_SHOWN = 10


def overview_words(found: Overview, place: str) -> str:
    """The board in short; every list in it is short too, and says how much it leaves out."""
    lines = [
        f"As of {place}:",
        _counts("runs", found.runs),
        _counts("phases", found.phases),
        _counts("sessions", found.sessions),
    ]
    for session in found.newest_sessions:
        because = f" ({session.because})" if session.because else ""
        rare = {name: getattr(session, name) for name in ("abandoned", "orphaned", "deferred")}
        others = "".join(f" {count} {name}," for name, count in rare.items() if count)
        lines.append(
            f"    {clean(session.session_id)}  {session.status}{because}:"
            f" {counted(session.attempts, 'attempt')}, {session.succeeded} succeeded,"
            f" {session.failed} failed, {session.timed_out} timed out,{others} {session.open} open"
        )
    lines.append(f"  {'open':<12}  {counted(len(found.open_attempts), 'attempt')}")
    lines += [
        f"    {clean(attempt.attempt_id)}  {clean(f'{attempt.run_id}/{attempt.phase_id}')}"
        f" #{attempt.number}"
        for attempt in found.open_attempts[:OPEN_SHOWN]
    ]
    if len(found.open_attempts) > OPEN_SHOWN:
        lines.append(f"    and {len(found.open_attempts) - OPEN_SHOWN} more")
    lines.append(_counts("zero yield", found.zero_yield))
    seen = (
        "most seen, as rules count (without deferred attempts):" if found.fingerprints else "none"
    )
    lines.append(f"  {'fingerprints':<12}  {seen}")
    lines += [
        f"    {seen.count:>6} in {counted(seen.sessions, 'session')}  {clean(seen.fingerprint)}:"
        f" {_cut(clean(seen.template))}"
        for seen in found.fingerprints
    ]
    open_breakers = ", ".join(map(clean, found.open_breakers)) or "none open"
    lines.append(f"  {'breakers':<12}  {open_breakers}")
    lines += [
        f"  {'account':<12}  {clean(name)}: last pause until {when(until_us)}"
        for name, until_us in found.accounts.items()
        if until_us
    ]
    return "\n".join(lines)


def _counts(title: str, counts: Mapping[str, int]) -> str:
    parts = ", ".join(f"{count} {clean(name)}" for name, count in counts.items())
    total = sum(counts.values())
    return f"  {title:<12}  {total}{': ' if parts else ''}{parts}"


def step_words(found: Step) -> str:
    """The event on two lines, then a line for each row that changed."""
    record = found.record
    tags = "/".join(clean(tag) for tag in (record.run, record.phase) if tag)
    lines = [
        f"@{record.pos}  {when(record.recorded_us)}  {record.type}  {tags}".rstrip(),
        f"    {record_words(record)}",
    ]
    lines += [f"    {row.projection} {_row(row)}" for row in found.changes]
    return "\n".join(lines)


def difference_words(title: str, found: Sequence[ProjectionChange], limit: int) -> str:
    """Every projection with the first ``limit`` of its rows that are new or have changed."""
    lines = [title]
    for projection in found:
        if not projection.rows:
            lines.append(
                f"{projection.name}: no difference, {counted(projection.rows_after, 'row')}"
            )
            continue
        lines.append(
            f"{projection.name}: {counted(projection.added, 'row')} added,"
            f" {projection.changed} changed, {projection.rows_after} now"
        )
        lines += [f"  {_row(row)}" for row in projection.rows[:limit]]
        if len(projection.rows) > limit:
            lines.append(f"  and {len(projection.rows) - limit} more (--limit, or --json for all)")
    return "\n".join(lines)


def _row(row: RowChange) -> str:
    if row.added:
        told = [field for field in row.fields if field.new]
        texts = [f"{field.field} {_value(field.field, field.new)}" for field in told]
        return f"{_name(row)} is new: {', '.join(texts)}"
    return f"{_name(row)}: {', '.join(map(_change, row.fields))}"


def _name(row: RowChange) -> str:
    if row.projection == TIMELINE.name:
        return when(int(row.key[0]) * MINUTE_US)
    if row.projection == DAYS.name:
        return when(int(row.key[0]) * DAY_US)[:10]
    return clean("/".join(row.key))


def _change(change: FieldChange) -> str:
    was, now = _value(change.field, change.old), _value(change.field, change.new)
    return f"{change.field} {was} -> {now}"


def _value(field: str, value: Any) -> str:
    """A value on one line, made harmless and cut; times as such."""
    if value is None:
        return "none"
    if field.endswith("_us") and value:
        return iso(value)
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return _cut(clean(text)) or '""'


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_CHARS else f"{text[:VALUE_CHARS]}…"
