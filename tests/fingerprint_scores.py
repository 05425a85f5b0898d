"""``python -m tests.fingerprint_scores [FILE]``: score standard-1 on labelled texts; print JSON.

A pair of texts is *joined* when both get one fingerprint.  Precision is the share of joined pairs
that belong together, recall the share of pairs that belong together and are joined; near misses
are pairs of one family but of different groups.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from engine.detect import Outcome, detectors

DATA = Path(__file__).parents[2] / "shared" / "data" / "detectors" / "dev_fingerprint.jsonl"
ROUNDS = 5


class Label(msgspec.Struct, frozen=True):
    """What belongs together (``group``), and what nearly does (``family``)."""

    group: str
    family: str
    tier: str


class Row(msgspec.Struct, frozen=True):
    """One labelled text."""

    id: str
    error_text: str
    exit_code: int | None
    final_state: str
    context: dict[str, str]
    label: Label


class Judged(NamedTuple):
    """A row's label and the fingerprint it got."""

    label: Label
    fingerprint: str


def outcome_of(row: Row) -> Outcome:
    """The row as a detector sees it: the text is the child's own reason."""
    return Outcome(
        ended="exited",
        succeeded=False,
        final_state=row.final_state,
        exit_code=row.exit_code,
        reason=row.error_text,
        run_id=row.context.get("run_id", ""),
        phase_id=row.context.get("phase_id", ""),
    )


def rows_of(path: Path) -> list[Row]:
    """The rows of a JSONL file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [msgspec.json.decode(line, type=Row) for line in lines if line.strip()]


def judged(rows: Sequence[Row]) -> list[Judged]:
    """Every row with its fingerprint."""
    found: list[Judged] = []
    for row in rows:
        made = detectors("standard-1").fingerprint(outcome_of(row))
        assert made is not None
        found.append(Judged(row.label, made.fingerprint))
    return found


def pairs(count: int) -> int:
    """How many pairs ``count`` things make."""
    return count * (count - 1) // 2


def scores(rows: Sequence[Judged]) -> dict[str, float]:
    """Pair precision, recall and F1 of some rows."""
    joined = sum(map(pairs, Counter(row.fingerprint for row in rows).values()))
    due = sum(map(pairs, Counter(row.label.group for row in rows).values()))
    right = Counter((row.label.group, row.fingerprint) for row in rows)
    both = sum(map(pairs, right.values()))
    precision = both / joined if joined else 1.0
    recall = both / due if due else 1.0
    f1 = 2 * precision * recall / (precision + recall) if both else 0.0
    return {
        "texts": len(rows),
        "groups": len({row.label.group for row in rows}),
        "fingerprints": len({row.fingerprint for row in rows}),
        "precision": round(precision, 4),
        "recall": round(recall, 4),
        "f1": round(f1, 4),
    }


def near_misses(rows: Sequence[Judged]) -> dict[str, float]:
    """How many pairs of one family but different groups there are, and the share kept apart."""
    near = sum(map(pairs, Counter(row.label.family for row in rows).values()))
    near -= sum(map(pairs, Counter(row.label.group for row in rows).values()))
    joined = Counter((row.label.family, row.fingerprint) for row in rows)
    right = Counter((row.label.group, row.fingerprint) for row in rows)
    merged = sum(map(pairs, joined.values())) - sum(map(pairs, right.values()))
    return {"pairs": near, "apart": round(1 - merged / near, 4) if near else 1.0}


def texts_per_second(rows: Sequence[Row]) -> float:
    """How many fingerprints a second of processor time makes, the best of five rounds."""
    outcomes = [outcome_of(row) for row in rows]
    made = detectors("standard-1").fingerprint
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        for outcome in outcomes:
            made(outcome)
        best = min(best, time.process_time() - start)
    return round(len(rows) / best)


def main(arguments: Sequence[str]) -> None:
    """Score a file, the shared development data without one."""
    if not arguments and not DATA.exists():
        sys.exit("name a file of labelled texts: python -m tests.fingerprint_scores FILE")
    rows = rows_of(Path(arguments[0]) if arguments else DATA)
    found = judged(rows)
    tiers = sorted({row.label.tier for row in rows})
    told = {
        "all": scores(found),
        **{tier: scores([row for row in found if row.label.tier == tier]) for tier in tiers},
        "near_misses": near_misses(found),
        "texts_per_cpu_second": texts_per_second(rows),
    }
    sys.stdout.write(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
