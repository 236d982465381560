"""The engine protocol: how the members of a pack take a step and are evaluated."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from hpo.training.dropout import Masks
from hpo.training.metrics import Scores
from hpo.training.optimizers.base import Optimizer
from hpo.training.pack import Pack
from hpo.values.budget import Phase


class Engine(Protocol):
    """Computes the steps and evaluations of packs."""

    @property
    def evaluation_batch(self) -> int:
        """The number of examples to pass to `score` at a time."""

    def prepare(self, batch_size: int, phases: Iterable[Phase], columns: Sequence[str] = ()) -> None:
        """Prepare for steps of this batch size in these phases. May take a minute the first time.

        `columns`: the names of the columns in use, see `Recipe`.
        """

    def step(
        self, pack: Pack, optimizer: Optimizer, max_norm: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        """Train all members for one step and return their losses `(M,)`.

        `images` and `labels` have the shapes that `Pack.gradients` accepts. Each member's gradient is clipped
        to the norm `max_norm`; None means no clipping. A column `clip` of the pack takes its place.
        """

    def score(self, pack: Pack, images: Tensor, labels: Tensor) -> Scores:
        """Return what `Pack.score` returns."""


@dataclass(frozen=True, slots=True)
class StepInputs:
    """The tensors that one step reads besides the weights and the optimizer's state."""

    images: Tensor
    labels: Tensor
    masks: Masks
