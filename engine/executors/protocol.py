"""The child protocol: what a program may tell the engine, read without trusting any of it.

Two files, both optional: the events file (one JSON object a line, written as things happen) and
the result file (one JSON object, written at the end).  And the exit code, which has a few
meanings.  The contract for authors of such programs is ``docs/reference/child-protocol.md``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from engine.events import BoundaryKind, PhaseState
from engine.events.usage import UsageSource
from engine.executors.port import (
    LABELS,
    TELEMETRY_LINE_BYTES_MAX,
    USAGE_RECORDS_MAX,
    Declared,
    Rejected,
    Telemetry,
    Usage,
)
from engine.executors.untrusted import chunks, opened, read_at_most
from engine.prebuilt import prebuilt
from engine.redaction.stream import covered_bytes
from engine.redaction.texts import redacted

EVENTS_BYTES_MAX = 64 * 1024 * 1024
COUNTED_BYTES_MAX = 1024 * 1024 * 1024
LINES_MAX = 200_000
RESULT_BYTES_MAX = 1024 * 1024
ARTIFACTS_MAX = 100
REASON_CHARACTERS_MAX = 2000
LABEL_CHARACTERS_MAX = 512
LABELS_CHARACTERS_MAX = 2 * 1024 * 1024
"""Of all usage records of an attempt, which are recorded at once and so stand in memory at once."""
LABELS_SHARED_MAX = 64
EXCERPT_CHARACTERS_MAX = 200
NUMBER_MAX = 10**12
SECRET_BYTES_MAX = 8192
"""How far behind the end of what is kept a secret is looked for that begins before it."""

EXIT_BOUNDARY = 10
BOUNDARY_OF_EXIT: dict[int, BoundaryKind] = {11: "spend_limit", 69: "overloaded", 75: "rate_limit"}
"""Exit codes that name the limit exactly; ``EXIT_BOUNDARY`` leaves the kind to the files."""

Why = Literal["not_json", "not_an_object", "unknown_type", "bad_fields", "too_long", "too_many"]
_Count = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]
_PathText = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class Labels(dict[str, str]):
    """Labels as they are recorded, by what a child wrote: it mostly writes the same few."""

    def __missing__(self, text: str) -> str:
        if len(self) == LABELS_SHARED_MAX:
            self.clear()
        self[text] = made = cut(text, LABEL_CHARACTERS_MAX)
        return made


class UsageFields(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a usage line; each may be absent or null, none may be of another type."""

    provider: str | None = None
    model: str | None = None
    operation: str | None = None
    input_tokens: _Count | None = None
    cached_input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None
    finish_reason: str | None = None
    status: str | None = None
    success: bool | None = None
    duration_ms: _Count | None = None

    def at(self, line: int, source: UsageSource, labels: Labels | None = None) -> Usage:
        """As a record, with over-long labels cut; those that share ``labels`` share equal ones."""
        shared = Labels() if labels is None else labels
        fields: dict[str, Any] = {name: getattr(self, name) for name in _USAGE_NAMES}
        for name, value in fields.items():
            if isinstance(value, str):
                fields[name] = shared[value]
        return Usage(line=line, source=source, **fields)


_USAGE_NAMES = UsageFields.__struct_fields__


class _Artifact(msgspec.Struct, frozen=True):
    path: _PathText


class _Boundary(msgspec.Struct, frozen=True):
    kind: BoundaryKind


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a result file claims; ``trouble`` instead when it could not be read."""

    success: bool | None = None
    state: PhaseState | None = None
    reason: str | None = None
    boundary: BoundaryKind | None = None
    usage: tuple[msgspec.Raw, ...] | None = None
    trouble: str | None = None


class Tally:
    """Telemetry as it is read, line by line; ``telemetry()`` at the end."""

    def __init__(self, source: UsageSource) -> None:
        self._source: UsageSource = source
        self._usage: list[Usage] = []
        self._labels = Labels()
        self._labels_size = 0
        self._other = 0
        self._artifacts: list[str] = []
        self._boundary: BoundaryKind | None = None
        self._rejected: dict[Why, Rejected] = {}

    def take_line(self, number: int, line: bytes) -> None:
        """Account for one line that is not blank; ``number`` from 1."""
        if len(line) > TELEMETRY_LINE_BYTES_MAX:
            return self.reject("too_long", number, line)
        value, why = _parsed(line)
        if why is not None:
            return self.reject(why, number, line)
        if not isinstance(value, dict):
            return self.reject("not_an_object", number, line)
        try:
            known = self._take_typed(number, value)  # pyright: ignore[reportUnknownArgumentType]
        except msgspec.ValidationError:
            return self.reject("bad_fields", number, line)
        return None if known else self.reject("unknown_type", number, line)

    def take_usage(self, number: int, record: bytes) -> None:
        """Account for one usage record that needs no ``type``, as in the result file."""
        try:
            self._keep_usage(number, msgspec.json.decode(record, type=UsageFields))
        except (msgspec.DecodeError, ValueError):
            self.reject("bad_fields", number, record)

    def _take_typed(self, number: int, value: dict[str, Any]) -> bool:
        match value.get("type"):
            case "usage":
                self._keep_usage(number, msgspec.convert(value, UsageFields))
                return True
            case "artifact":
                self._artifacts.append(msgspec.convert(value, _Artifact).path)
            case "boundary":
                self._boundary = msgspec.convert(value, _Boundary).kind
            case "progress":
                pass
            case _:
                return False
        self._other += 1
        del self._artifacts[ARTIFACTS_MAX:]
        return True

    def _keep_usage(self, number: int, fields: UsageFields) -> None:
        if len(self._usage) < USAGE_RECORDS_MAX:
            usage = fields.at(number, self._source, self._labels)
            size = sum(len(text) for name in LABELS if (text := getattr(usage, name)))
            if self._labels_size + size <= LABELS_CHARACTERS_MAX:
                self._labels_size += size
                self._usage.append(usage)
                return
        self.reject("too_many", number, msgspec.json.encode(fields))

    def reject(self, why: Why, number: int, line: bytes, count: int = 1) -> None:
        """Account for ``count`` lines of no use, the first of which is ``line``."""
        known = self._rejected.get(why)
        if known is None:
            self._rejected[why] = Rejected(
                why=why, count=count, first_line=number, excerpt=excerpt(line)
            )
        else:
            self._rejected[why] = msgspec.structs.replace(known, count=known.count + count)

    def telemetry(self) -> Telemetry:
        """All that was read."""
        rejected = sum(each.count for each in self._rejected.values())
        return Telemetry(
            usage=tuple(self._usage),
            lines_read=len(self._usage) + self._other + rejected,
            lines_other=self._other,
            rejected=tuple(self._rejected.values()),
            artifacts=tuple(self._artifacts),
            boundary=self._boundary,
        )


def _parsed(line: bytes) -> tuple[Any, Why | None]:
    try:
        return msgspec.json.decode(line), None
    except msgspec.ValidationError:
        return None, "bad_fields"  # JSON, with an integer beyond all bounds
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    if b"NaN" not in line and b"Infinity" not in line:
        return None, "not_json"
    try:  # what many writers emit for a missing number; not JSON, but a field and not the line
        return json.loads(line), None
    except (ValueError, RecursionError):
        return None, "not_json"


def excerpt(line: bytes) -> str:
    """At most 200 characters of a line, printable ones only."""
    if len(line) > EXCERPT_CHARACTERS_MAX:
        line = covered_bytes(line[: EXCERPT_CHARACTERS_MAX * 4 + SECRET_BYTES_MAX], {})
    text = line[: EXCERPT_CHARACTERS_MAX * 4].decode("utf-8", "replace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown[:EXCERPT_CHARACTERS_MAX]


def cut(text: str, limit: int) -> str:
    """At most ``limit`` characters of a text.

    Secrets are covered before anything is cut, for half a secret is not known as one any more.
    """
    return text if len(text) <= limit else redacted(text[: limit + SECRET_BYTES_MAX], {})[:limit]


def read_telemetry(path: Path) -> Telemetry:
    """Everything usable in an events file, and a count of the rest.  Never raises for contents.

    Reads 64 MiB and about 200 000 lines in detail; further lines are counted as ``too_many``.
    """
    tally = Tally("file")
    try:
        with opened(path) as descriptor:
            _read_lines(descriptor, tally)
    except FileNotFoundError:
        return Telemetry()
    except OSError as error:
        tally.reject("not_json", 1, f"the events file could not be read: {error}".encode())
    return tally.telemetry()


def _read_lines(descriptor: int, tally: Tally) -> None:
    number, rest = 0, b""
    for lines, rest in _batches(descriptor):  # noqa: B007  the last rest is used below
        if number >= LINES_MAX:
            _count_lines(tally, number + 1, lines)
        else:
            for offset, line in enumerate(lines, number + 1):
                if not line.isspace() and line:
                    tally.take_line(offset, line)
        number += len(lines)
    beyond = _lines_beyond(descriptor)
    if beyond:
        tally.reject("too_many", number + 1, rest, beyond)
    elif rest and not rest.isspace():
        tally.take_line(number + 1, rest)


def _batches(descriptor: int) -> Iterator[tuple[list[bytes], bytes]]:
    """Complete lines in batches, each with the beginning of the line that follows.

    A line longer than the limit is cut just above it: enough to see that it is too long.
    """
    rest = b""
    for chunk in chunks(descriptor, EVENTS_BYTES_MAX):
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[: TELEMETRY_LINE_BYTES_MAX + 1]
        yield lines, rest


def _count_lines(tally: Tally, number: int, lines: list[bytes]) -> None:
    count = len(lines) - lines.count(b"")
    if count:
        tally.reject("too_many", number, lines[0], count)


def _lines_beyond(descriptor: int) -> int:
    count, last = 0, b"\n"
    for chunk in chunks(descriptor, COUNTED_BYTES_MAX):
        count += chunk.count(b"\n")
        last = chunk[-1:]
    return count + (last != b"\n")


def read_result(path: Path) -> Result:
    """The claims of a result file.  Without a file there are none; garbage is ``trouble``."""
    try:
        text = read_at_most(path, RESULT_BYTES_MAX + 1)
        if len(text) > RESULT_BYTES_MAX:
            return _unreadable(f"it is longer than {RESULT_BYTES_MAX} bytes")
        result = _claims(text)
    except FileNotFoundError:
        return Result()
    except (msgspec.DecodeError, OSError, ValueError, RecursionError) as error:
        return _unreadable(excerpt(str(error).encode()))
    reason = cut(result.reason, REASON_CHARACTERS_MAX) if result.reason else None
    return msgspec.structs.replace(result, reason=reason, trouble=None)


def _claims(text: bytes) -> Result:
    try:
        return msgspec.json.decode(text, type=Result)
    except msgspec.DecodeError as error:
        if "surrogate" not in str(error):
            raise
    # Python writes bytes that are no text as halves of letters, which JSON knows and UTF-8 does
    # not.  A claim to have failed must not be lost by how its reason is spelled.
    spelled = json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "replace")
    return msgspec.json.decode(spelled, type=Result)


def _unreadable(why: str) -> Result:
    return Result(trouble=f"the result file could not be read: {why}")


def with_usage_of(result: Result, telemetry: Telemetry) -> Telemetry:
    """The usage list of the result file, if the events file told of none.

    Both usually describe the same calls, so they are never added up.
    """
    if telemetry.usage or not result.usage:
        return telemetry
    tally = Tally("result")
    for number, record in enumerate(result.usage, 1):
        tally.take_usage(number, bytes(record))
    told = tally.telemetry()
    return msgspec.structs.replace(
        telemetry,
        usage=told.usage,
        lines_read=telemetry.lines_read + told.lines_read,
        rejected=telemetry.rejected + told.rejected,
    )


def declared(exit_code: int | None, result: Result, telemetry: Telemetry) -> Declared | None:
    """The limit that the child itself reports, if any.

    The result file has the last word; then an exit code that names the kind; then the events
    file, whose limit may have been overcome since; exit code 10 alone leaves it unspecified.
    """
    if result.boundary is not None:
        return Declared(kind=result.boundary, how="result")
    if exit_code in BOUNDARY_OF_EXIT:
        return Declared(kind=BOUNDARY_OF_EXIT[exit_code], how="exit code")
    if telemetry.boundary is not None:
        return Declared(kind=telemetry.boundary, how="events")
    if exit_code == EXIT_BOUNDARY:
        return Declared(kind="unspecified", how="exit code")
    return None


prebuilt(UsageFields, _Artifact, _Boundary, Result)
