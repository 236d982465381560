"""On a CUDA device: packs train there, and as they do on the CPU."""

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
from torch import Tensor, nn

from hpo import models
from hpo.data.dataset import Labelled
from hpo.data.device import DeviceImages
from hpo.training.async_evaluation import Outcome, Overlap, SideStream
from hpo.training.engines.cuda_graphs import WARM_UP, CudaGraphEngine
from hpo.training.engines.eager import Engine
from hpo.training.optimizers import Adam, Optimizer, Sgd
from hpo.training.pack import Candidate, Factory, Pack
from hpo.training.trainer import PackSession, Trainer
from hpo.values.budget import Augmentation, Budget, Phase
from hpo.values.epoch import EpochResult
from hpo.values.precision import Precision

pytestmark = pytest.mark.gpu

# Steps so small that what kernels round differently stays small too.
CANDIDATES = {0: Candidate(0.001, 0.9, 1e-4, seed=1), 1: Candidate(0.002, 0.0, 0.0, seed=2)}
SEEDS = [1, 2, 3]


def images(seed: int, device: str) -> DeviceImages:
    rng = np.random.default_rng(seed)
    labels = rng.integers(10, size=256)
    pixels = (rng.integers(60, size=(256, 28, 28)) + 19 * labels[:, None, None]).astype(np.uint8)
    return DeviceImages.from_labelled(Labelled(pixels, labels), device, (0.4,), (0.3,))


def trainer(
    name: str, device: str, budget: Budget, engine: Engine, overlap: Overlap | None = None
) -> Trainer:
    return Trainer(
        lambda: models.build(name, 10),
        images(0, device),
        images(1, device),
        budget,
        batch_size=32,
        seed=0,
        device=torch.device(device),
        engine=engine,
        overlap=overlap,
    )


def results(training: PackSession) -> dict[int, list[EpochResult]]:
    found: dict[int, list[EpochResult]] = {key: [] for key in training.members}
    while training.members:
        for result in training.epoch():
            found[result.member].append(result)
    return found


def curves(name: str, device: str, budget: Budget, engine: Engine | None = None) -> dict[int, list[float]]:
    """The losses on the training images, by member."""
    found = results(trainer(name, device, budget, engine or Engine()).start(CANDIDATES))
    assert all(np.isfinite(one.validation_loss) for each in found.values() for one in each)
    return {key: [one.train_loss for one in each] for key, each in found.items()}


def steps(
    engine: Engine, factory: Factory, members: int, count: int, kind: str = "sgd"
) -> tuple[Tensor, Tensor]:
    """Losses `(count, M)` and what all tensors of the pack are afterwards, one after another."""
    pack = Pack(factory, SEEDS[:members], "cuda:0")
    parameters = pack.weights.parameters
    candidates = [Candidate(0.001, 0.9, 1e-4, seed) for seed in SEEDS[:members]]
    optimizer: Optimizer = Sgd(candidates, parameters) if kind == "sgd" else Adam(1e-4, parameters)
    data = [images(n, "cuda:0").batch(torch.arange(32, device="cuda:0")) for n in range(count)]
    losses = [engine.step(pack, optimizer, 1.0, *batch).clone() for batch in data]
    tensors = [parameters.flatten(), *(buffer.flatten() for buffer in pack.weights.buffers.values())]
    return torch.stack(losses).cpu(), torch.cat([tensor.double() for tensor in tensors]).cpu()


def test_a_pack_has_the_losses_of_the_cpu() -> None:
    """Of a network without dropout, for the streams of a GPU draw otherwise."""
    budget = Budget("mini", (Phase("sgd", 3, clip=1.0),), keep="last")
    cuda, cpu = curves("resnet", "cuda:0", budget), curves("resnet", "cpu", budget)
    for key in CANDIDATES:
        assert cuda[key] == pytest.approx(cpu[key], rel=0.02)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["lenet", "alexnet", "resnet", "spinalnet"])
def test_a_graph_computes_what_its_operators_do(name: str, kind: str, members: int) -> None:
    graphs, count = CudaGraphEngine(), WARM_UP + 4
    losses, tensors = steps(graphs, lambda: models.build(name, 10), members, count, kind)
    expected, expected_tensors = steps(Engine(), lambda: models.build(name, 10), members, count, kind)
    assert len(graphs._captured) == 1
    torch.testing.assert_close(losses, expected, rtol=1e-2, atol=1e-3)  # sums in another order, and TF32
    torch.testing.assert_close(tensors, expected_tensors, rtol=2e-2, atol=2e-3)


def test_both_phases_and_the_last_smaller_batches_are_graphs_of_their_own() -> None:
    phases = (Phase("sgd", 5, 5, clip=1.0), Phase("adam", 5, 5, clip=1.0))
    budget = Budget("full", phases, keep="best")
    graphs = curves("lenet", "cuda:0", budget, CudaGraphEngine())
    operators = curves("lenet", "cuda:0", budget)
    for key in CANDIDATES:
        assert graphs[key] == pytest.approx(operators[key], rel=0.02)


class Asking(nn.Module):
    """Waits for the device in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(28 * 28, 10)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.layer(images.flatten(1))
        return output if float(output.detach().sum()) < 1e9 else -output


def test_a_step_that_cannot_be_captured_is_computed_by_operators(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "hpo.worker"):
        losses, tensors = steps(CudaGraphEngine(), Asking, 1, WARM_UP + 3)
    expected, expected_tensors = steps(Engine(), Asking, 1, WARM_UP + 3)
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tensors, expected_tensors, rtol=1e-3, atol=1e-4)
    assert len([r for r in caplog.records if "not captured as graphs" in r.message]) == 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["lenet", "alexnet", "vggnet", "resnet", "spinalnet", "ensnet"])
def test_every_phase_runs_with_augmentation(name: str, precision: Precision) -> None:
    augmentation = Augmentation(15, 0.1, (0.9, 1.1), 3)
    phases = (Phase("sgd", 2, 5, 1.0, augmentation), Phase("adam", 1, 5, 1.0, augmentation))
    found = curves(name, "cuda:0", Budget("full", phases, keep="best"), CudaGraphEngine(precision))
    assert all(len(losses) == 3 and np.isfinite(losses).all() for losses in found.values())


class Watched(CudaGraphEngine):
    """From the first graph on, what waits for the device raises."""

    def step(
        self, pack: Pack, optimizer: Optimizer, largest: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        torch.cuda.set_sync_debug_mode("error" if self._captured else "default")
        return super().step(pack, optimizer, largest, images, labels)


@pytest.fixture
def watched() -> Iterator[Watched]:
    yield Watched()
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["lenet", "resnet"])
def test_the_host_waits_for_no_step(name: str, watched: Watched) -> None:
    """Of an epoch, from its first step to its last."""
    training = trainer(name, "cuda:0", Budget("mini", (Phase("sgd", 1),), keep="last"), watched)
    with pytest.raises(RuntimeError, match="synchronizing"):
        training.start(CANDIDATES).epoch()  # at its end, where the losses are read
    assert watched._seen.total() == STEPS


# Evaluations beside the training

STEPS, AHEAD = 256 // 32, 5


@dataclass
class Later:
    """There only when it has been asked for so often; to read it may wait."""

    outcome: Outcome
    questions: int = AHEAD

    def done(self) -> bool:
        self.questions -= 1
        return self.outcome.done() and self.questions < 0

    def values(self) -> list[list[float]]:
        mode = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("default")
        values = self.outcome.values()
        torch.cuda.set_sync_debug_mode(mode)
        return values


class Beside(SideStream):
    """Steps of the next epoch are taken in any case, however fast the card evaluates."""

    def __init__(self) -> None:
        super().__init__(torch.device("cuda:0"))

    def begin(self, compute: Callable[[], Tensor]) -> Outcome:
        return Later(super().begin(compute))


FULL = Budget("full", (Phase("sgd", 5, 5, clip=1.0), Phase("adam", 3, 5, clip=1.0)), keep="best")


@pytest.mark.parametrize("name", ["lenet", "resnet"])
def test_the_next_epoch_begins_and_the_host_has_waited_for_nothing(name: str, watched: Watched) -> None:
    """But for the losses: not for what it is to remember, and not for batches of members of their own."""
    training = trainer(name, "cuda:0", FULL, watched, Beside()).start(CANDIDATES)
    for _ in range(2):
        assert len(training.epoch()) == 2
    assert watched._seen.total() >= 2 * STEPS + AHEAD
    torch.cuda.set_sync_debug_mode("default")  # to put a pack together may take its time
    training.join({2: CANDIDATES[0]}, {})
    for _ in range(2):
        assert len(training.epoch()) == 3


# Longer, some magnify what kernels that are not deterministic round differently.
@pytest.mark.parametrize(("name", "epochs"), [("lenet", 8), ("spinalnet", 8), ("alexnet", 2), ("resnet", 2)])
@pytest.mark.parametrize("members", [1, 2])
def test_beside_the_next_epoch_an_evaluation_gives_what_it_does_in_line(
    name: str, epochs: int, members: int
) -> None:
    candidates = {key: CANDIDATES[key] for key in range(members)}
    found = []
    for overlap in (None, Beside()):
        found.append(results(trainer(name, "cuda:0", FULL, CudaGraphEngine(), overlap).start(candidates)))
    in_line, beside = found
    for key in candidates:
        for what in ("train_loss", "validation_loss"):
            mine, theirs = ([getattr(one, what) for one in each[key][:epochs]] for each in (beside, in_line))
            assert mine == pytest.approx(theirs, rel=0.02)


def test_who_leaves_while_the_next_epoch_is_under_way_leaves_the_others_alone() -> None:
    both, alone = (
        trainer("lenet", "cuda:0", FULL, CudaGraphEngine(), Beside()).start(
            {key: CANDIDATES[key] for key in keys}
        )
        for keys in ([0, 1], [0])
    )
    for _ in range(3):
        mine, theirs = both.epoch()[0], alone.epoch()[0]
        assert mine.validation_loss == pytest.approx(theirs.validation_loss, rel=0.02)
    both.drop({1})
    for one, other in zip(results(both)[0], results(alone)[0], strict=True):
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=0.02)


def test_one_that_raises_while_an_evaluation_is_under_way_leaves_all_as_it_was() -> None:
    class Failing(CudaGraphEngine):
        steps = 0

        def step(
            self, pack: Pack, optimizer: Optimizer, largest: float | None, images: Tensor, labels: Tensor
        ) -> Tensor:
            self.steps += 1
            if self.steps == 2 * STEPS + 2:
                raise KeyboardInterrupt
            return super().step(pack, optimizer, largest, images, labels)

    training = trainer("lenet", "cuda:0", FULL, Failing(), Beside()).start(CANDIDATES)
    training.epoch()
    before = training.states()
    with pytest.raises(KeyboardInterrupt):
        training.epoch()
    for key, state in training.states().items():
        assert torch.equal(state.weights.parameters, before[key].weights.parameters)
        assert state.progress == before[key].progress
    assert len(training.epoch()) == 2


def test_the_benchmark_runs(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--quick", "--json", str(file)]
    printed = subprocess.run(command, text=True, stdout=subprocess.PIPE, check=True).stdout
    rates = json.loads(file.read_text())["values"]["rates"]
    assert set(rates) == {"lenet 16 1", "lenet 16 4", "lenet epochs"}
    assert all(rate > 0 for ways in rates.values() for runs in ways.values() for rate in runs)
    assert "Candidate-images per second" in printed
