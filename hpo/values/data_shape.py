"""The shapes of a data set's examples, which decide what a network takes and gives."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DataShape:
    """The shapes of one example.

    `input`: `(F,)` of a row of a table, `(C, H, W)` of an image, `(C, ...)` of others. `classes`: the number
    of classes, None where the targets are numbers. `target`: the shape of numbers, `()` or `(K,)`.
    """

    input: tuple[int, ...]
    classes: int | None = None
    target: tuple[int, ...] = ()

    @property
    def outputs(self) -> int:
        """The number of outputs of a network: one for each class, or for each number of a target."""
        return math.prod(self.target) if self.classes is None else self.classes

    @property
    def keywords(self) -> dict[str, int]:
        """The keywords of a network's constructor that the data decide."""
        outputs = "outputs" if self.classes is None else "classes"
        inputs = "in_features" if len(self.input) == 1 else "in_channels"
        return {outputs: self.outputs, inputs: self.input[0]}

    @property
    def noun(self) -> str:
        """What a message calls an input."""
        return "image" if len(self.input) == 3 else "input"
