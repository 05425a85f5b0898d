"""The coefficients that a command goes by: a file's, those adopted in the log, or the shipped."""

from __future__ import annotations

from pathlib import Path

from engine.calibration.estimator import (
    COEFFICIENTS_BYTES_MAX,
    Coefficients,
    coefficients_from_json,
    coefficients_from_toml,
    shipped,
)
from engine.cli.render import clean
from engine.errors import UsageProblem
from engine.events import CoefficientsAdopted, decode
from engine.executors.untrusted import read_at_most
from engine.store.protocol import LogReader, Query

ORIGIN_CHARS = 200


def coefficients_in_file(path: str) -> Coefficients:
    """The coefficients in a TOML file of at most 64 KiB.

    Raises UsageProblem for anything but a regular file of UTF-8 text that holds them.
    """
    origin = clean(path[:ORIGIN_CHARS])
    return coefficients_from_toml(_text(path, origin), origin)


def _text(path: str, origin: str) -> str:
    try:
        data = read_at_most(Path(path).resolve(), COEFFICIENTS_BYTES_MAX + 1)
        if len(data) > COEFFICIENTS_BYTES_MAX:
            raise UsageProblem(
                f"{origin} has more than {COEFFICIENTS_BYTES_MAX} bytes.",
                remedy="name a file of coefficients; it holds a few lines.",
            )
        return data.decode("utf-8-sig")
    except (OSError, RuntimeError, ValueError) as error:
        # RuntimeError and ValueError come from paths and texts: links in a circle, NUL, not UTF-8.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageProblem(
            f"{origin} cannot be read: {clean(reason)}.",
            remedy="name a regular file of UTF-8 text that you may read.",
        ) from None


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
