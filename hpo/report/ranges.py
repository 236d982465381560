"""The visible range of an axis, which a few diverged trials must not stretch."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from hpo.values.objective import Objective

LOG_RATIO = 20.0
"""Values of a positive metric that differ more than this factor get a logarithmic axis."""

MARGIN = 0.06


def axis_range(values: Iterable[float | None], objective: Objective) -> dict[str, Any]:
    """Return the keys of an axis that shows most values: from the best to the 90th percentile and beyond.

    Values farther away than twice that distance are cut off: they stay in the figure, which can be moved.
    """
    costs = np.array(
        [objective.cost(value) for value in values if value is not None and math.isfinite(value)]
    )
    if not len(costs):
        return {}
    best, high, worst = float(costs.min()), float(np.percentile(costs, 90)), float(costs.max())
    is_log = objective.values == "positive" and best > 0 and high > LOG_RATIO * best
    if is_log:
        best, high, worst = math.log10(best), math.log10(high), math.log10(worst)
    end = min(worst, high + 2 * (high - best)) if high > best else worst
    margin = MARGIN * (end - best) or MARGIN * abs(best) or MARGIN
    ends = [best - margin, end + margin]
    if is_log:
        return {"type": "log", "range": [round(bound, 4) for bound in ends]}
    return {"range": sorted(float(f"{objective.value(bound):.6g}") for bound in ends)}
