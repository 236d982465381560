"""The kernels compute what torch's operators compute."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from hpo.training.engines.kernels.operators import load
from hpo.training.engines.kernels.tiles import TILES

# One process builds the kernels while the others run other tests.
pytestmark = pytest.mark.xdist_group("kernels")

Shape = tuple[int, int, tuple[int, int], tuple[int, int], int, int, int]
"""Inputs, maps, kernel, height and width, stride, padding, batch."""

SHAPES: list[Shape] = [
    (1, 6, (5, 5), (28, 28), 1, 0, 16),
    (6, 16, (5, 5), (12, 12), 1, 0, 32),
    (16, 48, (3, 3), (14, 14), 1, 2, 16),
    (3, 7, (3, 3), (9, 8), 2, 1, 16),
    (1, 11, (3, 3), (8, 8), 1, 1, 48),
    (4, 9, (3, 5), (10, 11), 1, 1, 16),
    (5, 13, (1, 1), (6, 6), 1, 0, 16),
    (2, 10, (7, 7), (11, 11), 1, 3, 16),
]

# Inputs and maps that fill no register, and maps that tiles reach beyond.
WINOGRAD_SHAPES: list[Shape] = [
    (16, 48, (3, 3), (14, 14), 1, 2, 16),
    (9, 7, (3, 3), (9, 14), 1, 1, 48),
    (40, 21, (3, 3), (7, 7), 1, 0, 32),
    (64, 64, (3, 3), (4, 4), 1, 1, 16),
    (1, 1, (3, 3), (3, 3), 1, 0, 16),
    (32, 64, (5, 5), (14, 14), 1, 2, 16),
    (8, 17, (5, 5), (12, 9), 1, 0, 32),
    (20, 12, (5, 5), (6, 7), 1, 4, 64),
]

CASES = [
    (algorithm, shape)
    for algorithm in ("few channels", *TILES)
    for shape in (*SHAPES, *WINOGRAD_SHAPES)
    if algorithm == "few channels" or (shape[4] == 1 and shape[2] in {(3, 3), (5, 5)})
]
"""The Winograd kernels, which are named by their tile, compute some of the shapes only."""


@pytest.fixture(autouse=True)
def _kernels(programs: Path) -> None:
    load(programs)


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Compare with a tolerance for Winograd: sums of products of sums have about ten times the rounding."""
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=3e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(("algorithm", "shape"), CASES)
def test_values_and_gradients_equal_those_of_torch(algorithm: int | str, shape: Shape) -> None:
    inputs, maps, kernel, size, stride, padding, batch = shape
    forward, backward, options = (
        torch.ops.hpo.convolution,
        torch.ops.hpo.convolution_backward,
        [stride, padding],
    )
    if isinstance(algorithm, int):
        forward, backward, options = (
            torch.ops.hpo.winograd,
            torch.ops.hpo.winograd_backward,
            [padding, algorithm],
        )
    torch.manual_seed(0)
    images, weight, bias = (
        torch.randn(batch, inputs, *size),
        torch.randn(maps, inputs, *kernel),
        torch.randn(maps),
    )
    expected = torch.conv2d(images, weight, bias, stride, padding)
    assert_close(forward(images, weight, bias, *options), expected)
    assert_close(forward(images, weight, None, *options), expected - bias.view(-1, 1, 1))
    gradient, needs_images = torch.randn_like(expected), stride == 1
    expected_gradients = torch.ops.aten.convolution_backward(
        gradient,
        images,
        weight,
        [maps],
        [stride, stride],
        [padding, padding],
        [1, 1],
        False,
        [0, 0],
        1,
        [needs_images, True, True],
    )
    gradients = backward(gradient, images, weight, *options, needs_images)
    for actual, expected_gradient in zip(gradients, expected_gradients, strict=True):
        if expected_gradient is not None:
            assert_close(actual, expected_gradient)
    if needs_images:
        assert backward(gradient, images, weight, *options, False)[0].numel() == 0


def test_results_have_the_batch_innermost() -> None:
    images, weight = torch.randn(16, 2, 6, 7), torch.randn(3, 2, 3, 3)
    result = torch.ops.hpo.convolution(images, weight, None, 1, 1)
    assert result.shape == (16, 3, 6, 7)
    assert result.stride() == (1, 6 * 7 * 16, 7 * 16, 16)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("winograd", ((32, 9, 7, 8), (5, 9, 3, 3), None, 1, 6)),
        ("winograd_backward", ((16, 5, 8, 9), (16, 9, 8, 9), (5, 9, 5, 5), 2, 7, True)),
        ("convolution", ((16, 3, 7, 8), (5, 3, 3, 4), None, 2, 1)),
        ("convolution_backward", ((16, 5, 4, 4), (16, 3, 4, 4), (5, 3, 3, 3), 1, 1, True)),
        ("max_pool", ((16, 3, 7, 8), 3, 2, 1)),
    ],
)
def test_fake_results_have_the_shapes_and_strides_of_real_ones(name: str, arguments: tuple[Any, ...]) -> None:
    operator = getattr(torch.ops.hpo, name)
    values = [torch.randn(value) if isinstance(value, tuple) else value for value in arguments]
    real = operator(*values)
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        fake = operator(
            *(mode.from_tensor(value) if isinstance(value, Tensor) else value for value in values)
        )
    pairs = zip(real, fake, strict=True) if isinstance(real, tuple) else [(real, fake)]
    for result, fake_result in pairs:
        assert (result.shape, result.stride(), result.dtype) == (
            fake_result.shape,
            fake_result.stride(),
            fake_result.dtype,
        )


def test_weights_may_have_any_strides() -> None:
    images, weight = torch.randn(80, 8, 9, 9), torch.randn(3, 3, 8, 10).permute(3, 2, 0, 1)
    assert_close(torch.ops.hpo.winograd(images, weight, None, 1, 7), torch.conv2d(images, weight, None, 1, 1))


def test_denormal_numbers_are_not_flushed_to_zero() -> None:
    """Loading a library that was linked with -ffast-math would flush them in the whole process."""
    assert (np.full(1, 5e-324) * 1.0)[0] > 0


def test_a_batch_that_is_no_multiple_of_16_is_refused() -> None:
    with pytest.raises(RuntimeError, match="a batch of 8 is not a multiple of 16"):
        torch.ops.hpo.convolution(torch.randn(8, 1, 5, 5), torch.randn(1, 1, 3, 3), None, 1, 0)
    with pytest.raises(RuntimeError, match="a batch of 0 is not a multiple of 16"):
        torch.ops.hpo.winograd(torch.randn(0, 1, 5, 5), torch.randn(1, 1, 3, 3), None, 0, 6)
    with pytest.raises(RuntimeError, match="a batch of 24 is not a multiple of 16"):
        torch.ops.hpo.winograd(torch.randn(24, 1, 5, 5), torch.randn(1, 1, 3, 3), None, 0, 6)


def test_a_weight_for_other_channels_is_refused() -> None:
    for operator, options in ((torch.ops.hpo.winograd, (0, 6)), (torch.ops.hpo.convolution, (1, 0))):
        with pytest.raises(RuntimeError, match="images of 2 channels for a weight of 3"):
            operator(torch.randn(16, 2, 5, 5), torch.randn(1, 3, 3, 3), None, *options)


def test_winograd_refuses_other_kernels() -> None:
    with pytest.raises(RuntimeError, match="a kernel of 3x5 is neither 3x3 nor 5x5"):
        torch.ops.hpo.winograd(torch.randn(16, 1, 5, 5), torch.randn(1, 1, 3, 5), None, 0, 6)


def test_winograd_refuses_other_tiles() -> None:
    with pytest.raises(RuntimeError, match="a tile of 8x8 is neither 6x6 nor 7x7"):
        torch.ops.hpo.winograd(torch.randn(16, 1, 5, 5), torch.randn(1, 1, 3, 3), None, 0, 8)
