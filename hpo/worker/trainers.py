"""Make the trainers of a study's packs on one device."""

from functools import cached_property
from pathlib import Path

import torch

from hpo.data.device import DeviceImages
from hpo.spec.study_spec import StudySpec
from hpo.training.async_evaluation import AsyncEvaluator, SideStream
from hpo.training.engines.autotuning import AutotunedEngine, TuningOptions
from hpo.training.engines.base import Engine
from hpo.training.engines.program import NetworkSpec
from hpo.training.task import Recipe, Runtime, Task
from hpo.training.trainer import Trainer
from hpo.training.workload import Workload
from hpo.values.parameters import PackKey, columns_in_use
from hpo.values.precision import Precision
from hpo.values.refit import is_refit
from hpo.values.seeds import Purpose
from hpo.values.stage import Part, Stage
from hpo.worker.context import WorkerContext
from hpo.worker.interruption import Interruption
from hpo.worker.rehearsal import operator_engine


def recipe_of(spec: StudySpec, stage: Stage, key: PackKey) -> Recipe:
    """Return how packs of this stage and pack key are trained.

    Columns that the study's space does not name are left out of the step, which has their defaults.
    """
    budget = spec.budget(stage, dict(key)["optimizer"])
    return Recipe(
        budget.refit() if is_refit(key) else budget,
        int(dict(key)["batch_size"]),
        Purpose.TRAINING.derive(spec.seed),
        tuple(columns_in_use(spec.space.domains)),
        spec.make_objective(),
    )


class Engines:
    """Makes the engines of a study on one device. `programs`: the folder of compiled programs, None without.

    Packs of one network share an engine that has been tuned.
    """

    def __init__(self, spec: StudySpec, device: torch.device, programs: Path | None) -> None:
        self._spec, self._device, self._programs = spec, device, programs
        self._tuned: dict[tuple[tuple[Precision, ...], NetworkSpec], AutotunedEngine] = {}

    def make(self, stage: Stage, images: int, network: NetworkSpec) -> Engine:
        """Return the engine of a stage with this number of training images."""
        precisions = self._spec.precisions(stage)
        on_cpu = self._device.type == "cpu"
        if self._programs is None or not on_cpu or not self._spec.autotunes(stage, images):
            return operator_engine(self._spec, self._device, stage)
        key = precisions, network
        if key not in self._tuned:
            options = TuningOptions(precisions, compiles=self._spec.engine.compile != "never")
            self._tuned[key] = AutotunedEngine(network, self._programs, options)
        return self._tuned[key]


class TrainerFactory:
    """Makes trainers that share images and engines. Only the images of one part of the study are on
    the device.

    `fused`: whether `vmap` computes the members of a pack. None: as `Pack` decides for the device.
    """

    def __init__(
        self,
        context: WorkerContext,
        workload: Workload,
        interruption: Interruption,
        fused: bool | None = None,
    ) -> None:
        self._spec = context.study.spec
        self._device, self._clock = torch.device(context.settings.device), context.runtime.clock
        self._workload, self._interruption, self._fused = workload, interruption, fused
        self._images: dict[Part, tuple[DeviceImages, DeviceImages]] = {}
        self._engines = Engines(self._spec, self._device, context.settings.programs)

    def make(self, stage: Stage, key: PackKey) -> Trainer:
        """Return a trainer for packs of this stage and pack key."""
        part: Part = "refit" if is_refit(key) else stage
        if part not in self._images:
            self._images = {part: self._workload.images(part, self._device)}
        train, validation = self._images[part]
        workload, params = self._workload, dict(key)
        return Trainer(
            Task(workload.factory_of(params), train, validation, workload.criterion, self._fused),
            recipe_of(self._spec, stage, key),
            self._engines.make(stage, len(train), workload.network_of(params)),
            Runtime(self._clock, self._interruption.interruptible, self._evaluator),
        )

    @cached_property
    def _evaluator(self) -> AsyncEvaluator | None:
        """None on a CPU, where training keeps every thread busy. Only a GPU can evaluate beside it."""
        return SideStream(self._device) if self._device.type == "cuda" else None
