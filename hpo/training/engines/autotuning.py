"""Which of the ways to compute a network is the fastest on this CPU: measured once, and kept."""

import json
import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

from hpo import models
from hpo.training.engines.compiled import (
    EVALUATION_BATCH,
    CompiledEngine,
    evaluation_of,
    programs_of,
    step_of,
)
from hpo.training.engines.compiler import CompileError, note_of
from hpo.training.engines.eager import Engine
from hpo.training.engines.program import Program, Purpose
from hpo.training.optimizers import Adam, Optimizer, Sgd
from hpo.training.pack import Candidate, Pack
from hpo.values.budget import Phase
from hpo.values.precision import Precision

log = logging.getLogger("hpo.worker")

ROUNDS = 20
"""Steps of each way, in turns, after which it is known which is the fastest."""

MEASURE_SECONDS = 2.0
"""So long after the first of them no more rounds are begun; there are two at least."""

PROGRAM = "program"
"""How the ways of compiled programs are called, after their precision; those of operators are called after
precision and layout."""


@dataclass
class AutotunedEngine(Engine):
    """For every kind of step, and for evaluations, the fastest of several ways: torch's operators in some
    `precisions` and both layouts, and, if it `compiles`, a program.

    To compile takes long, so there is one program of each kind: in the precision in which operators are the
    faster. Evaluations are computed in float32. Only our own networks are known to bear channels that lie
    together. `like` says what it is for.

    What was measured is kept in `folder`, by network, sizes, CPU, versions, threads and ways, so that all
    workers of a machine do the same; with `anew` it is measured in any case.
    """

    like: Program
    folder: Path
    precisions: Sequence[Precision] = ("float32",)
    compiles: bool = True
    evaluation_batch: int = EVALUATION_BATCH
    anew: bool = False
    _chosen: dict[Program, Engine] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.precisions[0])
        self._evaluated, self._evaluator = self.evaluation_batch, Engine()
        layouts = (False, True) if self.like.model in models.names() else (False,)
        self._engines: dict[str, Engine] = {
            f"{precision}{', channels last' * last}": Engine(precision, last)
            for precision in self.precisions
            for last in layouts
        }
        self._programs = {
            f"{precision} {PROGRAM}": CompiledEngine(
                replace(self.like, precision=precision), self.folder, self.evaluation_batch
            )
            for precision in ("float32", *self.precisions)
        }

    def prepare(self, batch_size: int, phases: Iterable[Phase]) -> None:
        for program in programs_of(self.like, batch_size, phases, self._evaluated):
            if program not in self._chosen:
                way = fastest(self.measured(program))
                self._chosen[program] = engine = (self._engines | self._programs)[way]
                if program.purpose == "evaluation":
                    # Operators are the fastest for larger batches than programs, and take any.
                    self._evaluator = engine
                    self.evaluation_batch = (
                        self._evaluated if way in self._programs else Engine.evaluation_batch
                    )

    def step(
        self, pack: Pack, optimizer: Optimizer, largest: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        engine = self._chosen.get(step_of(self.like, optimizer, labels, largest))
        if engine is None:
            return super().step(pack, optimizer, largest, images, labels)
        return engine.step(pack, optimizer, largest, images, labels)

    def score(self, pack: Pack, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self._evaluator.score(pack, images, labels)

    def measured(self, program: Program) -> Mapping[str, float]:
        """Seconds of one member's step or evaluation, the least of several, by way.

        Measured now if this machine has not done so yet; another process that needs it too waits. Afterwards
        the program is loaded if it is the fastest.
        """
        operators = self._engines
        if program.purpose == "evaluation":
            operators = {way: operators[way] for way in operators if way.startswith(self.precisions[0])}
        if self.compiles:
            try:
                seconds = self._kept(program, operators, compiles=True)
                if (way := fastest(seconds)) in self._programs:
                    self._programs[way].load(program)
                return seconds
            except (CompileError, OSError) as error:
                log.warning("batch size %d, %s: not compiled: %s", program.batch_size, program.purpose, error)
        try:
            return self._kept(program, operators, compiles=False)
        except OSError as error:
            log.warning("batch size %d, %s: not measured: %s", program.batch_size, program.purpose, error)
            return dict.fromkeys(list(operators)[:1], 0.0)

    def _kept(self, program: Program, operators: Mapping[str, Engine], compiles: bool) -> Mapping[str, float]:
        """What is kept of these ways and, with `compiles`, of a program; measured first if it is not there.

        Raises `CompileError`.
        """
        if len(operators) == 1 and not compiles:
            return dict.fromkeys(operators, 0.0)
        path = note_of(program, self.folder, torch.get_num_threads(), *operators, compiles)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if self.anew or (seconds := _read(path)) is None:
                ways = dict(operators)
                if compiles:
                    ways |= self._with_program(program, operators)
                seconds = _seconds(program, ways)
                made = path.with_suffix(".new")
                made.write_text(json.dumps({"program": asdict(program), "seconds": seconds}, indent=2))
                made.replace(path)
        return seconds

    def _with_program(self, program: Program, operators: Mapping[str, Engine]) -> dict[str, Engine]:
        """The program that is worth its compilation. Raises `CompileError`."""
        precisions: Sequence[Precision] = ("float32",) if program.purpose == "evaluation" else self.precisions
        best = fastest(_seconds(program, operators)) if len(precisions) > 1 else precisions[0]
        way = next(f"{precision} {PROGRAM}" for precision in precisions if best.startswith(precision))
        self._programs[way].load(program)
        return {way: self._programs[way]}


def _read(path: Path) -> dict[str, float] | None:
    """What is kept there; None also if it is damaged."""
    try:
        return {way: float(least) for way, least in json.loads(path.read_text())["seconds"].items()}
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return None


def fastest(seconds: Mapping[str, float]) -> str:
    return min(seconds, key=seconds.__getitem__)


@dataclass(frozen=True, slots=True)
class Throughput:
    """Of steps at `batch_size`, or of evaluations: by way, and which way is chosen."""

    batch_size: int
    purpose: Purpose
    images_per_second: Mapping[str, float]
    chosen: str


def throughputs(engine: AutotunedEngine, batch_sizes: Iterable[int]) -> list[Throughput]:
    """Of all its ways, measured as by a worker that has as many threads as this process."""
    steps = [replace(engine.like, purpose="sgd", batch_size=size) for size in batch_sizes]
    found = []
    for program in (*steps, evaluation_of(engine.like, EVALUATION_BATCH)):
        seconds = engine.measured(program)
        rates = {way: program.batch_size / least for way, least in seconds.items() if least}
        found.append(Throughput(program.batch_size, program.purpose, rates, fastest(seconds)))
    return found


def _seconds(program: Program, ways: Mapping[str, Engine]) -> dict[str, float]:
    pack = Pack(lambda: models.build(program.model, program.classes, program.channels), [0], "cpu")
    optimizer: Optimizer = Sgd([Candidate(0.01, 0.9, 0.0, 0)], pack.weights.parameters)
    if program.purpose == "adam":
        optimizer = Adam(0.001, pack.weights.parameters)
    images = torch.rand(program.batch_size, program.channels, *program.size)
    labels = torch.arange(program.batch_size) % program.classes
    seconds, begun = dict.fromkeys(ways, math.inf), time.perf_counter()
    for past in range(ROUNDS):
        if past >= 2 and time.perf_counter() - begun > MEASURE_SECONDS:
            break
        for way, engine in ways.items():
            start = time.perf_counter()
            if program.purpose == "evaluation":
                engine.score(pack, images, labels)
            else:
                engine.step(pack, optimizer, program.clip, images, labels)
            seconds[way] = min(seconds[way], time.perf_counter() - start)
    return seconds
