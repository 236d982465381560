"""Optuna's TPE as a function of the history, without a database."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from hpo.search.samplers.base import Observation, Sampler
from hpo.search.samplers.points import Source, new_points
from hpo.values.space import Point, SearchSpace, cell

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


class TpeSampler(Sampler):
    """Optuna's TPE.

    This is TPE (Bergstra et al. 2011) with the constant liar (Ginsbourger et al. 2010). The liar keeps new
    points away from waiting and running trials, and from the other points of the same call. Points are random
    until `startup` trials are complete or pruned. Parameters are suggested one by one, each from the trials
    in which it applied.
    """

    name: Literal["tpe"] = "tpe"

    def suggest(
        self, space: SearchSpace, history: Iterable[Observation], count: int, seed: int
    ) -> list[Point]:
        # Imported here, because checking a study file must not import Optuna.
        import optuna

        from hpo.search.samplers.distributions import distributions

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        trials = list(history)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=self.startup)
        study, optuna_space = optuna.create_study(sampler=sampler), distributions(space)
        for trial in trials:
            study.add_trial(_frozen_trial(trial, optuna_space))
        taken = {cell(trial.point) for trial in trials}
        source = Source(lambda: space.applicable(study.ask(optuna_space).params), np.random.default_rng(seed))
        return new_points(space, count, taken, source)

    def load(self) -> None:
        import hpo.search.samplers.distributions  # noqa: F401


def _frozen_trial(trial: Observation, space: "Mapping[str, BaseDistribution]") -> "FrozenTrial":
    import optuna
    from optuna.trial import TrialState

    # Optuna's constant liar only covers RUNNING trials, so waiting trials are passed as running.
    state = trial.state if trial.state.is_finished() else TrialState.RUNNING
    return optuna.trial.create_trial(
        state=state,
        value=trial.value if state == TrialState.COMPLETE else None,
        params=trial.point,
        distributions={name: space[name] for name in trial.point},
        intermediate_values=dict(trial.curve or {}),
    )
