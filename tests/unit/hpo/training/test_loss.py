"""The training loss: plain cross entropy, and settings with a value for each member of a pack."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from support.loss_settings import NAME, penalty, register
from support.packs import (
    CANDIDATES,
    assert_same,
    batches,
    new_pack,
    seeded,
    sgd,
    torch_sgd,
    train_pack,
    without_dropout,
)
from support.scores import assert_equal_scores
from support.training import GOOD, SEARCH, images, linear, run_to_end
from torch import Tensor, nn
from torch.nn import functional as F

from hpo.training.batches import Batch
from hpo.training.classification import Classification
from hpo.training.columns import columns_of
from hpo.training.loss import training_loss
from hpo.training.pack import Pack
from hpo.training.session import PackSession
from hpo.training.task import Recipe, Runtime, Task
from hpo.training.trainer import Trainer
from hpo.values.candidate import Candidate
from hpo.values.epoch import EpochResult

NETWORK = partial(without_dropout, "lenet")
VALUES = (0.5, 0.0, 0.02)
LABELS = torch.tensor([0, 3, 1])


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_settings_it_is_the_cross_entropy_to_the_bit(dtype: torch.dtype) -> None:
    output = torch.randn(3, 4).to(dtype)
    assert torch.equal(training_loss(output, LABELS, {}), F.cross_entropy(output.float(), LABELS))


def test_heads_are_summed() -> None:
    output, settings = torch.randn(3, 2, 4, dtype=torch.float64), {NAME: torch.tensor(0.5).double()}
    heads = [training_loss(output[:, head], LABELS, settings) for head in range(2)]
    torch.testing.assert_close(training_loss(output, LABELS, settings), sum(heads))


def penalised(candidate: Candidate, value: float, data: Sequence[Batch]) -> tuple[Tensor, nn.Module]:
    """Return losses and network of an ordinary training with the penalty."""
    network, losses = seeded(NETWORK, candidate.seed), []
    optimizer = torch_sgd(candidate, network)
    for pixels, labels in data:
        optimizer.zero_grad()
        logits = network(pixels)
        loss = F.cross_entropy(logits, labels) + penalty(
            logits, labels, torch.tensor(value, dtype=torch.float64)
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses), network


@pytest.mark.parametrize("vectorised", [True, False])
def test_each_member_trains_with_its_own_value_as_alone(vectorised: bool) -> None:
    pack, data = new_pack(NETWORK, vectorised=vectorised), batches(5)
    parameters = pack.weights.parameters
    pack.columns = columns_of([NAME], [{NAME: value} for value in VALUES], parameters)
    losses = train_pack(pack, sgd(CANDIDATES, parameters), data)
    for index, (candidate, value) in enumerate(zip(CANDIDATES, VALUES, strict=True)):
        expected, network = penalised(candidate, value, data)
        torch.testing.assert_close(losses[:, index], expected, rtol=0, atol=1e-9)
        assert_same(pack, index, network)


@pytest.mark.parametrize("vectorised", [True, False])
def test_evaluation_is_the_plain_loss(vectorised: bool) -> None:
    pack, (batch,) = new_pack(NETWORK, vectorised=vectorised), batches(1)
    expected = pack.score(*batch)
    pack.columns = columns_of([NAME], [{NAME: 9.0}] * 3, pack.weights.parameters)
    assert_equal_scores(pack.score(*batch), expected)


def session(*values: float, searched: bool = True) -> PackSession:
    """Return a session whose members differ in the penalty alone."""
    task = Task(linear, images(0), images(1, 70), Classification(10))
    recipe = Recipe(SEARCH, 16, 5, columns=(NAME,) if searched else ())
    return Trainer(task, recipe, runtime=Runtime(clock=lambda: 0.0)).start(
        {key: replace(GOOD, params={**GOOD.params, NAME: value}) for key, value in enumerate(values)}
    )


def test_members_of_a_session_have_their_own_values() -> None:
    together = session(0.0, 1.0)
    first, second = together.epoch()
    assert second.metrics["train_loss"] > first.metrics["train_loss"]
    together.drop({0})
    rest = run_to_end(together)[1]
    assert [second, *rest] == [replace(result, member=1) for result in alone(1.0)]


def alone(value: float, searched: bool = True) -> list[EpochResult]:
    return [*run_to_end(session(value, searched=searched))[0]]


def test_a_value_of_0_and_a_setting_that_is_not_searched_change_nothing() -> None:
    assert alone(0.0) == alone(1.0, searched=False)


def test_a_pack_without_settings_passes_none() -> None:
    assert Pack(linear, [0], "cpu").columns == {}
