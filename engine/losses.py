"""Losses: a stream that does not take lines is told of once it takes them again."""

from __future__ import annotations

from collections.abc import Callable


class Losses:
    """What ``lost`` counts, and how much of it was told.  ``lost``: lines so far, never less."""

    def __init__(self, lost: Callable[[], int]) -> None:
        self._lost = lost
        self._told = 0

    @property
    def lines(self) -> int:
        """How many lines were lost so far."""
        return self._lost()

    def around(self, write: Callable[[], object], tell: Callable[[int], object]) -> None:
        """``write`` a line; when it was taken, ``tell`` how many were not, if that is news.

        A line that tells of it and is lost itself tells nothing: then the next one does.
        """
        before = self._lost()
        write()
        if self._lost() != before or before == self._told:
            return
        tell(before - self._told)
        if self._lost() == before:
            self._told = before
