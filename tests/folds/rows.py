"""Rows of projections, one event at a time: what it changes, and that it changes nothing else."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.events import AnyEvent, Seen
from projections.fold import Fold

POS, US = 900, 1_767_225_699_000_000
"""Where and when the event of a test stands."""


def after(fold: Fold[Any], before: msgspec.Struct | None, event: AnyEvent) -> Any:
    """The row behind ``event``."""
    return fold.apply(before, Seen(POS, US, event))


def changes(fold: Fold[Any], before: msgspec.Struct | None, event: AnyEvent) -> dict[str, Any]:
    """The fields that ``event`` changes, with what they become."""
    row = after(fold, before, event)
    return {
        name: getattr(row, name)
        for name in row.__struct_fields__
        if before is None or getattr(row, name) != getattr(before, name)
    }


def keys(fold: Fold[Any], event: AnyEvent) -> tuple[str, ...]:
    """The rows that ``event`` touches."""
    return fold.keys(Seen(POS, US, event))


def taken(fold: Fold[Any]) -> set[str]:
    """The names of the classes that a fold takes."""
    return {kind.__name__ for kind in fold.handles}
