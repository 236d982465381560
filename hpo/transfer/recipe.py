"""How a network is trained on the images of another data set."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from hpo.errors import InputError
from hpo.values.space import Value

Layers = Literal["last", "all"]

LEARNING_RATES: dict[Layers, float] = {"last": 0.1, "all": 0.3}
"""The default learning rate. For the last layer: that of the paper. For all layers: on digits, validation
prefers 1.0 by 0.7 points, and 0.3 leaves a margin for deeper networks (`python -m benchmarks.transfer`)."""


@dataclass(frozen=True, slots=True)
class TransferRecipe:
    """SGD without momentum at a constant learning rate.

    `layers`: whether the new last layer is trained on frozen features, or the whole network. `lr`: None for
    the default of `layers`. `seed` fixes the validation part, the new layers, the order of the images and
    dropout. Raises `InputError` for a value out of range.
    """

    layers: Layers = "last"
    epochs: int = 5
    lr: float | None = None
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        rate = self.learning_rate
        rules = {
            "layers": (self.layers in get_args(Layers), "must be last or all"),
            "epochs": (self.epochs >= 1, "must be at least 1"),
            "lr": (0 < rate < math.inf, "must be a number above 0"),
            "batch_size": (self.batch_size >= 2, "must be at least 2"),
            "seed": (0 <= self.seed < 2**32, "must be from 0 to 4,294,967,295"),
        }
        for name, (is_met, rule) in rules.items():
            if not is_met:
                raise InputError(f"{name} = {getattr(self, name)!r}: {rule}")

    @property
    def learning_rate(self) -> float:
        """The learning rate."""
        return LEARNING_RATES.get(self.layers, math.nan) if self.lr is None else self.lr

    @property
    def params(self) -> dict[str, Value]:
        """The hyperparameters of the training, as a trial has them."""
        return {
            "lr": self.learning_rate,
            "batch_size": self.batch_size,
            "optimizer": "sgd",
            "momentum": 0.0,
            "weight_decay": 0.0,
        }
