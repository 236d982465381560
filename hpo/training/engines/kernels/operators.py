"""Our own kernels for a CPU, built on this machine, and when they are used.

They are in `convolution.cpp`, for few channels, `winograd.cpp`, convolutions with fewer multiplications, and
`pooling.cpp`, which say how they work.
"""

import hashlib
import math
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock
from torch import Tensor
from torch.fx import GraphModule

SOURCES = tuple(
    Path(__file__).with_name(name) for name in ("convolution.cpp", "winograd.cpp", "pooling.cpp", "lanes.h")
)

LANES = 16
"""A batch has to be a multiple of it."""

MOST_CHANNELS = 16
"""Inputs up to which the kernels for few channels are used. With more, oneDNN's are as fast or faster."""

FEWEST_CHANNELS = 8
"""Inputs from which on Winograd's are used, which spend their time on the transforms if there are fewer."""

TILES = 6, 7
"""Heights and widths of what Winograd's kernels transform, whatever the kernel."""

LEAST_SAVING = 1.5
"""So many times fewer multiplications Winograd's kernels need where they are used: where a tile reaches far
beyond the map they save none."""

MAX_POOL = torch.ops.aten.max_pool2d_with_indices.default
MAX_POOL_BACKWARD = torch.ops.aten.max_pool2d_with_indices_backward.default

MOST_PLACES = 256
"""In a window of a pooling: a place is a byte."""

# Not -ffast-math: a library that is linked with it takes small numbers for zero in the whole process.
FLAGS = ("-O3", "-march=native", "-std=c++20", "-fPIC")
LIBRARIES = ("-ltorch_cpu", "-lc10")


class BuildError(Exception):
    """The kernels cannot be built here. The message is one line."""


def compiler() -> str:
    return os.environ.get("CXX", "g++")


def load(folder: Path) -> None:
    """Builds the kernels in `folder` unless they are there, and registers them. Raises `BuildError`."""
    if hasattr(torch.ops.hpo, "convolution"):
        return
    path = folder / f"kernels-{digest()}.so"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            _build(path)
    torch.ops.load_library(path)
    torch.library.register_fake("hpo::convolution", _like_convolution)
    torch.library.register_fake("hpo::convolution_backward", _like_backward)
    torch.library.register_fake("hpo::winograd", _like_winograd)
    torch.library.register_fake("hpo::winograd_backward", _like_winograd_backward)
    torch.library.register_fake("hpo::max_pool", _like_max_pool)
    torch.library.register_fake("hpo::max_pool_backward", _like_max_pool_backward)


def digest() -> str:
    """What tells one build from another: the sources, the compiler's flags, torch and this kind of CPU."""
    parts = (
        *(source.read_text() for source in SOURCES),
        *FLAGS,
        *LIBRARIES,
        compiler(),
        torch.__version__,
        cpu(),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def cpu() -> str:
    """The instructions that this CPU has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return torch.backends.cpu.get_cpu_capability()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _build(path: Path) -> None:
    home, units = Path(torch.__file__).parent, [source for source in SOURCES if source.suffix == ".cpp"]
    with tempfile.TemporaryDirectory(dir=path.parent) as name, ExitStack() as running:
        objects = [Path(name, f"{unit.stem}.o") for unit in units]
        compilers = [
            _started(running, *FLAGS, f"-I{home / 'include'}", "-c", str(unit), "-o", str(made))
            for unit, made in zip(units, objects, strict=True)
        ]
        for unit, process in zip(units, compilers, strict=True):
            _finish(process, unit.name)
        library, made = f"-L{home / 'lib'}", Path(name, path.name)
        linker = _started(running, "-shared", *map(str, objects), "-o", str(made), library, *LIBRARIES)
        _finish(linker, path.name)
        made.replace(path)


def _started(running: ExitStack, *arguments: str) -> subprocess.Popen[str]:
    """The compiler, which does not outlive `running`: a worker may be told to stop. Raises `BuildError`."""
    try:
        process = subprocess.Popen(
            [compiler(), *arguments], text=True, stderr=subprocess.PIPE, errors="replace"
        )
    except OSError as error:
        raise BuildError(f"no C++ compiler: {compiler()}: {error.strerror}") from error
    running.enter_context(process)
    running.callback(process.kill)
    return process


def _finish(process: subprocess.Popen[str], what: str) -> None:
    """Waits until `what` is compiled, or linked. Raises `BuildError`."""
    said = process.communicate()[1]
    if process.returncode != 0:
        reason = next((line for line in said.splitlines() if "error: " in line), said)
        raise BuildError(f"{compiler()} cannot build {what}: {' '.join(reason.split())}")


def _batch_last(like: Tensor, shape: Sequence[int]) -> Tensor:
    count, channels, height, width = shape
    return like.new_empty((channels, height, width, count)).permute(3, 0, 1, 2)


def _like_convolution(
    images: Tensor, weight: Tensor, _bias: Tensor | None, stride: int, padding: int
) -> Tensor:
    height, width = (
        (side + 2 * padding - kernel) // stride + 1
        for side, kernel in zip(images.shape[2:], weight.shape[2:], strict=True)
    )
    return _batch_last(images, (images.shape[0], weight.shape[0], height, width))


def _like_backward(
    _gradient: Tensor, images: Tensor, weight: Tensor, _stride: int, _padding: int, of_images: bool
) -> tuple[Tensor, Tensor, Tensor]:
    of_input = _batch_last(images, images.shape) if of_images else images.new_empty(0)
    return of_input, weight.new_empty(weight.shape), weight.new_empty(weight.shape[0])


def _like_winograd(images: Tensor, weight: Tensor, bias: Tensor | None, padding: int, _side: int) -> Tensor:
    return _like_convolution(images, weight, bias, 1, padding)


def _like_winograd_backward(
    gradient: Tensor, images: Tensor, weight: Tensor, padding: int, _side: int, of_images: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return _like_backward(gradient, images, weight, 1, padding, of_images)


def _like_max_pool(images: Tensor, kernel: int, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    count, channels, *sides = images.shape
    height, width = ((side + 2 * padding - kernel) // stride + 1 for side in sides)
    places = images.new_empty((channels, height, width, count), dtype=torch.uint8)
    return _batch_last(images, (count, channels, height, width)), places


def _like_max_pool_backward(
    gradient: Tensor, _places: Tensor, rows: int, columns: int, _kernel: int, _stride: int, _padding: int
) -> Tensor:
    return _batch_last(gradient, (*gradient.shape[:2], rows, columns))


def _kernels(
    images: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    groups: int,
) -> int | Literal["few channels"] | None:
    """Ours that are to be used, if any: Winograd's, with a tile of that side, or those for few channels."""
    fits = (
        images.ndim == 4
        and images.device.type == "cpu"
        and images.dtype == weight.dtype == torch.float32
        and images.shape[0] % LANES == 0
        and images.shape[1] == weight.shape[1]
        and not transposed
        and groups == 1
        and stride[0] == stride[1]
        and padding[0] == padding[1] < min(weight.shape[2:])
        and set(dilation) == {1}
    )
    tile = _tile(images, weight, padding[0]) if fits and stride[0] == 1 else None
    return tile or ("few channels" if fits and images.shape[1] <= MOST_CHANNELS else None)


def _tile(images: Tensor, weight: Tensor, padding: int) -> int | None:
    """The tile with which Winograd's kernels need the fewest multiplications for the maps, if so few that the
    transforms are worth it. The gradients take the same one."""
    kernel = weight.shape[2]
    if kernel not in (3, 5) or weight.shape[3] != kernel or images.shape[1] < FEWEST_CHANNELS:
        return None
    places = [side + 2 * padding - kernel + 1 for side in images.shape[2:]]
    if min(places) < 1:
        return None
    needed = {tile: tile**2 * math.prod(-(-side // (tile + 1 - kernel)) for side in places) for tile in TILES}
    best = min(TILES, key=lambda tile: needed[tile])
    return best if kernel**2 * math.prod(places) >= LEAST_SAVING * needed[best] else None


def _convolution(
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
    match _kernels(images, weight, stride, padding, dilation, transposed, groups):
        case int(tile):
            return torch.ops.hpo.winograd(images, weight, bias, padding[0], tile)
        case "few channels":
            return torch.ops.hpo.convolution(images, weight, bias, stride[0], padding[0])
        case None:
            return NotImplemented


def _convolution_backward(
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
    wanted: Sequence[bool],
) -> Any:
    kernels = _kernels(images, weight, stride, padding, dilation, transposed, groups)
    if kernels is None or (wanted[0] and stride[0] != 1):
        return NotImplemented
    arguments = (gradient, images, weight)
    if isinstance(kernels, int):
        gradients = torch.ops.hpo.winograd_backward(*arguments, padding[0], kernels, wanted[0])
    else:
        gradients = torch.ops.hpo.convolution_backward(*arguments, stride[0], padding[0], wanted[0])
    return tuple(one if is_wanted else None for one, is_wanted in zip(gradients, wanted, strict=True))


def _window(
    images: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil: bool = False,
) -> tuple[int, int, int] | None:
    """Kernel, stride and padding of a pooling that is ours to do."""
    sizes = [set(one) for one in (kernel, stride or kernel, padding)]
    if images.ndim != 4 or any(len(one) != 1 for one in sizes):
        return None
    side, step, outside = (one.pop() for one in sizes)
    fits = (
        images.device.type == "cpu"
        and images.dtype == torch.float32
        and images.shape[0] % LANES == 0
        and side**2 <= MOST_PLACES
        and 2 * outside <= side <= min(images.shape[2:]) + 2 * outside
        and set(dilation) == {1}
        and not ceil
    )
    return (side, step, outside) if fits else None


DECOMPOSITIONS: Mapping[Any, Callable[..., Any]] = {
    torch.ops.aten.convolution.default: _convolution,
    torch.ops.aten.convolution_backward.default: _convolution_backward,
}
"""For `make_fx`: torch's convolutions as ours, where ours fit."""


def pool(graph: GraphModule) -> None:
    """Has the poolings of a graph of `make_fx` done by ours, where they fit, and where nothing but a gradient
    asks for the indices: ours are others."""
    for node in graph.graph.find_nodes(op="call_function", target=MAX_POOL):
        images, *window = node.args
        indices = [user for user in node.users if user.args[1] == 1]
        backward = [user for one in indices for user in one.users]
        ours = _window(images.meta["val"], *window)
        if ours is None or any(user.target != MAX_POOL_BACKWARD for user in backward):
            continue
        node.target, node.args = torch.ops.hpo.max_pool.default, (images, *ours)
        for user in backward:
            gradient, *_, places = user.args
            sides = images.meta["val"].shape[2:]
            user.target = torch.ops.hpo.max_pool_backward.default
            user.args = (gradient, places, *sides, *ours)
    graph.recompile()
