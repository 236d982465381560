"""The metrics that a study file names, and their directions."""

import json
from typing import TYPE_CHECKING

from hpo.values.objective import Direction
from hpo.values.wording import listed

if TYPE_CHECKING:
    from hpo.spec.study_spec import StudySpec


def metric_mistakes(spec: "StudySpec") -> dict[str, str]:
    """Return the rules that the metrics of the objective and of the promotion break, by key."""
    objective, promotion = spec.objective, spec.promotion
    mistakes = _mistakes(spec, "objective", objective.metric, objective.direction)
    if promotion.metric is None:
        return mistakes if promotion.direction is None else {**mistakes, "promotion.metric": "is missing"}
    if promotion.metric != objective.metric:
        return mistakes | _mistakes(spec, "promotion", promotion.metric, promotion.direction)
    if promotion.direction not in (None, spec.make_objective().direction):
        mistakes["promotion.direction"] = "must be that of the objective, which is the same metric"
    return mistakes


def _mistakes(spec: "StudySpec", section: str, metric: str, direction: Direction | None) -> dict[str, str]:
    """Return the mistakes in a metric and its direction. Only a known metric has a direction anyway."""
    known = spec.known_metrics
    own = () if spec.is_function else spec.model.metrics or ()
    if metric in known:
        if direction in (None, known[metric].direction):
            return {}
        natural = known[metric].direction
        rule = f"{json.dumps(direction)} is the wrong way: {metric} is a metric to {natural}"
        return {f"{section}.direction": rule}
    if not spec.is_function and metric not in own:
        names = listed(map(repr, [*known, *own]), "or")
        return {f"{section}.metric = {json.dumps(metric)}": f"must be one of {names}"}
    if direction is None:
        return {f"{section}.direction": f'is missing; is {metric} to "minimize" or to "maximize"?'}
    return {}
