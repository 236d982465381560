"""Queue new search trials at points that the sampler suggests."""

from collections.abc import Mapping

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.search.samplers.base import Observation
from hpo.store import trials
from hpo.store.records import TrialRecord
from hpo.store.results import TrialCurve
from hpo.store.trials import Foreign, StudyTrials, TrialRow
from hpo.study.curves import losses_by
from hpo.study.study import Study, search_seed
from hpo.values.seeds import Purpose
from hpo.values.space import Point


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
    history = _history(study, rows, curves)
    points = spec.sampler.suggest(spec.space, history, count, seed)
    suggested = [
        (point, TrialRecord(search_seed(spec, len(rows) + index))) for index, point in enumerate(points)
    ]
    return trials.enqueue(connection, study.search_id, spec.space, suggested)


def _history(study: Study, rows: StudyTrials, curves: Mapping[int, TrialCurve]) -> list[Observation]:
    """Return the observations at points of the space, by trial number. Results of other programs count."""
    space, objective = study.spec.space, study.objective
    losses_of = losses_by(objective, curves)

    def observation(trial: TrialRow | Foreign, point: Point, state: TrialState) -> Observation:
        cost = None if trial.value is None else objective.cost(trial.value)
        if state == TrialState.COMPLETE and cost is None:
            state = TrialState.FAIL  # a completed trial with an infinite value only marks its point as taken
        return Observation(point, state, cost, losses_of(curves[trial.trial_id]))

    observations = {}
    repeated = {row.record.retry_of for row in rows.ours}
    for row in rows.ours:
        if row.point in space and row.number not in repeated:
            state = TrialState.PRUNED if row.is_paused else row.state
            observations[row.number] = observation(row, row.point, state)
    for trial in rows.foreign:
        if (point := trial.point_in(space)) is not None:
            observations[trial.number] = observation(trial, point, trial.state)
    return [observations[number] for number in sorted(observations)]
