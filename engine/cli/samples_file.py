"""Samples from a file: CSV, packed by gzip or not, of a bounded size."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from engine.calibration.samples import Sample
from engine.calibration.samples_csv import samples_from_csv
from engine.cli.render import clean
from engine.cli.text_file import origin_of, unreadable
from engine.errors import UsageProblem
from engine.executors.untrusted import opened

CSV_BYTES_MAX = 256 * 1024 * 1024
GZIP_MAGIC = b"\x1f\x8b"


def samples_in_file(path: str, version_column: str | None = None) -> list[Sample]:
    """The samples in a CSV file of at most 256 MiB, unpacked.

    Raises UsageProblem for anything but a regular file of UTF-8 text that holds such a table.
    """
    origin = origin_of(path)
    return samples_from_csv(_text(path, origin), origin, version_column)


def _text(path: str, origin: str) -> str:
    try:
        return _unpacked(path, origin).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageProblem(
            f"{origin} is not UTF-8 (byte {error.start}).", remedy="save it as UTF-8."
        ) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageProblem(
            f"{origin} is a damaged gzip file ({clean(str(error))}).", remedy="pack it again."
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        raise unreadable(origin, error) from None


def _unpacked(path: str, origin: str) -> bytes:
    with opened(Path(path).resolve()) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
        if file.peek(2)[:2] == GZIP_MAGIC:
            with gzip.GzipFile(fileobj=file) as unpacked:
                data = unpacked.read(CSV_BYTES_MAX + 1)
        else:
            data = file.read(CSV_BYTES_MAX + 1)
    if len(data) > CSV_BYTES_MAX:
        raise UsageProblem(
            f"{origin} has more than {CSV_BYTES_MAX} bytes.", remedy="calibrate from fewer rows."
        )
    return data
