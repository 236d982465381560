"""Trains packs under a budget, one epoch at a time. Knows no study and no database."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hpo.training.engines.base import Engine
from hpo.training.engines.eager import EagerEngine
from hpo.training.session import PackSession
from hpo.training.task import Recipe, Runtime, Task
from hpo.values.candidate import Candidate
from hpo.values.state import SessionState


@dataclass(frozen=True, slots=True)
class Trainer:
    """Trains packs of one task by one recipe."""

    task: Task
    recipe: Recipe
    engine: Engine = field(default_factory=EagerEngine)
    runtime: Runtime = field(default_factory=Runtime)

    def prepare(self) -> None:
        """Prepare the engine for packs of this recipe, before their first epoch: see `Engine.prepare`."""
        with self.runtime.interruptible():
            recipe = self.recipe
            self.engine.prepare(recipe.batch_size, recipe.budget.phases, recipe.columns)

    def start(
        self, candidates: Mapping[int, Candidate], states: Mapping[int, SessionState] | None = None
    ) -> PackSession:
        """Return a session of these candidates, each under the caller's key, before its next epoch.

        Members with an entry in `states` resume from it; the others begin with new weights.
        """
        session = PackSession(self.task, self.recipe, self.engine, self.runtime)
        session.join(candidates, states or {})
        return session
