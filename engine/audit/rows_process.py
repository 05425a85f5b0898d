"""The rows of a log followed in a process of their own, beside the rules, on another core.

``python -m engine.audit.rows_process URL`` prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from engine.audit.rows import follow
from engine.audit.verify import KNOWN_SCHEMAS, VIOLATIONS_MAX
from engine.errors import RunoffError
from engine.store.location import locate


def main(url: str) -> None:
    """Follow the log at ``url`` and print what was found, or the error that stopped it."""
    violations: list[tuple[int | None, str]] = []
    count = 0

    def report(what: str, pos: int | None) -> None:
        nonlocal count
        count += 1
        if len(violations) < VIOLATIONS_MAX:
            violations.append((pos, what.encode(errors="replace").decode()))

    try:
        rows = follow(locate(url), KNOWN_SCHEMAS, report)
    except RunoffError as error:
        found: dict[str, Any] = {"problem": error.problem, "remedy": error.remedy}
    else:
        found = {
            "events": rows.events,
            "head": rows.hash.hex(),
            "anchors": rows.anchors,
            "usage": rows.usage,
            "violations": violations,
            "count": count,
        }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
