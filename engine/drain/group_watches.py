"""Every group under watch: each phase's newest clean ratio goes to the watch of its group.

Pure.  A phase that ends for the first time costs one step of the test; a group is watched again
from its first ratio only when a ratio that was taken is no longer the one of its phase.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from engine.calibration.drift import Drift, Watch
from engine.calibration.samples import GroupKey, Ratio, classify, log_ratio
from engine.events import DriftAlarmed
from projections.calibration import IMPORTED, PhaseSamples, samples_of
from projections.fold import join

Watched = tuple[str, GroupKey]
"""The coefficients' version, and a group of samples that were estimated by it."""


class News(NamedTuple):
    """An alarm; ``is_recent``: what came after it is not enough yet to tell."""

    event: DriftAlarmed
    is_recent: bool


class GroupWatches:
    """The watches of all groups; ``alarms`` are of those that changed since they were asked for."""

    def __init__(self) -> None:
        self._groups: dict[Watched, _Group] = {}
        self._changed: set[Watched] = set()

    def put(self, phase: PhaseSamples) -> None:
        """A phase after one of its samples came or changed."""
        name = join(phase.run_id, phase.phase_id)
        for key, ratio in _newest(phase).items():
            if self._groups.setdefault(key, _Group()).put(name, ratio):
                self._changed.add(key)

    def alarms(self) -> Iterator[News]:
        """Every alarm of the changed groups, old ones as well; in the order of their names."""
        changed, self._changed = sorted(self._changed), set()
        for key in changed:
            drift = self._groups[key].drift()
            for alarm in drift.alarms:
                is_recent = drift.status == "alarm" and alarm is drift.alarms[-1]
                version, (category, complexity) = key
                event = DriftAlarmed(
                    category=category,
                    complexity=complexity,
                    coefficient_version=version,
                    position=alarm.pos,
                    z=alarm.z,
                )
                yield News(event, is_recent)


def _newest(phase: PhaseSamples) -> dict[Watched, Ratio | None]:
    """The last clean ratio of a phase in each group that it has samples in; None for no such."""
    found: dict[Watched, Ratio | None] = {}
    for sample in samples_of([phase]):
        key = (sample.version, sample.group)
        if sample.version in ("", IMPORTED):
            continue
        if classify(sample) == "clean":
            found[key] = Ratio(sample.pos, log_ratio(sample), False)
        else:
            found.setdefault(key, None)
    return found


class _Group:
    """One group: the ratio of each phase, and their watch."""

    def __init__(self) -> None:
        self._ratios: dict[str, Ratio] = {}
        self._watch: Watch | None = Watch()
        self._pos = 0

    def put(self, phase: str, ratio: Ratio | None) -> bool:
        """The ratio of a phase now; whether that is another one than before."""
        known = self._ratios.pop(phase, None)
        if ratio is not None:
            self._ratios[phase] = ratio
        if ratio == known:
            return False
        if known is not None or ratio is None or ratio.pos < self._pos:
            self._watch = None
        elif self._watch is not None:
            self._watch.take(ratio)
            self._pos = ratio.pos
        return True

    def drift(self) -> Drift:
        """What the watch came to."""
        if self._watch is None:
            self._watch = Watch()
            for ratio in sorted(self._ratios.values()):
                self._watch.take(ratio)
                self._pos = ratio.pos
        return self._watch.drift()
