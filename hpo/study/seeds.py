"""The seeds of a promoted trial: full trainings with the same parameters and other random numbers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import Any

from hpo.store.trials import TrialRow
from hpo.study.promote import best_trials
from hpo.values.objective import Objective
from hpo.values.wording import counted


@dataclass(frozen=True, slots=True)
class Spread:
    """The mean of a metric over the seeds, and the sample standard deviation: None of a single seed."""

    mean: float
    deviation: float | None


@dataclass(frozen=True, slots=True)
class Seeds:
    """The completed full trainings of one promoted trial.

    `trials` are their numbers, and `best` the number of the one with the best objective. `metrics`: the
    spread of each metric of the kept epochs, by name.
    """

    trials: tuple[int, ...]
    best: int
    metrics: Mapping[str, Spread]

    def describe(self, objective: Objective) -> str:
        """Return the spread of the objective and the other metrics of the validation part in one line."""
        shown = [
            metric for metric in (objective, *objective.others([self._means])) if metric.key in self.metrics
        ]
        figures = ", ".join(f"{metric.title} {_text(metric, self.metrics[metric.key])}" for metric in shown)
        names = f"trial{'s' * (len(self.trials) > 1)} {', '.join(map(str, self.trials))}"
        if len(self.trials) == 1:
            return f"1 seed ({names}): {figures}"
        return (
            f"{counted(len(self.trials), 'seed')} ({names}, mean ± standard deviation): {figures}; "
            f"best: trial {self.best}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the seeds as plain values."""
        return {**asdict(self), "trials": list(self.trials)}

    @property
    def _means(self) -> dict[str, float]:
        return {name: spread.mean for name, spread in self.metrics.items()}


def seeds_of(rows: Iterable[TrialRow], row: TrialRow, objective: Objective) -> list[TrialRow]:
    """Return the completed full trainings of the same promoted trial as `row`, best first.

    `rows` are the full trainings of the study.
    """
    same = [other for other in rows if other.record.promoted_from == row.record.promoted_from]
    return best_trials(same, len(same), objective)


def spread(seeds: Sequence[TrialRow]) -> Seeds:
    """Return the spread of one or more seeds, which come best first. A metric that one lacks is left out."""
    recorded = [row.record.metrics or {} for row in seeds]
    names = [name for name in recorded[0] if all(name in metrics for metrics in recorded)]
    return Seeds(
        trials=tuple(sorted(row.number for row in seeds)),
        best=seeds[0].number,
        metrics={name: _spread([metrics[name] for metrics in recorded]) for name in names},
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(mean(values), stdev(values) if len(values) > 1 else None)


def _text(metric: Objective, spread: Spread) -> str:
    text = metric.show(spread.mean)
    return text if spread.deviation is None else f"{text} ± {metric.show(spread.deviation)}"
