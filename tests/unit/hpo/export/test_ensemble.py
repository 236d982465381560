"""Averages over the members of an ensemble and over shifts, compared with averages by hand."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from hpo import models
from hpo.export.ensemble import Ensemble, average, ensemble_of, translations, with_shifts
from hpo.export.metrics import Normalization
from hpo.export.scoring import probabilities, values

NORMALIZATION = Normalization((0.2,), (0.3,))


def images(n: int, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (n, channels, 28, 28), dtype=torch.uint8, generator=generator)


def lenet(seed: int, channels: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return models.build("lenet", 5, channels).eval()


def shifted_by_hand(pixels: npt.NDArray[np.uint8], down: int, right: int) -> npt.NDArray[np.uint8]:
    """Return images `(N, C, H, W)` moved by these pixels, with black behind them."""
    moved = np.zeros_like(pixels)
    height, width = pixels.shape[-2:]
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                moved[..., row, column] = pixels[..., row - down, column - right]
    return moved


def test_ensemble_predicts_the_mean_of_the_probabilities() -> None:
    members = [lenet(seed) for seed in range(3)]
    alone = [probabilities(member, images(7), NORMALIZATION, "cpu") for member in members]
    ensemble = Ensemble(members, of_classes=True)
    together = probabilities(ensemble, images(7), NORMALIZATION, "cpu")
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=1e-6)
    outputs = ensemble(images(7).float())
    np.testing.assert_allclose(outputs.exp().sum(1).detach(), np.ones(7), rtol=1e-5)


def test_ensemble_of_numbers_predicts_their_mean() -> None:
    members = [nn.Linear(3, 2) for _ in range(4)]
    inputs = torch.randn(6, 3)
    ensemble = Ensemble(members, of_classes=False)
    normalization = Normalization((0.0,) * 3, (1.0,) * 3)
    alone = [values(member, inputs, normalization, "cpu") for member in members]
    together = values(ensemble, inputs, normalization, "cpu")
    np.testing.assert_allclose(together, np.mean(alone, axis=0), rtol=1e-5)


def test_certain_members_keep_the_logarithm_finite() -> None:
    outputs = [torch.tensor([[1e4, -1e4, 0.0]]), torch.tensor([[-1e4, 1e4, 0.0]])]
    averaged = average(outputs, of_classes=True)
    assert averaged[0, :2].exp().tolist() == pytest.approx([0.5, 0.5])
    assert torch.isfinite(averaged).all()


def test_keys_of_the_state_name_the_members() -> None:
    ensemble = Ensemble([nn.Linear(1, 1), nn.Linear(1, 1)], of_classes=False)
    names = ["members.0.weight", "members.0.bias", "members.1.weight", "members.1.bias"]
    assert list(ensemble.state_dict()) == names
    single = nn.Linear(1, 1)
    assert ensemble_of([single], of_classes=False) is single


@pytest.mark.parametrize(("shifts", "channels"), [(1, 1), (2, 1), (1, 3)])
def test_shifts_are_the_mean_over_images_moved_by_hand(shifts: int, channels: int) -> None:
    normalization = Normalization((0.2, 0.3, 0.4)[:channels], (0.3, 0.2, 0.1)[:channels])
    network, pixels = lenet(0, channels), images(4, channels).numpy()
    steps = range(-shifts, shifts + 1)
    moved = [shifted_by_hand(pixels, down, right) for down in steps for right in steps]
    by_hand = [probabilities(network, torch.from_numpy(each), normalization, "cpu") for each in moved]
    shifted = with_shifts(network, shifts, normalization, of_classes=True)
    averaged = probabilities(shifted, torch.from_numpy(pixels), normalization, "cpu")
    assert len(by_hand) == (2 * shifts + 1) ** 2
    np.testing.assert_allclose(averaged, np.mean(by_hand, axis=0), atol=1e-6)


def test_translations_move_every_pixel_and_fill_with_black() -> None:
    image, black = torch.arange(1.0, 5.0).view(1, 1, 2, 2), torch.tensor([-7.0])
    moved = [each.flatten().tolist() for each in translations(image, 1, black)]
    # Up and left, up, up and right; left, as it is, right; down and left, down, down and right.
    assert moved == [
        [4, -7, -7, -7],
        [3, 4, -7, -7],
        [-7, 3, -7, -7],
        [2, -7, 4, -7],
        [1, 2, 3, 4],
        [-7, 1, -7, 3],
        [-7, -7, 2, -7],
        [-7, -7, 1, 2],
        [-7, -7, -7, 1],
    ]


def test_no_shifts_leave_the_network() -> None:
    network = lenet(0)
    assert with_shifts(network, 0, NORMALIZATION, of_classes=True) is network
