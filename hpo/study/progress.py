"""What a search has done so far, for the stop rules."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from optuna.trial import TrialState
from sqlalchemy import Connection

from hpo.search.stopping import EndedTrial, expected_remaining_epochs
from hpo.store import costs, results, trials
from hpo.study.study import Study


@dataclass(frozen=True)
class SearchProgress:
    """The progress of a search. Each figure is read from the database on its first use."""

    connection: Connection
    study: Study

    @cached_property
    def ended(self) -> list[EndedTrial]:
        """The trials that have ended, in this order.

        If trials pause, only completed ones: all paused trials are pruned at once at the end.
        """
        study, pauses = self.study, bool(self.study.spec.make_pruner().pause_epochs)
        return [
            EndedTrial(number, value if state == TrialState.COMPLETE else None, number < study.inherited)
            for number, state, value in trials.ended(self.connection, study.search_id)
            if state == TrialState.COMPLETE or not pauses
        ]

    @property
    def epochs(self) -> int:
        """The epochs that all trials of the search have trained."""
        return sum(epochs for _, epochs in self._trained.values())

    @cached_property
    def device_seconds(self) -> float:
        """The time that the search has spent on devices."""
        return sum(costs.device_seconds(self.connection, self.study.search_id).values())

    @property
    def is_budget_committed(self) -> bool:
        """Whether the running trials are expected to use up the epoch budget."""
        spec = self.study.spec
        if spec.stop.epochs is None:
            return False
        others, remaining = dict(self._trained), 0.0
        if spec.baseline is not None and self.study.inherited in others:
            # The first trial that the study adds. It trains to its end, which says nothing about others.
            state, epochs = others.pop(self.study.inherited)
            remaining = spec.search.epochs - epochs if state == TrialState.RUNNING else 0
        running = [epochs for state, epochs in others.values() if state == TrialState.RUNNING]
        # Paused trials count as ended.
        ended = [epochs for state, epochs in others.values() if state != TrialState.RUNNING]
        remaining += expected_remaining_epochs(ended, running, spec.search.epochs)
        return self.epochs + remaining >= spec.stop.epochs

    @cached_property
    def _trained(self) -> Mapping[int, tuple[TrialState, int]]:
        """By number, the state of each trial and the epochs it has trained."""
        return results.trained_epochs(self.connection, self.study.search_id, self.study.inherited)
