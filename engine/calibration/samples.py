"""Samples: one prediction of output tokens and what came of it; their groups and classes.

Source: points 1, 2 and 4 of docs/explanation/calibration.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Literal, NamedTuple

import msgspec

UNKNOWN = "unknown"
TOKENS_MAX = 1e30
"""Above this a number of tokens is none, and counts as missing; ratios of such would overflow."""

TOKENS_MIN = 1e-30
"""Below this a number of tokens counts as 0, for the same reason."""

Class = Literal["missing", "zero_estimate", "zero_actual", "censored", "clean", "failed"]
CLASSES: tuple[Class, ...] = (
    "missing",
    "zero_estimate",
    "zero_actual",
    "censored",
    "clean",
    "failed",
)

CATEGORY_FOLDS: Mapping[str, str] = {
    "documentation": "docs",
    "doc": "docs",
    "doc_write": "docs",
    "testing": "tests",
    "test": "tests",
    "implement_feature": "implementation",
    "bug_fix": "bugfix",
}


class GroupKey(NamedTuple):
    """What is calibrated together."""

    category: str
    complexity: str


class Sample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One prediction of output tokens and what came of it.

    ``pos`` orders samples: a position of the log, or the number of a row.  ``category`` and
    ``complexity`` are as the source spelled them.  ``version``: the coefficients it was estimated
    with.  ``at_us``: when, in Unix microseconds, if known.  ``budget``: the most tokens that it was
    allowed.  ``alias``: how its source spelled the group, where the words are folded already.
    """

    pos: int
    run_id: str
    phase_id: str
    category: str | None
    complexity: str | None
    estimated: float | None
    actual: float | None
    success: bool
    truncated: bool
    version: str = ""
    at_us: int | None = None
    budget: float | None = None
    deliverables: int | None = None
    alias: str = ""

    @property
    def group(self) -> GroupKey:
        """The group that it belongs to; every sample has exactly one."""
        return GroupKey(fold_category(self.category), fold_complexity(self.complexity))


class Ratio(msgspec.Struct, frozen=True, order=True, gc=False):
    """The x of one phase: ln(actual / estimated), known to be at least that when censored."""

    pos: int
    x: float
    is_censored: bool


def fold_category(raw: str | None) -> str:
    """The category that ``raw`` means; ``unknown`` for none."""
    lower = raw.strip().lower() if raw else ""
    return CATEGORY_FOLDS.get(lower, lower) or UNKNOWN


def fold_complexity(raw: str | None) -> str:
    """The complexity that ``raw`` means; ``unknown`` for none."""
    return (raw.strip().lower() if raw else "") or UNKNOWN


def classify(sample: Sample) -> Class:
    """The class of a sample: the first that fits.

    NaN, infinities and numbers beyond 1e30 either way are no numbers of tokens, and missing.
    """
    estimated, actual = sample.estimated, sample.actual
    if estimated is None or not -TOKENS_MAX <= estimated <= TOKENS_MAX:
        return "missing"
    if actual is None or not -TOKENS_MAX <= actual <= TOKENS_MAX:
        return "missing"
    if estimated < TOKENS_MIN:
        return "zero_estimate"
    if actual < TOKENS_MIN:
        return "zero_actual"
    if sample.truncated:
        return "censored"
    return "clean" if sample.success else "failed"


def log_ratio(sample: Sample) -> float:
    """ln(actual / estimated) of a clean, censored or failed sample."""
    assert sample.actual is not None
    assert sample.estimated is not None
    return math.log(sample.actual / sample.estimated)


class Group:
    """The samples of one group by class, in the order of their positions."""

    def __init__(self, key: GroupKey, samples: Iterable[Sample]) -> None:
        self.key = key
        self.by_class: dict[Class, list[Sample]] = {name: [] for name in CLASSES}
        # One sample stands at one position, so this is a total order.
        for sample in sorted(samples, key=attrgetter("pos")):
            self.by_class[classify(sample)].append(sample)
        self.clean, self.censored = self.by_class["clean"], self.by_class["censored"]
        self.ratios = one_per_phase(self.clean, self.censored)
        self.events = [each.x for each in self.ratios if not each.is_censored]
        self.limits = [each.x for each in self.ratios if each.is_censored]

    @property
    def n(self) -> int:
        """How many phases it has a ratio of."""
        return len(self.ratios)

    @property
    def k(self) -> int:
        """How many of them are clean."""
        return len(self.events)

    @property
    def aliases(self) -> tuple[str, ...]:
        """The spellings that were folded into it, in alphabetical order."""
        found = {(each.alias, each.category, each.complexity) for each in self.everything()}
        spelled = {alias or f"{first or ''}/{second or ''}" for alias, first, second in found}
        return tuple(sorted(spelled))

    def everything(self) -> Iterator[Sample]:
        """All of its samples, class by class."""
        for samples in self.by_class.values():
            yield from samples


def grouped(samples: Iterable[Sample]) -> list[Group]:
    """Every sample in its one group; groups in alphabetical order."""
    found: dict[GroupKey, list[Sample]] = {}
    folded: dict[tuple[str | None, str | None], list[Sample]] = {}
    for sample in samples:
        spelled = (sample.category, sample.complexity)
        members = folded.get(spelled)
        if members is None:
            members = folded[spelled] = found.setdefault(sample.group, [])
        members.append(sample)
    return [Group(key, found[key]) for key in sorted(found)]


def one_per_phase(clean: Sequence[Sample], censored: Sequence[Sample]) -> list[Ratio]:
    """Per (run, phase) the last clean sample, else the censored one with the largest x.

    Samples come in order, and so do the ratios.  A sample without a phase is one of its own.
    """
    found: dict[object, Ratio] = {
        _phase_of(sample): Ratio(sample.pos, log_ratio(sample), False) for sample in clean
    }
    cut: dict[object, Ratio] = {}
    for sample in censored:
        phase = _phase_of(sample)
        if phase in found:
            continue
        ratio, known = Ratio(sample.pos, log_ratio(sample), True), cut.get(phase)
        if known is None or ratio.x > known.x:
            cut[phase] = ratio
    return sorted([*found.values(), *cut.values()])


def _phase_of(sample: Sample) -> object:
    return (sample.run_id, sample.phase_id) if sample.phase_id else sample.pos
