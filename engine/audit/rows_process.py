"""What an audit leaves to a process of its own, beside the rules, on another core.

``python -m engine.audit.rows_process URL PATH PARTS`` prints diagnoses ahead of the rules that need
them (``ahead``), one on a line, an empty line, and what the rows came to (``rows``) as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from engine.audit.chain import Report
from engine.audit.connection import connect
from engine.audit.requests import check_requests
from engine.audit.rows import follow
from engine.audit.verify import KNOWN_SCHEMAS, VIOLATIONS_MAX
from engine.errors import RunoffError, StorageFailed, limits_told
from engine.store.location import Location


def main(url: str, path: str, *parts: str) -> None:
    """Do the ``parts`` that are asked for, on the file at ``path`` of the log at ``url``."""
    location = Location(url, Path(path))
    if "ahead" in parts:
        # Only here, because detectors take longer to load than rows do.
        from engine.audit.ahead import tell_ahead  # noqa: PLC0415

        tell_ahead(location, sys.stdout.buffer)
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
    if "rows" in parts:
        json.dump(_followed(location), sys.stdout)


def _followed(location: Location) -> dict[str, Any]:
    """What was found in the rows, or the error that stopped it."""
    violations: list[tuple[int | None, str]] = []
    count = 0

    def report(what: str, pos: int | None) -> None:
        nonlocal count
        count += 1
        if len(violations) < VIOLATIONS_MAX:
            violations.append((pos, what.encode(errors="replace").decode()))

    try:
        rows = follow(location, KNOWN_SCHEMAS, report)
        _look_into(location, report)
    except RunoffError as error:
        return {"problem": error.problem, "remedy": error.remedy}
    return {
        "events": rows.events,
        "head": rows.hash.hex(),
        "anchors": rows.anchors,
        "anchored": rows.anchored,
        "usage": rows.usage,
        "violations": violations,
        "count": count,
    }


def _look_into(location: Location, report: Report) -> None:
    """What following the rows did not read of them."""
    # Only here, because policies take longer to load than rows do.
    from engine.audit.written import check_written  # noqa: PLC0415

    with closing(connect(location.path)) as connection:
        connection.execute("BEGIN")
        check_written(connection, report)
        check_requests(connection, report)


def run(*arguments: str) -> int:
    """Do it, and say by an exit code how it ended where nobody reads anything else."""
    try:
        with limits_told():
            main(*arguments)
            sys.stdout.flush()
    except BrokenPipeError:
        return 1  # who asked is gone
    except StorageFailed as limit:
        return limit.exit_code
    return 0


if __name__ == "__main__":
    os._exit(run(*sys.argv[1:]))  # with no further try at what could not be written
