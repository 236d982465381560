"""Our convolutions against torch's."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from hpo import convolution

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


@pytest.fixture(autouse=True)
def _kernels(programs: Path) -> None:
    convolution.load(programs)


def close(mine: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize(("inputs", "maps", "kernel", "size", "stride", "padding", "batch"), SHAPES)
def test_values_and_gradients_are_torch_s(
    inputs: int,
    maps: int,
    kernel: tuple[int, int],
    size: tuple[int, int],
    stride: int,
    padding: int,
    batch: int,
) -> None:
    torch.manual_seed(0)
    images, weight, bias = (
        torch.randn(batch, inputs, *size),
        torch.randn(maps, inputs, *kernel),
        torch.randn(maps),
    )
    theirs = torch.conv2d(images, weight, bias, stride, padding)
    close(torch.ops.hpo.convolution(images, weight, bias, stride, padding), theirs)
    close(torch.ops.hpo.convolution(images, weight, None, stride, padding), theirs - bias.view(-1, 1, 1))
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
    found = torch.ops.hpo.convolution_backward(gradient, images, weight, stride, padding, of_images)
    for mine, its in zip(found, expected, strict=True):
        if its is not None:
            close(mine, its)


def test_the_layout_of_the_result_has_the_batch_innermost() -> None:
    images, weight = torch.randn(16, 2, 6, 7), torch.randn(3, 2, 3, 3)
    out = torch.ops.hpo.convolution(images, weight, None, 1, 1)
    assert out.shape == (16, 3, 6, 7)
    assert out.stride() == (1, 6 * 7 * 16, 7 * 16, 16)


def traced(images: Tensor, weight: Tensor, **options: int) -> str:
    graph = make_fx(
        lambda images, weight: torch.nn.functional.conv2d(images, weight, **options),
        tracing_mode="fake",
        decomposition_table=dict(convolution.DECOMPOSITIONS),
    )(images, weight)
    return str(graph.code)


def test_ours_are_used_where_they_fit() -> None:
    few, weight = torch.randn(16, 2, 6, 6), torch.randn(4, 2, 3, 3)
    assert "hpo.convolution" in traced(few, weight)
    assert "hpo.convolution" in traced(few, weight, stride=2, padding=1)
    others = {
        "a batch that is no multiple": (torch.randn(8, 2, 6, 6), weight, {}),
        "many channels": (torch.randn(16, 32, 6, 6), torch.randn(4, 32, 3, 3), {}),
        "groups": (few, torch.randn(4, 1, 3, 3), {"groups": 2}),
        "dilation": (few, weight, {"dilation": 2}),
        "padding as wide as the kernel": (few, weight, {"padding": 3}),
        "float64": (few.double(), weight.double(), {}),
    }
    for what, (images, factors, options) in others.items():
        assert "hpo.convolution" not in traced(images, factors, **options), what


def test_the_smallest_numbers_stay_what_they_are() -> None:
    """A library that was linked with -ffast-math takes them for zero, in all that the process computes."""
    assert (np.full(1, 5e-324) * 1.0)[0] > 0


def test_a_batch_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(RuntimeError, match="a batch of 8 is not a multiple of 16"):
        torch.ops.hpo.convolution(torch.randn(8, 1, 5, 5), torch.randn(1, 1, 3, 3), None, 1, 0)


def test_without_a_compiler_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(convolution.BuildError, match=r"no C\+\+ compiler: no-such-compiler: No such file"):
        convolution._build(tmp_path / "kernels.so")
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(convolution.BuildError, match=r"false cannot build convolution\.cpp"):
        convolution._build(tmp_path / "kernels.so")
    assert list(tmp_path.iterdir()) == []


def test_another_compiler_is_another_build(monkeypatch: pytest.MonkeyPatch) -> None:
    before = convolution.digest()
    assert before == convolution.digest()
    monkeypatch.setenv("CXX", "clang++")
    assert before != convolution.digest()
