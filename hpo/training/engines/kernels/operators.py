"""Registers the kernels as torch operators `torch.ops.hpo.*`, with the shapes of their results for tracing.

`convolution.cpp` has convolutions of few channels, `winograd.cpp` convolutions with fewer multiplications,
and `pooling.cpp` max pooling.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from hpo.training.engines.kernels.build import build


def load(folder: Path) -> None:
    """Load the kernels and register their operators, once per process.

    Builds the kernels if `folder` does not have them. Raises BuildError and OSError.
    """
    if hasattr(torch.ops.hpo, "convolution"):
        return
    torch.ops.load_library(build(folder))
    torch.library.register_fake("hpo::convolution", _fake_convolution)
    torch.library.register_fake("hpo::convolution_backward", _fake_convolution_backward)
    torch.library.register_fake("hpo::winograd", _fake_winograd)
    torch.library.register_fake("hpo::winograd_backward", _fake_winograd_backward)
    torch.library.register_fake("hpo::max_pool", _fake_max_pool)
    torch.library.register_fake("hpo::max_pool_backward", _fake_max_pool_backward)


def _empty_batch_last(like: Tensor, shape: Sequence[int]) -> Tensor:
    batch, channels, height, width = shape
    return like.new_empty((channels, height, width, batch)).permute(3, 0, 1, 2)


# The signatures below are those of the operators, so some have more than five parameters.


def _fake_convolution(
    images: Tensor, weight: Tensor, _bias: Tensor | None, stride: int, padding: int
) -> Tensor:
    height, width = (
        (side + 2 * padding - kernel) // stride + 1
        for side, kernel in zip(images.shape[2:], weight.shape[2:], strict=True)
    )
    return _empty_batch_last(images, (images.shape[0], weight.shape[0], height, width))


def _fake_convolution_backward(
    _gradient: Tensor, images: Tensor, weight: Tensor, _stride: int, _padding: int, needs_images: bool
) -> tuple[Tensor, Tensor, Tensor]:
    images_gradient = _empty_batch_last(images, images.shape) if needs_images else images.new_empty(0)
    return images_gradient, weight.new_empty(weight.shape), weight.new_empty(weight.shape[0])


def _fake_winograd(images: Tensor, weight: Tensor, bias: Tensor | None, padding: int, _tile: int) -> Tensor:
    return _fake_convolution(images, weight, bias, 1, padding)


def _fake_winograd_backward(
    gradient: Tensor, images: Tensor, weight: Tensor, padding: int, _tile: int, needs_images: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return _fake_convolution_backward(gradient, images, weight, 1, padding, needs_images)


def _fake_max_pool(images: Tensor, kernel: int, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    batch, channels, *sides = images.shape
    height, width = ((side + 2 * padding - kernel) // stride + 1 for side in sides)
    positions = images.new_empty((channels, height, width, batch), dtype=torch.uint8)
    return _empty_batch_last(images, (batch, channels, height, width)), positions


def _fake_max_pool_backward(
    gradient: Tensor, _positions: Tensor, rows: int, columns: int, _kernel: int, _stride: int, _padding: int
) -> Tensor:
    return _empty_batch_last(gradient, (*gradient.shape[:2], rows, columns))
