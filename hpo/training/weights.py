"""The tensors of the members of a pack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Weights:
    """The trained parameters and the other tensors of M members.

    `parameters`: `(M, P)`, one row per member. `buffers`: every other tensor of the network by name, `(M,
    ...)`; these are buffers, such as running statistics, and frozen parameters.
    """

    parameters: Tensor
    buffers: Tensors

    def select(self, members: Tensor) -> "Weights":
        """Return a copy of the rows at the indices `members` `(K,)` int64."""
        return Weights(
            self.parameters.index_select(0, members),
            {name: buffer.index_select(0, members) for name, buffer in self.buffers.items()},
        )

    def to(self, device: torch.device) -> "Weights":
        """Return the weights on `device`. Tensors that are there already are shared, not copied."""
        return Weights(
            self.parameters.to(device), {name: buffer.to(device) for name, buffer in self.buffers.items()}
        )

    def copy(self) -> "Weights":
        """Return a deep copy on the same device."""
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        return Weights(self.parameters.clone(), buffers)

    def replace(self, other: "Weights", mask: Tensor) -> "Weights":
        """Return a copy that has the rows of `other` where `mask` `(M,)` bool is true."""

        def merge(current: Tensor, replacement: Tensor) -> Tensor:
            return torch.where(mask.view(-1, *[1] * (current.ndim - 1)), replacement, current)

        return Weights(
            merge(self.parameters, other.parameters),
            {name: merge(buffer, other.buffers[name]) for name, buffer in self.buffers.items()},
        )

    @staticmethod
    def concatenate(parts: Sequence["Weights"]) -> "Weights":
        """Return the members of all `parts`, in order."""
        return Weights(
            torch.cat([part.parameters for part in parts]),
            {name: torch.cat([part.buffers[name] for part in parts]) for name in parts[0].buffers},
        )
