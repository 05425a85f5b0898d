"""Pace: what long work tells now and then."""

from __future__ import annotations

from collections.abc import Callable

Pace = Callable[[int, int], object]
"""Told how far it has come: the position of the log that is reached, and the one it goes to."""
