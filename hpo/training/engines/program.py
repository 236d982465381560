"""What one member computes on a batch, as one function over tensors that can be compiled.

Members are computed one after another, by the same program in every pack, so a curve does not depend on it.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Literal

import torch
from torch import Tensor
from torch.func import grad_and_value
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from hpo import models
from hpo.training.engines.kernels import operators
from hpo.training.optimizers import Adam, Optimizer, Sgd, clip
from hpo.training.pack import Candidate, Pack, Tensors, Weights
from hpo.values.precision import Precision

Purpose = Literal["sgd", "adam", "evaluation"]


@dataclass(frozen=True, slots=True)
class Program:
    """A step of training with one of the optimizers, or an evaluation.

    `size`: height and width of the images; `clip`: the largest norm of a gradient; `precision`: as of an
    `Engine`.

    Its arguments: those of a member (`of_member`), for a step the member's factors of dropout `(D,)`, then a
    batch: images `(B, C, H, W)`, laid out as by `batch_last`, and labels `(B,)`. It gives the loss of a step,
    or the summed loss and the right predictions of an evaluation.
    """

    model: str
    classes: int
    channels: int
    size: tuple[int, int]
    batch_size: int
    purpose: Purpose
    clip: float | None = None
    precision: Precision = "float32"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Program":
        plain = json.loads(text)
        return cls(**{**plain, "size": tuple(plain["size"])})


def of_member(weights: Weights, optimizer: Optimizer | None, place: int) -> list[Tensor]:
    """The tensors of the member at `place` with which a program's arguments begin, as views: a step changes
    them. Without an optimizer those of an evaluation.

    In an order of their names, not of the mappings: a program writes wherever it is told.
    """
    rows = [weights.parameters]
    if optimizer is not None:
        rows += [*_ordered(optimizer.state), *_ordered(optimizer.settings)]
    return [
        *(row[place : place + 1] for row in rows),
        *(buffer[place] for buffer in _ordered(weights.buffers)),
    ]


def _ordered(tensors: Tensors) -> list[Tensor]:
    return [tensors[name] for name in sorted(tensors)]


def batch_last(images: Tensor) -> Tensor:
    """`(..., B, C, H, W)`, as programs want it: in memory `(..., C, H, W, B)`."""
    return images.movedim(-4, -1).contiguous().movedim(-1, -4)


def trace(program: Program) -> tuple[GraphModule, list[Tensor]]:
    """The program as a graph, and arguments like those that it takes.

    Raises whatever a user's network raises that cannot be traced.
    """
    pack = Pack(lambda: models.build(program.model, program.classes, program.channels), [0], "cpu")
    images = batch_last(torch.zeros(program.batch_size, program.channels, *program.size))
    labels = torch.zeros(program.batch_size, dtype=torch.int64)
    function: Callable[..., tuple[Tensor, ...]]
    if program.purpose == "evaluation":
        function = _evaluation(pack)
        arguments = [*of_member(pack.weights, None, 0), images, labels]
    else:
        candidate = Candidate(lr=0.1, momentum=0.9, weight_decay=0.0, seed=0)
        parameters = pack.weights.parameters
        optimizer: Optimizer = (
            Adam(0.1, parameters) if program.purpose == "adam" else Sgd([candidate], parameters)
        )
        factors = pack.masks(images).factors[0]
        function = _step(pack, optimizer, program, images)
        arguments = [*of_member(pack.weights, optimizer, 0), factors, images, labels]
    graph: GraphModule = make_fx(
        function, tracing_mode="fake", decomposition_table=dict(operators.DECOMPOSITIONS)
    )(*arguments)
    operators.pool(graph)
    return graph, arguments


def digest(program: Program, *options: object) -> str:
    """What tells one compiled program from another: what it computes, and what compiles it, and how."""
    graph, arguments = trace(program)
    found = hashlib.sha256(repr((operators.digest(), options)).encode())
    found.update(graph.code.encode())
    for tensor in arguments:
        found.update(repr((tensor.dtype, tensor.shape, tensor.stride())).encode())
    for name, constant in chain(graph.named_buffers(), graph.named_parameters(), _constants(graph)):
        found.update(name.encode())
        found.update(constant.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def _constants(graph: GraphModule) -> Iterator[tuple[str, Tensor]]:
    return ((name, value) for name, value in sorted(vars(graph).items()) if isinstance(value, Tensor))


def _step(pack: Pack, optimizer: Optimizer, program: Program, images: Tensor) -> Callable[..., tuple[Tensor]]:
    layout, is_short = pack.masks(images).layout, program.precision == "bfloat16"

    def step(parameters: Tensor, *rest: Tensor) -> tuple[Tensor]:
        tensors = iter(rest)
        state, settings = _named(optimizer.state, tensors), _named(optimizer.settings, tensors)
        buffers = _named(pack.weights.buffers, tensors)
        factors, images, labels = tensors

        # What is changed inside a function that is differentiated has to be its argument.
        def loss_of(row: Tensor, buffers: Tensors) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=is_short):
                return pack.loss(pack.unpacked(row), buffers, layout.parts(factors), images, labels)

        gradient, loss = grad_and_value(loss_of)(parameters[0], buffers)
        gradients = gradient[None]
        if program.clip is not None:
            clip(gradients, program.clip)
        optimizer.update(parameters, gradients, settings, state)
        return (loss,)

    return step


def _evaluation(pack: Pack) -> Callable[..., tuple[Tensor, Tensor]]:
    def evaluation(parameters: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor]:
        tensors = iter(rest)
        buffers = _named(pack.weights.buffers, tensors)
        images, labels = tensors
        return pack.evaluation(pack.unpacked(parameters[0]), buffers, images, labels)

    return evaluation


def _named(like: Tensors, tensors: Iterator[Tensor]) -> Mapping[str, Tensor]:
    return {name: next(tensors) for name in sorted(like)}
