"""Compiled programs train as torch's operators do. They are compiled by another process and shared."""

import logging
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.artifacts import MemoryStore
from support.candidates import candidate
from support.engines import ProgramOnlyPack
from support.packs import sgd
from support.scores import tensors_of
from support.workloads import digits_workload
from torch import Tensor

from hpo.spec.study_spec import StudySpec
from hpo.store.checkpoints import Checkpoint
from hpo.store.leases import Lease
from hpo.study.schedule import LeasedTrial
from hpo.training.classification import Classification
from hpo.training.engines.base import Engine
from hpo.training.engines.compiled import CompiledEngine
from hpo.training.engines.compiler import CompileError, obtain
from hpo.training.engines.eager import EagerEngine
from hpo.training.engines.kernels.operators import load
from hpo.training.engines.program import NetworkSpec, Program
from hpo.training.pack import Pack
from hpo.training.task import Recipe, Task
from hpo.training.trainer import Trainer
from hpo.training.weights import Weights
from hpo.values.budget import Phase
from hpo.values.candidate import Candidate
from hpo.values.data_shape import DataShape
from hpo.values.epoch import TRAIN_LOSS, VALIDATION_LOSS, EpochResult
from hpo.worker.trial_files import TrialFiles

pytestmark = pytest.mark.slow

LENET = NetworkSpec("lenet", DataShape((1, 28, 28), 10))
STEP = Program(LENET, "sgd", 16)
SGD = Phase("sgd", 1)
CANDIDATES = [
    candidate(lr=0.05, momentum=0.9, weight_decay=1e-3, seed=4),
    candidate(lr=0.01, momentum=0.0, weight_decay=0.0, seed=5),
    candidate(lr=0.1, momentum=0.5, weight_decay=0.0, seed=6),
]
EVALUATION_BATCH = 32
"""The tests of autotuning evaluate batches of this size too, so the program is compiled once."""


def compiled_engine(programs: Path) -> CompiledEngine:
    engine = CompiledEngine(LENET, programs, evaluation_batch=EVALUATION_BATCH)
    engine.prepare(16, [SGD])
    return engine


def batches(members: int | None = None) -> list[tuple[Tensor, Tensor]]:
    """Return two whole batches and a smaller one, shared or for each of `members`."""
    generator = torch.Generator().manual_seed(1)
    data = []
    for size in (16, 16, 9):
        shape = (size,) if members is None else (members, size)
        images = torch.randn(*shape, 1, 28, 28, generator=generator)
        data.append((images, torch.randint(10, shape, generator=generator)))
    return data


def train(
    engine: Engine,
    candidates: list[Candidate],
    data: list[tuple[Tensor, Tensor]],
    pack_type: type[Pack] = Pack,
) -> tuple[Pack, list[Tensor]]:
    """Return the trained pack and the losses `(M,)` of each step."""
    pack = pack_type(LENET.build, [candidate.seed for candidate in candidates], "cpu")
    optimizer = sgd(candidates, pack.weights.parameters)
    return pack, [engine.step(pack, optimizer, None, *batch) for batch in data]


def test_a_program_trains_a_pack_as_operators_do_and_each_member_as_alone(programs: Path) -> None:
    engine = compiled_engine(programs)
    eager_pack, expected = train(EagerEngine(), CANDIDATES, batches())
    pack, losses = train(engine, CANDIDATES, batches())
    torch.testing.assert_close(torch.stack(losses), torch.stack(expected), rtol=1e-4, atol=1e-4)
    for name, buffer in eager_pack.weights.buffers.items():
        torch.testing.assert_close(pack.weights.buffers[name], buffer, rtol=1e-3, atol=1e-4)
    for index, member in enumerate(CANDIDATES):
        alone, losses_alone = train(engine, [member], batches())
        assert torch.equal(alone.weights.parameters[0], pack.weights.parameters[index])
        assert [float(loss[index]) for loss in losses] == [float(loss) for loss in losses_alone]


def test_programs_compute_whole_batches_and_operators_smaller_ones(programs: Path) -> None:
    engine, (first, second, smaller) = compiled_engine(programs), batches()
    pack, _ = train(engine, CANDIDATES, [first, second], ProgramOnlyPack)
    engine.score(pack, torch.ones(EVALUATION_BATCH, 1, 28, 28), torch.arange(EVALUATION_BATCH) % 10)
    with pytest.raises(AssertionError, match="computed by operators"):
        train(engine, CANDIDATES, [smaller], ProgramOnlyPack)


def test_each_member_may_have_batches_of_its_own(programs: Path) -> None:
    engine, data = compiled_engine(programs), batches(len(CANDIDATES))
    pack, losses = train(engine, CANDIDATES, data)
    for index, member in enumerate(CANDIDATES):
        own = [(images[index], labels[index]) for images, labels in data]
        alone, losses_alone = train(engine, [member], own)
        assert torch.equal(alone.weights.parameters[0], pack.weights.parameters[index])
        assert [float(loss[index]) for loss in losses] == [float(loss) for loss in losses_alone]


def test_the_order_of_the_tensors_of_a_pack_does_not_matter(programs: Path) -> None:
    """A checkpoint has another order, and a program that confuses two tensors writes out of bounds."""
    engine, results = compiled_engine(programs), []
    for is_reversed in (False, True):
        pack = Pack(LENET.build, [4], "cpu")
        buffers = pack.weights.buffers
        names = sorted(buffers, reverse=is_reversed)
        pack.weights = Weights(pack.weights.parameters, {name: buffers[name] for name in names})
        optimizer = sgd(CANDIDATES[:1], pack.weights.parameters)
        losses = [engine.step(pack, optimizer, None, *batch) for batch in batches()]
        scores = engine.score(
            pack, torch.ones(EVALUATION_BATCH, 1, 28, 28), torch.zeros(EVALUATION_BATCH, dtype=torch.int64)
        )
        sorted_buffers = (buffers[name] for name in sorted(buffers))
        results.append([*losses, *tensors_of(scores), pack.weights.parameters, *sorted_buffers])
    assert all(torch.equal(tensor, other) for tensor, other in zip(*results, strict=True))


def test_a_training_that_resumes_from_files_is_the_same_to_the_bit(
    programs: Path, tmp_path: Path, spec: Callable[..., StudySpec]
) -> None:
    digits = spec(data={"name": "digits", "mini": 0.5, "validation": 0.4}, search={"trials": 2, "epochs": 4})
    workload, files = digits_workload(digits), TrialFiles(MemoryStore())
    task = Task(workload.factory, *workload.images("search", "cpu"), Classification(10))
    trainer = Trainer(task, Recipe(digits.budget("search"), 16, 3), compiled_engine(programs))
    session = trainer.start(dict(enumerate(CANDIDATES)))
    session.epoch()
    names = {
        number: files.save_checkpoint("search", LeasedTrial(number, Lease(number, 1), {}, 0), state)
        for number, state in session.states().items()
    }

    def losses(results: list[EpochResult]) -> list[tuple[int, float, float]]:
        return [
            (result.member, result.metrics[TRAIN_LOSS], result.metrics[VALIDATION_LOSS]) for result in results
        ]

    uninterrupted = [losses(session.epoch()) for _ in range(2)]
    for members in ([0, 1, 2], [1]):
        states = {
            number: files.load_checkpoint(Checkpoint(1, names[number]), session.check) for number in members
        }
        resumed = trainer.start({number: CANDIDATES[number] for number in members}, states)
        for epoch in uninterrupted:
            assert losses(resumed.epoch()) == [row for row in epoch if row[0] in members]


def test_evaluations_equal_those_of_torch(programs: Path) -> None:
    engine = compiled_engine(programs)
    pack, _ = train(engine, CANDIDATES, batches())
    generator = torch.Generator().manual_seed(2)
    for size in (EVALUATION_BATCH, 7):
        images, labels = torch.randn(size, 1, 28, 28, generator=generator), torch.arange(size) % 10
        scores, expected = engine.score(pack, images, labels), pack.score(images, labels)
        torch.testing.assert_close(scores.losses, expected.losses, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(scores.squares, expected.squares, rtol=1e-4, atol=1e-4)
        assert torch.equal(scores.predictions, expected.predictions)


def test_without_a_compiler_operators_compute(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load(programs)
    monkeypatch.setenv("CXX", "no-such-compiler")
    engine = CompiledEngine(LENET, tmp_path)
    with caplog.at_level(logging.WARNING):
        engine.prepare(16, [SGD])
    assert "batch size 16, sgd: not compiled: lenet cannot be compiled: " in caplog.text
    assert len(caplog.messages) == 2
    _, losses = train(engine, CANDIDATES, batches())
    _, expected = train(EagerEngine(), CANDIDATES, batches())
    assert torch.equal(torch.stack(losses), torch.stack(expected))


def test_a_network_that_cannot_be_traced_is_reported_in_one_line(programs: Path) -> None:
    load(programs)
    program = replace(STEP, network=replace(LENET, model="nothing:Here"))
    with pytest.raises(CompileError, match="nothing:Here cannot be traced: ModelError: ") as raised:
        obtain(program, programs)
    assert "\n" not in str(raised.value)


def test_a_worker_that_is_stopped_kills_the_compiler(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(programs)
    processes: list[subprocess.Popen[str]] = []

    class Interrupted(subprocess.Popen[str]):
        def communicate(self, *_arguments: Any, **_options: Any) -> Any:
            processes.append(self)
            raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        obtain(STEP, tmp_path)
    assert [process.poll() for process in processes] == [-9]
    assert not list(tmp_path.glob("lenet*.so"))
