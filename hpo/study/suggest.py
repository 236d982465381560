"""Queue new search trials at points that the sampler suggests."""

from collections.abc import Mapping, Sequence

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.search.samplers.base import Observation, make_sampler
from hpo.store import trials
from hpo.store.results import TrialCurve
from hpo.store.trials import TrialRow
from hpo.study.pause import is_paused
from hpo.study.study import Study, search_seed
from hpo.values.seeds import Purpose
from hpo.values.space import Point


def suggest(
    connection: Connection,
    study: Study,
    rows: Sequence[TrialRow],
    curves: Mapping[int, TrialCurve],
    limit: int,
) -> list[TrialRow]:
    """Queue up to `limit` new points, limited by the trial budget; return their trials.

    `rows` and `curves` cover all trials of the search, which must be locked.
    """
    spec = study.spec
    sampler = make_sampler(spec.sampler.name)
    count = min(limit, study.trials - len(rows))
    if count <= 0 or sampler.plans_all:
        return []
    # Trials that others added through Optuna may lie outside the space.
    history = [_observation(row, curves[row.trial_id].losses) for row in rows if row.point in spec.space]
    # The seed depends on the trial number alone, so no two suggestions share a seed, whichever worker asks.
    seed = Purpose.SUGGESTION.derive(spec.seed, len(rows))
    points = sampler.suggest(spec.space, history, count, seed, spec.sampler.startup)
    suggested: list[tuple[Point, Mapping[str, int]]] = [
        (point, {"seed": search_seed(spec, len(rows) + index)}) for index, point in enumerate(points)
    ]
    return trials.enqueue(connection, study.search_id, spec.space, suggested)


def _observation(row: TrialRow, curve: Mapping[int, float]) -> Observation:
    # A completed trial with an infinite loss only marks its point as taken.
    infinite = row.state == TrialState.COMPLETE and row.value is None
    state = TrialState.PRUNED if is_paused(row) else row.state
    return Observation(row.point, TrialState.FAIL if infinite else state, row.value, curve)
