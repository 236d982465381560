"""The engine whose steps and evaluations are compiled programs."""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from hpo.errors import one_line
from hpo.training.columns import CLIP
from hpo.training.engines.compiler import CompileError, obtain
from hpo.training.engines.eager import EagerEngine
from hpo.training.engines.program import (
    NetworkSpec,
    Program,
    batch_last,
    evaluation_of,
    in_precision,
    member_arguments,
    step_of,
)
from hpo.training.metrics import Scores
from hpo.training.optimizers.base import Optimizer
from hpo.training.optimizers.registry import step_columns
from hpo.training.pack import Pack
from hpo.values.budget import Phase
from hpo.values.precision import Precision

log = logging.getLogger("hpo.worker")

CompiledFunction = Callable[[list[Tensor]], list[Tensor]]

EVALUATION_BATCH = 80
"""Images of an evaluation. Programs are fastest for small batches, whose feature maps stay in the cache."""


def steps_of(
    network: NetworkSpec, batch_size: int, phases: Iterable[Phase], columns: Sequence[str]
) -> list[Program]:
    """Return the float32 programs of the steps of a training, one for each phase."""
    programs = []
    for phase in phases:
        names = tuple(sorted(step_columns(phase, columns)))
        max_norm = None if CLIP in names else phase.clip
        programs.append(Program(network, phase.optimizer, batch_size, max_norm, columns=names))
    return programs


class CompiledEngine:
    """Computes by compiled programs, which are kept in `folder`.

    Steps and evaluations without a program are computed by torch's operators: the last, smaller batch of an
    epoch, and programs that cannot be compiled.
    """

    def __init__(
        self,
        network: NetworkSpec,
        folder: Path,
        precision: Precision = "float32",
        evaluation_batch: int = EVALUATION_BATCH,
    ) -> None:
        self.network, self.precision, self.evaluation_batch = network, precision, evaluation_batch
        self._folder = folder
        self._eager = EagerEngine(precision)
        self._functions: dict[Program, CompiledFunction] = {}
        self._bound: tuple[object, ...] = (None, None, None)  # the owners of `_arguments`
        self._arguments: list[list[Tensor]] = []

    def prepare(self, batch_size: int, phases: Iterable[Phase], columns: Sequence[str] = ()) -> None:
        steps = steps_of(self.network, batch_size, phases, columns)
        for program in (*steps, evaluation_of(self.network, self.evaluation_batch)):
            try:
                self.load(program)
            except CompileError as error:
                log.warning("%s: not compiled: %s", program, error)

    def load(self, program: Program) -> None:
        """Load a program in the engine's precision; compile it first if `folder` does not have it.

        Raises CompileError.
        """
        program = in_precision(program, self.precision)
        if program not in self._functions:
            path = obtain(program, self._folder)
            try:
                self._functions[program] = _load(path)
            except RuntimeError as error:
                path.unlink(missing_ok=True)  # the next attempt compiles it anew
                raise CompileError(f"{path} is damaged: {one_line(error)}") from error

    def step(
        self, pack: Pack, optimizer: Optimizer, max_norm: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        program = in_precision(step_of(self.network, pack, optimizer, max_norm, labels), self.precision)
        function = self._functions.get(program)
        if function is None:
            return self._eager.step(pack, optimizer, max_norm, images, labels)
        per_member = pack.has_own_batches(labels)
        factors = pack.masks_of(images, labels).factors
        images = batch_last(images, self.network.shape)
        losses: list[Tensor] = []
        for index, tensors in enumerate(self._arguments_of(pack, optimizer)):
            batch = (images[index], labels[index]) if per_member else (images, labels)
            losses += function([*tensors, factors[index], *batch])
        return torch.stack(losses)

    def score(self, pack: Pack, images: Tensor, labels: Tensor) -> Scores:
        function = self._functions.get(evaluation_of(self.network, len(labels)))
        if function is None:
            return self._eager.score(pack, images, labels)
        images = batch_last(images, self.network.shape)
        arguments = self._arguments_of(pack, None)
        return Scores.stack([function([*tensors, images, labels]) for tensors in arguments])

    def _arguments_of(self, pack: Pack, optimizer: Optimizer | None) -> list[list[Tensor]]:
        """Return each member's own arguments.

        They are views, cached until the pack's weights, its columns or the optimizer are other objects.
        """
        owners = pack.weights, pack.columns, optimizer
        if any(bound is not owner for bound, owner in zip(self._bound, owners, strict=True)):
            self._arguments = [member_arguments(pack, optimizer, index) for index in range(len(pack))]
            self._bound = owners
        return self._arguments


def _load(path: Path) -> CompiledFunction:
    # torch's package loader would unpack the program into a temporary folder, which stays after a kill.
    loader = torch._C._aoti.AOTIModelContainerRunnerCpu(str(path), 1)
    return lambda arguments: loader.run(arguments)
