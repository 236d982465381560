"""The interface of a sampler, and the samplers by name."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar

import optuna
from optuna.trial import TrialState

from hpo.search.samplers.registry import SAMPLERS
from hpo.values.space import Cell, Point, SearchSpace

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True, slots=True)
class Observation:
    """A trial as a sampler sees it; `value` is the validation loss, None if the trial has none yet."""

    point: Point
    state: TrialState
    value: float | None = None
    curve: Mapping[int, float] | None = None


class Sampler(ABC):
    """Choose the points of a search.

    A sampler is a function of its arguments and keeps no state, so the search of one worker can be replayed.
    """

    plans_all: ClassVar[bool] = False
    """Whether `initial` draws all points of the search. `suggest` is then never called."""

    @abstractmethod
    def initial(self, space: SearchSpace, count: int, seed: int, taken: Collection[Cell] = ()) -> list[Point]:
        """Return the first `count` points of a search, without the cells in `taken`.

        A longer plan begins with the shorter one. A finite space ends the plan early when no cell is left.
        """

    @abstractmethod
    def suggest(
        self, space: SearchSpace, history: Iterable[Observation], count: int, seed: int, startup: int
    ) -> list[Point]:
        """Return up to `count` new points; fewer only if a finite space has no cell left.

        `history` holds every trial of the study, including waiting and running ones. Points are random until
        `startup` trials have been observed. All randomness comes from `seed`, so it must differ between
        calls.
        """

    def load(self) -> None:  # noqa: B027 (most samplers need nothing)
        """Import the modules `suggest` needs. Imports may take a second, so they must not happen under a
        lock."""


def make_sampler(name: str) -> Sampler:
    """Return the sampler of that name in the study file."""
    module, _, attribute = SAMPLERS[name].partition(":")
    sampler: Sampler = getattr(import_module(module), attribute)()
    return sampler
