"""Averages of the weights: those of torch's AveragedModel, evaluated and kept in place of the weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.candidates import candidate
from support.training import (
    GOOD,
    STEPS,
    WatchedEngine,
    images,
    lenet,
    normalised,
    run_to_end,
    small_trainer,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from hpo.training import average
from hpo.training.average import decay, shares
from hpo.training.optimizers.base import Optimizer
from hpo.training.pack import Pack
from hpo.training.session import PackSession
from hpo.values.budget import Budget, Phase
from hpo.values.epoch import VALIDATION_LOSS
from hpo.values.state import Arrays

EMA = 0.8
LAST = Budget("full", (Phase("sgd", 3, ema=EMA),), "last")


class RecordingEngine(WatchedEngine):
    """Records the weights of the first member after each step, as a network of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.networks: list[nn.Module] = []

    def step(
        self, pack: Pack, optimizer: Optimizer, max_norm: float | None, images: Tensor, labels: Tensor
    ) -> Tensor:
        losses = super().step(pack, optimizer, max_norm, images, labels)
        self.networks.append(loaded(pack.state_dict(pack.weights, 0)))
        return losses


def loaded(state: dict[str, Tensor]) -> nn.Module:
    network = normalised()
    network.load_state_dict(state)
    return network


def reference(networks: list[nn.Module], first: nn.Module, ema: float) -> nn.Module:
    """Return torch's average over the networks, which begins with `first`."""
    step = 0

    def averaged(old: Tensor, new: Tensor, _count: Tensor | int) -> Tensor:
        if not new.is_floating_point():
            return new
        kept = min(ema, (1 + step) / (10 + step))
        return (kept * old.double() + (1 - kept) * new.double()).to(old.dtype)

    # The first update of an AveragedModel copies.
    model = AveragedModel(first, avg_fn=averaged, use_buffers=True)
    model.update_parameters(first)
    for step, network in enumerate(networks, 1):  # noqa: B007 (read by `averaged`)
        model.update_parameters(network)
    module: nn.Module = model.module
    return module


def first_network(session: PackSession) -> nn.Module:
    pack = session._active._task.new_pack([GOOD.seed])
    return loaded(pack.state_dict(pack.weights, 0))


def loss_of(network: nn.Module) -> float:
    pixels, labels = images(1, 70).batch(torch.arange(70))
    return F.cross_entropy(network.eval()(pixels), labels).item()


def assert_close(weights: Arrays, network: nn.Module) -> None:
    for name, expected in network.state_dict().items():
        np.testing.assert_allclose(weights[name], expected.numpy(), rtol=1e-5, atol=1e-6)


def test_average_is_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(average, "EVERY", 1)
    engine = RecordingEngine()
    session = small_trainer(LAST, normalised, engine=engine).start({0: GOOD})
    first = first_network(session)
    results = run_to_end(session)[0]
    network = reference(engine.networks, first, EMA)
    assert len(engine.networks) == 3 * STEPS
    assert_close(session.weights(0), network)
    assert results[-1].metrics[VALIDATION_LOSS] == pytest.approx(loss_of(network), rel=1e-4)


def test_an_update_after_several_steps_has_the_decay_of_all_of_them() -> None:
    engine = RecordingEngine()
    session = small_trainer(LAST, normalised, batch_size=4, engine=engine).start({0: GOOD})
    first = first_network(session)
    run_to_end(session)
    seen: list[nn.Module] = []
    for epoch in range(3):
        # The network after a step stands for those of the steps since the last update.
        for begin, end in ((0, 8), (8, 16), (16, 24), (24, 25)):
            seen += [engine.networks[25 * epoch + end - 1]] * (end - begin)
    assert len(engine.networks) == len(seen) == 75
    assert_close(session.weights(0), reference(seen, first, EMA))


def test_shares_depend_on_the_step_of_the_phase() -> None:
    updates = shares(0.9, [0, 2], 17)
    assert [step for step, share in enumerate(updates, 1) if share is not None] == [8, 16, 17]
    last = updates[-1]
    assert last is not None
    expected = [[1 - decay(0.9, 17)], [1 - decay(0.9, 2 * 17 + 17)]]
    assert last.tolist() == pytest.approx(np.array(expected))
    assert [decay(0.9, step) for step in (1, 8, 10**6)] == [2 / 11, 0.5, 0.9]
    assert shares(0.9, [0], 0) == []


def test_weights_are_trained_as_without_an_average() -> None:
    plain = replace(LAST, phases=(Phase("sgd", 3),))
    curves = []
    for budget in (LAST, plain):
        results = run_to_end(small_trainer(budget, lenet).start({0: GOOD}))[0]
        curves.append([result.metrics["train_loss"] for result in results])
    assert curves[0] == curves[1]


def test_the_best_average_is_kept_and_the_next_phase_begins_from_it() -> None:
    phases = (Phase("sgd", 3, ema=EMA), Phase("adam", 1, settings={"lr": 1e-9}, ema=EMA))
    engine = RecordingEngine()
    session = small_trainer(Budget("full", phases, "best"), normalised, engine=engine).start({0: GOOD})
    results = [session.epoch()[0] for _ in range(3)]
    (state,) = session.states().values()
    assert not any(name.startswith(("average.", "best.")) for name in state.arrays)
    kept = torch.from_numpy(state.arrays["weights.parameters"])
    results += session.epoch()
    # A rate of about 0 leaves the parameters where the phase began.
    parameters = torch.cat([part.detach().flatten() for part in engine.networks[-1].parameters()])
    torch.testing.assert_close(parameters, kept[0], rtol=1e-4, atol=1e-6)
    best = min(results, key=lambda result: result.metrics[VALIDATION_LOSS])
    assert [result.kept_epoch for result in results][-1] == best.epoch
    network = loaded({name: torch.from_numpy(array) for name, array in session.weights(0).items()})
    assert loss_of(network) == pytest.approx(best.metrics[VALIDATION_LOSS], rel=1e-4)


def test_member_diverges_with_its_weights() -> None:
    diverging = candidate(lr=3e38, momentum=0.9, weight_decay=0.0, seed=3)
    session = small_trainer(LAST, normalised).start({0: GOOD, 1: diverging})
    statuses = {result.member: result.status for result in session.epoch()}
    assert statuses == {0: "training", 1: "diverged"}


def test_a_member_has_the_same_average_in_every_pack() -> None:
    other = candidate(0.02, 0.5, 0.0, 7)
    together = small_trainer(LAST, lenet).start({0: GOOD, 1: other})
    alone = small_trainer(LAST, lenet).start({0: GOOD})
    assert run_to_end(together)[0] == run_to_end(alone)[0]
    weights, expected = together.weights(0), alone.weights(0)
    assert all(np.array_equal(weights[name], expected[name]) for name in expected)
