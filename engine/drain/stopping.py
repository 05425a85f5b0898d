"""Stopping: how a session is told to start nothing more, for a while or for good."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import anyio

from engine.events import SessionEnd


@dataclass
class Stopping:
    """How a person stops a session: once to finish what runs, twice to abandon it."""

    asked: anyio.Event = field(default_factory=anyio.Event)
    abandon: anyio.Event = field(default_factory=anyio.Event)
    signal: int | None = None


class Hold(NamedTuple):
    """Why a session is to start nothing more for a while, in a word and in a sentence."""

    because: SessionEnd
    sentence: str
