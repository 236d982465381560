"""The Winograd tile is the one with the fewest multiplications, if it saves enough."""

import pytest

from hpo.training.engines.kernels.tiles import winograd_tile


@pytest.mark.parametrize(
    ("side", "kernel", "tile"), [(14, 3, 7), (7, 3, 6), (28, 3, 6), (14, 5, 7), (16, 5, 7), (4, 5, 6)]
)
def test_the_tile_has_the_fewest_multiplications(side: int, kernel: int, tile: int) -> None:
    assert winograd_tile((16, 8, side, side), (4, 8, kernel, kernel), kernel // 2) == tile


@pytest.mark.parametrize(
    ("images", "weight", "padding"),
    [
        ((16, 32, 14, 14), (8, 32, 7, 7), 0),  # another kernel
        ((16, 32, 14, 14), (8, 32, 3, 5), 0),  # a kernel that is not square
        ((16, 7, 14, 14), (8, 7, 3, 3), 0),  # few channels
        ((16, 32, 2, 2), (8, 32, 3, 3), 1),  # a map much smaller than a tile
        ((16, 32, 2, 2), (8, 32, 3, 3), 0),  # no map at all
    ],
)
def test_there_is_no_tile_where_winograd_does_not_pay_off(
    images: tuple[int, ...], weight: tuple[int, ...], padding: int
) -> None:
    assert winograd_tile(images, weight, padding) is None
