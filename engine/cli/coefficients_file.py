"""The coefficients that a command goes by: a file's, those adopted in the log, or the shipped."""

from __future__ import annotations

from engine.calibration.estimator import (
    COEFFICIENTS_BYTES_MAX,
    Coefficients,
    coefficients_from_json,
    coefficients_from_toml,
    shipped,
)
from engine.cli.text_file import origin_of, text_of
from engine.events import CoefficientsAdopted, decode
from engine.store.protocol import LogReader, Query


def coefficients_in_file(path: str) -> Coefficients:
    """The coefficients in a TOML file of at most 64 KiB.

    Raises UsageProblem for anything but a regular file of UTF-8 text that holds them.
    """
    text = text_of(path, COEFFICIENTS_BYTES_MAX, "coefficients")
    return coefficients_from_toml(text, origin_of(path))


async def coefficients_for(path: str | None, reader: LogReader) -> Coefficients:
    """Those in ``path`` if given, else those adopted last in the log, else the shipped ones."""
    if path is not None:
        return coefficients_in_file(path)
    adopted = await adopted_in(reader)
    return shipped() if adopted is None else coefficients_from_json(adopted.coefficients_json)


async def adopted_in(reader: LogReader, until: int | None = None) -> CoefficientsAdopted | None:
    """The newest adoption up to a position."""
    query = Query(types=("calibration.coefficients_adopted",), newest_first=True, until=until)
    for record in await reader.records(query, limit=1):
        event = decode(record.data, event_type=record.type, schema=record.schema, pos=record.pos)
        assert isinstance(event, CoefficientsAdopted)
        return event
    return None
