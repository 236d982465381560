"""A pack: M networks of one architecture, trained as one.

The parameters of a member are one row of a matrix `(M, P)`, so that an optimizer step is a handful of
operations whatever the network. On an accelerator torch.func's `vmap` computes all members at once: each
convolution becomes one grouped convolution and each linear layer one batched product (by hand: Wang et al.
2021, arXiv 2102.02344). On a CPU they are computed one after another, by the same kernels as alone, so that a
member is the same to the last bit in every pack. On one thread `vmap` would take 0.9 of the time for 16
LeNets at batch 16, but 1.1 times as long for 4 or at batch 32, 1.4 at batch 64, and 2 for AlexNets.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from hpo.training.dropout import Dropout, Masks, Streams
from hpo.values.seeds import derive_seed

Factory = Callable[[], nn.Module]
Tensors = Mapping[str, Tensor]


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

    def to(self, device: torch.device) -> "Weights":
        """The same on `device`; those that are there already are not copied."""
        return Weights(
            self.parameters.to(device), {name: buffer.to(device) for name, buffer in self.buffers.items()}
        )

    def copy(self) -> "Weights":
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        return Weights(self.parameters.clone(), buffers)

    def replaced(self, other: "Weights", where: Tensor) -> "Weights":
        """A copy, with the weights of `other` for the members where `where` `(M,)` bool is true."""

        def chosen(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(where.view(-1, *[1] * (mine.ndim - 1)), theirs, mine)

        return Weights(
            chosen(self.parameters, other.parameters),
            {name: chosen(buffer, other.buffers[name]) for name, buffer in self.buffers.items()},
        )

    @staticmethod
    def joined(parts: Sequence["Weights"]) -> "Weights":
        """The members of all parts, in order."""
        return Weights(
            torch.cat([part.parameters for part in parts]),
            {name: torch.cat([part.buffers[name] for part in parts]) for name in parts[0].buffers},
        )


class Pack:
    """One network for each seed, initialised under it as it would be alone, on any device the same.

    A member is addressed by its place, 0 to M - 1. Networks have to update their buffers in place, and to run
    under `vmap` where there are several on an accelerator. One that returns `(B, heads, classes)` while
    training has a cross entropy for each head, and they are summed.

    What a member's layers of dropout draw follows from its own seed alone. A network that calls
    torch.nn.functional.dropout itself draws from torch's generator, and so depends on its pack.
    """

    def __init__(
        self,
        factory: Factory,
        seeds: Sequence[int],
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        networks = [_initialised(factory, seed).to(dtype) for seed in seeds]
        self._network = first = networks[0]  # only its structure is used
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
        self._networks: list[nn.Module] = []
        self._bound: Weights | None = None
        self._dropout = Dropout(first)
        if self.weights.parameters.device.type != "cpu":
            _normalise_in_float32(first)
        self.seed_dropout([derive_seed(seed) for seed in seeds])

    def __len__(self) -> int:
        return len(self.weights.parameters)

    def seed_dropout(self, seeds: Sequence[int]) -> None:
        """Starts the members' streams of dropout anew, each from its own of the M seeds.

        Until then they follow from the seeds that the pack was made with.
        """
        if len(seeds) != len(self):
            raise ValueError(
                f"{len(seeds)} seeds of dropout: a pack of {len(self)} must have one for each member"
            )
        parameters = self.weights.parameters
        self._streams = Streams(seeds, parameters.device, parameters.dtype)

    def loss(
        self, parameters: Tensors, buffers: Tensors, masks: Sequence[Tensor], images: Tensor, labels: Tensor
    ) -> Tensor:
        """The loss of one member with these tensors, in training mode, on a batch `(B, C, H, W)` and `(B,)`.

        A function of its arguments alone, but for the running statistics among `buffers`, which it updates.
        `masks`: of the layers of dropout.
        """
        self._dropout.give(masks)
        network = _in_mode(self._network, training=True)
        return _cross_entropy(_call(network, parameters, buffers, images), labels)

    def evaluation(
        self, parameters: Tensors, buffers: Tensors, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The summed loss and the right predictions of one member with these tensors, both float64."""
        return _score(_call(_in_mode(self._network, training=False), parameters, buffers, images), labels)

    def gradients(self, images: Tensor, labels: Tensor, masks: Masks | None = None) -> tuple[Tensor, Tensor]:
        """Losses `(M,)` and gradients `(M, P)` of all members, in training mode.

        On one batch for all, `(B, C, H, W)` and `(B,)`, or on one for each, `(M, B, C, H, W)` and `(M, B)`.
        `masks`: of dropout, as `masks_of` gives them, if they are drawn already. Running statistics are
        updated. Does not wait for the device. The gradients are good until the next call.
        """
        own = labels.ndim == 2
        masks = masks or self.masks_of(images, labels)
        if self._is_vectorised:
            losses = self._at_once(masks, images, labels, 0 if own else None)
        else:
            everyone = len(self)
            losses = self._in_turn(
                masks,
                images if own else images.expand(everyone, *images.shape),
                labels if own else labels.expand(everyone, -1),
            )
        return losses, self._gradients

    @torch.no_grad()
    def score(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Summed losses and counts of right predictions, each `(M,)` float64, on a batch in eval mode."""
        if self._is_vectorised:
            run = vmap(self.evaluation, in_dims=(0, 0, None, None))
            losses, right = run(self.unpacked(self.weights.parameters), self.weights.buffers, images, labels)
            return losses, right
        scores = [torch.stack(_score(member(images), labels)) for member in self._members(training=False)]
        losses, right = torch.stack(scores, dim=1)  # (2, M)
        return losses, right

    def state_dict(self, weights: Weights, member: int) -> dict[str, Tensor]:
        """One member of `weights` as the state dict of an ordinary module, as a copy."""
        tensors = self.unpacked(weights.parameters[member])
        tensors |= {name: buffer[member] for name, buffer in weights.buffers.items()}
        return {key: tensors[name].clone() for key, name in self._keys.items()}

    @property
    def _is_vectorised(self) -> bool:
        return len(self) > 1 and self.weights.parameters.device.type != "cpu"

    def unpacked(self, parameters: Tensor) -> dict[str, Tensor]:
        """Views by name: of all members `(M, P)` to `(M, ...)`, or of one `(P,)`."""
        members = parameters.shape[:-1]
        parts = torch.split(parameters, self._sizes, dim=-1)
        return {
            name: part.view((*members, *shape))
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def _at_once(self, masks: Masks, images: Tensor, labels: Tensor, batches: int | None) -> Tensor:
        """Losses `(M,)`; `batches` is the axis of images and labels that runs over the members, if any."""
        self._fit_gradients()
        leaves = {
            name: part.requires_grad_() for name, part in self.unpacked(self.weights.parameters).items()
        }
        losses = vmap(self.loss, in_dims=(0, 0, 0, batches, batches), randomness="different")(
            leaves, self.weights.buffers, masks.all(), images, labels
        )
        # The sum keeps the members apart: the gradient of each loss reaches its own parameters only.
        gradients = torch.autograd.grad(losses.sum(), tuple(leaves.values()), materialize_grads=True)
        torch.cat([part.reshape(len(self), -1) for part in gradients], dim=1, out=self._gradients)
        return losses.detach()

    def _in_turn(self, masks: Masks, images: Tensor, labels: Tensor) -> Tensor:
        """Losses `(M,)` on a batch for each."""
        members, losses = self._members(training=True), []
        for place, member in enumerate(members):
            self._dropout.give(masks.of(place))
            self._gradients[place].zero_()  # the network adds to it
            loss = _cross_entropy(member(images[place]), labels[place])
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses)

    def _members(self, training: bool) -> list[nn.Module]:
        """A network for each member, whose tensors are the member's rows of the weights and gradients."""
        if self._bound is not self.weights:
            self._fit_gradients()
            self._networks = [self._member(place) for place in range(len(self))]
            self._bound = self.weights
        return [_in_mode(network, training) for network in self._networks]

    def _member(self, place: int) -> nn.Module:
        row = self.unpacked(self.weights.parameters[place])
        gradients = self.unpacked(self._gradients[place])
        known: dict[int, object] = {id(self._dropout): self._dropout}
        for name, tensor in chain(self._network.named_parameters(), self._network.named_buffers()):
            mine = row[name] if name in row else self.weights.buffers[name][place]
            if isinstance(tensor, nn.Parameter):
                mine = nn.Parameter(mine, requires_grad=tensor.requires_grad)
                mine.grad = gradients.get(name)
            known[id(tensor)] = mine
        return deepcopy(self._network, known)  # what is known is taken, not copied

    def _fit_gradients(self) -> None:
        # One matrix for all steps: on a CPU, fresh memory of this size costs more than what is put into it.
        if self._gradients.shape != self.weights.parameters.shape:
            self._gradients = torch.empty_like(self.weights.parameters)

    def masks_of(self, images: Tensor, labels: Tensor) -> Masks:
        """The masks of dropout of the next step, on these batches, as for `gradients`."""
        return self.masks(images[0] if labels.ndim == 2 else images)

    def masks(self, images: Tensor) -> Masks:
        """The masks of dropout of the next step, on batches like `images` `(B, C, H, W)`."""
        layout = self._dropout.layout(images, partial(self._try, images))
        if layout.shapes and len(self._streams) != len(self):
            raise ValueError(
                f"{len(self._streams)} streams of dropout for {len(self)} members: seed_dropout first"
            )
        return self._streams.next(layout)

    @torch.no_grad()
    def _try(self, images: Tensor) -> None:
        """Runs the first member in training mode, and leaves no trace."""
        row = self.unpacked(self.weights.parameters[0])
        buffers = {name: buffer[0].clone() for name, buffer in self.weights.buffers.items()}
        with torch.random.fork_rng([images.device] if images.device.type == "cuda" else []):
            _call(_in_mode(self._network, training=True), row, buffers, images)


def _cross_entropy(output: Tensor, labels: Tensor) -> Tensor:
    if output.dtype == torch.bfloat16:
        output = output.float()
    if output.ndim == 2:
        return F.cross_entropy(output, labels)
    heads = output.shape[1]  # of (B, heads, classes)
    return heads * F.cross_entropy(output.flatten(0, 1), labels.repeat_interleave(heads))


def _score(output: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The summed loss and the right predictions of `output` `(B, classes)`."""
    losses = F.cross_entropy(output, labels, reduction="none")  # (B,)
    return losses.sum(dtype=torch.float64), (output.argmax(1) == labels).sum(dtype=torch.float64)


def _normalise_in_float32(network: nn.Module) -> None:
    # Under vmap, cuDNN is given batches of bfloat16 with statistics in float32, and refuses them.
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.register_forward_pre_hook(_in_float32)


def _in_float32(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(input.float() if input.dtype == torch.bfloat16 else input for input in inputs)


def _in_mode(network: nn.Module, training: bool) -> nn.Module:
    return network if network.training == training else network.train(training)


def _call(network: nn.Module, parameters: Tensors, buffers: Tensors, images: Tensor) -> Tensor:
    output: Tensor = functional_call(network, {**parameters, **buffers}, (images,))
    return output


def _initialised(factory: Factory, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=()):
        # Not torch.manual_seed, which would seed the accelerators too, and for good.
        torch.default_generator.manual_seed(seed)
        return factory()
