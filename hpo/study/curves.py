"""The learning curves of a search as curve models take them."""

from collections.abc import Callable, Mapping

from hpo.search.scales import scale_of
from hpo.store.results import TrialCurve
from hpo.values.objective import Objective


def losses_by(
    objective: Objective, curves: Mapping[int, TrialCurve]
) -> Callable[[TrialCurve], dict[int, float]]:
    """Return what maps a curve of a search to its losses by epoch. `curves` are those of all trials."""
    scale = scale_of(objective, [curve.costs for curve in curves.values()])
    return lambda curve: {epoch: scale(cost) for epoch, cost in curve.costs.items()}
