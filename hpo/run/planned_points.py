"""The points of a space that a plan counts on, and the few pack keys that stand for them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpo.spec.study_spec import StudySpec
from hpo.values.space import Point
from hpo.values.vocabulary import PackKey

POINTS = 64
"""Random points that stand for those that a search will try."""

OTHERS = 2
"""Pack keys that are measured beside those with the least and the largest batch size."""


@dataclass(frozen=True)
class PlannedPoints:
    """Random points of a space. `keys` are the pack keys that are measured."""

    spec: StudySpec
    points: Sequence[Point]

    @property
    def counts(self) -> Counter[PackKey]:
        """Return how many points have each pack key."""
        return Counter(self.spec.space.pack_key(point) for point in self.points)

    @property
    def keys(self) -> list[PackKey]:
        """Return the pack keys with the least and the largest batch size, and the most frequent others."""
        ordered = sorted(self.counts, key=_batch_size)
        ends = list(dict.fromkeys((ordered[0], ordered[-1])))
        others = [key for key, _ in self.counts.most_common() if key not in ends]
        return [*ends, *others[:OTHERS]]

    @property
    def middle(self) -> PackKey:
        """Return the measured pack key whose batch size is in the middle of all points."""
        middle = float(np.median([_batch_size(key) for key in self.counts.elements()]))
        return min(self.keys, key=lambda key: abs(_batch_size(key) - middle))

    @property
    def batch_sizes(self) -> list[int]:
        """Return the batch size of each point."""
        return [_batch_size(key) for key in self.counts.elements()]

    def point_of(self, key: PackKey) -> Point:
        """Return the first point with this pack key."""
        return next(point for point in self.points if self.spec.space.pack_key(point) == key)

    def width(self, limit: int, device: str) -> int:
        """Return the width of a pack in the search. On a CPU members take turns, so that one tells all."""
        if device == "cpu":
            return 1
        return max(1, min(limit, self.spec.search.trials // len(self.counts)))

    def full_width(self, limit: int) -> int:
        """Return the width of a pack of full trainings: those of the seeds of a trial, at least."""
        return min(limit, self.spec.promotion.seeds)


def planned_points(spec: StudySpec) -> PlannedPoints:
    """Return random points of the space of a study, the same for the same seed."""
    rng = np.random.default_rng(spec.seed)
    return PlannedPoints(spec, [spec.space.draw(rng) for _ in range(POINTS)])


def _batch_size(key: PackKey) -> int:
    return int(dict(key)["batch_size"])
