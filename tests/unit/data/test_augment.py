import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine as torchvision_affine

from hpo.data.augment import Maps, affine, warp


@dataclass(frozen=True)
class Ranges:
    rotation: float = 0.0
    shift: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0


PAPER = Ranges(rotation=15, shift=0.1, scale=(0.9, 1.1), shear=3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fixed(
    images: torch.Tensor,
    rotation: float = 0,
    shift: tuple[float, float] = (0, 0),
    scale: float = 1,
    shear: float = 0,
) -> torch.Tensor:
    """Transform all images by the same map. Angles are in degrees, shifts in pixels to the right and down."""
    height, width = images.shape[-2:]
    values = math.radians(rotation), math.radians(shear), scale, shift[0] / width, shift[1] / height
    turns, slants, scales, right, down = (images.new_full((len(images),), value) for value in values)
    return warp(images, Maps(turns, slants, scales, right, down).matrices(height / width))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_empty_ranges_change_nothing(dtype: torch.dtype) -> None:
    images = noise(8, 3, 28, 20).to(dtype)
    result = affine(images, Ranges(), generator())
    assert result.dtype == dtype
    torch.testing.assert_close(result, images, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shift", [(3, 0), (0, 2), (-4, 1)])
def test_positive_shift_moves_right_and_down(shift: tuple[int, int]) -> None:
    images = torch.zeros(1, 1, 16, 12)
    images[0, 0, 7, 5] = 1
    expected = torch.zeros(1, 1, 16, 12)
    expected[0, 0, 7 + shift[1], 5 + shift[0]] = 1
    torch.testing.assert_close(fixed(images, shift=shift), expected, rtol=0, atol=1e-5)


def test_pixels_from_outside_the_image_are_black() -> None:
    result = fixed(torch.ones(1, 1, 10, 10), shift=(4, 0))
    torch.testing.assert_close(result[..., :4], torch.zeros(1, 1, 10, 4))
    torch.testing.assert_close(result[..., 4:], torch.ones(1, 1, 10, 6))


def test_positive_rotation_is_clockwise() -> None:
    images = noise(2, 1, 9, 9)
    torch.testing.assert_close(fixed(images, rotation=90), images.rot90(-1, (2, 3)))


@settings(max_examples=50)
@given(
    rotation=st.floats(-180, 180),
    shift=st.tuples(st.integers(-5, 5), st.integers(-5, 5)),
    scale=st.floats(0.5, 2),
    shear=st.floats(-30, 30),
    size=st.sampled_from([(28, 28), (20, 32), (31, 17)]),
)
def test_affine_agrees_with_torchvision(
    rotation: float, shift: tuple[int, int], scale: float, shear: float, size: tuple[int, int]
) -> None:
    # Smooth images with a black rim: no rounding of the grid can move a sample across an edge.
    height, width = size
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 5, width), indexing="ij")
    images = torch.stack((torch.sin(x + y).abs(), torch.cos(x * y).abs())).double()[None]
    rim = torch.nn.functional.pad(torch.ones(height - 4, width - 4, dtype=torch.float64), (2, 2, 2, 2))
    images = images * rim
    expected = torchvision_affine(
        images, rotation, list(shift), scale, [shear, 0.0], InterpolationMode.BILINEAR, fill=[0.0]
    )
    torch.testing.assert_close(fixed(images, rotation, shift, scale, shear), expected, rtol=0, atol=1e-4)


def test_same_seed_gives_the_same_images() -> None:
    images = noise(8, 1, 28, 28).float()
    first, again, other = (affine(images, PAPER, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_next_batch_gets_different_maps() -> None:
    images, source = noise(8, 1, 28, 28), generator()
    assert not torch.equal(affine(images, PAPER, source), affine(images, PAPER, source))


def test_maps_differ_between_images_but_not_between_channels() -> None:
    images = noise(1, 1, 28, 28).expand(16, 3, 28, 28)
    result = affine(images, PAPER, generator())
    assert len({tuple(image.flatten().tolist()) for image in result[:, 0]}) == 16
    assert torch.equal(result[:, 0], result[:, 1])
    assert torch.equal(result[:, 0], result[:, 2])


def test_float32_and_float64_draw_the_same_maps() -> None:
    images = noise(8, 1, 28, 28)
    double = affine(images, PAPER, generator())
    torch.testing.assert_close(affine(images.float(), PAPER, generator()).double(), double, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("ranges", "dimension"), [(Ranges(shift=0.1), "x"), (Ranges(shift=0.1), "y"), (Ranges(shear=20), "x")]
)
def test_draws_fill_their_range_and_stay_inside(ranges: Ranges, dimension: str) -> None:
    # One bright pixel near the top: the centre of mass shows how far the map moved it.
    images = torch.zeros(2000, 1, 41, 41, dtype=torch.float64)
    images[:, :, 10, 20] = 1
    result = affine(images, ranges, generator())
    coordinates = torch.arange(41, dtype=torch.float64)
    moved = (result.sum(dim=(1, 2 if dimension == "x" else 3)) * coordinates).sum(1) - (
        20 if dimension == "x" else 10
    )
    largest = 41 * ranges.shift + 10 * math.tan(math.radians(ranges.shear))
    assert 0.98 * largest < moved.max() <= largest + 1e-6
    assert 0.98 * largest < -moved.min() <= largest + 1e-6
    assert moved.mean().abs() < 0.05 * largest


def test_scale_is_drawn_between_its_bounds() -> None:
    images = torch.nn.functional.pad(torch.ones(500, 1, 20, 20), (20, 20, 20, 20))
    factors = (affine(images, Ranges(scale=(0.8, 1.5)), generator()).sum(dim=(1, 2, 3)) / 400).sqrt()
    assert 0.79 < factors.min() < 0.82
    assert 1.48 < factors.max() < 1.51
