"""Compiled programs: the compiler is another process, and what it made is shared."""

import logging
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hpo import models
from hpo.artifacts.folder import ArtifactFolder
from hpo.spec.study_spec import StudySpec
from hpo.store.leases import Lease
from hpo.study.schedule import LeasedTrial
from hpo.training.engines.compiled import CompiledEngine
from hpo.training.engines.compiler import CompileError, obtain
from hpo.training.engines.eager import Engine
from hpo.training.engines.kernels import operators
from hpo.training.engines.program import Program
from hpo.training.optimizers import Sgd
from hpo.training.pack import Candidate, Pack, Weights
from hpo.training.trainer import Trainer
from hpo.training.workload import Workload
from hpo.values.budget import Phase
from hpo.worker.trial_files import TrialFiles

pytestmark = pytest.mark.slow

LIKE = Program("lenet", 10, 1, (28, 28), 0, "evaluation")
SGD = Phase("sgd", 1)
CANDIDATES = [
    Candidate(lr=0.05, momentum=0.9, weight_decay=1e-3, seed=4),
    Candidate(lr=0.01, momentum=0.0, weight_decay=0.0, seed=5),
    Candidate(lr=0.1, momentum=0.5, weight_decay=0.0, seed=6),
]


def compiled(programs: Path) -> CompiledEngine:
    """The size of evaluations is one for which nothing else is compiled in this run."""
    engine = CompiledEngine(LIKE, programs, evaluation_batch=32)
    engine.prepare(16, [SGD])
    return engine


def batches(members: int | None = None) -> list[tuple[Tensor, Tensor]]:
    """Two whole ones and a smaller one, one for all or one for each of so many members."""
    generator, found = torch.Generator().manual_seed(1), []
    for size in (16, 16, 9):
        shape = (size,) if members is None else (members, size)
        images = torch.randn(*shape, 1, 28, 28, generator=generator)
        found.append((images, torch.randint(10, shape, generator=generator)))
    return found


def train(
    engine: Engine, candidates: list[Candidate], data: list[tuple[Tensor, Tensor]]
) -> tuple[Pack, list[Tensor]]:
    pack = Pack(lambda: models.build("lenet", 10), [candidate.seed for candidate in candidates], "cpu")
    optimizer = Sgd(candidates, pack.weights.parameters)
    return pack, [engine.step(pack, optimizer, None, *batch) for batch in data]


def test_a_pack_is_trained_as_by_torch_s_operators_and_each_member_as_alone(programs: Path) -> None:
    engine = compiled(programs)
    theirs, expected = train(Engine(), CANDIDATES, batches())
    pack, losses = train(engine, CANDIDATES, batches())
    torch.testing.assert_close(torch.stack(losses), torch.stack(expected), rtol=1e-4, atol=1e-4)
    for name, buffer in theirs.weights.buffers.items():
        torch.testing.assert_close(pack.weights.buffers[name], buffer, rtol=1e-3, atol=1e-4)
    for place, candidate in enumerate(CANDIDATES):
        alone, its = train(engine, [candidate], batches())
        assert torch.equal(alone.weights.parameters[0], pack.weights.parameters[place])
        assert [float(loss[place]) for loss in losses] == [float(loss) for loss in its]


def test_each_member_may_have_batches_of_its_own(programs: Path) -> None:
    engine, data = compiled(programs), batches(len(CANDIDATES))
    pack, losses = train(engine, CANDIDATES, data)
    for place, candidate in enumerate(CANDIDATES):
        own = [(images[place], labels[place]) for images, labels in data]
        alone, its = train(engine, [candidate], own)
        assert torch.equal(alone.weights.parameters[0], pack.weights.parameters[place])
        assert [float(loss[place]) for loss in losses] == [float(loss) for loss in its]


def test_in_which_order_the_tensors_of_a_pack_are_named_is_of_no_concern(programs: Path) -> None:
    """A checkpoint has its own, and a program that takes one tensor for another writes past it."""
    engine, results = compiled(programs), []
    for turned in (False, True):
        pack = Pack(lambda: models.build("lenet", 10), [4], "cpu")
        buffers = pack.weights.buffers
        names = sorted(buffers, reverse=turned)
        pack.weights = Weights(pack.weights.parameters, {name: buffers[name] for name in names})
        optimizer = Sgd(CANDIDATES[:1], pack.weights.parameters)
        losses = [engine.step(pack, optimizer, None, *batch) for batch in batches()]
        scores = engine.score(pack, torch.ones(32, 1, 28, 28), torch.zeros(32, dtype=torch.int64))
        results.append([*losses, *scores, pack.weights.parameters, *(buffers[n] for n in sorted(buffers))])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_who_goes_on_from_a_file_trains_as_if_it_had_not_been_away(
    programs: Path, tmp_path: Path, spec: Callable[..., StudySpec]
) -> None:
    digits = spec(data={"name": "digits", "mini": 0.5, "validation": 0.4}, search={"trials": 2, "epochs": 4})
    workload, artifacts = Workload(digits, tmp_path), TrialFiles(ArtifactFolder(tmp_path / "study"))
    train, validation = workload.images("search", "cpu")
    engine = compiled(programs)
    trainer = Trainer(
        workload.factory,
        train,
        validation,
        digits.budget("search"),
        16,
        3,
        torch.device("cpu"),
        engine=engine,
    )
    training = trainer.start(dict(enumerate(CANDIDATES)))
    training.epoch()
    files = {
        number: artifacts.save_checkpoint("search", LeasedTrial(number, Lease(number, 1), {}, 0), state)
        for number, state in training.states().items()
    }
    calm = [[(r.member, r.train_loss, r.validation_loss) for r in training.epoch()] for _ in range(2)]
    for members in ([0, 1, 2], [1]):
        states = {n: artifacts.load_checkpoint(files[n], trainer.new_pack([0]).weights) for n in members}
        again = trainer.start({n: CANDIDATES[n] for n in members}, states)
        for expected in calm:
            found = [(r.member, r.train_loss, r.validation_loss) for r in again.epoch()]
            assert found == [epoch for epoch in expected if epoch[0] in members]


def test_evaluations_are_torch_s(programs: Path) -> None:
    engine = compiled(programs)
    pack, _ = train(engine, CANDIDATES, batches())
    generator = torch.Generator().manual_seed(2)
    for size in (32, 7):
        images, labels = torch.randn(size, 1, 28, 28, generator=generator), torch.arange(size) % 10
        losses, right = engine.score(pack, images, labels)
        expected = pack.score(images, labels)
        assert losses.dtype == torch.float64
        torch.testing.assert_close(losses, expected[0], rtol=1e-4, atol=1e-4)
        assert torch.equal(right, expected[1])


def test_without_a_compiler_torch_s_operators_do_it(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    operators.load(programs)
    monkeypatch.setenv("CXX", "no-such-compiler")
    engine = CompiledEngine(LIKE, tmp_path)
    with caplog.at_level(logging.WARNING):
        engine.prepare(16, [SGD])
    assert "batch size 16, sgd: not compiled: lenet cannot be compiled: " in caplog.text
    assert len(caplog.messages) == 2
    _, losses = train(engine, CANDIDATES, batches())
    _, expected = train(Engine(), CANDIDATES, batches())
    assert torch.equal(torch.stack(losses), torch.stack(expected))


def test_a_network_that_cannot_be_traced_is_one_line(programs: Path) -> None:
    operators.load(programs)
    with pytest.raises(CompileError, match="nothing:Here cannot be traced: ModelError: ") as raised:
        obtain(replace(LIKE, model="nothing:Here"), programs)
    assert "\n" not in str(raised.value)


def test_a_worker_that_is_told_to_stop_takes_the_compiler_with_it(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operators.load(programs)
    started: list[subprocess.Popen[str]] = []

    class Interrupted(subprocess.Popen[str]):
        def communicate(self, *_arguments: Any, **_options: Any) -> Any:
            started.append(self)
            raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        obtain(replace(LIKE, batch_size=16), tmp_path)
    assert [process.poll() for process in started] == [-9]
    assert not list(tmp_path.glob("lenet*.so"))
