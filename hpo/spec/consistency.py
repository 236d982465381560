"""Rules between several keys of a study file."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hpo.values.baseline import parse_baseline
from hpo.values.objective import Direction
from hpo.values.space import Point
from hpo.values.space_section import SpaceError
from hpo.values.wording import listed

if TYPE_CHECKING:
    from hpo.spec.study_spec import StudySpec


def key_mistakes(spec: "StudySpec", is_stored: bool) -> dict[str, str]:
    """Return the rule that each key breaks together with others.

    `is_stored`: a stored study may keep rules under which nothing completes.
    """
    mistakes = _metric_mistakes(spec)
    if spec.promotion.top > spec.search.trials:
        mistakes["promotion.top"] = f"{spec.promotion.top} is more than search.trials ({spec.search.trials})"
    if not is_stored and spec.stop.epochs is not None and spec.stop.epochs < spec.search.epochs:
        fewest = f"search.epochs ({spec.search.epochs})"
        mistakes["stop.epochs"] = f"{spec.stop.epochs} is below {fewest}, so no trial could complete"
    target = spec.stop.target
    if target is not None and not is_stored and not mistakes and not spec.make_objective().may_be(target):
        mistakes["stop.target"] = f"{target:g} is no {spec.objective.metric}, which is from 0 to 1"
    for key, rule in spec.pruner.mistakes(spec.search.epochs).items():
        mistakes[f"pruner.{key}"] = rule
    for key, rule in spec.sampler.mistakes(spec.space).items():
        mistakes[f"sampler.{key}"] = rule
    return mistakes


def parsed_baseline(spec: "StudySpec", mistakes: dict[str, str]) -> Point | None:
    """Return the baseline as a point of the space; add to `mistakes`."""
    try:
        return None if spec.baseline is None else parse_baseline(spec.baseline, spec.space)
    except SpaceError as error:
        mistakes |= {f"baseline.{name}": rule for name, rule in error.mistakes.items()}
        return None


def _metric_mistakes(spec: "StudySpec") -> dict[str, str]:
    objective, promotion = spec.objective, spec.promotion
    mistakes = _direction_mistakes(spec, "objective", objective.metric, objective.direction)
    if promotion.metric is None:
        return mistakes if promotion.direction is None else {**mistakes, "promotion.metric": "is missing"}
    if promotion.metric != objective.metric:
        return mistakes | _direction_mistakes(spec, "promotion", promotion.metric, promotion.direction)
    if promotion.direction not in (None, spec.make_objective().direction):
        mistakes["promotion.direction"] = "must be that of the objective, which is the same metric"
    return mistakes


def _direction_mistakes(
    spec: "StudySpec", section: str, metric: str, direction: Direction | None
) -> Mapping[str, str]:
    """Return the mistakes in a metric and its direction. Only a known metric has a direction anyway."""
    known = spec.known_metrics
    if metric in known:
        if direction in (None, known[metric].direction):
            return {}
        natural = known[metric].direction
        rule = f"{json.dumps(direction)} is the wrong way: {metric} is a metric to {natural}"
        return {f"{section}.direction": rule}
    if not spec.is_function:
        return {
            f"{section}.metric = {json.dumps(metric)}": f"must be one of {listed(map(repr, known), 'or')}"
        }
    if direction is None:
        return {f"{section}.direction": f'is missing; is {metric} to "minimize" or to "maximize"?'}
    return {}
