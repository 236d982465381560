"""All figures of one network from its stored studies, as far as these are finished."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.paper.intervals import (
    Hits,
    Interval,
    difference_interval,
    mcnemar,
    mean_interval,
)
from benchmarks.paper.predictions import Part, read_hits
from benchmarks.paper.studies import Plan
from benchmarks.paper.trained import Trained, best_points, mean_and_spread, read_trained
from benchmarks.paper.training import Trainer
from hpo.values.space import Point

Figures = dict[str, Any]

ReadHits = Callable[[str], Hits | None]
"""Returns the hits of the finished seeds of a study, by the name of the study."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the studies of a storage."""

    trainer: Trainer

    def trained(self, name: str) -> Trained | None:
        """Return what is finished of a study, None if it is not stored."""
        study = self.trainer.find(name)
        return None if study is None else read_trained(self.trainer.storage, study)

    def hits(self, name: str, part: Part) -> Hits | None:
        """Return the hits of the finished seeds of a study on a part of the training images."""
        study = self.trainer.find(name)
        if study is None:
            return None
        trained = read_trained(self.trainer.storage, study)
        return read_hits(self.trainer.settings, study, trained.trainings, part)

    def best_points(self, name: str, count: int) -> list[Point]:
        """Return the parameters of the best completed search trials of a study, best first."""
        study = self.trainer.find(name)
        return [] if study is None else best_points(self.trainer.storage, study, count)

    def middle_winner(self, plan: Plan) -> Point | None:
        """Return the cell with the least validation loss after a part of the epochs, None without one."""
        cells = [trained for name in plan.middle_names() if (trained := self.trained(name))]
        cells = [trained for trained in cells if trained.trainings]
        if not cells:
            return None
        return min(cells, key=lambda trained: trained.trainings[0].loss).params

    def network(self, plan: Plan) -> Figures:
        """Return the figures of a network. Parts that no study has yet are left out."""
        main = self.trained(plan.name)
        if main is None:
            return {}
        names = plan.arm_names()
        arms = {label: trained for label, name in names.items() if (trained := self.trained(name))}
        scores = validation_scores(self, plan.name, {label: names[label] for label in arms})
        figures: Figures = {**main.to_json(), **scores.pop(plan.name, {})}
        figures["arms"] = {
            label: {**trained.to_json(), **scores.get(label, {})} for label, trained in arms.items()
        }
        middle = [trained for name in plan.middle_names() if (trained := self.trained(name))]
        figures["middle"] = [cell_figures(trained) for trained in middle if trained.trainings]
        return figures


def validation_scores(reader: Reader, name: str, arms: Mapping[str, str]) -> dict[str, Figures]:
    """Return accuracies on the mini images by label of the arm, and those of the study itself by its name.

    Each has the interval of the mean. An arm also has that of the difference: parameters found minus arm.
    """
    hits = {label: reader.hits(study, "mini") for label, study in {name: name, **arms}.items()}
    known = {label: value for label, value in hits.items() if value is not None}
    scores = {label: {"validation": score(value, list(known.values()))} for label, value in known.items()}
    train = reader.hits(name, "train")
    if train is not None:
        scores[name]["train"] = score(train)
    for label in arms:
        if label in known and name in known:
            scores[label]["validation"]["difference"] = difference(known[name], known[label], known)
    return scores


def score(hits: Hits, others: Sequence[Hits] = ()) -> Figures:
    """Return mean, spread over seeds and interval of an accuracy. `others` as in `mean_interval`."""
    accuracies = [float(value) for value in hits.mean(1)]
    mean, spread = mean_and_spread(accuracies)
    interval = mean_interval(hits, [other for other in others if other is not hits])
    return {
        "accuracies": accuracies,
        "mean": mean,
        "deviation": spread,
        "interval": asdict(interval),
        "n": hits.shape[1],
    }


def difference(a: Hits, b: Hits, known: Mapping[str, Hits]) -> Figures:
    """Return the difference of two mean accuracies on the same images, and McNemar's p of the first seeds."""
    others = [hits for hits in known.values() if hits is not a and hits is not b]
    return {**asdict(difference_interval(a, b, others)), "mcnemar": mcnemar(a[0], b[0])}


def cell_figures(trained: Trained) -> Figures:
    """Return the figures of a cell that was trained for a part of the epochs."""
    training = trained.trainings[0]
    return {
        "study": trained.study,
        "params": trained.params,
        "epochs": training.epochs,
        "accuracy": training.accuracy,
        "loss": training.loss,
        "seconds": training.seconds,
    }


def as_interval(figures: Mapping[str, Any]) -> Interval:
    """Return the interval in the figures of a difference or of a score."""
    return Interval(*(figures[name] for name in ("value", "low", "high", "has_seeds")))


def verdict(subject: str, other: str, interval: Interval) -> str:
    """Return a sentence that compares two accuracies by the interval of their difference."""
    points, half = 100 * interval.value, 100 * interval.half
    relation = "better" if points >= 0 else "worse"
    words = f"{subject} {relation} than {other} by {abs(points):.2f} ± {half:.2f} points"
    if interval.is_tie:
        words += ": a tie"
    return words if interval.has_seeds else f"{words} (sampling of the images alone)"


def same(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> bool:
    """Return whether two sets of parameters are the same cell."""
    return a is not None and b is not None and {**a} == {**b}


def finite(value: Any) -> Any:
    """Return plain values without NaN and infinities, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
