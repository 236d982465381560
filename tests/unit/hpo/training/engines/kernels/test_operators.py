"""Our kernels against torch's operators."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from hpo.training.engines.kernels import operators

# inputs, maps, kernel, height and width, stride, padding, batch
SHAPES = [
    (1, 6, (5, 5), (28, 28), 1, 0, 16),
    (6, 16, (5, 5), (12, 12), 1, 0, 32),
    (16, 48, (3, 3), (14, 14), 1, 2, 16),
    (3, 7, (3, 3), (9, 8), 2, 1, 16),
    (1, 11, (3, 3), (8, 8), 1, 1, 48),
    (4, 9, (3, 5), (10, 11), 1, 1, 16),
    (5, 13, (1, 1), (6, 6), 1, 0, 16),
    (2, 10, (7, 7), (11, 11), 1, 3, 16),
]

# as above; inputs and maps that fill no register, and maps that tiles reach beyond
WINOGRAD = [
    (16, 48, (3, 3), (14, 14), 1, 2, 16),
    (9, 7, (3, 3), (9, 14), 1, 1, 48),
    (40, 21, (3, 3), (7, 7), 1, 0, 32),
    (64, 64, (3, 3), (4, 4), 1, 1, 16),
    (1, 1, (3, 3), (3, 3), 1, 0, 16),
    (32, 64, (5, 5), (14, 14), 1, 2, 16),
    (8, 17, (5, 5), (12, 9), 1, 0, 32),
    (20, 12, (5, 5), (6, 7), 1, 4, 64),
]


@pytest.fixture(autouse=True)
def _kernels(programs: Path) -> None:
    operators.load(programs)


def close(mine: Tensor, theirs: Tensor) -> None:
    """Winograd's sums of products of sums round about ten times as much as sums of products."""
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=3e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("algorithm", ["few channels", *operators.TILES])
@pytest.mark.parametrize(
    ("inputs", "maps", "kernel", "size", "stride", "padding", "batch"), [*SHAPES, *WINOGRAD]
)
def test_values_and_gradients_are_torch_s(
    inputs: int,
    maps: int,
    kernel: tuple[int, int],
    size: tuple[int, int],
    stride: int,
    padding: int,
    batch: int,
    algorithm: int | str,
) -> None:
    forward, backward, rest = torch.ops.hpo.convolution, torch.ops.hpo.convolution_backward, [stride, padding]
    if isinstance(algorithm, int):
        if stride != 1 or kernel not in {(3, 3), (5, 5)}:
            pytest.skip("not one of its")
        forward, backward, rest = (
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
    theirs = torch.conv2d(images, weight, bias, stride, padding)
    close(forward(images, weight, bias, *rest), theirs)
    close(forward(images, weight, None, *rest), theirs - bias.view(-1, 1, 1))
    gradient, of_images = torch.randn_like(theirs), stride == 1
    expected = torch.ops.aten.convolution_backward(
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
        [of_images, True, True],
    )
    found = backward(gradient, images, weight, *rest, of_images)
    for mine, its in zip(found, expected, strict=True):
        if its is not None:
            close(mine, its)
    if of_images:
        assert backward(gradient, images, weight, *rest, False)[0].numel() == 0


def test_the_layout_of_the_result_has_the_batch_innermost() -> None:
    images, weight = torch.randn(16, 2, 6, 7), torch.randn(3, 2, 3, 3)
    out = torch.ops.hpo.convolution(images, weight, None, 1, 1)
    assert out.shape == (16, 3, 6, 7)
    assert out.stride() == (1, 6 * 7 * 16, 7 * 16, 16)


def traced(images: Tensor, weight: Tensor, **options: Any) -> str:
    graph = make_fx(
        lambda images, weight: torch.nn.functional.conv2d(images, weight, **options),
        tracing_mode="fake",
        decomposition_table=dict(operators.DECOMPOSITIONS),
    )(images, weight)
    return str(graph.code)


def test_ours_are_used_where_they_fit() -> None:
    few, weight = torch.randn(16, 2, 6, 6), torch.randn(4, 2, 3, 3)
    assert "hpo.convolution" in traced(few, weight)
    assert "hpo.convolution" in traced(few, weight, stride=2, padding=1)
    others: dict[str, tuple[Tensor, Tensor, dict[str, Any]]] = {
        "a batch that is no multiple": (torch.randn(8, 2, 6, 6), weight, {}),
        "many channels": (torch.randn(16, 32, 6, 6), torch.randn(4, 32, 1, 1), {}),
        "groups": (few, torch.randn(4, 1, 3, 3), {"groups": 2}),
        "dilation": (few, weight, {"dilation": 2}),
        "padding as wide as the kernel": (few, weight, {"padding": 3}),
        "float64": (few.double(), weight.double(), {}),
    }
    for what, (images, factors, options) in others.items():
        assert "hpo." not in traced(images, factors, **options), what


def test_winograd_s_are_used_where_they_save() -> None:
    many, weight = torch.randn(16, 32, 14, 14), torch.randn(8, 32, 3, 3)
    assert "hpo.winograd" in traced(many, weight, padding=1)
    assert "hpo.winograd" in traced(many, torch.randn(8, 32, 5, 5))
    others = {
        "stride": (many, weight, {"stride": 2}),
        "another kernel": (many, torch.randn(8, 32, 7, 7), {}),
        "a kernel that is not square": (many, torch.randn(8, 32, 3, 5), {}),
        "a map smaller than a tile": (torch.randn(16, 32, 2, 2), weight, {"padding": 1}),
        "a batch that is no multiple": (torch.randn(24, 32, 14, 14), weight, {}),
        "few channels": (torch.randn(16, 7, 14, 14), torch.randn(8, 7, 3, 3), {}),
    }
    for what, (images, factors, options) in others.items():
        assert "hpo.winograd" not in traced(images, factors, **options), what


@pytest.mark.parametrize(
    ("side", "kernel", "tile"), [(14, 3, 7), (7, 3, 6), (28, 3, 6), (14, 5, 7), (16, 5, 7), (4, 5, 6)]
)
def test_the_tile_is_the_one_with_the_fewest_multiplications(side: int, kernel: int, tile: int) -> None:
    images, weight = torch.randn(16, 8, side, side), torch.randn(4, 8, kernel, kernel)
    padding = kernel // 2
    assert f"{padding}, {tile})" in traced(images, weight, padding=padding)


@pytest.mark.parametrize(("size", "tile"), [((7, 7), 6), ((14, 14), 7), ((9, 14), 7)])
def test_winograd_s_have_the_gradients_of_a_step(size: tuple[int, int], tile: int) -> None:
    images, weight = torch.randn(16, 8, *size), torch.randn(8, 8, 3, 3)

    def loss(weight: Tensor, images: Tensor) -> Tensor:
        return torch.conv2d(images, weight, padding=1).square().sum()

    gradients = torch.func.grad(loss, argnums=(0, 1))
    table = dict(operators.DECOMPOSITIONS)
    graph = make_fx(gradients, tracing_mode="fake", decomposition_table=table)(weight, images)
    assert re.search(rf"hpo\.winograd_backward\.default\(.*, 1, {tile}, True\)", str(graph.code))
    for mine, its in zip(graph(weight, images), gradients(weight, images), strict=True):
        close(mine, its)


# kernel, stride, padding, height and width
POOLINGS = [
    (2, 2, 0, (28, 28)),
    (3, 2, 0, (30, 29)),
    (3, 2, 1, (28, 28)),
    (3, 1, 1, (6, 5)),
    (2, 3, 0, (9, 11)),
    (5, 2, 2, (7, 7)),
]


def pooled(images: Tensor, **options: Any) -> Tensor:
    """A sum in which each pixel that is the largest of a window has a gradient of its own."""
    largest = torch.nn.functional.max_pool2d(images, **options)
    total: Tensor = (largest * torch.linspace(1, 2, largest[0].numel()).view(largest.shape[1:])).sum()
    return total


def pooling(images: Tensor, **options: Any) -> GraphModule:
    gradient = torch.func.grad_and_value(partial(pooled, **options))
    graph: GraphModule = make_fx(
        gradient, tracing_mode="fake", decomposition_table=dict(operators.DECOMPOSITIONS)
    )(images)
    operators.pool(graph)
    return graph


@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), POOLINGS)
def test_the_largest_and_their_gradients_are_torch_s(
    kernel: int, stride: int, padding: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    images = torch.randn(32, 3, *size).round(decimals=1)  # of which many are equal
    images[0, 0, 0, 0], images[1, 0] = torch.nan, -torch.inf
    options: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "padding": padding}
    graph = pooling(images, **options)
    assert "hpo.max_pool_backward" in str(graph.code)
    expected, found = torch.func.grad_and_value(partial(pooled, **options))(images), graph(images)
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=1e-5, atol=1e-5)
    values, _ = torch.ops.hpo.max_pool(images, kernel, stride, padding)
    theirs = torch.nn.functional.max_pool2d(images, **options)
    torch.testing.assert_close(values, theirs, equal_nan=True, rtol=0, atol=0)


def test_poolings_are_ours_where_they_fit() -> None:
    images = torch.randn(16, 2, 9, 9)
    assert "hpo.max_pool" in str(pooling(images, kernel_size=2).code)
    others: dict[str, tuple[Tensor, dict[str, Any]]] = {
        "a batch that is no multiple": (images[:8], {"kernel_size": 2}),
        "float64": (images.double(), {"kernel_size": 2}),
        "dilation": (images, {"kernel_size": 2, "dilation": 2}),
        "places beyond the last one": (images, {"kernel_size": 2, "ceil_mode": True}),
        "a window that is not square": (images, {"kernel_size": (2, 3)}),
        "a step that is not": (images, {"kernel_size": 2, "stride": (1, 2)}),
        "more places than a byte has": (torch.randn(16, 1, 17, 17), {"kernel_size": 17}),
    }
    for what, (given, options) in others.items():
        assert "hpo." not in str(pooling(given, **options).code), what


def test_a_pooling_whose_indices_are_asked_for_stays_torch_s() -> None:
    def unpooled(images: Tensor) -> Tensor:
        largest, indices = torch.nn.functional.max_pool2d(images, 2, return_indices=True)
        return torch.nn.functional.max_unpool2d(largest, indices, [2, 2]).square().sum()

    images = torch.randn(16, 2, 6, 6)
    graph = make_fx(torch.func.grad(unpooled), tracing_mode="fake")(images)
    operators.pool(graph)
    assert "hpo." not in str(graph.code)
    torch.testing.assert_close(graph(images), torch.func.grad(unpooled)(images))


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
def test_what_the_compiler_is_told_of_results_is_so(name: str, arguments: tuple[Any, ...]) -> None:
    operator = getattr(torch.ops.hpo, name)
    given = [torch.randn(one) if isinstance(one, tuple) else one for one in arguments]
    real = operator(*given)
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        told = operator(*(mode.from_tensor(one) if isinstance(one, Tensor) else one for one in given))
    pairs = zip(real, told, strict=True) if isinstance(real, tuple) else [(real, told)]
    for mine, its in pairs:
        assert (mine.shape, mine.stride(), mine.dtype) == (its.shape, its.stride(), its.dtype)


def test_weights_may_lie_in_memory_as_they_like() -> None:
    images, weight = torch.randn(80, 8, 9, 9), torch.randn(3, 3, 8, 10).permute(3, 2, 0, 1)
    close(torch.ops.hpo.winograd(images, weight, None, 1, 7), torch.conv2d(images, weight, None, 1, 1))


def test_the_smallest_numbers_stay_what_they_are() -> None:
    """A library that was linked with -ffast-math takes them for zero, in all that the process computes."""
    assert (np.full(1, 5e-324) * 1.0)[0] > 0


def test_a_batch_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(RuntimeError, match="a batch of 8 is not a multiple of 16"):
        torch.ops.hpo.convolution(torch.randn(8, 1, 5, 5), torch.randn(1, 1, 3, 3), None, 1, 0)
    with pytest.raises(RuntimeError, match="a batch of 0 is not a multiple of 16"):
        torch.ops.hpo.winograd(torch.randn(0, 1, 5, 5), torch.randn(1, 1, 3, 3), None, 0, 6)
    with pytest.raises(RuntimeError, match="a batch of 24 is not a multiple of 16"):
        torch.ops.hpo.winograd(torch.randn(24, 1, 5, 5), torch.randn(1, 1, 3, 3), None, 0, 6)


def test_a_weight_for_other_channels_is_refused() -> None:
    for operator, rest in ((torch.ops.hpo.winograd, (0, 6)), (torch.ops.hpo.convolution, (1, 0))):
        with pytest.raises(RuntimeError, match="images of 2 channels for a weight of 3"):
            operator(torch.randn(16, 2, 5, 5), torch.randn(1, 3, 3, 3), None, *rest)


def test_a_kernel_that_winograd_s_do_not_know_is_refused() -> None:
    with pytest.raises(RuntimeError, match="a kernel of 3x5 is neither 3x3 nor 5x5"):
        torch.ops.hpo.winograd(torch.randn(16, 1, 5, 5), torch.randn(1, 1, 3, 5), None, 0, 6)


def test_a_tile_that_winograd_s_do_not_know_is_refused() -> None:
    with pytest.raises(RuntimeError, match="a tile of 8x8 is neither 6x6 nor 7x7"):
        torch.ops.hpo.winograd(torch.randn(16, 1, 5, 5), torch.randn(1, 1, 3, 3), None, 0, 8)


def test_without_a_compiler_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(operators.BuildError, match=r"no C\+\+ compiler: no-such-compiler: No such file"):
        operators._build(tmp_path / "kernels.so")
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(operators.BuildError, match=r"false cannot build convolution\.cpp"):
        operators._build(tmp_path / "kernels.so")
    assert list(tmp_path.iterdir()) == []


def test_another_compiler_is_another_build(monkeypatch: pytest.MonkeyPatch) -> None:
    before = operators.digest()
    assert before == operators.digest()
    monkeypatch.setenv("CXX", "clang++")
    assert before != operators.digest()
