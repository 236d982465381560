"""Dropout in a pack: each member draws from a stream of its own.

A stream is a generator that knows its seed and nothing of the pack, so a member drops the same wherever it is
trained. Masks are drawn before a step and handed to the networks as inputs, like images.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LEVELS = 2**16
"""A draw is 16 bits of a generator, which take a quarter of the time of a float. `p` is thus rounded to a
multiple of 2^-16, and what is kept is scaled by the rounded one, so that means stay exact."""

BLOCK = 2**16
"""Draws of a member at a time, but at least one step's: a GPU starts a kernel for each member and block."""

_SPATIAL_AXES: dict[type[nn.Module], int] = {nn.Dropout: 0, nn.Dropout1d: 1, nn.Dropout2d: 2, nn.Dropout3d: 3}
"""The layers that are replaced, and how many of the last axes of their inputs are dropped together."""


class Dropout:
    """Takes the place of a network's dropout layers: they multiply by the masks that `give` is told next.

    Replaced are `nn.Dropout`, `Dropout1d`, `Dropout2d` and `Dropout3d`, not what draws in other ways. They
    have to run in an order and on shapes that depend on the shape of the images alone.
    """

    def __init__(self, network: nn.Module) -> None:
        self._masks: Iterator[Tensor] = iter(())
        self._seen: list[tuple[float, torch.Size]] | None = None
        self._layouts: dict[torch.Size, Layout] = {}
        layers = [
            item for item in network.named_modules(remove_duplicate=False) if type(item[1]) in _SPATIAL_AXES
        ]
        for name, layer in layers:
            network.set_submodule(name, _Masked(layer, self))
        self._is_active = any(layer.p for _, layer in layers)

    def layout(self, images: Tensor, run: Callable[[], object]) -> "Layout":
        """What a step on `images` `(B, C, H, W)` draws; `run` computes the network on them if need be."""
        if images.shape not in self._layouts:
            self._seen = []
            try:
                if self._is_active:
                    run()
                self._layouts[images.shape] = Layout.of(self._seen, images.device)
            finally:
                self._seen = None
        return self._layouts[images.shape]

    def give(self, masks: Sequence[Tensor]) -> None:
        """The masks of the next run of the network, one for each run of a layer."""
        self._masks = iter(masks)

    def apply(self, input: Tensor, p: float, spatial: int) -> Tensor:
        if self._seen is None:
            return input * next(self._masks)
        self._seen.append((p, torch.Size([*input.shape[: input.ndim - spatial], *[1] * spatial])))
        return input


class _Masked(nn.Dropout):
    def __init__(self, layer: nn.Module, dropout: Dropout) -> None:
        super().__init__(layer.p)  # type: ignore[arg-type]
        self._spatial, self._dropout = _SPATIAL_AXES[type(layer)], dropout
        self.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        if self.p == 0 or not self.training:
            return input
        return self._dropout.apply(input, self.p, self._spatial)


@dataclass(frozen=True, slots=True)
class Layout:
    """The draws of one step of one member, `(D,)`: masks of `shapes`, and so of `sizes`, one after another.

    A draw of at least `least` `(D,)` int16 is kept, with the factor `scale` `(D,)`.
    """

    shapes: tuple[torch.Size, ...]
    sizes: tuple[int, ...]
    least: Tensor
    scale: Tensor

    @staticmethod
    def of(masks: Sequence[tuple[float, torch.Size]], device: torch.device) -> "Layout":
        """Of masks with these probabilities of dropping and shapes."""
        shapes = tuple(shape for _, shape in masks)
        sizes = tuple(shape.numel() for shape in shapes)
        repeats = torch.tensor(sizes, dtype=torch.int64)
        dropped = torch.tensor([round(p * LEVELS) for p, _ in masks])  # levels
        least = dropped.clamp(max=LEVELS - 1) - LEVELS // 2
        scale = torch.where(dropped < LEVELS, LEVELS / (LEVELS - dropped), 0.0)
        return Layout(
            shapes,
            sizes,
            least.to(torch.int16).repeat_interleave(repeats).to(device),
            scale.repeat_interleave(repeats).to(device),
        )

    def parts(self, factors: Tensor) -> list[Tensor]:
        """The masks in factors `(..., D)`, each `(..., *shape)`."""
        if not self.shapes:
            return []
        parts = factors.split_with_sizes(self.sizes, dim=-1)
        return [
            part.view(*factors.shape[:-1], *shape) for part, shape in zip(parts, self.shapes, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Masks:
    """Of one step: the factors `(M, D)` of all draws of all members."""

    layout: Layout
    factors: Tensor

    def all(self) -> list[Tensor]:
        """Of all members, `(M, *shape)` each."""
        return self.layout.parts(self.factors)

    def of(self, member: int) -> list[Tensor]:
        """Of one member, by its place."""
        return self.layout.parts(self.factors[member])


class Streams:
    """A stream for each member of a pack. What it gives follows from its seed and the layouts asked for."""

    def __init__(self, seeds: Sequence[int], device: torch.device, dtype: torch.dtype) -> None:
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._layout: Layout | None = None
        self._block = torch.empty(len(seeds), 0, 0, dtype=torch.int16, device=device)  # (M, steps, D)
        self._factors = torch.empty(len(seeds), 0, dtype=dtype, device=device)  # (M, D)
        self._step = 0  # of the block

    def __len__(self) -> int:
        return len(self._generators)

    def next(self, layout: Layout) -> Masks:
        """The masks of the next step. They are good until the next call."""
        if layout.shapes:
            if self._layout is not layout or self._step == self._block.shape[1]:
                self._draw(layout)
            torch.ge(self._block[:, self._step], layout.least, out=self._factors).mul_(layout.scale)
            self._step += 1
        return Masks(layout, self._factors)

    def _draw(self, layout: Layout) -> None:
        members, draws = len(self), len(layout.least)
        steps = max(1, BLOCK // draws)
        words = self._block.new_empty(members, -(-steps * draws // 4), dtype=torch.int64)
        for row, generator in zip(words, self._generators, strict=True):
            row.random_(-(2**63), None, generator=generator)  # all 64 bits
        self._block = words.view(torch.int16)[:, : steps * draws].view(members, steps, draws)
        self._factors = self._factors.new_empty(members, draws)
        self._layout, self._step = layout, 0
