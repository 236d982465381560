"""How the members of a pack take a step and are evaluated: by torch's operators, or by compiled programs."""

import json
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

import models
from hpo.budget import Phase
from hpo.compiler import CompileError, obtain
from hpo.optimizer import Adam, Optimizer, Sgd, clip
from hpo.pack import Candidate, Pack
from hpo.program import Program, Purpose, batch_last, of_member

log = logging.getLogger("hpo.worker")

Run = Callable[[list[Tensor]], list[Tensor]]

ROUNDS = 20
"""Steps of each kind, in turns, after which it is known which is faster."""


class Engine:
    """Torch's operators, one after another."""

    evaluation_batch = 250
    """Images at once: the fastest on a CPU, and more would cost memory, once for each member of a pack."""

    def prepare(self, batch_size: int, phases: Iterable[Phase]) -> None:
        """Makes ready for training. May take a minute the first time."""

    def step(
        self, pack: Pack, optimizer: Optimizer, largest: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        """One step of all members; their losses `(M,)`. Images and labels as for `Pack.gradients`; `largest`
        is the largest norm of a member's gradient."""
        losses, gradients = pack.gradients(images, labels)
        if largest is not None:
            clip(gradients, largest)
        optimizer.step(pack.weights.parameters, gradients)
        return losses

    def score(self, pack: Pack, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """As `Pack.score`."""
        return pack.score(images, labels)


@dataclass
class Compiled(Engine):
    """Programs in place of operators, where they are faster; `like` says what they are compiled for.

    Which of the two is faster is measured once for each program and kept beside it in `folder`, so that all
    workers of a machine do the same. Batches of another size, such as the last one of an epoch, go through
    torch's operators.
    """

    like: Program
    folder: Path
    evaluation_batch: int = 80
    _runs: dict[Program, Run | None] = field(default_factory=dict)
    _bound: tuple[object, object] = (None, None)
    _rows: list[list[Tensor]] = field(default_factory=list)

    def prepare(self, batch_size: int, phases: Iterable[Phase]) -> None:
        wanted = [self._program(phase.optimizer, batch_size, phase.clip) for phase in phases]
        for program in [*wanted, self._program("evaluation", self.evaluation_batch)]:
            if program not in self._runs:
                self._runs[program] = self._run(program)

    def has_step(self, batch_size: int) -> bool:
        """Whether steps of SGD on so many images are those of a program."""
        return self._runs.get(self._program("sgd", batch_size)) is not None

    def step(
        self, pack: Pack, optimizer: Optimizer, largest: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        purpose: Purpose = "adam" if isinstance(optimizer, Adam) else "sgd"
        run = self._runs.get(self._program(purpose, labels.shape[-1], largest))
        if run is None:
            return super().step(pack, optimizer, largest, images, labels)
        own = labels.ndim == 2
        factors = pack.masks(images[0] if own else images).factors
        images = batch_last(images)
        losses: list[Tensor] = []
        for place, tensors in enumerate(self._of_members(pack, optimizer)):
            batch = (images[place], labels[place]) if own else (images, labels)
            losses += run([*tensors, factors[place], *batch])
        return torch.stack(losses)

    def score(self, pack: Pack, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        run = self._runs.get(self._program("evaluation", len(labels)))
        if run is None:
            return super().score(pack, images, labels)
        images = batch_last(images)
        scores = [torch.stack(run([*tensors, images, labels])) for tensors in self._of_members(pack, None)]
        losses, right = torch.stack(scores, dim=1)  # (2, M)
        return losses, right

    def _program(self, purpose: Purpose, batch_size: int, largest: float | None = None) -> Program:
        return replace(self.like, purpose=purpose, batch_size=batch_size, clip=largest)

    def _of_members(self, pack: Pack, optimizer: Optimizer | None) -> list[list[Tensor]]:
        """The members' own arguments: they are views, and good until the pack or the optimizer is another."""
        if self._bound[0] is not pack.weights or self._bound[1] is not optimizer:
            self._rows = [of_member(pack.weights, optimizer, place) for place in range(len(pack))]
            self._bound = pack.weights, optimizer
        return self._rows

    def _run(self, program: Program) -> Run | None:
        """The compiled program, None where torch's operators are as fast or it cannot be compiled."""
        try:
            path = obtain(program, self.folder)
        except CompileError as error:
            log.warning("batch size %d, %s: not compiled: %s", program.batch_size, program.purpose, error)
            return None
        run, choice = _load(path), path.with_suffix(f".{torch.get_num_threads()}.json")
        with FileLock(path.with_suffix(".lock")):  # whoever comes second follows the first
            if not choice.exists():
                found = {"program": json.loads(program.to_json()), "seconds": self._measure(program, run)}
                made = choice.with_suffix(".new")
                made.write_text(json.dumps(found, indent=2))
                made.replace(choice)
        seconds = json.loads(choice.read_text())["seconds"]
        return run if seconds["compiled"] < seconds["operators"] else None

    def _measure(self, program: Program, run: Run) -> dict[str, float]:
        """Seconds for one member's step or evaluation, the least of several."""
        pack = Pack(lambda: models.build(program.model, program.classes, program.channels), [0], "cpu")
        optimizer: Optimizer = Sgd([Candidate(0.01, 0.9, 0.0, 0)], pack.weights.parameters)
        if program.purpose == "adam":
            optimizer = Adam(0.001, pack.weights.parameters)
        images = torch.rand(program.batch_size, program.channels, *program.size)
        labels = torch.arange(program.batch_size) % program.classes
        engines = {
            "operators": Engine(),
            "compiled": Compiled(self.like, self.folder, self.evaluation_batch, {program: run}),
        }
        seconds = dict.fromkeys(engines, math.inf)
        for _ in range(ROUNDS):
            for name, engine in engines.items():
                start = time.perf_counter()
                if program.purpose == "evaluation":
                    engine.score(pack, images, labels)
                else:
                    engine.step(pack, optimizer, program.clip, images, labels)
                seconds[name] = min(seconds[name], time.perf_counter() - start)
        return seconds


def _load(path: Path) -> Run:
    # A packaged program would be unpacked into a folder for temporary files, and stay there after a kill.
    loader = torch._C._aoti.AOTIModelContainerRunnerCpu(str(path), 1)
    return lambda arguments: loader.run(arguments)
