"""An attempt that is taken over from an engine that died."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import anyio

from engine.events import AttemptStarted
from engine.executors.port import Assignment, Report

TakeOver = Callable[[anyio.Event], Awaitable[Report]]
"""Waits for an attempt that another engine started, given the event that abandons it."""


class Adoption(NamedTuple):
    """An open attempt of an engine that died, and how to get its report."""

    started: AttemptStarted
    assignment: Assignment
    report: TakeOver
    lives: bool
