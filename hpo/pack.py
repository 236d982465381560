"""A pack: M networks of one architecture, trained on the same batches as one computation.

The parameters of a member are one row of a matrix `(M, P)`, so that an optimizer step is a handful of
operations whatever the network. torch.func's `vmap` turns each convolution into one grouped convolution and
each linear layer into one batched product (by hand: Wang et al. 2021, arXiv 2102.02344). Where that does not
pay, the members are computed one after another.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

Factory = Callable[[], nn.Module]
Tensors = Mapping[str, Tensor]

# On a CPU, `vmap` saves the overhead of operations, and loses where arithmetic and memory outweigh it. In
# packs of 16 on one thread, LeNet gains 1.5 times at batch 16 and 1.1 at 32, and loses 1.1 at 64; at batch 16
# ResNet loses 1.1 times, SpinalNet 1.5, AlexNet 1.8. LeNet gains from 4 members on.
LEAST_MEMBERS = 4
MOST_PRODUCTS = 2_000_000
"""Parameters of a member times images of a batch, at most."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A member's hyperparameters; `seed` initialises its weights."""

    lr: float
    momentum: float
    weight_decay: float
    seed: int


@dataclass(frozen=True, slots=True)
class Weights:
    """Of all members: trained parameters `(M, P)`; all else that a network holds, by name, `(M, ...)`."""

    parameters: Tensor
    buffers: Tensors

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
    """One network for each seed, initialised under it as it would be alone, on any device the same.

    A member is addressed by its place, 0 to M - 1. Networks of more than one member have to run under
    `vmap`. One that returns `(B, heads, classes)` while training has a cross entropy for each head, and they
    are summed.
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
        # Only their structure is used. Not on the meta device: there, layers no longer share a tensor.
        self._training, self._evaluation = first.train(), deepcopy(first).eval()
        self._shapes = {name: p.shape for name, p in first.named_parameters() if p.requires_grad}
        self._sizes = [shape.numel() for shape in self._shapes.values()]
        # A state dict has a tensor that two layers share under both names, and some buffers not at all.
        named = [dict(chain(network.named_parameters(), network.named_buffers())) for network in networks]
        names = {id(tensor): name for name, tensor in named[0].items()}
        self._keys = {key: names[id(tensor)] for key, tensor in first.state_dict(keep_vars=True).items()}
        rows = [torch.cat([tensors[name].detach().flatten() for name in self._shapes]) for tensors in named]
        self.weights = Weights(
            torch.stack(rows).to(device),
            {
                name: torch.stack([tensors[name].detach() for tensors in named]).to(device)
                for name in named[0]
                if name not in self._shapes
            },
        )
        self._gradients = torch.empty_like(self.weights.parameters)
        self._losses = vmap(self._loss, in_dims=(0, 0, None, None), randomness="different")
        self._scores = vmap(self._score, in_dims=(0, 0, None, None))

    def __len__(self) -> int:
        return len(self.weights.parameters)

    def gradients(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Losses `(M,)` and gradients `(M, P)` of all members on one batch, in training mode.

        `images` `(B, C, H, W)`, `labels` `(B,)`. Running statistics are updated. Does not wait for the
        device. The gradients are good until the next call.
        """
        parameters, buffers = self.weights.parameters, self.weights.buffers
        # One matrix for all steps: on a CPU, fresh memory of this size costs more than what is put into it.
        if self._gradients.shape != parameters.shape:
            self._gradients = torch.empty_like(parameters)
        if self._is_vectorised(len(images)):
            losses = self._differentiate(
                self._losses, parameters, buffers, images, labels, out=self._gradients
            )
        else:
            losses = torch.stack(
                [
                    self._differentiate(self._loss, row, tensors, images, labels, out=out)
                    for (row, tensors), out in zip(self._members(), self._gradients, strict=True)
                ]
            )
        return losses, self._gradients

    @torch.no_grad()
    def score(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Summed losses and counts of right predictions, each `(M,)` float64, on a batch in eval mode."""
        if self._is_vectorised(len(images)):
            parameters = self._unpacked(self.weights.parameters)
            losses, right = self._scores(parameters, self.weights.buffers, images, labels)
            return losses, right
        scores = [
            torch.stack(self._score(self._unpacked(row), tensors, images, labels))
            for row, tensors in self._members()
        ]
        losses, right = torch.stack(scores, dim=1)  # (2, M)
        return losses, right

    def keep(self, members: Tensor) -> None:
        """Shrinks to the members at `members` `(K,)` int64."""
        self.weights = self.weights.of(members)

    def state_dict(self, weights: Weights, member: int) -> dict[str, Tensor]:
        """One member of `weights` as the state dict of an ordinary module, as a copy."""
        tensors = self._unpacked(weights.parameters[member])
        tensors |= {name: buffer[member] for name, buffer in weights.buffers.items()}
        return {key: tensors[name].clone() for key, name in self._keys.items()}

    def _is_vectorised(self, batch: int) -> bool:
        if len(self) == 1 or self.weights.parameters.device.type != "cpu":
            return len(self) > 1
        return len(self) >= LEAST_MEMBERS and sum(self._sizes) * batch <= MOST_PRODUCTS

    def _members(self) -> Iterator[tuple[Tensor, Tensors]]:
        for member, row in enumerate(self.weights.parameters):
            yield row, {name: buffer[member] for name, buffer in self.weights.buffers.items()}

    def _unpacked(self, parameters: Tensor) -> dict[str, Tensor]:
        """Views by name: of all members `(M, P)` to `(M, ...)`, or of one `(P,)`."""
        members = parameters.shape[:-1]
        parts = torch.split(parameters, self._sizes, dim=-1)
        return {
            name: part.view((*members, *shape))
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def _differentiate(
        self,
        loss: Callable[[Tensors, Tensors, Tensor, Tensor], Tensor],
        parameters: Tensor,
        buffers: Tensors,
        images: Tensor,
        labels: Tensor,
        out: Tensor,
    ) -> Tensor:
        """The losses of one member `(P,)` or all `(M, P)`; their gradients go to `out`, of the same shape."""
        leaves = {name: part.requires_grad_() for name, part in self._unpacked(parameters).items()}
        losses = loss(leaves, buffers, images, labels)
        # The sum keeps the members apart: the gradient of each loss reaches its own parameters only.
        gradients = torch.autograd.grad(losses.sum(), tuple(leaves.values()), materialize_grads=True)
        torch.cat([part.reshape(*out.shape[:-1], -1) for part in gradients], dim=-1, out=out)
        return losses.detach()

    def _loss(self, parameters: Tensors, buffers: Tensors, images: Tensor, labels: Tensor) -> Tensor:
        output = _call(self._training, parameters, buffers, images)
        if output.ndim == 2:
            return F.cross_entropy(output, labels)
        heads = output.shape[1]  # of (B, heads, classes)
        return heads * F.cross_entropy(output.flatten(0, 1), labels.repeat_interleave(heads))

    def _score(
        self, parameters: Tensors, buffers: Tensors, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        output = _call(self._evaluation, parameters, buffers, images)  # (B, classes)
        losses = F.cross_entropy(output, labels, reduction="none")  # (B,)
        return losses.sum(dtype=torch.float64), (output.argmax(1) == labels).sum(dtype=torch.float64)


def _call(network: nn.Module, parameters: Tensors, buffers: Tensors, images: Tensor) -> Tensor:
    output: Tensor = functional_call(network, {**parameters, **buffers}, (images,))
    return output


def _initialised(factory: Factory, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=()):
        # Not torch.manual_seed, which would seed the accelerators too, and for good.
        torch.default_generator.manual_seed(seed)
        return factory()
