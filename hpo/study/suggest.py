"""Queue new search trials at points that the sampler suggests."""

from collections.abc import Mapping

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.search.samplers.base import Observation
from hpo.store import trials
from hpo.store.records import TrialRecord
from hpo.store.results import TrialCurve
from hpo.store.trials import StudyTrials, TrialRow
from hpo.study.study import Study, search_seed
from hpo.values.seeds import Purpose
from hpo.values.space import Point, SearchSpace


def suggest(
    connection: Connection,
    study: Study,
    rows: StudyTrials,
    curves: Mapping[int, TrialCurve],
    limit: int,
) -> list[TrialRow]:
    """Queue up to `limit` new points, limited by the trial budget; return their trials.

    `rows` and `curves` cover all trials of the search, which must be locked.
    """
    spec = study.spec
    count = min(limit, study.trials - len(rows))
    if count <= 0 or spec.sampler.plans_all:
        return []
    # The seed depends on the trial number alone, so no two suggestions share a seed, whichever worker asks.
    seed = Purpose.SUGGESTION.derive(spec.seed, len(rows))
    history = _history(spec.space, rows, curves)
    points = spec.sampler.suggest(spec.space, history, count, seed)
    suggested = [
        (point, TrialRecord(search_seed(spec, len(rows) + index))) for index, point in enumerate(points)
    ]
    return trials.enqueue(connection, study.search_id, spec.space, suggested)


def _history(space: SearchSpace, rows: StudyTrials, curves: Mapping[int, TrialCurve]) -> list[Observation]:
    """Return the observations at points of the space, by trial number. Results of other programs count."""
    observations = {}
    repeated = {row.record.retry_of for row in rows.ours}
    for row in rows.ours:
        if row.point in space and row.number not in repeated:
            state = TrialState.PRUNED if row.is_paused else row.state
            observations[row.number] = _observation(row.point, state, row.value, curves[row.trial_id])
    for trial in rows.foreign:
        if (point := trial.point_in(space)) is not None:
            observations[trial.number] = _observation(point, trial.state, trial.value, curves[trial.trial_id])
    return [observations[number] for number in sorted(observations)]


def _observation(point: Point, state: TrialState, value: float | None, curve: TrialCurve) -> Observation:
    # A completed trial with an infinite loss only marks its point as taken.
    infinite = state == TrialState.COMPLETE and value is None
    return Observation(point, TrialState.FAIL if infinite else state, value, curve.losses)
