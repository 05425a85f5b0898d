"""The coefficients that a command goes by: a file's, those adopted in the log, or the shipped."""

from __future__ import annotations

from engine.calibration.estimator import (
    COEFFICIENTS_BYTES_MAX,
    SHIPPED,
    Coefficients,
    coefficients_from_json,
    coefficients_from_toml,
    shipped,
)
from engine.cli.text_file import origin_of, text_of
from engine.errors import UsageProblem
from engine.events import CoefficientsAdopted, CoefficientsInForce, event_of
from engine.store.protocol import LogReader, Query
from engine.triage.operating import COEFFICIENTS, stream_about

KNOWN_TYPES = ("session.coefficients_in_force", "calibration.coefficients_adopted")


def coefficients_in_file(path: str) -> Coefficients:
    """The coefficients in a TOML file of at most 64 KiB.

    Raises UsageProblem for anything but a regular file of UTF-8 text that holds them.
    """
    text = text_of(path, COEFFICIENTS_BYTES_MAX, "coefficients")
    return coefficients_from_toml(text, origin_of(path))


async def coefficients_for(
    path: str | None, reader: LogReader, until: int | None = None
) -> Coefficients:
    """Those in ``path`` if given, else those adopted last in the log, else the shipped ones.

    Of the log, what it said up to position ``until``; None for all of it.

    Raises UsageProblem for a file whose version is known with other contents: samples are told
    apart by their version.
    """
    if path is not None:
        return await _told_apart(coefficients_in_file(path), reader, until)
    adopted = await _adopted_in(reader, until)
    return shipped() if adopted is None else coefficients_from_json(adopted.coefficients_json)


async def _told_apart(found: Coefficients, reader: LogReader, until: int | None) -> Coefficients:
    known = await _known_as(found.version, reader, until)
    if known is not None and known != found.sha256:
        raise UsageProblem(
            f"there are other coefficients with version {found.version}.",
            remedy="give the file a version of its own.",
        )
    return found


async def _known_as(version: str, reader: LogReader, until: int | None) -> str | None:
    """What this program, or else the log, holds a version to be, as sha256; None for a new one.

    Any word on it will do, since it never means two things; those who go by it said so last.
    """
    if version == SHIPPED:
        return shipped().sha256
    query, before = Query(types=KNOWN_TYPES, newest_first=True, until=until), 0
    # One by one: for a second word, which mostly nobody needs, another session would be read.
    while records := await reader.records(query, after=before, limit=1):
        event, before = event_of(records[0]), records[0].pos
        assert isinstance(event, CoefficientsInForce | CoefficientsAdopted)
        if event.coefficient_version == version:
            return event.coefficients_sha256
    return None


async def _adopted_in(reader: LogReader, until: int | None) -> CoefficientsAdopted | None:
    """The newest adoption up to a position."""
    types = ("calibration.coefficients_adopted",)
    stream = stream_about(COEFFICIENTS)
    query = Query(stream=stream, types=types, newest_first=True, until=until)
    for record in await reader.records(query, limit=1):
        event = event_of(record)
        assert isinstance(event, CoefficientsAdopted)
        return event
    return None
