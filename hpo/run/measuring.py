"""Measure a few steps of a study's network with the engine that a worker would use."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from hpo.data.arrays import open_mapped
from hpo.data.device import DeviceImages
from hpo.run.measurement import Measurement, Pace
from hpo.run.planned_points import PlannedPoints, planned_points
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.training.allocator import keep_freed_memory
from hpo.training.session import PackSession
from hpo.training.task import Recipe, Task
from hpo.training.trainer import Trainer
from hpo.training.workload import Workload, usable_device
from hpo.values.budget import Budget, Phase
from hpo.values.candidate import Candidate
from hpo.values.epoch import EpochResult
from hpo.values.space import Point
from hpo.values.stage import Stage
from hpo.values.vocabulary import PackKey
from hpo.worker.rehearsal import rehearse
from hpo.worker.trainers import Engines, recipe_of

STEPS = 8
"""Steps of the epochs that tell how many steps to measure."""

SECONDS = 1.0
"""Time that the measured steps take, about."""

VALIDATION = 2000
"""Most images that are evaluated."""

UNENDING = 1_000_000
"""Epochs of a phase in which no member ends."""


def measure(settings: Settings, spec: StudySpec, device: str, width: int, begin: float) -> Measurement:
    """Measure epochs of the search and of each phase of full training. `begin`: when the process started.

    `width`: the largest pack. Compiles and compares programs as a worker does, which later workers reuse.
    """
    dataset = open_mapped(spec.data.name, settings.data_path, settings.arrays_path)
    chip = torch.device(usable_device(device))
    workload = Workload(spec, dataset)
    fused = rehearse(workload, chip, settings.rehearsals_path)
    keep_freed_memory()
    points = planned_points(spec)
    stopwatch = _Stopwatch(workload, chip, Engines(spec, chip, settings.programs_path), fused)
    start_seconds = time.time() - begin
    search = [
        stopwatch.measure("search", key, 0, [points.point_of(key)] * points.width(width, chip.type))
        for key in points.keys
    ]
    full = _full(stopwatch, spec, points, width)
    return Measurement(
        start_seconds,
        [pace for pace, _ in search],
        [pace for pace, _ in full],
        max(size for _, size in search),
        max(size for _, size in full),
        _weights_bytes(workload),
    )


def _full(
    stopwatch: "_Stopwatch", spec: StudySpec, points: PlannedPoints, width: int
) -> list[tuple[Pace, int]]:
    key = points.middle
    pack = [points.point_of(key)] * points.full_width(width)
    phases = range(len(recipe_of(spec, "full", key).budget.phases))
    return [stopwatch.measure("full", key, phase, pack) for phase in phases]


@dataclass(frozen=True, slots=True)
class _Stopwatch:
    """Measures epochs on parts of the images."""

    workload: Workload
    device: torch.device
    engines: Engines
    fused: bool | None

    def measure(self, stage: Stage, key: PackKey, phase: int, points: Sequence[Point]) -> tuple[Pace, int]:
        """Return the pace of a phase, and the bytes of the state of a member."""
        train, validation = self.workload.images(stage, self.device)
        recipe = _unending(recipe_of(self.workload.spec, stage, key), phase)
        engine = self.engines.make(stage, len(train), self.workload.network_of(dict(key)))
        task = Task(
            self.workload.factory_of(dict(key)), train, validation, self.workload.criterion, self.fused
        )
        trainer = Trainer(task, recipe, engine)
        begin = time.perf_counter()
        trainer.prepare()
        prepare_seconds = time.perf_counter() - begin
        few = min(len(train), STEPS * recipe.batch_size)
        result, _ = self._second_epoch(trainer, few, points)
        pack_seconds = result.seconds * len(points) / few
        many = int(min(len(train), max(few, SECONDS / max(pack_seconds, 1e-9))))
        result, session = self._second_epoch(trainer, many, points)
        pace = Pace(
            recipe.batch_size,
            len(points),
            result.seconds * len(train) / many,
            result.evaluation_seconds * len(validation) / min(len(validation), VALIDATION),
            prepare_seconds,
        )
        state = session.states()[0]
        return pace, sum(array.nbytes for array in state.arrays.values())

    def _second_epoch(
        self, trainer: Trainer, count: int, points: Sequence[Point]
    ) -> tuple[EpochResult, PackSession]:
        """Return the result of the second epoch on `count` images. The first has one-time costs."""
        task, space = trainer.task, self.workload.spec.space
        part = replace(task, train=_part(task.train, count), validation=_part(task.validation, VALIDATION))
        candidates = {n: Candidate(space.with_defaults(point), n) for n, point in enumerate(points)}
        session = replace(trainer, task=part).start(candidates)
        session.epoch()
        return session.epoch()[0], session


def _unending(recipe: Recipe, index: int) -> Recipe:
    """Return the recipe of one phase that does not end while it is measured."""
    phase: Phase = replace(recipe.budget.phases[index], epochs=UNENDING, patience=None)
    return replace(recipe, budget=Budget(recipe.budget.split, (phase,), recipe.budget.keep))


def _part(images: DeviceImages, count: int) -> DeviceImages:
    if count >= len(images):
        return images
    # Spread over all of them: examples may be sorted by class.
    return images.subset(torch.linspace(0, len(images) - 1, count, device=images.labels.device).long())


def _weights_bytes(workload: Workload) -> int:
    weights: Mapping[str, Any] = workload.factory().state_dict()
    return sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
