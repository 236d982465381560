"""Replaces torch's convolutions and max pooling by our kernels while a program is traced, where the kernels
fit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.fx import GraphModule

from hpo.training.engines.kernels.tiles import winograd_tile

LANES = 16
"""The batch must be a multiple of this."""

MOST_CHANNELS = 16
"""Input channels up to which the kernels for few channels are used. With more, oneDNN's are as fast or
faster."""

MAX_POOL = torch.ops.aten.max_pool2d_with_indices.default
MAX_POOL_BACKWARD = torch.ops.aten.max_pool2d_with_indices_backward.default

MOST_POSITIONS = 256
"""The most pixels of a pooling window: the position of the maximum is stored in a byte."""


@dataclass(frozen=True, slots=True)
class ConvolutionOptions:
    """The options of a torch convolution that decide which kernels fit."""

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    transposed: bool
    groups: int


def choose_kernels(
    images: Tensor, weight: Tensor, options: ConvolutionOptions
) -> int | Literal["few channels"] | None:
    """Return the kernels to use: the tile of the Winograd kernels, the kernels for few channels, or None."""
    stride, padding = options.stride, options.padding
    fits = (
        images.ndim == 4
        and images.device.type == "cpu"
        and images.dtype == weight.dtype == torch.float32
        and images.shape[0] % LANES == 0
        and images.shape[1] == weight.shape[1]
        and not options.transposed
        and options.groups == 1
        and stride[0] == stride[1]
        and padding[0] == padding[1] < min(weight.shape[2:])
        and set(options.dilation) == {1}
    )
    tile = winograd_tile(images.shape, weight.shape, padding[0]) if fits and stride[0] == 1 else None
    return tile or ("few channels" if fits and images.shape[1] <= MOST_CHANNELS else None)


# The parameters of the next two functions are those of torch's operators, so there are more than five.


def _convolution(  # noqa: PLR0913
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    _output_padding: Sequence[int],
    groups: int,
) -> Any:
    options = ConvolutionOptions(stride, padding, dilation, transposed, groups)
    match choose_kernels(images, weight, options):
        case int(tile):
            return torch.ops.hpo.winograd(images, weight, bias, padding[0], tile)
        case "few channels":
            return torch.ops.hpo.convolution(images, weight, bias, stride[0], padding[0])
        case None:
            return NotImplemented


def _convolution_backward(  # noqa: PLR0913
    gradient: Tensor,
    images: Tensor,
    weight: Tensor,
    _bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    _output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> Any:
    options = ConvolutionOptions(stride, padding, dilation, transposed, groups)
    kernels = choose_kernels(images, weight, options)
    needs_images = output_mask[0]
    if kernels is None or (needs_images and stride[0] != 1):
        return NotImplemented
    tensors = (gradient, images, weight)
    if isinstance(kernels, int):
        gradients = torch.ops.hpo.winograd_backward(*tensors, padding[0], kernels, needs_images)
    else:
        gradients = torch.ops.hpo.convolution_backward(*tensors, stride[0], padding[0], needs_images)
    return tuple(
        result if is_needed else None for result, is_needed in zip(gradients, output_mask, strict=True)
    )


DECOMPOSITIONS: Mapping[Any, Callable[..., Any]] = {
    torch.ops.aten.convolution.default: _convolution,
    torch.ops.aten.convolution_backward.default: _convolution_backward,
}
"""The decomposition table for `make_fx`, which replaces torch's convolutions by our kernels where they
fit."""


def replace_max_pooling(graph: GraphModule) -> None:
    """Replace max-pooling nodes of a `make_fx` graph by our kernel where it supports them.

    A node is replaced only if nothing but the backward pass uses the indices, because our index format
    differs.
    """
    for node in graph.graph.find_nodes(op="call_function", target=MAX_POOL):
        images, *arguments = node.args
        indices = [user for user in node.users if user.args[1] == 1]
        backward = [user for index in indices for user in index.users]
        window = _pooling_window(images.meta["val"], *arguments)
        if window is None or any(user.target != MAX_POOL_BACKWARD for user in backward):
            continue
        node.target, node.args = torch.ops.hpo.max_pool.default, (images, *window)
        for user in backward:
            gradient, *_, positions = user.args
            sides = images.meta["val"].shape[2:]
            user.target = torch.ops.hpo.max_pool_backward.default
            user.args = (gradient, positions, *sides, *window)
    graph.recompile()


# These are the parameters of torch's max pooling, so there are more than five.
def _pooling_window(  # noqa: PLR0913
    images: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[int, int, int] | None:
    """Return kernel, stride and padding of a pooling that our kernel supports, otherwise None."""
    sizes = [set(values) for values in (kernel, stride or kernel, padding)]
    if images.ndim != 4 or any(len(values) != 1 for values in sizes):
        return None
    side, step, border = (values.pop() for values in sizes)
    fits = (
        images.device.type == "cpu"
        and images.dtype == torch.float32
        and images.shape[0] % LANES == 0
        and side**2 <= MOST_POSITIONS
        and 2 * border <= side <= min(images.shape[2:]) + 2 * border
        and set(dilation) == {1}
        and not ceil_mode
    )
    return (side, step, border) if fits else None
