"""The engine whose steps and evaluations are compiled programs."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from hpo.training.engines.compiler import CompileError, obtain
from hpo.training.engines.eager import Engine
from hpo.training.engines.program import Program, Purpose, batch_last, of_member
from hpo.training.optimizers import Adam, Optimizer
from hpo.training.pack import Pack
from hpo.values.budget import Phase

log = logging.getLogger("hpo.worker")

Run = Callable[[list[Tensor]], list[Tensor]]

EVALUATION_BATCH = 80
"""Images of an evaluation: programs are the faster for a small one, whose maps stay in the cache."""


def step_of(like: Program, optimizer: Optimizer, labels: Tensor, largest: float | None) -> Program:
    """What would take this step, with arguments as of `Engine.step`."""
    purpose: Purpose = "adam" if isinstance(optimizer, Adam) else "sgd"
    return replace(like, purpose=purpose, batch_size=labels.shape[-1], clip=largest)


def evaluation_of(like: Program, batch_size: int) -> Program:
    return replace(like, purpose="evaluation", batch_size=batch_size, clip=None, precision="float32")


def programs_of(like: Program, batch_size: int, phases: Iterable[Phase], evaluated: int) -> list[Program]:
    """What a training needs: a step for each phase, and an evaluation of `evaluated` images."""
    steps = [replace(like, purpose=p.optimizer, batch_size=batch_size, clip=p.clip) for p in phases]
    return [*steps, evaluation_of(like, evaluated)]


@dataclass
class CompiledEngine(Engine):
    """Compiled programs, kept in `folder`; `like` says what they are compiled for.

    What has no program goes through torch's operators: the last batch of an epoch, which is smaller, or what
    cannot be compiled.
    """

    like: Program
    folder: Path
    evaluation_batch: int = EVALUATION_BATCH
    _runs: dict[Program, Run] = field(default_factory=dict)
    _bound: tuple[object, object] = (None, None)
    _rows: list[list[Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.like.precision)

    def prepare(self, batch_size: int, phases: Iterable[Phase]) -> None:
        for program in programs_of(self.like, batch_size, phases, self.evaluation_batch):
            try:
                self.load(program)
            except CompileError as error:
                log.warning("batch size %d, %s: not compiled: %s", program.batch_size, program.purpose, error)

    def load(self, program: Program) -> None:
        """In the precision of `like`, compiled first if `folder` does not have it. Raises `CompileError`."""
        if program.purpose != "evaluation":
            program = replace(program, precision=self.like.precision)
        if program not in self._runs:
            path = obtain(program, self.folder)
            try:
                self._runs[program] = _load(path)
            except RuntimeError as error:
                path.unlink(missing_ok=True)  # the next one compiles it anew
                reason = " ".join(str(error).split())
                raise CompileError(f"{path} is damaged: {reason}") from error

    def step(
        self, pack: Pack, optimizer: Optimizer, largest: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        run = self._runs.get(step_of(self.like, optimizer, labels, largest))
        if run is None:
            return super().step(pack, optimizer, largest, images, labels)
        own = labels.ndim == 2
        factors = pack.masks_of(images, labels).factors
        images = batch_last(images)
        losses: list[Tensor] = []
        for place, tensors in enumerate(self._of_members(pack, optimizer)):
            batch = (images[place], labels[place]) if own else (images, labels)
            losses += run([*tensors, factors[place], *batch])
        return torch.stack(losses)

    def score(self, pack: Pack, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        run = self._runs.get(evaluation_of(self.like, len(labels)))
        if run is None:
            return super().score(pack, images, labels)
        images = batch_last(images)
        scores = [torch.stack(run([*tensors, images, labels])) for tensors in self._of_members(pack, None)]
        losses, right = torch.stack(scores, dim=1)  # (2, M)
        return losses, right

    def _of_members(self, pack: Pack, optimizer: Optimizer | None) -> list[list[Tensor]]:
        """The members' own arguments: they are views, and good until the pack or the optimizer is another."""
        if self._bound[0] is not pack.weights or self._bound[1] is not optimizer:
            self._rows = [of_member(pack.weights, optimizer, place) for place in range(len(pack))]
            self._bound = pack.weights, optimizer
        return self._rows


def _load(path: Path) -> Run:
    # A packaged program would be unpacked into a folder for temporary files, and stay there after a kill.
    loader = torch._C._aoti.AOTIModelContainerRunnerCpu(str(path), 1)
    return lambda arguments: loader.run(arguments)
