"""What a study trains for: the loss of an example, and the metrics of an evaluation."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from hpo.errors import InputError, KeyInputError
from hpo.training.metrics import Scores
from hpo.training.weights import Tensors
from hpo.user_code import user_code
from hpo.values.epoch import validation_key


@dataclass(frozen=True, slots=True)
class OwnFunction:
    """A user's function of outputs and targets.

    `key` is the key of the study file that names the function, and `reference` its `package.module:function`.
    """

    key: str
    reference: str
    function: Callable[[Tensor, Tensor], Any]

    def __call__(self, outputs: Tensor, targets: Tensor) -> Any:
        return self.function(outputs, targets)

    def tried(self, outputs: Tensor, targets: Tensor) -> Any:
        """Return what the function gives for a few examples, with its gradient if the outputs have one.

        Raises KeyInputError if the function raises or changes the targets, which other members of a pack
        share.
        """
        title = f"{self.reference} on outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}"
        before = targets.clone()
        try:
            module = self.reference.partition(":")[0]
            with user_code(title, InputError, module), torch.set_grad_enabled(outputs.requires_grad):
                value = self.function(outputs.clone(), targets)
        except InputError as error:
            raise self.mistake(str(error)) from error
        if not torch.equal(before, targets):
            raise self.mistake("changes the targets in place; it must work on a copy, as of targets.clone()")
        return value

    def mistake(self, rule: str) -> KeyInputError:
        """Return the error for a function that breaks a rule."""
        return KeyInputError(f"{self.key} = {json.dumps(self.reference)}", rule)


@dataclass(frozen=True, kw_only=True)
class Criterion(ABC):
    """The loss of an example, and the metrics of an evaluation.

    `own_loss`: a user's loss of B outputs and targets, `(B,)`. None: that of the kind of targets.
    `own_metrics`: a user's metrics by name, each a number that follows from all outputs and targets of an
    evaluation.

    A loss is a pure function of one member's tensors, so that it can be vectorised, compiled and captured.
    """

    own_loss: OwnFunction | None = None
    own_metrics: Mapping[str, OwnFunction] = field(default_factory=dict)

    built_in: ClassVar[tuple[str, ...]]
    """The names of the metrics of `_metrics`, in order."""

    @property
    def target_axes(self) -> int:
        """The number of axes of one target."""
        return 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the rows of `metrics`, in order."""
        return (*self.built_in, *map(validation_key, self.own_metrics))

    @abstractmethod
    def training_loss(self, output: Tensor, targets: Tensor, settings: Tensors) -> Tensor:
        """Return the mean loss of one member's `output` for B examples in training mode, `()`.

        `settings`: the values of the columns in use, by name.
        """

    @abstractmethod
    def score(self, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the `Scores` of one member's `output` for B examples: `()`, `()` and `(B, ...)`."""

    @abstractmethod
    def check_outputs(self, title: str, outputs: tuple[object, object], targets: Tensor) -> None:
        """Raise InputError for outputs of a wrong shape, in evaluation mode and in training mode.

        `title`: the subject of the message.
        """

    def as_given(self, output: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002 (of other criteria)
        """Return the output of a network in the shape in which a loss and metrics get it."""
        return output

    @abstractmethod
    def balanced_weights(self, targets: Tensor) -> Tensor:
        """Return the balanced class weights `(classes,)` of training targets.

        Raises TypeError for numbers.
        """

    def metrics(self, scores: Scores, targets: Tensor) -> Tensor:
        """Return the metrics of M members on all N examples of an evaluation, `(len(names), M)` float64.

        `targets`: `(N, ...)`. Does not wait for the device, if a user's metrics do not.
        """
        rows = self._metrics(scores, targets)
        own = [
            torch.stack([_number(metric(outputs, targets), rows) for outputs in scores.predictions])
            for metric in self.own_metrics.values()
        ]
        return torch.cat([rows, torch.stack(own)]) if own else rows

    @abstractmethod
    def _metrics(self, scores: Scores, targets: Tensor) -> Tensor:
        """Return the metrics `built_in`, `(len(built_in), M)` float64."""


def _number(value: Any, like: Tensor) -> Tensor:
    """Return a number, or a tensor or array of one number, as a tensor `()`."""
    return torch.as_tensor(value, dtype=like.dtype, device=like.device).reshape(())


def shape_of(output: object) -> tuple[int, ...]:
    """Return the shape of an output of a network, which may be anything."""
    return tuple(output.shape) if isinstance(output, Tensor) else ()


def describe(output: object) -> str:
    """Return the shape or the type of an output of a network for a message."""
    return str(shape_of(output)) if isinstance(output, Tensor) else f"a {type(output).__name__}"
