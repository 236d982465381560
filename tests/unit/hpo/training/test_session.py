"""Sessions: epochs, phases, early stopping, members that leave or join, and the weights that are kept."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.candidates import candidate
from support.training import (
    AVERAGED,
    DIVERGING,
    FULL,
    GOOD,
    SEARCH,
    SLOW,
    WatchedEngine,
    convolutional,
    images,
    lenet,
    linear,
    normalised,
    run_to_end,
    small_trainer,
)
from torch import Tensor, nn
from torch.nn import functional as F

from hpo.data.dataset import Labelled
from hpo.data.device import DeviceImages
from hpo.training.classification import Classification
from hpo.training.session import PackSession
from hpo.training.task import Recipe, Runtime, Task
from hpo.training.trainer import Trainer
from hpo.values.budget import Augmentation, Budget, Phase
from hpo.values.candidate import Candidate
from hpo.values.epoch import VALIDATION_ACCURACY, VALIDATION_LOSS, EpochResult
from hpo.values.objective import OBJECTIVES
from hpo.values.state import Arrays

HASTY = candidate(lr=3.0, momentum=0.95, weight_decay=0.0, seed=1)
"""Soon stopped early."""


BUDGETS = [FULL, AVERAGED]


def loss_of(weights: Arrays, factory: Callable[[], nn.Module], validation: DeviceImages) -> float:
    network = factory()
    network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    pixels, labels = validation.batch(torch.arange(len(validation)))
    return F.cross_entropy(network.eval()(pixels), labels).item()


def validation_losses(results: list[EpochResult]) -> list[float]:
    return [result.metrics[VALIDATION_LOSS] for result in results]


def test_members_learn_and_have_a_result_for_each_epoch() -> None:
    results = run_to_end(small_trainer(SEARCH).start({7: GOOD, 3: SLOW}))
    assert results.keys() == {7, 3}
    for curve in results.values():
        assert [result.epoch for result in curve] == [1, 2, 3]
        assert [result.status for result in curve] == ["training", "training", "finished"]
    assert results[7][-1].metrics[VALIDATION_ACCURACY] > 0.9
    assert results[7][-1].metrics[VALIDATION_LOSS] < results[7][0].metrics[VALIDATION_LOSS]
    assert results[3][-1].metrics[VALIDATION_LOSS] > results[7][-1].metrics[VALIDATION_LOSS]


def test_losses_are_means_per_example_though_the_last_batch_is_smaller() -> None:
    session = small_trainer(Budget("mini", (Phase("sgd", 1),), "last"), batch_size=30).start({0: SLOW})
    (result,) = session.epoch()
    weights = session.weights(0)
    assert result.metrics[VALIDATION_LOSS] == pytest.approx(loss_of(weights, linear, images(1, 70)), abs=1e-6)


def test_a_single_last_image_is_left_out_for_batch_normalisation() -> None:
    results = run_to_end(small_trainer(SEARCH, normalised, batch_size=33).start({0: GOOD}))  # 33 * 3 + 1
    assert results[0][-1].status == "finished"


@settings(max_examples=25)
@given(count=st.integers(1, 40), batch_size=st.integers(1, 17))
def test_an_epoch_has_each_image_once_except_a_single_last_one(count: int, batch_size: int) -> None:
    numbered = Labelled(np.zeros((count, 28, 28), dtype=np.uint8), np.arange(count))
    train = DeviceImages.from_labelled(numbered, "cpu", (0.3,), (0.3,))

    def epochs(candidates: dict[int, Candidate]) -> list[list[int]]:
        engine = WatchedEngine()
        task = Task(
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 40)),
            train,
            images(1, 7),
            Classification(40),
        )
        session = Trainer(task, Recipe(SEARCH, batch_size, 5), engine).start(candidates)
        orders = []
        for _ in range(2):
            engine.labels.clear()
            session.epoch()
            orders.append(torch.cat(engine.labels).tolist())
        return orders

    first, second = epochs({0: SLOW})
    left_out = 1 if count > batch_size > 1 and count % batch_size == 1 else 0
    for order in (first, second):
        assert len(set(order)) == len(order) == count - left_out
    assert count < 10 or first != second
    assert epochs({1: SLOW, 2: GOOD}) == [first, second]


def test_a_pruned_member_leaves_the_pack_without_a_trace() -> None:
    session = small_trainer(SEARCH).start({0: GOOD, 1: SLOW})
    first = session.epoch()
    session.drop({1})
    assert session.members == [0]
    curve = [result for result in first if result.member == 0] + run_to_end(session)[0]
    alone = run_to_end(small_trainer(SEARCH).start({0: GOOD}))[0]
    assert validation_losses(curve) == pytest.approx(validation_losses(alone), abs=1e-6)


def test_a_diverged_member_leaves_the_others_alone() -> None:
    results = run_to_end(small_trainer(SEARCH).start({0: GOOD, 1: DIVERGING}))
    assert results[1][-1].status == "diverged"
    alone = run_to_end(small_trainer(SEARCH).start({0: GOOD}))[0]
    assert validation_losses(results[0]) == pytest.approx(validation_losses(alone), abs=1e-6)


def test_a_candidate_has_the_same_curve_alone_and_in_any_pack() -> None:
    def curves(candidates: dict[int, Candidate]) -> dict[int, list[float]]:
        # Float64, because a small training magnifies the rounding of float32.
        budget = Budget("mini", (Phase("sgd", 2),), "last")
        trainer = small_trainer(budget, convolutional, dtype=torch.float64)
        results = run_to_end(trainer.start(candidates))
        return {key: validation_losses(curve) for key, curve in results.items()}

    fair = candidate(lr=0.003, momentum=0.5, weight_decay=1e-3, seed=4)
    together = curves({0: fair, 1: SLOW})
    assert together[0] == pytest.approx(curves({0: fair})[0], abs=1e-9)
    assert together[1] == pytest.approx(curves({1: SLOW})[1], abs=1e-9)


def test_the_same_seed_gives_the_same_curves_to_the_bit() -> None:
    budget = Budget("full", (Phase("sgd", 2, augmentation=Augmentation(10, 0.1, (0.9, 1.1), 3)),), "best")
    first, second = (run_to_end(small_trainer(budget, lenet).start({0: GOOD, 1: SLOW})) for _ in range(2))
    assert first == second


class Scripted(nn.Module):
    """A network whose validation loss follows a script, whatever it is trained on.

    Each training step adds one to `epochs`, and `script` maps the number of steps to a logit.
    """

    epochs: Tensor
    script: tuple[float, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("epochs", torch.zeros(1))

    def forward(self, pixels: Tensor) -> Tensor:
        if self.training:
            self.epochs += 1
            return self.weight * pixels.new_ones(len(pixels), 10)
        table = torch.tensor((0.0, *self.script))
        wrong = (table * F.one_hot(self.epochs.long().squeeze(), len(table))).sum()
        return torch.cat([-wrong * pixels.new_ones(len(pixels), 1), pixels.new_zeros(len(pixels), 9)], 1)


def scripted(*script: float) -> Callable[[], nn.Module]:
    return type("ScriptedNetwork", (Scripted,), {"script": script})


def one_batch_session(budget: Budget, factory: Callable[[], nn.Module]) -> PackSession:
    """Return a session with one batch of class 0, so that an epoch is a step and a place of the script."""
    zeros = Labelled(np.zeros((4, 28, 28), dtype=np.uint8), np.zeros(4, dtype=np.int64))
    data = DeviceImages.from_labelled(zeros, "cpu", (0.5,), (0.5,))
    return Trainer(Task(factory, data, data, Classification(10)), Recipe(budget, 4, 0)).start({0: GOOD})


def test_early_stopping_compares_with_the_best_epoch_and_keeps_it() -> None:
    # The third loss is worse than the best, the fourth only better than the third: patience counts on.
    factory = scripted(3.0, 1.0, 2.0, 1.5, 1.2, 0.1)
    session = one_batch_session(Budget("full", (Phase("sgd", 6, patience=3),), "best"), factory)
    results = run_to_end(session)[0]
    assert [result.kept_epoch for result in results] == [1, 2, 2, 2, 2]
    assert results[-1].status == "finished"
    assert session.weights(0)["epochs"].item() == 2


def test_best_epoch_is_that_of_the_objective() -> None:
    # A negative place of the script gives class 0, which three images have. The loss is least in epoch 3.
    factory = scripted(0.5, -0.125, -0.25, 0.75, 0.75)
    zeros = Labelled(np.zeros((4, 28, 28), dtype=np.uint8), np.array([0, 0, 0, 1]))
    data = DeviceImages.from_labelled(zeros, "cpu", (0.5,), (0.5,))
    recipe = Recipe(
        Budget("full", (Phase("sgd", 5, patience=2),), "best"), 4, 0, objective=OBJECTIVES["accuracy"]
    )
    session = Trainer(Task(factory, data, data, Classification(10)), recipe).start({0: GOOD})
    results = run_to_end(session)[0]
    accuracies = [result.metrics[VALIDATION_ACCURACY] for result in results]
    assert accuracies == [0.25, 0.75, 0.75, 0.25]
    assert [result.kept_epoch for result in results] == [1, 2, 2, 2]
    assert session.weights(0)["epochs"].item() == 2


def test_the_next_phase_begins_from_the_best_weights() -> None:
    factory = scripted(1.0, 3.0, 3.0, 2.0)
    phases = (Phase("sgd", 6, patience=2), Phase("adam", 2, patience=5, settings={"lr": 1e-3}))
    session = one_batch_session(Budget("full", phases, "best"), factory)
    results = run_to_end(session)[0]
    assert [(result.epoch, result.phase) for result in results] == [(1, 0), (2, 0), (3, 0), (4, 1), (5, 1)]
    # Phase 0 stops after epoch 3. Phase 1 starts from the weights of epoch 1, so the script goes on at 2 and
    # 3.
    assert [result.kept_epoch for result in results] == [1, 1, 1, 1, 1]
    assert session.weights(0)["epochs"].item() == 1


def test_members_that_stop_early_wait_for_the_others_and_begin_the_next_phase_with_them() -> None:
    phases = (Phase("sgd", 12, patience=1), Phase("adam", 2, patience=9, settings={"lr": 1e-3}))
    session = small_trainer(Budget("full", phases, "best"), normalised).start({0: HASTY, 1: SLOW})
    results = run_to_end(session)
    sgd_epochs = {key: sum(result.phase == 0 for result in curve) for key, curve in results.items()}
    assert sgd_epochs[0] < sgd_epochs[1]
    for key, curve in results.items():
        assert [result.epoch for result in curve] == list(range(1, sgd_epochs[key] + 3))
        assert [result.phase for result in curve] == [0] * sgd_epochs[key] + [1, 1]
        best = min(validation_losses(curve))
        assert loss_of(session.weights(key), normalised, images(1, 70)) == pytest.approx(best, abs=1e-5)


def test_the_next_phase_begins_when_the_members_it_waits_for_are_dropped() -> None:
    phases = (Phase("sgd", 50, patience=1), Phase("adam", 1, patience=9, settings={"lr": 1e-3}))
    session = small_trainer(Budget("full", phases, "best")).start({0: HASTY, 1: SLOW})
    while len(session.epoch()) == 2:
        pass
    assert sorted(session.members) == [0, 1]
    session.drop({1})
    (result,) = session.epoch()
    assert (result.member, result.phase, result.status) == (0, 1, "finished")


def test_a_session_without_members_has_no_results() -> None:
    session = small_trainer(SEARCH).start({0: GOOD, 1: SLOW})
    session.drop({0, 1})
    assert session.members == []
    assert session.epoch() == []


def test_only_finished_members_have_weights() -> None:
    session = small_trainer(SEARCH).start({0: GOOD, 1: DIVERGING})
    session.epoch()
    for key in (0, 1):
        with pytest.raises(KeyError):
            session.weights(key)


def test_members_share_the_seconds_of_the_pack() -> None:
    ticks = iter([0.0, 6.0, 8.0])
    task = Task(linear, images(0), images(1, 70), Classification(10))
    trainer = Trainer(task, Recipe(SEARCH, 16, 5), runtime=Runtime(clock=lambda: next(ticks)))
    results = trainer.start({0: GOOD, 1: SLOW}).epoch()
    assert [(result.seconds, result.evaluation_seconds) for result in results] == [(3.0, 1.0)] * 2


@pytest.mark.parametrize("budget", BUDGETS, ids=["last weights", "averages"])
@pytest.mark.parametrize("cut", range(1, 7))
def test_a_training_cut_between_epochs_resumes_to_the_bit(cut: int, budget: Budget) -> None:
    candidates = {0: GOOD, 4: SLOW, 2: candidate(0.5, 0.9, 0.0, 7)}
    whole = small_trainer(budget, lenet).start(candidates)
    expected = run_to_end(whole)

    first = small_trainer(budget, lenet).start(candidates)
    results: dict[int, list[EpochResult]] = {key: [] for key in candidates}
    for _ in range(cut):
        for result in first.epoch():
            results[result.member].append(result)
    states = first.states()
    resumed = small_trainer(budget, lenet).start({key: candidates[key] for key in states}, states)
    for key, curve in run_to_end(resumed).items():
        results[key] += curve

    assert results == expected
    for key in states:
        weights, expected_weights = resumed.weights(key), whole.weights(key)
        assert all(np.array_equal(weights[name], expected_weights[name]) for name in expected_weights)


@pytest.mark.parametrize("budget", BUDGETS, ids=["last weights", "averages"])
def test_members_at_different_epochs_and_phases_share_a_pack(budget: Budget) -> None:
    trainer = partial(small_trainer, budget, dtype=torch.float64)
    alone = {
        key: run_to_end(trainer().start({key: candidate}))[key]
        for key, candidate in {0: GOOD, 1: SLOW}.items()
    }
    ahead = trainer().start({0: GOOD})
    early = [result for _ in range(5) for result in ahead.epoch()]
    behind = trainer().start({1: SLOW})
    late = [*behind.epoch(), *behind.epoch()]
    session = trainer().start({0: GOOD, 1: SLOW, 2: SLOW}, {**ahead.states(), **behind.states()})
    rest = run_to_end(session)
    for curve, expected in (
        (early + rest[0], alone[0]),
        (late + rest[1], alone[1]),
        (rest[2], alone[1]),
    ):
        assert [result.epoch for result in curve] == [result.epoch for result in expected]
        assert [result.phase for result in curve] == [result.phase for result in expected]
        assert validation_losses(curve) == pytest.approx(validation_losses(expected), abs=1e-9)


def test_a_member_that_joins_between_epochs_has_its_own_curve() -> None:
    alone = run_to_end(small_trainer(SEARCH, dtype=torch.float64).start({1: SLOW}))[1]
    session = small_trainer(SEARCH, dtype=torch.float64).start({0: GOOD})
    session.epoch()
    session.join({1: SLOW}, {})
    results = run_to_end(session)
    assert [len(results[0]), len(results[1])] == [2, 3]
    assert validation_losses(results[1]) == pytest.approx(validation_losses(alone), abs=1e-9)


# One step of the seven, and one of the two evaluation batches of 40 images, has succeeded before.
@pytest.mark.parametrize("budget", BUDGETS, ids=["last weights", "averages"])
@pytest.mark.parametrize("failing_call", ["failing_step", "failing_score"])
def test_an_epoch_that_raises_leaves_all_members_as_they_were(failing_call: str, budget: Budget) -> None:
    engine = WatchedEngine(evaluation_batch=40)
    expected = run_to_end(small_trainer(budget, lenet, engine=engine).start({0: GOOD, 1: SLOW}))
    session = small_trainer(budget, lenet, engine=engine).start({0: GOOD, 1: SLOW})
    results = {result.member: [result] for result in session.epoch()}
    setattr(engine, failing_call, 1)
    with pytest.raises(KeyboardInterrupt):
        session.epoch()
    engine.recover()
    for key, curve in run_to_end(session).items():
        results[key] += curve
    assert results == expected
