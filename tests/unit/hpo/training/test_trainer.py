"""Training under a budget: epochs, phases, early stopping, who leaves when, and what is kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Literal
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.delayed_evaluation import DelayedEvaluation
from torch import Tensor, nn
from torch.nn import functional as F

from hpo import models
from hpo.data.dataset import Labelled
from hpo.data.device import DeviceImages
from hpo.training.async_evaluation import Overlap
from hpo.training.engines.eager import Engine
from hpo.training.member import MemberState
from hpo.training.pack import Candidate, Pack
from hpo.training.trainer import PackSession, Trainer
from hpo.values.budget import Augmentation, Budget, Phase
from hpo.values.epoch import EpochResult

GOOD = Candidate(lr=0.05, momentum=0.9, weight_decay=0.0, seed=1)
SLOW = Candidate(lr=0.001, momentum=0.0, weight_decay=0.0, seed=2)
WILD = Candidate(lr=3e38, momentum=0.9, weight_decay=0.0, seed=3)
SEARCH = Budget("mini", (Phase("sgd", 3),), keep="last")


def images(seed: int, count: int = 100, dtype: torch.dtype = torch.float32) -> DeviceImages:
    """Ten classes, told apart by their brightness and a bright column."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(10, size=count)
    pixels = rng.integers(40, size=(count, 28, 28)) + 10 * labels[:, None, None]
    pixels[np.arange(count), :, 2 * labels + 3] = 255
    return DeviceImages.from_labelled(Labelled(pixels.astype(np.uint8), labels), "cpu", (0.3,), (0.3,), dtype)


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))


def trainer(
    budget: Budget,
    factory: Callable[[], nn.Module] = linear,
    batch_size: int = 16,
    dtype: torch.dtype = torch.float32,
    clock: Callable[[], float] = lambda: 0.0,
    overlap: Overlap | None = None,
) -> Trainer:
    train, validation = images(0, 100, dtype), images(1, 70, dtype)
    return Trainer(
        factory, train, validation, budget, batch_size, 5, torch.device("cpu"), clock, overlap=overlap
    )


def to_the_end(training: PackSession) -> dict[int, list[EpochResult]]:
    found: dict[int, list[EpochResult]] = {key: [] for key in training.members}
    while training.members:
        for result in training.epoch():
            found[result.member].append(result)
    return found


def loss_of(weights: dict[str, Tensor], factory: Callable[[], nn.Module], validation: DeviceImages) -> float:
    model = factory()
    model.load_state_dict(weights)
    pixels, labels = validation.batch(torch.arange(len(validation)))
    return F.cross_entropy(model.eval()(pixels), labels).item()


def test_it_learns_and_gives_a_result_for_each_member_and_epoch() -> None:
    found = to_the_end(trainer(SEARCH).start({7: GOOD, 3: SLOW}))
    assert found.keys() == {7, 3}
    for results in found.values():
        assert [result.epoch for result in results] == [1, 2, 3]
        assert [result.status for result in results] == ["training", "training", "finished"]
    assert found[7][-1].validation_accuracy > 0.9
    assert found[7][-1].validation_loss < found[7][0].validation_loss
    assert found[3][-1].validation_loss > found[7][-1].validation_loss


def test_losses_are_means_per_example_though_the_last_batch_is_smaller() -> None:
    training = trainer(Budget("mini", (Phase("sgd", 1),), "last"), batch_size=30).start({0: SLOW})
    (result,) = training.epoch()
    weights = training.weights(0)
    assert result.validation_loss == pytest.approx(loss_of(weights, linear, images(1, 70)), abs=1e-6)


def test_a_single_last_image_is_left_out_for_batch_normalisation() -> None:
    def normalised() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10), nn.BatchNorm1d(10))

    found = to_the_end(trainer(SEARCH, normalised, batch_size=33).start({0: GOOD}))  # 33 * 3 + 1 images
    assert found[0][-1].status == "finished"


@settings(max_examples=25)
@given(count=st.integers(1, 40), batch_size=st.integers(1, 17))
def test_an_epoch_is_each_image_once_but_for_a_single_last_one(count: int, batch_size: int) -> None:
    def epochs(candidates: dict[int, Candidate]) -> list[list[int]]:
        seen: list[list[int]] = []
        batch = DeviceImages.batch

        def watched(
            self: DeviceImages, index: Tensor, transform: Callable[[Tensor], Tensor] | None = None
        ) -> tuple[Tensor, Tensor]:
            if self is train:
                seen[-1].extend(index.tolist())
            return batch(self, index, transform)

        train = images(0, count)
        training = Trainer(linear, train, images(1, 7), SEARCH, batch_size, 5, torch.device("cpu")).start(
            candidates
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DeviceImages, "batch", watched)
            for _ in range(2):
                seen.append([])
                training.epoch()
        return seen

    first, second = epochs({0: SLOW})
    left_out = 1 if count > batch_size > 1 and count % batch_size == 1 else 0
    for order in (first, second):
        assert len(set(order)) == len(order) == count - left_out
    assert count < 10 or first != second
    assert epochs({1: SLOW, 2: GOOD}) == [first, second]


def test_the_pruned_leave_and_the_rest_are_as_if_they_had_not_been_there() -> None:
    training = trainer(SEARCH).start({0: GOOD, 1: SLOW})
    first = training.epoch()
    training.drop({1})
    assert training.members == [0]
    rest = to_the_end(training)[0]
    alone = to_the_end(trainer(SEARCH).start({0: GOOD}))[0]
    curve = [r.validation_loss for r in first if r.member == 0] + [r.validation_loss for r in rest]
    assert curve == pytest.approx([result.validation_loss for result in alone], abs=1e-6)


def test_one_that_diverges_says_so_and_leaves_the_others_alone() -> None:
    found = to_the_end(trainer(SEARCH).start({0: GOOD, 1: WILD}))
    assert found[1][-1].status == "diverged"
    alone = to_the_end(trainer(SEARCH).start({0: GOOD}))[0]
    mine = [result.validation_loss for result in found[0]]
    assert mine == pytest.approx([result.validation_loss for result in alone], abs=1e-6)


def test_a_candidate_has_the_same_curve_alone_and_in_any_pack() -> None:
    def curves(candidates: dict[int, Candidate]) -> dict[int, list[float]]:
        # In float32 a pack of one takes other kernels, and this little training magnifies their rounding.
        resnets = trainer(
            Budget("mini", (Phase("sgd", 2),), "last"),
            lambda: models.build("resnet", 10),
            dtype=torch.float64,
        )
        training = resnets.start(candidates)
        return {key: [r.validation_loss for r in rs] for key, rs in to_the_end(training).items()}

    fair = Candidate(lr=0.003, momentum=0.5, weight_decay=1e-3, seed=4)
    together = curves({0: fair, 1: SLOW})
    assert together[0] == pytest.approx(curves({0: fair})[0], abs=1e-9)
    assert together[1] == pytest.approx(curves({1: SLOW})[1], abs=1e-9)


def test_the_same_seed_gives_the_same_curves_to_the_bit() -> None:
    budget = Budget("full", (Phase("sgd", 2, augmentation=Augmentation(10, 0.1, (0.9, 1.1), 3)),), "best")
    runs = [
        to_the_end(trainer(budget, lambda: models.build("lenet", 10)).start({0: GOOD, 1: SLOW}))
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


class Scripted(nn.Module):
    """Its validation loss follows a script, whatever it is trained on.

    Every training step moves `parameters` by a fixed amount; `script` maps the number of steps to a logit.
    """

    script: tuple[float, ...] = ()
    epochs: Tensor

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
    class Mine(Scripted):
        pass

    Mine.script = script
    return Mine


def one_batch(budget: Budget, factory: Callable[[], nn.Module]) -> Trainer:
    """Training and validation of one batch of class 0: an epoch is a step, and the script's place."""
    zeros = Labelled(np.zeros((4, 28, 28), dtype=np.uint8), np.zeros(4, dtype=np.int64))
    data = DeviceImages.from_labelled(zeros, "cpu", (0.5,), (0.5,))
    return Trainer(factory, data, data, budget, 4, 0, torch.device("cpu"))


def test_early_stopping_compares_with_the_best_and_keeps_it() -> None:
    # Worse, better than the epoch before but not than the best: patience of three counts on.
    factory = scripted(3.0, 1.0, 2.0, 1.5, 1.2, 0.1)
    training = one_batch(Budget("full", (Phase("sgd", 6, patience=3),), "best"), factory).start({0: GOOD})
    results = to_the_end(training)[0]
    assert [result.kept_epoch for result in results] == [1, 2, 2, 2, 2]
    assert results[-1].status == "finished"
    assert training.weights(0)["epochs"].item() == 2


def test_the_next_phase_begins_from_the_best_weights() -> None:
    factory = scripted(1.0, 3.0, 3.0, 2.0)
    phases = (Phase("sgd", 6, patience=2), Phase("adam", 2, patience=5))
    training = one_batch(Budget("full", phases, "best"), factory).start({0: GOOD})
    results = to_the_end(training)[0]
    assert [(result.epoch, result.phase) for result in results] == [(1, 0), (2, 0), (3, 0), (4, 1), (5, 1)]
    # Phase 1 stopped after epoch 3; phase 2 went on from epoch 1's weights: its places are 2 and 3.
    assert [result.kept_epoch for result in results] == [1, 1, 1, 1, 1]
    assert training.weights(0)["epochs"].item() == 1


def test_those_who_stop_early_wait_for_the_others_and_begin_the_next_phase_with_them() -> None:
    def normalised() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10), nn.BatchNorm1d(10))

    hasty = Candidate(lr=3.0, momentum=0.95, weight_decay=0.0, seed=1)
    phases = (Phase("sgd", 12, patience=1), Phase("adam", 2, patience=9))
    training = trainer(Budget("full", phases, "best"), normalised).start({0: hasty, 1: SLOW})
    found = to_the_end(training)
    first = {key: sum(result.phase == 0 for result in results) for key, results in found.items()}
    assert first[0] < first[1]
    for key, results in found.items():
        assert [result.epoch for result in results] == list(range(1, first[key] + 3))
        assert [result.phase for result in results] == [0] * first[key] + [1, 1]
        best = min(result.validation_loss for result in results)
        assert loss_of(training.weights(key), normalised, images(1, 70)) == pytest.approx(best, abs=1e-5)


def test_the_next_phase_begins_when_those_it_waits_for_are_dropped() -> None:
    hasty = Candidate(lr=3.0, momentum=0.95, weight_decay=0.0, seed=1)
    phases = (Phase("sgd", 50, patience=1), Phase("adam", 1, patience=9))
    training = trainer(Budget("full", phases, "best")).start({0: hasty, 1: SLOW})
    while len(training.epoch()) == 2:
        pass
    assert sorted(training.members) == [0, 1]
    training.drop({1})
    (result,) = training.epoch()
    assert (result.member, result.phase, result.status) == (0, 1, "finished")


def test_a_training_that_all_have_left_has_no_more_results() -> None:
    training = trainer(SEARCH).start({0: GOOD, 1: SLOW})
    training.drop({0, 1})
    assert training.members == []
    assert training.epoch() == []


def test_only_the_finished_have_weights() -> None:
    training = trainer(SEARCH).start({0: GOOD, 1: WILD})
    training.epoch()
    for key in (0, 1):
        with pytest.raises(KeyError):
            training.weights(key)


def test_the_pack_s_seconds_are_shared_by_its_members() -> None:
    ticks = iter([0.0, 6.0, 8.0])
    training = trainer(SEARCH, clock=lambda: next(ticks)).start({0: GOOD, 1: SLOW})
    assert [(result.seconds, result.evaluation_seconds) for result in training.epoch()] == [(3.0, 1.0)] * 2


FULL = Budget(
    "full",
    (
        Phase("sgd", 4, patience=2, clip=1.0, augmentation=Augmentation(10, 0.1, (0.9, 1.1), 3)),
        Phase("adam", 3, patience=2, clip=1.0),
    ),
    "best",
)


def lenet() -> nn.Module:
    return models.build("lenet", 10)


@pytest.mark.parametrize("cut", range(1, 7))
def test_a_training_cut_between_epochs_goes_on_to_the_bit(cut: int) -> None:
    candidates = {0: GOOD, 4: SLOW, 2: Candidate(0.5, 0.9, 0.0, 7)}
    whole = trainer(FULL, lenet).start(candidates)
    expected = to_the_end(whole)

    first = trainer(FULL, lenet).start(candidates)
    found: dict[int, list[EpochResult]] = {key: [] for key in candidates}
    for _ in range(cut):
        for result in first.epoch():
            found[result.member].append(result)
    states = first.states()
    again = trainer(FULL, lenet).start({key: candidates[key] for key in states}, states)
    for key, results in to_the_end(again).items():
        found[key] += results

    assert found == expected
    for key in states:
        mine, theirs = again.weights(key), whole.weights(key)
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_members_at_different_epochs_and_phases_share_a_pack() -> None:
    doubles = partial(trainer, FULL, dtype=torch.float64)
    alone = {key: to_the_end(doubles().start({key: who}))[key] for key, who in {0: GOOD, 1: SLOW}.items()}
    ahead = doubles().start({0: GOOD})
    early = [result for _ in range(5) for result in ahead.epoch()]
    late = doubles().start({1: SLOW})
    late_results = [*late.epoch(), *late.epoch()]
    together = doubles().start({0: GOOD, 1: SLOW, 2: SLOW}, {**ahead.states(), **late.states()})
    found = to_the_end(together)
    for results, expected in (
        (early + found[0], alone[0]),
        (late_results + found[1], alone[1]),
        (found[2], alone[1]),
    ):
        assert [r.epoch for r in results] == [r.epoch for r in expected]
        assert [r.phase for r in results] == [r.phase for r in expected]
        mine = [r.validation_loss for r in results]
        assert mine == pytest.approx([r.validation_loss for r in expected], abs=1e-9)


def test_who_joins_between_epochs_has_its_own_curve() -> None:
    alone = to_the_end(trainer(SEARCH, dtype=torch.float64).start({1: SLOW}))[1]
    training = trainer(SEARCH, dtype=torch.float64).start({0: GOOD})
    training.epoch()
    training.join({1: SLOW}, {})
    found = to_the_end(training)
    assert [len(found[0]), len(found[1])] == [2, 3]
    mine = [result.validation_loss for result in found[1]]
    assert mine == pytest.approx([result.validation_loss for result in alone], abs=1e-9)


@pytest.mark.parametrize("place", ["hpo.training.pack.Pack.score", "hpo.training.pack.Pack.gradients"])
def test_an_epoch_that_raises_leaves_all_as_it_was(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = to_the_end(trainer(FULL, lenet).start({0: GOOD, 1: SLOW}))
    training = trainer(FULL, lenet).start({0: GOOD, 1: SLOW})
    found = {result.member: [result] for result in training.epoch()}
    calls = iter(range(100))
    whole = Pack.score if place.endswith("score") else Pack.gradients

    def fails_the_second_time(*arguments: Any) -> Any:
        if next(calls) == 1:
            raise KeyboardInterrupt
        return whole(*arguments)

    # Batches of 16 of 100 images, and of 40 of 70: the failure comes inside the epoch.
    monkeypatch.setattr("hpo.training.engines.eager.Engine.evaluation_batch", 40)
    with monkeypatch.context() as patched:
        patched.setattr(place, fails_the_second_time)
        with pytest.raises(KeyboardInterrupt):
            training.epoch()
    monkeypatch.undo()
    for key, results in to_the_end(training).items():
        found[key] += results
    assert found == expected


def test_only_the_epoch_itself_is_interruptible() -> None:
    entered: list[str] = []

    @contextmanager
    def interruptible() -> Iterator[None]:
        entered.append("in")
        yield
        entered.append("out")

    training = replace(trainer(SEARCH), interruptible=interruptible).start({0: GOOD})
    assert entered == []
    training.epoch()
    assert entered == ["in", "out"]


STEPS = 7  # of an epoch: batches of 16 of 100 images
OVERLAPS = [0, 3, 1000]  # by when no, some or all steps of the next epoch are done


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The widths of the packs that take a step, one after another."""
    widths: list[int] = []
    step = Engine.step

    def watched(engine: Engine, pack: Pack, *arguments: Any) -> Tensor:
        widths.append(len(pack))
        return step(engine, pack, *arguments)

    monkeypatch.setattr(Engine, "step", watched)
    return widths


@pytest.mark.parametrize("questions", OVERLAPS)
def test_the_next_epoch_is_begun_beside_the_evaluation(questions: int, steps: list[int]) -> None:
    training = trainer(SEARCH, overlap=DelayedEvaluation(questions)).start({0: GOOD, 1: SLOW})
    ahead = min(questions, STEPS)
    for taken in (STEPS + ahead, 2 * STEPS + ahead, 3 * STEPS):
        training.epoch()
        assert len(steps) == taken


@pytest.mark.parametrize("questions", OVERLAPS)
def test_evaluated_beside_the_next_epoch_a_training_is_the_same_to_the_bit(questions: int) -> None:
    candidates = {0: GOOD, 4: SLOW, 2: Candidate(0.5, 0.9, 0.0, 7)}
    in_line, beside = (
        trainer(FULL, lenet, overlap=one).start(candidates) for one in (None, DelayedEvaluation(questions))
    )
    while in_line.members:
        assert beside.epoch() == in_line.epoch()
        same(beside.states(), in_line.states())
    assert beside.members == []
    for key in candidates:
        mine, theirs = beside.weights(key), in_line.weights(key)
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def same(states: dict[int, MemberState], expected: dict[int, MemberState]) -> None:
    assert states.keys() == expected.keys()
    for key, mine in states.items():
        theirs = expected[key]
        assert mine.progress == theirs.progress
        for a, b in ((mine.weights, theirs.weights), (mine.best, theirs.best)):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                assert torch.equal(a.parameters, b.parameters)
                assert all(torch.equal(a.buffers[name], b.buffers[name]) for name in b.buffers)
        assert (mine.optimizer is None) == (theirs.optimizer is None)
        assert all(torch.equal(mine.optimizer[n], b) for n, b in (theirs.optimizer or {}).items())  # type: ignore[index]


Deed = tuple[str, int]
DEEDS = st.lists(
    st.tuples(st.sampled_from(["epoch", "epoch", "drop", "join", "raise", "states"]), st.integers(0, 9)),
    max_size=12,
)


class Drawing(nn.Module):
    """Draws from torch's generator itself, and so has other losses where that is disturbed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(28 * 28, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        output: Tensor = self.layer(F.dropout(pixels.flatten(1), 0.3, self.training))
        return output


@settings(max_examples=40)
@given(deeds=DEEDS, questions=st.integers(0, 2 * STEPS), keep=st.sampled_from(["last", "best"]))
def test_whatever_happens_between_two_epochs_and_in_them(
    deeds: list[Deed], questions: int, keep: Literal["last", "best"]
) -> None:
    budget = Budget("full", (Phase("sgd", 4, patience=2), Phase("adam", 2)), keep)
    trainings = [trainer(budget, Drawing, overlap=one) for one in (None, DelayedEvaluation(questions))]
    in_line, beside = (one.start({0: GOOD, 1: SLOW, 2: WILD}) for one in trainings)
    for place, (deed, which) in enumerate([*deeds, *[("epoch", 0)] * 3]):
        for training in (in_line, beside):
            if deed == "drop" and training.members:
                training.drop({training.members[which % len(training.members)]})
            elif deed == "join":
                training.join({10 + place: Candidate(0.01 * (1 + which), 0.5, 0.0, seed=which)}, {})
            elif deed == "raise" and training.members:
                fail(training, after=which)
        if deed == "epoch":
            assert repr(beside.epoch()) == repr(in_line.epoch())  # with nan the same as nan
        elif deed == "states":
            same(beside.states(), in_line.states())
        assert beside.members == in_line.members


def fail(training: PackSession, after: int) -> None:
    """An epoch that raises at a step after so many, or in its evaluation."""
    taken = iter(range(after))

    def failing(step: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*arguments: Any) -> Any:
            if next(taken, None) is None:
                raise KeyboardInterrupt
            return step(*arguments)

        return stepping

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "step", failing(Engine.step))
        patch.setattr(Engine, "score", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            training.epoch()


def test_the_next_epoch_is_given_up_when_members_leave_and_what_it_uses_is_waited_for(
    steps: list[int],
) -> None:
    overlap = DelayedEvaluation(3)
    training = trainer(SEARCH, overlap=overlap).start({0: GOOD, 1: SLOW})
    training.epoch()
    assert (steps, overlap.waits) == ([2] * (STEPS + 3), 0)
    training.drop({1})
    assert overlap.waits == 1
    training.epoch()
    assert steps[STEPS + 3 :] == [1] * (STEPS + 3)


def test_seconds_beside_are_those_of_the_training() -> None:
    ticks = iter([0.0, 6.0, 8.0])
    training = trainer(SEARCH, clock=lambda: next(ticks), overlap=DelayedEvaluation(2)).start(
        {0: GOOD, 1: SLOW}
    )
    assert [(result.seconds, result.evaluation_seconds) for result in training.epoch()] == [(3.0, 1.0)] * 2
