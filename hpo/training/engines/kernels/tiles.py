"""Chooses the tile of the Winograd kernels for a convolution."""

import math
from collections.abc import Sequence

TILES = 6, 7
"""Heights and widths of the tiles that the Winograd kernels transform."""

LEAST_CHANNELS = 8
"""Input channels from which the Winograd kernels are used. With fewer, the transforms dominate their time."""

LEAST_SAVING = 1.5
"""The Winograd kernels are used if they need this many times fewer multiplications. A tile that reaches far
beyond the map saves none."""


def winograd_tile(images: Sequence[int], weight: Sequence[int], padding: int) -> int | None:
    """Return the tile with the fewest multiplications, None if the Winograd kernels do not pay off.

    `images` `(B, C, H, W)` and `weight` `(maps, C, kernel, kernel)` are the shapes of a convolution with
    stride 1. The gradients use the same tile.
    """
    kernel = weight[2]
    if kernel not in (3, 5) or weight[3] != kernel or images[1] < LEAST_CHANNELS:
        return None
    sides = [side + 2 * padding - kernel + 1 for side in images[2:]]  # of the map
    if min(sides) < 1:
        return None
    multiplications = {
        tile: tile**2 * math.prod(-(-side // (tile + 1 - kernel)) for side in sides) for tile in TILES
    }
    best = min(TILES, key=lambda tile: multiplications[tile])
    return best if kernel**2 * math.prod(sides) >= LEAST_SAVING * multiplications[best] else None
