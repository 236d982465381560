"""A pack: M networks of one architecture, trained as one vectorised computation.

The parameters of a member are one row of a matrix `(M, P)`. torch.func's `vmap` turns each convolution into
one grouped convolution and each linear layer into one batched product (by hand: Wang et al. 2021, arXiv
2102.02344), and an optimizer step is a handful of operations on the whole matrix.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

Factory = Callable[[], nn.Module]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member's hyperparameters; `seed` initialises its weights."""

    lr: float
    momentum: float
    weight_decay: float
    seed: int


@dataclass(frozen=True, slots=True)
class Weights:
    """Of all members: parameters `(M, P)` and each buffer `(M, ...)`."""

    parameters: Tensor
    buffers: Mapping[str, Tensor]

    def of(self, members: Tensor) -> "Weights":
        """Those of the members at `members` `(K,)` int64, as a copy."""
        return Weights(
            self.parameters.index_select(0, members),
            {name: buffer.index_select(0, members) for name, buffer in self.buffers.items()},
        )

    def overwrite(self, other: "Weights", where: Tensor) -> None:
        """Takes over the weights of `other` for the members where `where` `(M,)` bool is true."""
        for mine, theirs in zip(self._tensors(), other._tensors(), strict=True):
            chosen = where.view(-1, *[1] * (mine.ndim - 1))  # (M, 1, ...)
            mine.copy_(torch.where(chosen, theirs, mine))

    def _tensors(self) -> list[Tensor]:
        return [self.parameters, *self.buffers.values()]

    @staticmethod
    def joined(parts: Sequence["Weights"]) -> "Weights":
        """The members of all parts, in order."""
        return Weights(
            torch.cat([part.parameters for part in parts]),
            {name: torch.cat([part.buffers[name] for part in parts]) for name in parts[0].buffers},
        )


class Pack:
    """The networks of the candidates, in their order; a member is addressed by its place, 0 to M - 1.

    Each is initialised under its own seed, as it would be alone.
    """

    def __init__(
        self,
        factory: Factory,
        seeds: Sequence[int],
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        networks = [_initialised(factory, seed).to(dtype) for seed in seeds]
        first = networks[0]
        self._base = deepcopy(first).to("meta")
        self._shapes = {name: parameter.shape for name, parameter in first.named_parameters()}
        self._sizes = [shape.numel() for shape in self._shapes.values()]
        rows = [torch.cat([p.detach().flatten() for p in network.parameters()]) for network in networks]
        buffers = [dict(network.named_buffers()) for network in networks]
        self.weights = Weights(
            torch.stack(rows).to(device),
            {name: torch.stack([b[name] for b in buffers]).to(device) for name in buffers[0]},
        )
        self._losses = vmap(self._loss, in_dims=(0, 0, None, None), randomness="different")
        self._scores = vmap(self._score, in_dims=(0, 0, None, None))

    def __len__(self) -> int:
        return len(self.weights.parameters)

    def gradients(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Losses `(M,)` and gradients `(M, P)` of all members on one batch, in training mode.

        `images` `(B, C, H, W)`, `labels` `(B,)`. Running statistics are updated. No wait for the device.
        """
        self._base.train()
        parameters, buffers = self.weights.parameters.requires_grad_(), self.weights.buffers
        if len(self) == 1:  # an ordinary training step, without the cost of vmap's dispatch
            alone = {name: buffer[0] for name, buffer in buffers.items()}
            losses = self._loss(parameters[0], alone, images, labels).unsqueeze(0)  # (1,)
        else:
            losses = self._losses(parameters, buffers, images, labels)  # (M,)
        # The sum keeps the members apart: the gradient of each loss reaches its own row only.
        (gradients,) = torch.autograd.grad(losses.sum(), parameters)  # (M, P)
        parameters.requires_grad_(False)
        return losses.detach(), gradients

    def score(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Summed losses `(M,)` and counts of right predictions `(M,)` on one batch, in evaluation mode."""
        self._base.eval()
        with torch.no_grad():
            scores: tuple[Tensor, Tensor] = self._scores(
                self.weights.parameters, self.weights.buffers, images, labels
            )
        return scores

    def keep(self, members: Tensor) -> None:
        """Shrinks to the members at `members` `(K,)` int64."""
        self.weights = self.weights.of(members)

    def state_dict(self, weights: Weights, member: int) -> dict[str, Tensor]:
        """One member of `weights` as the state dict of an ordinary module."""
        parts = torch.split(weights.parameters[member], self._sizes)
        parameters = {
            name: part.view(shape).clone()
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }
        return parameters | {name: buffer[member].clone() for name, buffer in weights.buffers.items()}

    def _call(self, row: Tensor, buffers: Mapping[str, Tensor], images: Tensor) -> Tensor:
        parts = torch.split(row, self._sizes)
        parameters = {
            name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }
        output: Tensor = functional_call(self._base, (parameters, dict(buffers)), (images,))
        return output

    def _loss(self, row: Tensor, buffers: Mapping[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        output = self._call(row, buffers, images)
        if output.ndim == 2:
            return F.cross_entropy(output, labels)
        # (B, heads, classes): each head has its own cross entropy, and they are summed.
        heads = output.shape[1]
        return heads * F.cross_entropy(output.flatten(0, 1), labels.repeat_interleave(heads))

    def _score(
        self, row: Tensor, buffers: Mapping[str, Tensor], images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        output = self._call(row, buffers, images)  # (B, classes)
        loss = F.cross_entropy(output, labels, reduction="sum")
        return loss, (output.argmax(1) == labels).sum()


def _initialised(factory: Factory, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return factory()
