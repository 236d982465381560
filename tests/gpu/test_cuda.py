"""On a CUDA device packs train as on the CPU, by CUDA graphs, with evaluations beside the training."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from support.candidates import candidate
from support.states import assert_same_state
from torch import Tensor, nn

from hpo import models
from hpo.data.dataset import Labelled
from hpo.data.device import DeviceImages
from hpo.training.async_evaluation import AsyncEvaluator, PendingEvaluation, SideStream
from hpo.training.classification import Classification
from hpo.training.engines.base import Engine
from hpo.training.engines.cuda_graphs import WARM_UP, CudaGraphEngine
from hpo.training.engines.eager import EagerEngine
from hpo.training.networks import Factory
from hpo.training.optimizers.base import Optimizer
from hpo.training.optimizers.registry import OPTIMIZERS, create_optimizer
from hpo.training.pack import Pack
from hpo.training.session import PackSession
from hpo.training.task import Recipe, Runtime, Task
from hpo.training.trainer import Trainer
from hpo.values.budget import Augmentation, Budget, Phase
from hpo.values.epoch import TRAIN_LOSS, VALIDATION_LOSS, EpochResult
from hpo.values.precision import Precision

pytestmark = pytest.mark.gpu

# Small steps keep the differences small that kernels make by rounding differently.
CANDIDATES = {0: candidate(0.001, 0.9, 1e-4, seed=1), 1: candidate(0.002, 0.0, 0.0, seed=2)}
SEEDS = [1, 2, 3]


def images(seed: int, device: str) -> DeviceImages:
    rng = np.random.default_rng(seed)
    labels = rng.integers(10, size=256)
    pixels = (rng.integers(60, size=(256, 28, 28)) + 19 * labels[:, None, None]).astype(np.uint8)
    return DeviceImages.from_labelled(Labelled(pixels, labels), device, (0.4,), (0.3,))


def new_trainer(
    name: str, device: str, budget: Budget, engine: Engine, evaluator: AsyncEvaluator | None = None
) -> Trainer:
    task = Task(
        lambda: models.build(name, 10),
        images(0, device),
        images(1, device),
        Classification(10),
    )
    return Trainer(task, Recipe(budget, batch_size=32, seed=0), engine, Runtime(evaluator=evaluator))


def run_to_end(session: PackSession) -> dict[int, list[EpochResult]]:
    results: dict[int, list[EpochResult]] = {key: [] for key in session.members}
    while session.members:
        for result in session.epoch():
            results[result.member].append(result)
    return results


def train_losses(
    name: str, device: str, budget: Budget, engine: Engine | None = None
) -> dict[int, list[float]]:
    """Return the training losses of all epochs by member."""
    results = run_to_end(new_trainer(name, device, budget, engine or EagerEngine()).start(CANDIDATES))
    assert all(np.isfinite(result.metrics[VALIDATION_LOSS]) for curve in results.values() for result in curve)
    return {key: [result.metrics[TRAIN_LOSS] for result in curve] for key, curve in results.items()}


def take_steps(
    engine: Engine, factory: Factory, members: int, count: int, name: str = "sgd"
) -> tuple[Tensor, Tensor]:
    """Return losses `(count, M)`, and all tensors of the pack afterwards in one vector."""
    pack = Pack(factory, SEEDS[:members], "cuda:0")
    parameters = pack.weights.parameters
    settings = {"lr": 0.001 if name == "sgd" else 1e-4, "momentum": 0.9, "weight_decay": 1e-4}
    optimizer = create_optimizer(name, [settings] * members, parameters)
    data = [images(n, "cuda:0").batch(torch.arange(32, device="cuda:0")) for n in range(count)]
    losses = [engine.step(pack, optimizer, 1.0, *batch).clone() for batch in data]
    tensors = [parameters.flatten(), *(buffer.flatten() for buffer in pack.weights.buffers.values())]
    return torch.stack(losses).cpu(), torch.cat([tensor.double() for tensor in tensors]).cpu()


def test_a_pack_has_the_losses_of_the_cpu() -> None:
    """The network has no dropout, because the streams of a GPU draw other numbers."""
    budget = Budget("mini", (Phase("sgd", 3, clip=1.0),), keep="last")
    cuda, cpu = train_losses("resnet", "cuda:0", budget), train_losses("resnet", "cpu", budget)
    for key in CANDIDATES:
        assert cuda[key] == pytest.approx(cpu[key], rel=0.02)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ["lenet", "alexnet", "resnet", "spinalnet"])
def test_a_graph_computes_what_its_operators_compute(name: str, optimizer: str, members: int) -> None:
    engine, count = CudaGraphEngine(), WARM_UP + 4
    losses, tensors = take_steps(engine, lambda: models.build(name, 10), members, count, optimizer)
    expected, expected_tensors = take_steps(
        EagerEngine(), lambda: models.build(name, 10), members, count, optimizer
    )
    assert len(engine._captured) == 1
    torch.testing.assert_close(losses, expected, rtol=1e-2, atol=1e-3)  # sums in another order, and TF32
    torch.testing.assert_close(tensors, expected_tensors, rtol=2e-2, atol=2e-3)


def test_both_phases_and_the_last_smaller_batches_are_graphs_of_their_own() -> None:
    phases = (Phase("sgd", 5, 5, clip=1.0), Phase("adam", 5, 5, clip=1.0, settings={"lr": 1e-3}))
    budget = Budget("full", phases, keep="best")
    graphs = train_losses("lenet", "cuda:0", budget, CudaGraphEngine())
    operators = train_losses("lenet", "cuda:0", budget)
    for key in CANDIDATES:
        assert graphs[key] == pytest.approx(operators[key], rel=0.02)


class Synchronizing(nn.Module):
    """A network that waits for the device in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(28 * 28, 10)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.layer(images.flatten(1))
        return output if float(output.detach().sum()) < 1e9 else -output


def test_a_step_that_cannot_be_captured_is_computed_by_operators(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "hpo.worker"):
        losses, tensors = take_steps(CudaGraphEngine(), Synchronizing, 1, WARM_UP + 3)
    expected, expected_tensors = take_steps(EagerEngine(), Synchronizing, 1, WARM_UP + 3)
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tensors, expected_tensors, rtol=1e-3, atol=1e-4)
    assert len([record for record in caplog.records if "not captured as graphs" in record.message]) == 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["lenet", "alexnet", "vggnet", "resnet", "spinalnet", "ensnet"])
def test_every_phase_runs_with_augmentation(name: str, precision: Precision) -> None:
    augmentation = Augmentation(15, 0.1, (0.9, 1.1), 3)
    phases = (
        Phase("sgd", 2, 5, 1.0, augmentation),
        Phase("adam", 1, 5, 1.0, augmentation, settings={"lr": 1e-3}),
    )
    curves = train_losses(name, "cuda:0", Budget("full", phases, keep="best"), CudaGraphEngine(precision))
    assert all(len(losses) == 3 and np.isfinite(losses).all() for losses in curves.values())


class WatchedEngine(CudaGraphEngine):
    """Counts steps. From the first captured graph on, waiting for the device raises."""

    steps = 0

    def step(
        self, pack: Pack, optimizer: Optimizer, max_norm: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        self.steps += 1
        torch.cuda.set_sync_debug_mode("error" if self._captured else "default")
        return super().step(pack, optimizer, max_norm, images, labels)


@pytest.fixture
def watched() -> Iterator[WatchedEngine]:
    yield WatchedEngine()
    torch.cuda.set_sync_debug_mode("default")


STEPS, AHEAD = 256 // 32, 5


@pytest.mark.parametrize("name", ["lenet", "resnet"])
def test_the_host_does_not_wait_for_any_step_of_an_epoch(name: str, watched: WatchedEngine) -> None:
    trainer = new_trainer(name, "cuda:0", Budget("mini", (Phase("sgd", 1),), keep="last"), watched)
    with pytest.raises(RuntimeError, match="synchronizing"):
        trainer.start(CANDIDATES).epoch()  # at its end, where the losses are read
    assert watched.steps == STEPS


# Evaluations beside the training


@dataclass
class DelayedEvaluation:
    """An evaluation that is done after some more polls at the earliest. Reading it may wait."""

    evaluation: PendingEvaluation
    polls: int = AHEAD

    def done(self) -> bool:
        self.polls -= 1
        return self.evaluation.done() and self.polls < 0

    def values(self) -> list[list[float]]:
        mode = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("default")
        values = self.evaluation.values()
        torch.cuda.set_sync_debug_mode(mode)
        return values


class DelayedSideStream(SideStream):
    """Lets the next epoch take steps in any case, however fast the device evaluates."""

    def __init__(self) -> None:
        super().__init__(torch.device("cuda:0"))

    def begin(self, compute: Callable[[], Tensor]) -> PendingEvaluation:
        return DelayedEvaluation(super().begin(compute))


FULL = Budget(
    "full", (Phase("sgd", 5, 5, clip=1.0), Phase("adam", 3, 5, clip=1.0, settings={"lr": 1e-3})), keep="best"
)


@pytest.mark.parametrize("name", ["lenet", "resnet"])
def test_the_next_epoch_begins_before_the_host_has_waited_for_anything(
    name: str, watched: WatchedEngine
) -> None:
    """Only reading the losses waits. Remembering best weights and batches per member do not."""
    session = new_trainer(name, "cuda:0", FULL, watched, DelayedSideStream()).start(CANDIDATES)
    for _ in range(2):
        assert len(session.epoch()) == 2
    assert watched.steps >= 2 * STEPS + AHEAD
    torch.cuda.set_sync_debug_mode("default")  # assembling a pack may wait
    session.join({2: CANDIDATES[0]}, {})
    for _ in range(2):
        assert len(session.epoch()) == 3


# Longer trainings of some networks magnify the rounding of kernels that are not deterministic.
@pytest.mark.parametrize(("name", "epochs"), [("lenet", 8), ("spinalnet", 8), ("alexnet", 2), ("resnet", 2)])
@pytest.mark.parametrize("members", [1, 2])
def test_an_evaluation_beside_the_next_epoch_equals_one_in_line(name: str, epochs: int, members: int) -> None:
    candidates = {key: CANDIDATES[key] for key in range(members)}
    in_line, beside = (
        run_to_end(new_trainer(name, "cuda:0", FULL, CudaGraphEngine(), evaluator).start(candidates))
        for evaluator in (None, DelayedSideStream())
    )
    for key in candidates:
        for loss in ("train_loss", "validation_loss"):
            actual, expected = (
                [getattr(result, loss) for result in results[key][:epochs]] for results in (beside, in_line)
            )
            assert actual == pytest.approx(expected, rel=0.02)


def test_a_member_that_leaves_during_the_next_epoch_leaves_the_others_alone() -> None:
    both, alone = (
        new_trainer("lenet", "cuda:0", FULL, CudaGraphEngine(), DelayedSideStream()).start(
            {key: CANDIDATES[key] for key in keys}
        )
        for keys in ([0, 1], [0])
    )
    for _ in range(3):
        actual, expected = both.epoch()[0], alone.epoch()[0]
        assert actual.metrics[VALIDATION_LOSS] == pytest.approx(expected.metrics[VALIDATION_LOSS], rel=0.02)
    both.drop({1})
    for actual, expected in zip(run_to_end(both)[0], run_to_end(alone)[0], strict=True):
        assert actual.metrics[VALIDATION_LOSS] == pytest.approx(expected.metrics[VALIDATION_LOSS], rel=0.02)


class FailingEngine(CudaGraphEngine):
    """Raises at the second step of the third epoch, which begins beside an evaluation."""

    steps = 0

    def step(
        self, pack: Pack, optimizer: Optimizer, max_norm: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        self.steps += 1
        if self.steps == 2 * STEPS + 2:
            raise KeyboardInterrupt
        return super().step(pack, optimizer, max_norm, images, labels)


def test_an_epoch_that_raises_during_an_evaluation_leaves_all_members_as_they_were() -> None:
    session = new_trainer("lenet", "cuda:0", FULL, FailingEngine(), DelayedSideStream()).start(CANDIDATES)
    session.epoch()
    before = session.states()
    with pytest.raises(KeyboardInterrupt):
        session.epoch()
    for key, state in session.states().items():
        assert_same_state(state, before[key])
    assert len(session.epoch()) == 2


def test_the_benchmark_runs(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--quick", "--json", str(file)]
    printed = subprocess.run(command, text=True, stdout=subprocess.PIPE, check=True).stdout
    rates = json.loads(file.read_text())["values"]["rates"]
    assert set(rates) == {"lenet 16 1", "lenet 16 4", "lenet epochs"}
    assert all(rate > 0 for variants in rates.values() for runs in variants.values() for rate in runs)
    assert "Candidate-images per second" in printed
