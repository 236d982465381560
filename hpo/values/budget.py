"""The budget of one trial: the split of the data, and the phases of training.

The study file sets these values; the trainer spends them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random affine maps, drawn per image.

    `rotation` and `shear` are maximal angles in degrees. `shift` is the maximal translation as a share of the
    side. `scale` is the smallest and the largest factor.
    """

    rotation: float = 0.0
    shift: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0

    @staticmethod
    def of(
        params: Mapping[str, Any], searched: Collection[str], otherwise: "Augmentation | None"
    ) -> "Augmentation | None":
        """Return the augmentation of a trial: the strengths that are `searched`, and others from `otherwise`.

        None: the images stay as they are.
        """
        own = {name: params[name] for name in searched if name in params}
        if not own:
            return otherwise
        if (scaling := own.pop("scaling", None)) is not None:
            own["scale"] = (1 - scaling, 1 + scaling)
        augmentation = replace(otherwise or Augmentation(), **own)
        return None if augmentation == Augmentation() else augmentation


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of epochs with one optimizer.

    `settings`: the settings of the optimizer, which has defaults for those it leaves out. None: those of the
    trial. `patience` is early stopping: the phase ends after this number of epochs without a new best
    validation loss; None means never. `clip` is the largest gradient norm of a pack member; None means no
    clipping. `params`: hyperparameters that all trials have in the phase, in place of their own. `ema`: the
    decay per step of an average of the weights, which is evaluated and kept in place of the weights; None
    means no average.
    """

    optimizer: str
    epochs: int
    patience: int | None = None
    clip: float | None = None
    augmentation: Augmentation | None = None
    settings: Mapping[str, Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    ema: float | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """The phases of one trial on one split.

    The split `mini` trains on mini-train and validates on mini-validation. The split `full` trains on the 90%
    outside the mini part and validates on the whole mini part. The split `all` trains on both. `keep` selects
    the epoch whose weights and validation loss become the result of the trial: the last epoch or the best
    epoch.
    """

    split: Literal["mini", "full", "all"]
    phases: tuple[Phase, ...]
    keep: Literal["last", "best"]

    @property
    def epochs(self) -> int:
        """Return the largest number of epochs that a trial can train."""
        return sum(phase.epochs for phase in self.phases)

    def spans(self, limits: Sequence[int] | None = None) -> tuple[int, ...]:
        """Return the largest number of epochs of each phase of a trial with these limits, see `Candidate`."""
        if limits is None:
            return tuple(phase.epochs for phase in self.phases)
        return tuple(min(phase.epochs, limit) for phase, limit in zip(self.phases, limits, strict=False))

    def refit(self) -> "Budget":
        """Return the budget of a refit: the same phases on all images, which only limits end earlier."""
        return Budget("all", tuple(replace(phase, patience=None) for phase in self.phases), keep="last")
