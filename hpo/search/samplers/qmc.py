"""Quasi-Monte Carlo: a low-discrepancy sequence."""

from collections.abc import Collection, Iterator, Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from hpo.search.samplers.base import PlannedSampler
from hpo.search.samplers.points import Source, new_points
from hpo.search.samplers.unit_interval import value_at
from hpo.values.space import Cell, Point, SearchSpace

CHUNK = 256
"""Points that are drawn at once. SciPy warns of a number that is no power of two."""

MAX_SKIPPED = 1000
"""Points of the sequence in a row that may repeat a cell or break a constraint; a random new cell follows."""


class QmcSampler(PlannedSampler):
    """Optuna's QMCSampler: sample n is the n-th point of a low-discrepancy sequence, for any number of
    workers. Repeated points and points that break a constraint are skipped. A fork, and a study whose
    `search.trials` grows, continue the sequence. Sobol points are spread best if their number is a power of
    two.

    The points are known when the study is created. Every parameter has a coordinate, in the order of the
    file. A baseline precedes the sequence.
    """

    is_sequence = True
    refused: ClassVar[Mapping[str, str]] = {
        "seed": "scrambling uses the seed of the study",
        "independent_sampler": "every parameter has a coordinate of the sequence",
        "warn_asynchronous_seeding": "all workers share the sequence, so there is nothing to warn of",
        "warn_independent_sampling": "every parameter has a coordinate of the sequence",
    }

    name: Literal["QMCSampler"] = "QMCSampler"
    qmc_type: Literal["sobol", "halton"] = Field(default="sobol", description="The sequence.")
    scramble: bool = Field(
        default=False, description="Whether the study's seed randomises the sequence, keeping the spread."
    )

    def initial(self, space: SearchSpace, count: int, seed: int, taken: Collection[Cell] = ()) -> list[Point]:
        points = self._sequence(space, seed)
        source = Source(lambda: next(points), np.random.default_rng(seed), MAX_SKIPPED)
        return new_points(space, count, set(taken), source)

    def _sequence(self, space: SearchSpace, seed: int) -> Iterator[Point]:
        from scipy.stats import qmc

        engine_class = {"sobol": qmc.Sobol, "halton": qmc.Halton}[self.qmc_type]
        engine = engine_class(len(space.domains), scramble=self.scramble, seed=seed)
        while True:
            for row in engine.random(CHUNK).tolist():
                pairs = zip(space.domains.items(), row, strict=True)
                yield space.applicable({name: value_at(domain, place) for (name, domain), place in pairs})

    def load_plan(self) -> None:
        from scipy.stats import qmc

        qmc.Sobol(1)  # reads the direction numbers
