"""A batch: the commands that one transaction answers, and what they come to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from engine.events import Head, Record
from engine.store.command import Command, Receipt
from engine.store.protocol import Prior


@dataclass(eq=False)
class Pending:
    """A submitted command and, once known, its outcome."""

    command: Command
    digest: bytes
    # Of asyncio's own, which costs half of anyio's; each attempt needs several.
    done: asyncio.Event = field(default_factory=asyncio.Event)
    receipt: Receipt | None = None
    error: BaseException | None = None

    async def answer(self) -> Receipt:
        """Wait for the outcome; the receipt, or the error raised."""
        await self.done.wait()
        if self.error is not None:
            raise self.error
        assert self.receipt is not None
        return self.receipt

    def settle(self, outcome: Receipt | BaseException) -> None:
        """Answer the caller."""
        if isinstance(outcome, Receipt):
            self.receipt = outcome
        else:
            self.error = outcome
        self.done.set()


@dataclass
class Batch:
    """One transaction in the making; it was begun behind ``behind``."""

    head: Head
    versions: dict[str, int]
    prior: dict[str, Prior]
    records: list[Record] = field(default_factory=list[Record])
    size_bytes: int = 0
    receipts: dict[str, tuple[bytes, Receipt]] = field(
        default_factory=dict[str, tuple[bytes, Receipt]]
    )
    settled: list[tuple[Pending, Receipt | BaseException]] = field(
        default_factory=list[tuple[Pending, Receipt | BaseException]]
    )

    def __post_init__(self) -> None:
        self.behind = self.head
