"""Spelling: one word per category and complexity, however the source wrote it.

Backlogs of one family write ``tests`` and ``testing``, ``docs`` and ``documentation``, ``medium``
and ``MEDIUM``.  Groups are only as large as their spelling is uniform, so words are folded here,
once; events keep the source's own spelling beside the folded one.

Folding is: lower case, blank edges off, then the two tables below.  A word in neither table nor
among the known ones is kept as it is, in lower case, and reported as a finding of the import.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

CATEGORY_BYTES_MAX = 256

CATEGORY_FOLDS: Mapping[str, str] = {
    "doc": "docs",
    "doc_write": "docs",
    "documentation": "docs",
    "test": "tests",
    "testing": "tests",
    "implement_feature": "implementation",
    "bug_fix": "bugfix",
}
CATEGORIES = frozenset(
    {
        "backend",
        "bugfix",
        "configuration",
        "database",
        "deployment",
        "docs",
        "frontend",
        "implementation",
        "integration",
        "maintenance",
        "refactoring",
        "tests",
    }
)

# Between two grades the higher one counts: a budget too large costs a reservation, one too small
# costs the attempt.
COMPLEXITY_FOLDS: Mapping[str, str] = {"simple": "low", "medium-high": "high"}
COMPLEXITIES = frozenset({"low", "medium", "high", "maintenance"})


class Folded(NamedTuple):
    """A folded word; ``familiar`` is false for one that no table knows."""

    word: str
    familiar: bool


def fold_category(raw: str) -> Folded:
    """The category that ``raw`` means, ``tests`` for ``Testing``."""
    return _fold(raw, CATEGORY_FOLDS, CATEGORIES)


def fold_complexity(raw: str) -> Folded:
    """The complexity that ``raw`` means, ``low`` for ``SIMPLE``."""
    return _fold(raw, COMPLEXITY_FOLDS, COMPLEXITIES)


def _fold(raw: str, folds: Mapping[str, str], familiar: frozenset[str]) -> Folded:
    lower = raw.strip().lower()
    # "bug fix", "bug-fix" and "bug_fix" are one spelling; the tables hold one of the three.
    joined = lower.replace("-", "_").replace(" ", "_")
    word = folds.get(lower) or folds.get(joined) or folds.get(joined.replace("_", "-")) or lower
    return Folded(word, word in familiar)
