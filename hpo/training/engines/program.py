"""Programs: what one member computes on a batch, as one function over tensors that can be compiled.

Members are computed one after another by the same program in every pack, so a curve does not depend on the
pack.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad_and_value
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from hpo import models
from hpo.training.columns import CLIP, DROPOUT, step_settings, values_of
from hpo.training.criteria import criterion_of
from hpo.training.criterion import Criterion
from hpo.training.engines.kernels.build import source_digest
from hpo.training.engines.kernels.decompositions import DECOMPOSITIONS, replace_max_pooling
from hpo.training.optimizers.base import Optimizer
from hpo.training.optimizers.clipping import clip
from hpo.training.optimizers.registry import create_optimizer, optional_settings
from hpo.training.pack import Pack
from hpo.training.weights import Tensors
from hpo.values.data_shape import DataShape
from hpo.values.precision import Precision
from hpo.values.space import Value


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A registered network or a user's `module:Class`, the data it learns, and what it is trained for.

    `shape`: that of the data. `keywords`: further keywords of the class with their values, sorted by name.
    `loss` and `metrics`: a user's own, as `package.module:function`; the metrics have names.
    """

    model: str
    shape: DataShape
    keywords: tuple[tuple[str, Value], ...] = ()
    loss: str | None = None
    metrics: tuple[tuple[str, str], ...] = ()

    def build(self) -> nn.Module:
        """Return a new network. Raises ModelError if there is none of this name."""
        return models.build_with(self.model, {**self.shape.keywords, **dict(self.keywords)}, self.shape.input)

    def criterion(self) -> Criterion:
        """Return what the network is trained for. Raises InputError if a function cannot be imported."""
        return criterion_of(self.shape, self.loss, dict(self.metrics))

    @property
    def is_built_in(self) -> bool:
        """Whether the network and the loss are this project's own."""
        return self.model in models.names() and self.loss is None


@dataclass(frozen=True, slots=True)
class Program:
    """A training step with the optimizer of this name, or an evaluation if there is none.

    `clip`: the largest norm of a gradient, None for no clipping. `precision`: see `EagerEngine`.
    `columns`: the names of the columns in use, in order: optional settings of the optimizer, columns of the
    pack, which are arguments, too, and `dropout`, which has factors for every dropout layer.

    The arguments are the tensors of a member (see `member_arguments`), for a step the member's dropout
    factors `(D,)`, then images `(B, C, ...)` in the layout of `batch_last` and labels `(B, ...)`. A step
    returns its loss. An evaluation returns what `Criterion.score` returns.
    """

    network: NetworkSpec
    optimizer: str | None
    batch_size: int
    clip: float | None = None
    precision: Precision = "float32"
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"batch size {self.batch_size}, {self.optimizer or 'evaluation'}"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Program":
        values = json.loads(text)
        network, columns = values.pop("network"), tuple(values.pop("columns"))
        shape: dict[str, Any] = {
            key: tuple(part) if isinstance(part, list) else part for key, part in network["shape"].items()
        }
        pairs = {key: tuple(map(tuple, network[key])) for key in ("keywords", "metrics")}
        network = NetworkSpec(**network | pairs | {"shape": DataShape(**shape)})
        return cls(network, **values, columns=columns)


def example_pack(program: Program) -> tuple[Pack, Optimizer | None]:
    """Return a new pack of one member, and the optimizer of its steps; all settings are defaults."""
    pack = Pack(program.network.build, [0], "cpu")
    pack.criterion = program.network.criterion()
    parameters = pack.weights.parameters
    if program.optimizer is None:
        return pack, None
    optimizer = create_optimizer(program.optimizer, [{}], parameters, program.columns)
    names = [name for name in program.columns if name not in (*optimizer.settings, DROPOUT)]
    network = program.network
    pack.columns = step_settings(names, [{}], parameters, None, lambda: torch.ones(network.shape.outputs))
    pack.dropout_rates = (None,) if DROPOUT in program.columns else None
    return pack, optimizer


def example_batch(program: Program) -> tuple[Tensor, Tensor]:
    """Return a batch of the program: inputs that are 0, and targets."""
    shape, size = program.network.shape, program.batch_size
    inputs = torch.zeros(size, *shape.input)
    if shape.classes is None:
        return inputs, torch.zeros(size, *shape.target)
    return inputs, torch.arange(size) % shape.classes


def member_arguments(pack: Pack, optimizer: Optimizer | None, index: int) -> list[Tensor]:
    """Return the first arguments of a program: views of the tensors of the member at `index`.

    A step updates them. `optimizer`: None for an evaluation. Tensors are in the order of their names: a
    program writes to its arguments by position, and mappings from a file may have another order than those of
    a new pack.
    """
    rows = [pack.weights.parameters]
    if optimizer is not None:
        for tensors in (optimizer.state, optimizer.settings, pack.columns):
            rows += _by_name(tensors)
    return [
        *(row[index : index + 1] for row in rows),
        *(buffer[index] for buffer in _by_name(pack.weights.buffers)),
    ]


def _by_name(tensors: Tensors) -> list[Tensor]:
    return [tensors[name] for name in sorted(tensors)]


def batch_last(images: Tensor, shape: DataShape) -> Tensor:
    """Return `images` `(..., B, C, H, W)` with the memory layout of programs, `(..., C, H, W, B)`.

    `shape`: that of the data, whose inputs may have any other axes in the place of `C, H, W`.
    """
    batch_axis = -1 - len(shape.input)
    return images.movedim(batch_axis, -1).contiguous().movedim(-1, batch_axis)


def trace(program: Program) -> tuple[GraphModule, list[Tensor]]:
    """Return the program as a graph, and example arguments.

    Raises whatever a user's network raises when it cannot be traced.
    """
    pack, optimizer = example_pack(program)
    images, labels = example_batch(program)
    images = batch_last(images, program.network.shape)
    function: Callable[..., tuple[Tensor, ...]]
    if optimizer is None:
        function = _evaluation(pack)
        arguments = [*member_arguments(pack, None, 0), images, labels]
    else:
        factors = pack.masks(images).factors[0]
        function = _step(pack, optimizer, program, images)
        arguments = [*member_arguments(pack, optimizer, 0), factors, images, labels]
    graph: GraphModule = make_fx(function, tracing_mode="fake", decomposition_table=dict(DECOMPOSITIONS))(
        *arguments
    )
    replace_max_pooling(graph)
    return graph, arguments


def digest(program: Program, *options: object) -> str:
    """Return a digest of the program as traced, the kernels, the compiler, and its `options`."""
    graph, arguments = trace(program)
    sha = hashlib.sha256(repr((source_digest(), program, options)).encode())
    sha.update(graph.code.encode())
    for tensor in arguments:
        sha.update(repr((tensor.dtype, tensor.shape, tensor.stride())).encode())
    for name, constant in chain(graph.named_buffers(), graph.named_parameters(), _constants(graph)):
        sha.update(name.encode())
        sha.update(constant.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]


def _constants(graph: GraphModule) -> Iterator[tuple[str, Tensor]]:
    return ((name, value) for name, value in sorted(vars(graph).items()) if isinstance(value, Tensor))


def _step(pack: Pack, optimizer: Optimizer, program: Program, images: Tensor) -> Callable[..., tuple[Tensor]]:
    layout, is_bfloat16 = pack.masks(images).layout, program.precision == "bfloat16"

    def step(parameters: Tensor, *rest: Tensor) -> tuple[Tensor]:
        tensors = iter(rest)
        state, settings = _take(optimizer.state, tensors), _take(optimizer.settings, tensors)
        rows = _take(pack.columns, tensors)
        columns = {name: values_of(row[0]) for name, row in rows.items()}
        buffers = _take(pack.weights.buffers, tensors)
        factors, images, labels = tensors

        # Tensors that a differentiated function updates in place must be its arguments, so `buffers` is one.
        def loss_of(row: Tensor, buffers: Tensors) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16):
                return pack.loss(pack.unpack(row), buffers, columns, layout.split(factors), (images, labels))

        gradient, loss = grad_and_value(loss_of)(parameters[0], buffers)
        gradients = gradient[None]
        norms = rows.get(CLIP, program.clip)
        if norms is not None:
            clip(gradients, norms)
        optimizer.update(parameters, gradients, settings, state)
        return (loss,)

    return step


def _evaluation(pack: Pack) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    def evaluation(parameters: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tensors = iter(rest)
        buffers = _take(pack.weights.buffers, tensors)
        images, labels = tensors
        return pack.evaluation(pack.unpack(parameters[0]), buffers, images, labels)

    return evaluation


def _take(like: Tensors, tensors: Iterator[Tensor]) -> Mapping[str, Tensor]:
    """Take the next tensors as a mapping with the names of `like`."""
    return {name: next(tensors) for name in sorted(like)}


def evaluation_of(network: NetworkSpec, batch_size: int) -> Program:
    """Return the evaluation program, which is always float32."""
    return Program(network, None, batch_size)


def step_of(
    network: NetworkSpec, pack: Pack, optimizer: Optimizer, max_norm: float | None, labels: Tensor
) -> Program:
    """Return the float32 program of the step that `Engine.step` takes with these arguments."""
    optional = optional_settings(optimizer.name, optimizer.settings)
    dropout = [] if pack.dropout_rates is None else [DROPOUT]
    columns = tuple(sorted([*pack.columns, *optional, *dropout]))
    max_norm = None if CLIP in columns else max_norm
    batch_size = labels.shape[-1 - pack.criterion.target_axes]
    return Program(network, optimizer.name, batch_size, max_norm, columns=columns)


def in_precision(program: Program, precision: Precision) -> Program:
    """Return a step in `precision`. An evaluation is returned unchanged."""
    if program.optimizer is None or program.precision == precision:
        return program
    return replace(program, precision=precision)
