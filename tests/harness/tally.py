"""What the rounds of a harness came to: one JSON object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

KEPT_MAX = 50


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value below which ``share`` of them lie; None without any."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)


@dataclass
class Tally:
    """Counts of what must never happen, and times in seconds."""

    rounds: Counter[str] = field(default_factory=Counter[str])
    acknowledged: int = 0
    wrong: Counter[str] = field(default_factory=Counter[str])
    ready_s: list[float] = field(default_factory=list[float])
    term_s: list[float] = field(default_factory=list[float])
    exits: Counter[str] = field(default_factory=Counter[str])
    endings: Counter[str] = field(default_factory=Counter[str])
    complaints: list[str] = field(default_factory=list[str])
    skipped: dict[str, str] = field(default_factory=dict[str, str])

    def found(self, kind: str, what: Iterable[object], where: str) -> None:
        """Count what is wrong, and keep the first few for people."""
        items = list(what)
        self.wrong[kind] += len(items)
        if items and len(self.complaints) < KEPT_MAX:
            self.complaints.append(f"{where}: {kind}: {items[:5]}")

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return not any(self.wrong.values())

    def json(self) -> dict[str, Any]:
        """As one object; times in seconds."""
        return {
            "ok": self.ok,
            "rounds": sum(self.rounds.values()),
            "kinds": dict(self.rounds),
            "acknowledged": self.acknowledged,
            **{kind: self.wrong[kind] for kind in KINDS},
            "ready_s": {
                "n": len(self.ready_s),
                "p50": percentile(self.ready_s, 0.5),
                "p95": percentile(self.ready_s, 0.95),
                "max": percentile(self.ready_s, 1),
            },
            "term_to_exit_s": {
                "n": len(self.term_s),
                "p50": percentile(self.term_s, 0.5),
                "p95": percentile(self.term_s, 0.95),
            },
            "exits": dict(self.exits),
            "endings": dict(self.endings),
            "skipped": self.skipped,
            "complaints": self.complaints,
        }


KINDS = (
    "acknowledged_lost",
    "left_open",
    "overlapping",
    "executed_unrecorded",
    "left_behind",
    "violations",
    "misbehaved",
)
