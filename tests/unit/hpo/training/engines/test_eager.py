"""The eager engine computes in one precision and one layout."""

from typing import Any

import pytest
import torch
from support.candidates import candidate
from support.packs import sgd
from support.scores import assert_equal_scores
from torch import Tensor

from hpo import models
from hpo.training.engines.eager import EagerEngine
from hpo.training.pack import Pack
from hpo.values.precision import Precision

CANDIDATES = [candidate(lr=0.05, momentum=0.9, weight_decay=1e-3, seed=seed) for seed in (4, 5)]


class RecordingPack(Pack):
    """Records the images and the autocast precision of each step."""

    def __init__(self) -> None:
        super().__init__(
            lambda: models.build("lenet", 10), [candidate.seed for candidate in CANDIDATES], "cpu"
        )
        self.images: list[Tensor] = []
        self.is_bfloat16: list[bool] = []

    def gradients(self, images: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        self.images.append(images)
        self.is_bfloat16.append(torch.is_autocast_enabled("cpu"))
        return super().gradients(images, *rest)


def data(per_member: bool) -> tuple[Tensor, Tensor]:
    """Return one batch for all members, or one for each."""
    generator, members = torch.Generator().manual_seed(1), (2,) * per_member
    images = torch.randn(*members, 8, 1, 28, 28, generator=generator)
    return images, torch.randint(10, (*members, 8), generator=generator)


def step(engine: EagerEngine, per_member: bool = False) -> tuple[Tensor, RecordingPack]:
    """Return the losses of a step, and the pack after it."""
    pack = RecordingPack()
    optimizer = sgd(CANDIDATES, pack.weights.parameters)
    return engine.step(pack, optimizer, 1.0, *data(per_member)), pack


@pytest.mark.parametrize("per_member", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_precision_and_layout_change_results_by_rounding_only(
    precision: Precision, channels_last: bool, per_member: bool
) -> None:
    losses, pack = step(EagerEngine(precision, channels_last), per_member)
    expected, expected_pack = step(EagerEngine(), per_member)
    parameters, tolerance = pack.weights.parameters, 1e-4 if precision == "float32" else 2e-2
    assert losses.dtype == parameters.dtype == torch.float32
    torch.testing.assert_close(losses, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(parameters, expected_pack.weights.parameters, rtol=tolerance, atol=tolerance)
    assert pack.is_bfloat16 == [precision == "bfloat16"]


@pytest.mark.parametrize("per_member", [False, True])
def test_convolutions_see_channels_last_in_the_strides(per_member: bool) -> None:
    _, pack = step(EagerEngine(channels_last=True), per_member)
    (images,) = pack.images
    assert torch.equal(images, data(per_member)[0])
    assert images.stride()[-4:] == (28 * 28, 1, 28, 1)


def test_evaluations_are_in_float32() -> None:
    pack = Pack(lambda: models.build("lenet", 10), [1, 2], "cpu")
    images, labels = data(False)
    assert_equal_scores(EagerEngine("bfloat16").score(pack, images, labels), pack.score(images, labels))


def test_masks_may_be_drawn_before_the_step() -> None:
    before, within = (Pack(lambda: models.build("lenet", 10), [1, 2], "cpu") for _ in range(2))
    images, labels = data(False)
    masks = before.masks_of(images, labels)
    assert torch.equal(before.gradients(images, labels, masks)[1], within.gradients(images, labels)[1])
