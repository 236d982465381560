"""Tracing replaces torch's convolutions and poolings by our kernels where they fit, and only there."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from hpo.training.engines.kernels.decompositions import DECOMPOSITIONS, replace_max_pooling
from hpo.training.engines.kernels.operators import load

# One process builds the kernels while the others run other tests.
pytestmark = pytest.mark.xdist_group("kernels")

FEW_CHANNELS, FEW_WEIGHT = torch.randn(16, 2, 6, 6), torch.randn(4, 2, 3, 3)
MANY_CHANNELS, MANY_WEIGHT = torch.randn(16, 32, 14, 14), torch.randn(8, 32, 3, 3)


@pytest.fixture(autouse=True)
def _kernels(programs: Path) -> None:
    load(programs)


def trace_convolution(images: Tensor, weight: Tensor, **options: Any) -> str:
    graph = make_fx(
        lambda images, weight: torch.nn.functional.conv2d(images, weight, **options),
        tracing_mode="fake",
        decomposition_table=dict(DECOMPOSITIONS),
    )(images, weight)
    return str(graph.code)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}])
def test_convolutions_of_few_channels_are_replaced(options: dict[str, Any]) -> None:
    assert "hpo.convolution" in trace_convolution(FEW_CHANNELS, FEW_WEIGHT, **options)


@pytest.mark.parametrize(
    ("images", "weight", "options"),
    [
        pytest.param(torch.randn(8, 2, 6, 6), FEW_WEIGHT, {}, id="a batch that is no multiple of 16"),
        pytest.param(torch.randn(16, 32, 6, 6), torch.randn(4, 32, 1, 1), {}, id="many channels"),
        pytest.param(FEW_CHANNELS, torch.randn(4, 1, 3, 3), {"groups": 2}, id="groups"),
        pytest.param(FEW_CHANNELS, FEW_WEIGHT, {"dilation": 2}, id="dilation"),
        pytest.param(FEW_CHANNELS, FEW_WEIGHT, {"padding": 3}, id="padding as wide as the kernel"),
        pytest.param(FEW_CHANNELS.double(), FEW_WEIGHT.double(), {}, id="float64"),
    ],
)
def test_convolutions_that_do_not_fit_are_not_replaced(
    images: Tensor, weight: Tensor, options: dict[str, Any]
) -> None:
    assert "hpo." not in trace_convolution(images, weight, **options)


@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (5, 0)])
def test_convolutions_of_many_channels_are_replaced_by_winograd(kernel: int, padding: int) -> None:
    weight = torch.randn(8, 32, kernel, kernel)
    assert "hpo.winograd" in trace_convolution(MANY_CHANNELS, weight, padding=padding)


@pytest.mark.parametrize(
    ("images", "weight", "options"),
    [
        pytest.param(MANY_CHANNELS, MANY_WEIGHT, {"stride": 2}, id="stride"),
        pytest.param(MANY_CHANNELS, torch.randn(8, 32, 7, 7), {}, id="another kernel"),
        pytest.param(MANY_CHANNELS, torch.randn(8, 32, 3, 5), {}, id="a kernel that is not square"),
        pytest.param(torch.randn(16, 32, 2, 2), MANY_WEIGHT, {"padding": 1}, id="a map smaller than a tile"),
        pytest.param(torch.randn(24, 32, 14, 14), MANY_WEIGHT, {}, id="a batch that is no multiple of 16"),
        pytest.param(torch.randn(16, 7, 14, 14), torch.randn(8, 7, 3, 3), {}, id="few channels"),
    ],
)
def test_winograd_is_not_used_where_it_does_not_fit_or_save(
    images: Tensor, weight: Tensor, options: dict[str, Any]
) -> None:
    assert "hpo.winograd" not in trace_convolution(images, weight, **options)


def test_a_convolution_gets_the_tile_of_its_map() -> None:
    images, weight = torch.randn(16, 8, 14, 14), torch.randn(4, 8, 3, 3)
    assert "1, 7)" in trace_convolution(images, weight, padding=1)


@pytest.mark.parametrize(("size", "tile"), [((7, 7), 6), ((14, 14), 7), ((9, 14), 7)])
def test_gradients_use_winograd_with_the_same_tile(size: tuple[int, int], tile: int) -> None:
    images, weight = torch.randn(16, 8, *size), torch.randn(8, 8, 3, 3)

    def loss(weight: Tensor, images: Tensor) -> Tensor:
        return torch.conv2d(images, weight, padding=1).square().sum()

    gradients = torch.func.grad(loss, argnums=(0, 1))
    graph = make_fx(gradients, tracing_mode="fake", decomposition_table=dict(DECOMPOSITIONS))(weight, images)
    assert re.search(rf"hpo\.winograd_backward\.default\(.*, 1, {tile}, True\)", str(graph.code))
    for actual, expected in zip(graph(weight, images), gradients(weight, images), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=3e-5 * float(expected.abs().max()))


def pooled_sum(images: Tensor, **options: Any) -> Tensor:
    """Return a sum of maxima that gives each maximum a gradient of its own."""
    maxima = torch.nn.functional.max_pool2d(images, **options)
    total: Tensor = (maxima * torch.linspace(1, 2, maxima[0].numel()).view(maxima.shape[1:])).sum()
    return total


def trace_pooling(images: Tensor, **options: Any) -> GraphModule:
    gradient = torch.func.grad_and_value(partial(pooled_sum, **options))
    graph: GraphModule = make_fx(gradient, tracing_mode="fake", decomposition_table=dict(DECOMPOSITIONS))(
        images
    )
    replace_max_pooling(graph)
    return graph


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [
        (2, 2, 0, (28, 28)),
        (3, 2, 0, (30, 29)),
        (3, 2, 1, (28, 28)),
        (3, 1, 1, (6, 5)),
        (2, 3, 0, (9, 11)),
        (5, 2, 2, (7, 7)),
    ],
)
def test_maxima_and_their_gradients_equal_those_of_torch(
    kernel: int, stride: int, padding: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    images = torch.randn(32, 3, *size).round(decimals=1)  # rounded, so that many pixels are equal
    images[0, 0, 0, 0], images[1, 0] = torch.nan, -torch.inf
    options: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "padding": padding}
    graph = trace_pooling(images, **options)
    assert "hpo.max_pool_backward" in str(graph.code)
    expected = torch.func.grad_and_value(partial(pooled_sum, **options))(images)
    torch.testing.assert_close(graph(images), expected, equal_nan=True, rtol=1e-5, atol=1e-5)
    maxima, _ = torch.ops.hpo.max_pool(images, kernel, stride, padding)
    expected_maxima = torch.nn.functional.max_pool2d(images, **options)
    torch.testing.assert_close(maxima, expected_maxima, equal_nan=True, rtol=0, atol=0)


POOLED = torch.randn(16, 2, 9, 9)


def test_poolings_that_fit_are_replaced() -> None:
    assert "hpo.max_pool" in str(trace_pooling(POOLED, kernel_size=2).code)


@pytest.mark.parametrize(
    ("images", "options"),
    [
        pytest.param(POOLED[:8], {"kernel_size": 2}, id="a batch that is no multiple of 16"),
        pytest.param(POOLED.double(), {"kernel_size": 2}, id="float64"),
        pytest.param(POOLED, {"kernel_size": 2, "dilation": 2}, id="dilation"),
        pytest.param(POOLED, {"kernel_size": 2, "ceil_mode": True}, id="windows beyond the image"),
        pytest.param(POOLED, {"kernel_size": (2, 3)}, id="a window that is not square"),
        pytest.param(POOLED, {"kernel_size": 2, "stride": (1, 2)}, id="a stride that differs by axis"),
        pytest.param(torch.randn(16, 1, 17, 17), {"kernel_size": 17}, id="more positions than a byte has"),
    ],
)
def test_poolings_that_do_not_fit_are_not_replaced(images: Tensor, options: dict[str, Any]) -> None:
    assert "hpo." not in str(trace_pooling(images, **options).code)


def test_a_pooling_whose_indices_are_used_is_not_replaced() -> None:
    def unpooled(images: Tensor) -> Tensor:
        maxima, indices = torch.nn.functional.max_pool2d(images, 2, return_indices=True)
        return torch.nn.functional.max_unpool2d(maxima, indices, [2, 2]).square().sum()

    images = torch.randn(16, 2, 6, 6)
    graph = make_fx(torch.func.grad(unpooled), tracing_mode="fake")(images)
    replace_max_pooling(graph)
    assert "hpo." not in str(graph.code)
    torch.testing.assert_close(graph(images), torch.func.grad(unpooled)(images))
