"""The interface of a sampler, which is also its section in the study file."""

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from hpo.search.samplers.points import plan
from hpo.values.section import Section
from hpo.values.space import Cell, Point, SearchSpace

if TYPE_CHECKING:  # checking a study file must not import Optuna
    from optuna.trial import TrialState


@dataclass(frozen=True, slots=True)
class Observation:
    """A trial as a sampler sees it; `value` is the validation loss, None if the trial has none yet."""

    point: Point
    state: "TrialState"
    value: float | None = None
    curve: Mapping[int, float] | None = None

    @property
    def has_failed(self) -> bool:
        """Return whether the trial has failed."""
        return self.state.name == "FAIL"


class Sampler(Section):
    """Choose the points of a search: the section `[sampler]` with the keys of one sampler, and its rule.

    A sampler is a function of its keys and arguments and keeps no state, so the search of one worker can be
    replayed. A subclass narrows `name` to the sampler's name. The first paragraph of its docstring says in
    the reference what the sampler does.
    """

    plans_all: ClassVar[bool] = False
    """Whether `initial` draws all points of the search. `suggest` is then never called."""

    is_sequence: ClassVar[bool] = False
    """Whether `initial` returns points of one sequence, which a fork continues."""

    name: str = ""
    startup: int = Field(
        default=10,
        ge=1,
        description="Random trials before the first suggestion. With the pruner `pause`, no trial resumes "
        "before this many trials have trained an epoch or ended.",
    )

    def initial(self, space: SearchSpace, count: int, seed: int, taken: Collection[Cell] = ()) -> list[Point]:
        """Return the first `count` points of a search, without the cells in `taken`. They are random here.

        A longer plan begins with the shorter one. A finite space ends the plan early when no cell is left.
        """
        return plan(space, count, seed, taken)

    @abstractmethod
    def suggest(
        self, space: SearchSpace, history: Iterable[Observation], count: int, seed: int
    ) -> list[Point]:
        """Return up to `count` new points; fewer only if a finite space has no cell left.

        `history` holds every trial of the study, including waiting and running ones. Points are random until
        `startup` trials have been observed. All randomness comes from `seed`, so it must differ between
        calls.
        """

    def mistakes(self, _space: SearchSpace) -> dict[str, str]:
        """Return the rule that each key breaks in a search of this space; the key `name` stands for the
        sampler itself."""
        return {}

    def load_plan(self) -> None:
        """Import the modules `initial` needs. No import may happen inside a transaction."""

    def load(self) -> None:
        """Import the modules `suggest` needs. Imports may take a second, so they must not happen under a
        lock."""


class PlannedSampler(Sampler):
    """A sampler whose points are known from the start: `initial` draws all of them."""

    plans_all = True

    startup: int = Field(
        default=10,
        ge=1,
        description="Only with the pruner `pause`: no trial resumes before this many trials have trained an "
        "epoch or ended.",
    )

    def suggest(
        self, _space: SearchSpace, _history: Iterable[Observation], _count: int, _seed: int
    ) -> list[Point]:
        return []
