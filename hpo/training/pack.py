"""A pack: M networks of one architecture, trained as one fused computation.

The parameters of a member are one row of a matrix `(M, P)`. An optimizer step is therefore a handful of
operations, whatever the network.

On an accelerator torch.func's `vmap` computes all members at once: each convolution becomes one grouped
convolution and each linear layer one batched product. Wang et al. 2021, arXiv 2102.02344, do the same by
hand.

On a CPU the members are computed one after another by the kernels of a single network, so a member's curve is
the same to the bit in every pack (docs/decisions/018-the-pack-computes-the-trial-is-recorded.md).
"""

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import vmap

from hpo.training.classification import CLASSES
from hpo.training.columns import values_of
from hpo.training.criterion import Criterion
from hpo.training.dropout import Dropout, Masks, Rates, Streams
from hpo.training.metrics import Scores
from hpo.training.networks import (
    Factory,
    PlainTensors,
    call,
    in_mode,
    initialised,
    normalise_in_float32,
)
from hpo.training.weights import Tensors, Weights
from hpo.values.seeds import Purpose


class Pack:
    """M networks, each initialised under a seed exactly as it would be alone, on any device.

    A member is addressed by its index, 0 to M - 1. A network must update its buffers in place. On an
    accelerator a network must also run under `vmap` if the pack has several members.

    `criterion` has the loss of the members, and what their evaluation returns: by default those of classes.

    `columns` are the settings of the loss and of clipping in use, each with a value per member `(M, ...)`.
    Whoever replaces `weights` replaces them and `dropout_rates`, too.

    The masks of dropout layers follow from the member's seed alone. A network that calls
    torch.nn.functional.dropout itself draws from torch's generator, so its masks depend on the pack.
    """

    def __init__(
        self,
        factory: Factory,
        seeds: Sequence[int],
        device: torch.device | str,
        dtype: torch.dtype = torch.float32,
        vectorised: bool | None = None,
    ) -> None:
        """Create the networks.

        `vectorised`: whether `vmap` computes several members. None: True except on a CPU.
        """
        networks = [initialised(factory, seed).to(dtype) for seed in seeds]
        self._network = first = networks[0]  # only its structure is used
        self._shapes = {name: p.shape for name, p in first.named_parameters() if p.requires_grad}
        self._sizes = [shape.numel() for shape in self._shapes.values()]
        # A state dict lists a tensor that two layers share under both names, and omits non-persistent
        # buffers.
        tensors = [dict(chain(network.named_parameters(), network.named_buffers())) for network in networks]
        names = {id(tensor): name for name, tensor in tensors[0].items()}
        self._keys = {key: names[id(tensor)] for key, tensor in first.state_dict(keep_vars=True).items()}
        rows = [torch.cat([named[name].detach().flatten() for name in self._shapes]) for named in tensors]
        self.weights = Weights(
            torch.stack(rows).to(device),
            {
                name: torch.stack([named[name].detach() for named in tensors]).to(device)
                for name in tensors[0]
                if name not in self._shapes
            },
        )
        self.criterion: Criterion = CLASSES
        self.columns: Tensors = {}
        self._gradients = torch.empty_like(self.weights.parameters)
        self._networks: list[nn.Module] = []
        self._bound: Weights | None = None  # the weights that `_networks` are views of
        self._dropout = Dropout(first)
        self._rates: Rates | None = None
        self._plain = PlainTensors(first, device)
        is_on_cpu = self.weights.parameters.device.type == "cpu"
        self._may_vectorise = not is_on_cpu if vectorised is None else vectorised
        if not is_on_cpu:
            normalise_in_float32(first)
        self.seed_dropout([Purpose.DROPOUT.derive(seed) for seed in seeds])

    def __len__(self) -> int:
        return len(self.weights.parameters)

    @property
    def dropout_rates(self) -> Rates | None:
        """The rate of every dropout layer for each member `(M)`. None for a member: the rates of the network.

        None for the pack: all members have the rates of the network, and layers of rate 0 draw no masks.
        """
        return self._rates

    @dropout_rates.setter
    def dropout_rates(self, rates: Rates | None) -> None:
        self._rates = rates
        self._dropout.includes_zero = rates is not None

    def seed_dropout(self, seeds: Sequence[int]) -> None:
        """Restart the dropout stream of each member from its entry in `seeds` (M).

        A new pack derives these seeds from the seeds of the weights. Raises ValueError for another number of
        seeds.
        """
        if len(seeds) != len(self):
            raise ValueError(
                f"{len(seeds)} seeds of dropout: a pack of {len(self)} must have one for each member"
            )
        parameters = self.weights.parameters
        self._streams = Streams(seeds, parameters.device, parameters.dtype)

    def loss(
        self,
        parameters: Tensors,
        buffers: Tensors,
        settings: Tensors,
        masks: Sequence[Tensor],
        batch: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Return the training loss of one member with these tensors on a batch `(B, C, ...)` and `(B, ...)`.

        This is a pure function, except that it updates running statistics among `buffers` in place.
        `settings` are the values of `columns` of the member. `masks` are the masks of the dropout layers.
        """
        self._dropout.set_masks(masks)
        images, labels = batch
        network = in_mode(self._network, training=True)
        return self.criterion.training_loss(call(network, parameters, buffers, images), labels, settings)

    def evaluation(
        self, parameters: Tensors, buffers: Tensors, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `Criterion.score` returns, for one member with these tensors."""
        network = in_mode(self._network, training=False)
        return self.criterion.score(call(network, parameters, buffers, images), labels)

    def gradients(self, images: Tensor, labels: Tensor, masks: Masks | None = None) -> tuple[Tensor, Tensor]:
        """Return the losses `(M,)` and gradients `(M, P)` of all members in training mode.

        The members share one batch, `(B, C, ...)` and `(B, ...)`, or have one each, `(M, B, C, ...)` and `(M,
        B, ...)`. `masks`: dropout masks already drawn by `masks_of`. Updates running statistics. Does not
        wait for the device. The gradients are valid until the next call.
        """
        per_member = self.has_own_batches(labels)
        masks = masks or self.masks_of(images, labels)
        if self._is_vectorised:
            losses = self._vectorised_losses(masks, images, labels, 0 if per_member else None)
        else:
            members = len(self)
            losses = self._sequential_losses(
                masks,
                images if per_member else images.expand(members, *images.shape),
                labels if per_member else labels.expand(members, *labels.shape),
            )
        return losses, self._gradients

    @torch.no_grad()
    def score(self, images: Tensor, labels: Tensor) -> Scores:
        """Return the scores of the members in evaluation mode."""
        if self._is_vectorised:
            run = vmap(self.evaluation, in_dims=(0, 0, None, None))
            return Scores(*run(self.unpack(self.weights.parameters), self.weights.buffers, images, labels))
        networks, score = self._bind(training=False), self.criterion.score
        return Scores.stack([score(network(images), labels) for network in networks])

    def state_dict(self, weights: Weights, member: int) -> dict[str, Tensor]:
        """Return the row `member` of `weights` as the state dict of an ordinary module, copied."""
        tensors = self.unpack(weights.parameters[member])
        tensors |= {name: buffer[member] for name, buffer in weights.buffers.items()}
        return {key: tensors[name].clone() for key, name in self._keys.items()}

    def unpack(self, parameters: Tensor) -> dict[str, Tensor]:
        """Return views by parameter name: `(M, P)` becomes `(M, ...)`, and one row `(P,)` becomes `(...)`."""
        members = parameters.shape[:-1]
        parts = torch.split(parameters, self._sizes, dim=-1)
        return {
            name: part.view((*members, *shape))
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def masks_of(self, images: Tensor, labels: Tensor) -> Masks:
        """Draw the dropout masks of the next step on a batch of the shapes that `gradients` accepts."""
        return self.masks(images[0] if self.has_own_batches(labels) else images)

    def has_own_batches(self, labels: Tensor) -> bool:
        """Return whether `labels` are those of each member, `(M, B, ...)`, and not shared, `(B, ...)`."""
        return labels.ndim > 1 + self.criterion.target_axes

    def masks(self, images: Tensor) -> Masks:
        """Draw the dropout masks of the next step on a batch like `images` `(B, C, ...)` for each member.

        Raises ValueError if the pack was given weights of another number of members without new dropout
        seeds.
        """
        layout = self._dropout.layout(images, partial(self._run_first_member, images))
        if layout.shapes and len(self._streams) != len(self):
            raise ValueError(
                f"{len(self._streams)} streams of dropout for {len(self)} members: seed_dropout first"
            )
        return self._streams.next(layout, self._rates)

    def replaced_buffers(self) -> list[str]:
        """Return the names of the buffers that members computed in turn have replaced instead of updated."""
        persistent = set(self._keys.values())
        return [
            name
            for name, buffer in (self._networks[0].named_buffers() if self._networks else ())
            if name in persistent and buffer.data_ptr() != self.weights.buffers[name][0].data_ptr()
        ]

    @property
    def _is_vectorised(self) -> bool:
        return len(self) > 1 and self._may_vectorise

    def _vectorised_losses(
        self, masks: Masks, images: Tensor, labels: Tensor, batch_axis: int | None
    ) -> Tensor:
        """Return losses `(M,)`; `batch_axis` is the member axis of `images` and `labels`, None if shared."""
        self._resize_gradients()
        leaves = {name: part.requires_grad_() for name, part in self.unpack(self.weights.parameters).items()}
        settings = {name: values_of(column) for name, column in self.columns.items()}
        losses = vmap(self.loss, in_dims=(0, 0, 0, 0, batch_axis), randomness="different")(
            leaves, self.weights.buffers, settings, masks.all(), (images, labels)
        )
        # The gradient of the sum is each member's own gradient, because a loss depends on one member only.
        gradients = torch.autograd.grad(losses.sum(), tuple(leaves.values()), materialize_grads=True)
        torch.cat([part.reshape(len(self), -1) for part in gradients], dim=1, out=self._gradients)
        return losses.detach()

    def _sequential_losses(self, masks: Masks, images: Tensor, labels: Tensor) -> Tensor:
        """Return losses `(M,)` on one batch per member."""
        networks, losses = self._bind(training=True), []
        for index, network in enumerate(networks):
            self._dropout.set_masks(masks.of(index))
            self._gradients[index].zero_()  # backward accumulates into it
            settings = {name: values_of(column[index]) for name, column in self.columns.items()}
            loss = self.criterion.training_loss(network(images[index]), labels[index], settings)
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses)

    def _bind(self, training: bool) -> list[nn.Module]:
        """Return one network per member whose tensors are views of the member's weights and gradients."""
        if self._bound is not self.weights:
            self._resize_gradients()
            self._networks = [self._network_of(index) for index in range(len(self))]
            self._bound = self.weights
        return [in_mode(network, training) for network in self._networks]

    def _network_of(self, index: int) -> nn.Module:
        self._plain.restore()
        row = self.unpack(self.weights.parameters[index])
        gradients = self.unpack(self._gradients[index])
        memo: dict[int, object] = {id(self._dropout): self._dropout}
        for name, tensor in chain(self._network.named_parameters(), self._network.named_buffers()):
            view = row[name] if name in row else self.weights.buffers[name][index]
            if isinstance(tensor, nn.Parameter):
                view = nn.Parameter(view, requires_grad=tensor.requires_grad)
                view.grad = gradients.get(name)
            memo[id(tensor)] = view
        return deepcopy(self._network, memo)  # tensors in the memo are shared, not copied

    def _resize_gradients(self) -> None:
        # One matrix serves all steps: on a CPU, allocating this much memory costs more than filling it.
        if self._gradients.shape != self.weights.parameters.shape:
            self._gradients = torch.empty_like(self.weights.parameters)

    @torch.no_grad()
    def _run_first_member(self, images: Tensor) -> None:
        """Run the first member in training mode without changing its tensors or the random state."""
        row = self.unpack(self.weights.parameters[0])
        buffers = {name: buffer[0].clone() for name, buffer in self.weights.buffers.items()}
        with torch.random.fork_rng([images.device] if images.device.type == "cuda" else []):
            call(in_mode(self._network, training=True), row, buffers, images)
