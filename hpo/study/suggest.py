"""New trials of a search, at points that its sampler proposes."""

from collections.abc import Mapping, Sequence

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.search.samplers.base import Observation, make_sampler
from hpo.store import trials
from hpo.store.results import TrialCurve
from hpo.store.trials import TrialRow
from hpo.study.pause import is_paused
from hpo.study.study import Study, search_seed
from hpo.values.seeds import derive_seed
from hpo.values.space import Point


def suggest(
    connection: Connection,
    study: Study,
    rows: Sequence[TrialRow],
    curves: Mapping[int, TrialCurve],
    most: int,
) -> list[TrialRow]:
    """Queues the sampler's next points, at most as many as the budget leaves; gives their trials.

    `rows`, `curves`: of all trials of the search, which must be locked. A random search has all its points
    from the start.
    """
    spec = study.spec
    sampler = make_sampler(spec.sampler.name)
    count = min(most, study.trials - len(rows))
    if count <= 0 or sampler.plans_all:
        return []
    # What others added through Optuna may lie outside of the space.
    history = [_observed(row, curves[row.trial_id].losses) for row in rows if row.point in spec.space]
    # Seeded by the number of the trial: no two proposals share a seed, whichever workers ask.
    seed = derive_seed(spec.seed, 2, len(rows))
    points = sampler.suggest(spec.space, history, count, seed, spec.sampler.startup)
    suggested: list[tuple[Point, Mapping[str, int]]] = [
        (point, {"seed": search_seed(spec, len(rows) + place)}) for place, point in enumerate(points)
    ]
    return trials.enqueue(connection, study.search_id, spec.space, suggested)


def _observed(row: TrialRow, curve: Mapping[int, float]) -> Observation:
    # A result that is infinite tells only that this point is taken.
    infinite = row.state == TrialState.COMPLETE and row.value is None
    state = TrialState.PRUNED if is_paused(row) else row.state
    return Observation(row.point, TrialState.FAIL if infinite else state, row.value, curve)
