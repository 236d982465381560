"""The engine that measures the variants of computing a network once per machine and uses the fastest."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

from hpo.ownership import make_file, make_folder
from hpo.training.engines import timing
from hpo.training.engines.base import Engine
from hpo.training.engines.compiled import EVALUATION_BATCH, CompiledEngine, steps_of
from hpo.training.engines.compiler import CompileError, note_of
from hpo.training.engines.eager import EagerEngine
from hpo.training.engines.program import NetworkSpec, Program, evaluation_of, step_of
from hpo.training.engines.timing import Measure, fastest
from hpo.training.metrics import Scores
from hpo.training.optimizers.base import Optimizer
from hpo.training.pack import Pack
from hpo.values.budget import Phase
from hpo.values.precision import Precision

log = logging.getLogger("hpo.worker")

PROGRAM = "program"
"""Names the variants of compiled programs, after their precision. Variants of operators are named by
precision and layout: "float32", "float32, channels last"."""


@dataclass(frozen=True, slots=True)
class TuningOptions:
    """Which variants are measured, and how.

    `precisions`: the precisions of steps; evaluations are always float32. `compiles`: whether a compiled
    program is one of the variants. `evaluation_batch`: images per evaluation by a program. `remeasure`:
    whether to measure even if a measurement is stored.
    """

    precisions: Sequence[Precision] = ("float32",)
    compiles: bool = True
    evaluation_batch: int = EVALUATION_BATCH
    remeasure: bool = False
    measure: Measure = field(default_factory=lambda: timing.measure_seconds)


class AutotunedEngine:
    """Uses the fastest variant for each kind of step, and for evaluations.

    Variants are torch's operators in each precision and in both layouts, and compiled programs. Only our own
    networks are known to support channels last. Compiling takes long, so a step has one program only, in the
    precision in which operators are faster.

    Measurements are stored in `folder` by network, sizes, CPU, versions, number of threads and variants, so
    that all workers of a machine choose the same variants.
    """

    def __init__(self, network: NetworkSpec, folder: Path, options: TuningOptions | None = None) -> None:
        self.network, self._folder = network, folder
        self._options = options = options or TuningOptions()
        self.evaluation_batch = options.evaluation_batch
        self._fallback: Engine = EagerEngine(options.precisions[0])
        self._evaluator: Engine = EagerEngine()
        self._chosen: dict[Program, Engine] = {}
        layouts = (False, True) if network.is_built_in else (False,)
        self._eager: dict[str, Engine] = {
            f"{precision}{', channels last' * channels_last}": EagerEngine(precision, channels_last)
            for precision in options.precisions
            for channels_last in layouts
        }
        self._compiled = {
            f"{precision} {PROGRAM}": CompiledEngine(network, folder, precision, options.evaluation_batch)
            for precision in ("float32", *options.precisions)
        }

    def prepare(self, batch_size: int, phases: Iterable[Phase], columns: Sequence[str] = ()) -> None:
        steps = steps_of(self.network, batch_size, phases, columns)
        for program in (*steps, evaluation_of(self.network, self._options.evaluation_batch)):
            if program in self._chosen:
                continue
            variant = fastest(self.measure(program))
            self._chosen[program] = engine = (self._eager | self._compiled)[variant]
            if program.optimizer is None:
                # Operators accept any batch, and are fastest for larger batches than programs.
                is_compiled = variant in self._compiled
                self._evaluator = engine
                self.evaluation_batch = (
                    self._options.evaluation_batch if is_compiled else EagerEngine.evaluation_batch
                )

    def step(
        self, pack: Pack, optimizer: Optimizer, max_norm: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        program = step_of(self.network, pack, optimizer, max_norm, labels)
        engine = self._chosen.get(program, self._fallback)
        return engine.step(pack, optimizer, max_norm, images, labels)

    def score(self, pack: Pack, images: Tensor, labels: Tensor) -> Scores:
        return self._evaluator.score(pack, images, labels)

    def variant_of(self, program: Program) -> Engine | None:
        """Return the engine that `prepare` chose for a float32 program, None if it has not been prepared."""
        return self._chosen.get(program)

    def measure(self, program: Program) -> Mapping[str, float]:
        """Return the fewest seconds of one member's step or evaluation by variant.

        Measures only if this machine has not done so yet. Another process that needs the same measurement
        waits. If a compiled program is the fastest, it is loaded.
        """
        eager = self._eager
        if program.optimizer is None:
            first = self._options.precisions[0]  # evaluations ignore the precision, so one of them is enough
            eager = {variant: eager[variant] for variant in eager if variant.startswith(first)}
        if self._options.compiles:
            try:
                seconds = self._stored(program, eager, compiles=True)
                if (variant := fastest(seconds)) in self._compiled:
                    self._compiled[variant].load(program)
                return seconds
            except (CompileError, OSError) as error:
                log.warning("%s: not compiled: %s", program, error)
        try:
            return self._stored(program, eager, compiles=False)
        except OSError as error:
            log.warning("%s: not measured: %s", program, error)
            return dict.fromkeys(list(eager)[:1], 0.0)

    def _stored(self, program: Program, eager: Mapping[str, Engine], compiles: bool) -> Mapping[str, float]:
        """Return the stored seconds of the variants `eager` and, with `compiles`, of a program.

        Measures and stores them first if there are none. Raises CompileError.
        """
        if len(eager) == 1 and not compiles:
            return dict.fromkeys(eager, 0.0)
        path = note_of(program, self._folder, torch.get_num_threads(), *eager, compiles)
        make_folder(self._folder, 0o700)
        make_file(path.with_suffix(".lock"))
        with FileLock(path.with_suffix(".lock")):
            if self._options.remeasure or (seconds := _read(path)) is None:
                variants = dict(eager)
                if compiles:
                    variants |= self._compiled_variant(program, eager)
                seconds = self._options.measure(program, variants)
                temporary = path.with_suffix(".new")
                temporary.write_text(json.dumps({"program": asdict(program), "seconds": seconds}, indent=2))
                temporary.replace(path)
        return seconds

    def _compiled_variant(self, program: Program, eager: Mapping[str, Engine]) -> dict[str, Engine]:
        """Compile the program in the precision in which operators are faster. Raises CompileError."""
        precisions = self._options.precisions
        if program.optimizer is None:
            precisions = ("float32",)
        best = precisions[0]
        if len(precisions) > 1:
            best_variant = fastest(self._options.measure(program, eager))
            best = next(precision for precision in precisions if best_variant.startswith(precision))
        variant = f"{best} {PROGRAM}"
        self._compiled[variant].load(program)
        return {variant: self._compiled[variant]}


def _read(path: Path) -> dict[str, float] | None:
    """Return the stored seconds by variant, None if the file is missing or damaged."""
    try:
        return {
            variant: float(seconds) for variant, seconds in json.loads(path.read_text())["seconds"].items()
        }
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return None
