"""Commands: what callers ask the one writer to record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from engine.events import AnyEvent, Record
from projections.board import Board


class Draft(NamedTuple):
    """An event to be appended; ``cause`` is the position of the fact it belongs to."""

    event: AnyEvent
    cause: int | None = None
    occurred_us: int | None = None


class Moment(NamedTuple):
    """When a command is decided: the writer's time, and the position its first event will get."""

    now_us: int
    next_pos: int


Decide = Callable[[Board, Moment], Iterator[Draft]]
"""Pure: reads the board at the head and yields events.

Each draft is numbered and folded into the board before the next one is asked for, so a later
part of a command sees what its earlier parts did.  To refuse, raise a RunoffError before the
first draft; raising after one is a bug and stops the writer.
"""


@dataclass(frozen=True)
class Command:
    """Something to record at most once.

    ``command_id`` is made by the client and identifies the intent; ``request`` is what was asked,
    in bytes: the same id with the same request returns the first receipt, with another request
    it is refused.  ``expected_version``: the version the stream must be at, None for any.
    ``is_fresh``: the id was made for it just now, so that no log is searched for it; whoever
    submits it again must not say so.
    """

    command_id: str
    stream: str
    request: bytes
    decide: Decide
    actor: str = "cli"
    expected_version: int | None = None
    is_fresh: bool = False


class Receipt(NamedTuple):
    """What a command did.  ``repeated``: it had been done before; nothing was appended now.

    ``records`` is empty when the command had nothing to record.
    """

    command_id: str
    records: tuple[Record, ...]
    repeated: bool = False


def just(*events: AnyEvent) -> Decide:
    """A decision that needs no board: record these."""

    def decide(_board: Board, _moment: Moment) -> Iterator[Draft]:
        for event in events:
            yield Draft(event)

    return decide
