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

import models
from hpo.budget import Phase
from hpo.compiler import CompileError, key_of
from hpo.engine import Engine
from hpo.optimizer import Adam, Optimizer, Sgd
from hpo.pack import Candidate, Pack
from hpo.precision import Precision, searched_in
from hpo.program import Program, Purpose
from hpo.programs import EVALUATION_BATCH, Programs, evaluation_of, programs_of, step_of

log = logging.getLogger("hpo.worker")

ROUNDS = 20
"""Steps of each way, in turns, after which it is known which is the fastest."""

MEASURE_SECONDS = 2.0
"""So long after the first of them no more rounds are begun; there are two at least."""

PROGRAM = "program"
"""The way of compiled programs; those of torch's operators are called after precision and layout."""


@dataclass
class Tuned(Engine):
    """For every kind of step, and for evaluations, the fastest of several ways: torch's operators in some
    `precisions` and both layouts, and, if it `compiles`, a program in float32.

    What was measured is kept in `folder`, by network, sizes, CPU, versions and number of threads, so that all
    workers of a machine do the same. Evaluations are computed in float32. `like` says what it is for; its
    network has to bear channels that lie together.
    """

    like: Program
    folder: Path
    precisions: Sequence[Precision] = ("float32",)
    compiles: bool = True
    evaluation_batch: int = EVALUATION_BATCH
    _chosen: dict[Program, Engine] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.precisions[0])
        self._programs = Programs(self.like, self.folder, self.evaluation_batch)
        layouts = (False, True) if self.like.model in models.names() else (False,)
        self._operators = {
            f"{precision}{', channels last' * last}": Engine(precision, last)
            for precision in self.precisions
            for last in layouts
        }

    def prepare(self, batch_size: int, phases: Iterable[Phase]) -> None:
        for program in programs_of(self.like, batch_size, phases, self.evaluation_batch):
            if program not in self._chosen:
                way = fastest(self.measured(program))
                self._chosen[program] = self._programs if way == PROGRAM else self._operators[way]

    def step(
        self, pack: Pack, optimizer: Optimizer, largest: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        engine = self._chosen.get(step_of(self.like, optimizer, labels, largest))
        if engine is None:
            return super().step(pack, optimizer, largest, images, labels)
        return engine.step(pack, optimizer, largest, images, labels)

    def score(self, pack: Pack, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        engine = self._chosen.get(evaluation_of(self.like, len(labels)))
        return super().score(pack, images, labels) if engine is None else engine.score(pack, images, labels)

    def measured(self, program: Program) -> Mapping[str, float]:
        """Seconds of one member's step or evaluation, the least of several, by way.

        Measured now if this machine has not done so yet; another process that needs it too waits. Afterwards
        the program is loaded if it is the fastest.
        """
        operators = self._operators
        if program.purpose == "evaluation":
            operators = {way: operators[way] for way in operators if way.startswith(self.precisions[0])}
        if self.compiles:
            try:
                seconds = self._kept(program, {**operators, PROGRAM: self._programs})
                if fastest(seconds) == PROGRAM:
                    self._programs.load(program)
                return seconds
            except CompileError as error:
                log.warning("batch size %d, %s: not compiled: %s", program.batch_size, program.purpose, error)
        try:
            return self._kept(program, operators)
        except OSError as error:
            log.warning("batch size %d, %s: not measured: %s", program.batch_size, program.purpose, error)
            return dict.fromkeys(list(operators)[:1], 0.0)

    def _kept(self, program: Program, ways: Mapping[str, Engine]) -> Mapping[str, float]:
        """What is kept of these ways; they are measured first if something of it is missing.

        Raises `CompileError`.
        """
        if len(ways) == 1:
            return dict.fromkeys(ways, 0.0)
        path = key_of(program, self.folder, torch.get_num_threads()).with_suffix(".json")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            seconds: dict[str, float] = json.loads(path.read_text())["seconds"] if path.exists() else {}
            if not ways.keys() <= seconds.keys():
                if PROGRAM in ways:
                    self._programs.load(program)
                seconds |= _seconds(program, ways)
                made = path.with_suffix(".new")
                made.write_text(json.dumps({"program": asdict(program), "seconds": seconds}, indent=2))
                made.replace(path)
        return {way: seconds[way] for way in ways}


def fastest(seconds: Mapping[str, float]) -> str:
    return min(seconds, key=seconds.__getitem__)


@dataclass(frozen=True, slots=True)
class Rates:
    """Images a second and process by way, of steps at `batch_size` or of evaluations; `chosen`: what a search
    takes unless its study file says otherwise."""

    batch_size: int
    purpose: Purpose
    images: Mapping[str, float]
    chosen: str


def survey(like: Program, batch_sizes: Iterable[int], folder: Path) -> list[Rates]:
    """Of all ways there are, measured as by a worker that has as many threads as this process."""
    engine, found = Tuned(like, folder, ("float32", "bfloat16")), []
    steps = [replace(like, purpose="sgd", batch_size=size) for size in batch_sizes]
    for program in (*steps, evaluation_of(like, engine.evaluation_batch)):
        seconds = engine.measured(program)
        allowed = [way for way in seconds if way == PROGRAM or way.startswith(searched_in(like.model))]
        rates = {way: program.batch_size / least for way, least in seconds.items() if least}
        chosen = fastest({way: seconds[way] for way in allowed})
        found.append(Rates(program.batch_size, program.purpose, rates, chosen))
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
