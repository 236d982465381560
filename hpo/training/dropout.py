"""Dropout in a pack: each member draws its masks from a stream of its own.

A stream is a generator that depends on its seed and not on the pack, so a member drops the same units
wherever it is trained. Masks are drawn before a step and passed to the networks as inputs, like images.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LEVELS = 2**16
"""Number of values of a draw. A draw is 16 bits of a generator, which takes a quarter of the time of a float.
`p` is rounded to a multiple of 2^-16, and kept units are scaled by the rounded value, so means stay exact."""

BLOCK = 2**16
"""Draws that a member makes at once, at least those of one step. A GPU starts one kernel per member and
block."""

_SPATIAL_AXES: dict[type[nn.Module], int] = {nn.Dropout: 0, nn.Dropout1d: 1, nn.Dropout2d: 2, nn.Dropout3d: 3}
"""The layers that are replaced, and the number of trailing input axes that each drops together."""


Rates = tuple[float | None, ...]
"""The dropout rate of each member. None: each layer has its own."""


def has_dropout_layers(network: nn.Module) -> bool:
    """Return whether the network has a layer that `Dropout` replaces."""
    return any(type(layer) in _SPATIAL_AXES for layer in network.modules())


class Dropout:
    """Replaces a network's dropout layers by multiplications with the masks set by `set_masks`.

    It replaces `nn.Dropout`, `Dropout1d`, `Dropout2d` and `Dropout3d`, and no other layer that draws random
    numbers. The order of these layers and the shapes of their inputs may depend on the shape of the images
    only. `includes_zero`: whether layers of rate 0 have masks, too.
    """

    def __init__(self, network: nn.Module) -> None:
        self._masks: Iterator[Tensor] = iter(())
        self._recorded: list[tuple[float, torch.Size]] | None = None
        self._layouts: dict[tuple[torch.Size, bool], Layout] = {}
        self.includes_zero = False
        layers = [
            (name, layer)
            for name, layer in network.named_modules(remove_duplicate=False)
            if type(layer) in _SPATIAL_AXES
        ]
        for name, layer in layers:
            network.set_submodule(name, _MaskedDropout(layer, self))
        self._layers = [layer for _, layer in layers]

    def layout(self, images: Tensor, run: Callable[[], object]) -> "Layout":
        """Return the draws of a step on `images` `(B, C, H, W)`.

        The first time a shape occurs, `run` must compute the network on the images.
        """
        key = images.shape, self.includes_zero
        if key not in self._layouts:
            self._recorded = []
            try:
                if any(layer.p or self.includes_zero for layer in self._layers):
                    run()
                self._layouts[key] = Layout.of(self._recorded, images.device)
            finally:
                self._recorded = None
        return self._layouts[key]

    def set_masks(self, masks: Sequence[Tensor]) -> None:
        """Set the masks of the next run of the network, one for each call of a dropout layer."""
        self._masks = iter(masks)

    def apply(self, input: Tensor, p: float, spatial_axes: int) -> Tensor:
        """Return `input` times the next mask. While a layout is recorded, return it unchanged."""
        if self._recorded is None:
            return input * next(self._masks)
        shape = [*input.shape[: input.ndim - spatial_axes], *[1] * spatial_axes]
        self._recorded.append((p, torch.Size(shape)))
        return input


class _MaskedDropout(nn.Dropout):
    def __init__(self, layer: nn.Module, dropout: Dropout) -> None:
        super().__init__(layer.p)  # type: ignore[arg-type]
        self._spatial_axes, self._dropout = _SPATIAL_AXES[type(layer)], dropout
        self.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or (self.p == 0 and not self._dropout.includes_zero):
            return input
        return self._dropout.apply(input, self.p, self._spatial_axes)


@dataclass(frozen=True, slots=True)
class Layout:
    """The D draws of one step of one member: the masks of all dropout calls, one after another.

    `shapes` and `sizes`: shape and number of elements of each mask. A unit is kept if its draw is at least
    `threshold` `(D,)` int16; it is then multiplied by `scale` `(D,)`.
    """

    shapes: tuple[torch.Size, ...]
    sizes: tuple[int, ...]
    threshold: Tensor
    scale: Tensor

    @staticmethod
    def of(masks: Sequence[tuple[float, torch.Size]], device: torch.device) -> "Layout":
        """Return the layout of masks given as (dropout probability, shape)."""
        shapes = tuple(shape for _, shape in masks)
        sizes = tuple(shape.numel() for shape in shapes)
        repeats = torch.tensor(sizes, dtype=torch.int64)
        parts = (part.repeat_interleave(repeats).to(device) for part in _limits([p for p, _ in masks]))
        return Layout(shapes, sizes, *parts)

    def limits(self, rates: Rates | None) -> tuple[Tensor, Tensor]:
        """Return threshold and scale of M members with these rates, `(M, 1)` or `(M, D)`, or those of all."""
        if rates is None:
            return self.threshold, self.scale
        own = self.threshold, self.scale
        limits = [part.to(self.scale.device)[:, None] for part in _limits([rate or 0.0 for rate in rates])]
        if None in rates:
            has_own = torch.tensor([[rate is None] for rate in rates], device=self.scale.device)
            limits = [torch.where(has_own, *pair) for pair in zip(own, limits, strict=True)]  # (M, D)
        threshold, scale = limits  # (M, 1), or (M, D)
        return threshold, scale

    def split(self, factors: Tensor) -> list[Tensor]:
        """Split factors `(..., D)` into masks `(..., *shape)`."""
        if not self.shapes:
            return []
        parts = factors.split_with_sizes(self.sizes, dim=-1)
        return [
            part.view(*factors.shape[:-1], *shape) for part, shape in zip(parts, self.shapes, strict=True)
        ]


def _limits(rates: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return threshold, int16, and scale of units that are dropped at N rates, both `(N,)`."""
    dropped = torch.tensor([round(rate * LEVELS) for rate in rates])  # levels
    threshold = dropped.clamp(max=LEVELS - 1) - LEVELS // 2
    scale = torch.where(dropped < LEVELS, LEVELS / (LEVELS - dropped), 0.0)
    return threshold.to(torch.int16), scale


@dataclass(frozen=True, slots=True)
class Masks:
    """The masks of one step of all members. `factors` `(M, D)`: the scale of each kept unit, 0 for others."""

    layout: Layout
    factors: Tensor

    def all(self) -> list[Tensor]:
        """Return the masks of all members, each `(M, *shape)`."""
        return self.layout.split(self.factors)

    def of(self, member: int) -> list[Tensor]:
        """Return the masks of the member with this index, each of its layout's shape."""
        return self.layout.split(self.factors[member])


class Streams:
    """One stream of draws per member. A stream follows from its seed and the sequence of layouts."""

    def __init__(
        self, seeds: Sequence[int], device: torch.device, dtype: torch.dtype, block: int = BLOCK
    ) -> None:
        self._block_size = block
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._layout: Layout | None = None
        self._block = torch.empty(len(seeds), 0, 0, dtype=torch.int16, device=device)  # (M, steps, D)
        self._factors = torch.empty(len(seeds), 0, dtype=dtype, device=device)  # (M, D)
        self._step = 0  # the next step of the block
        self._limits_of: tuple[Layout | None, Rates | None] = (None, None)
        self._limits: tuple[Tensor, Tensor]  # of the layout and the rates of `_limits_of`

    def __len__(self) -> int:
        return len(self._generators)

    def next(self, layout: Layout, rates: Rates | None = None) -> Masks:
        """Return the masks of the next step at these rates. They are valid until the next call."""
        if layout.shapes:
            if self._layout is not layout or self._step == self._block.shape[1]:
                self._draw(layout)
            if self._limits_of[0] is not layout or self._limits_of[1] is not rates:
                self._limits, self._limits_of = layout.limits(rates), (layout, rates)
            threshold, scale = self._limits
            torch.ge(self._block[:, self._step], threshold, out=self._factors).mul_(scale)
            self._step += 1
        return Masks(layout, self._factors)

    def _draw(self, layout: Layout) -> None:
        members, draws = len(self), len(layout.threshold)
        steps = max(1, self._block_size // draws)
        words = self._block.new_empty(members, -(-steps * draws // 4), dtype=torch.int64)
        for row, generator in zip(words, self._generators, strict=True):
            row.random_(-(2**63), None, generator=generator)  # all 64 bits
        self._block = words.view(torch.int16)[:, : steps * draws].view(members, steps, draws)
        self._factors = self._factors.new_empty(members, draws)
        self._layout, self._step = layout, 0
