"""Torch's operators, in one precision and layout."""

from typing import Any

import pytest
import torch
from torch import Tensor

from hpo import models
from hpo.training.engines.eager import Engine
from hpo.training.optimizers import Sgd
from hpo.training.pack import Candidate, Pack
from hpo.values.precision import Precision

CANDIDATES = [Candidate(lr=0.05, momentum=0.9, weight_decay=1e-3, seed=seed) for seed in (4, 5)]


def data(own: bool) -> tuple[Tensor, Tensor]:
    """A batch for all members, or one for each."""
    generator, members = torch.Generator().manual_seed(1), (2,) * own
    images = torch.randn(*members, 8, 1, 28, 28, generator=generator)
    return images, torch.randint(10, (*members, 8), generator=generator)


def step(engine: Engine, own: bool = False) -> tuple[Tensor, Tensor]:
    """Losses of a step and parameters after it."""
    pack = Pack(lambda: models.build("lenet", 10), [c.seed for c in CANDIDATES], "cpu")
    optimizer = Sgd(CANDIDATES, pack.weights.parameters)
    return engine.step(pack, optimizer, 1.0, *data(own)), pack.weights.parameters


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_precision_and_layout_change_results_by_rounding_only(
    precision: Precision, channels_last: bool, own: bool
) -> None:
    (losses, parameters), expected = step(Engine(precision, channels_last), own), step(Engine(), own)
    exactness = 1e-4 if precision == "float32" else 2e-2
    assert losses.dtype == parameters.dtype == torch.float32
    torch.testing.assert_close(losses, expected[0], rtol=exactness, atol=exactness)
    torch.testing.assert_close(parameters, expected[1], rtol=exactness, atol=exactness)
    assert precision == "float32" or not torch.equal(losses, expected[0])


@pytest.mark.parametrize("own", [False, True])
def test_channels_that_lie_together_are_seen_as_such_by_convolutions(
    own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    whole = Pack.gradients

    def gradients(pack: Pack, images: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        seen.append(images)
        return whole(pack, images, *rest)

    monkeypatch.setattr(Pack, "gradients", gradients)
    step(Engine(channels_last=True), own)
    (images,) = seen
    assert torch.equal(images, data(own)[0])
    assert images.stride()[-4:] == (28 * 28, 1, 28, 1)


def test_evaluations_are_in_float32() -> None:
    pack = Pack(lambda: models.build("lenet", 10), [1, 2], "cpu")
    images, labels = data(False)
    losses, right = Engine("bfloat16").score(pack, images, labels)
    assert torch.equal(losses, pack.score(images, labels)[0])
    assert torch.equal(right, pack.score(images, labels)[1])


def test_masks_may_be_drawn_before_the_step() -> None:
    drawn, undrawn = (Pack(lambda: models.build("lenet", 10), [1, 2], "cpu") for _ in range(2))
    images, labels = data(False)
    masks = drawn.masks_of(images, labels)
    assert torch.equal(drawn.gradients(images, labels, masks)[1], undrawn.gradients(images, labels)[1])
