"""Random affine maps of a batch, drawn anew for each image, on the images' device."""

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Augmentation(Protocol):
    """Ranges to draw from: ±`rotation` and ±`shear` degrees, ±`shift` of each side, `scale` (least, most)."""

    @property
    def rotation(self) -> float: ...
    @property
    def shift(self) -> float: ...
    @property
    def scale(self) -> tuple[float, float]: ...
    @property
    def shear(self) -> float: ...


def affine(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Map each image of `images` `(B, C, H, W)` at random; black (0) comes in from outside.

    Black is 0 only before normalisation, so that is where this belongs. Shear is along x alone, as in
    torchvision's RandomAffine with one shear number; shifts are not rounded to whole pixels as there.
    A generator on the CPU serves any device with the same draws.
    """

    def draw(low: float, high: float) -> Tensor:
        # Always float32, so that float64 images meet the same maps.
        values = torch.empty(len(images), device=generator.device).uniform_(low, high, generator=generator)
        return values.to(images)

    rotation, shear = math.radians(augmentation.rotation), math.radians(augmentation.shear)
    height, width = images.shape[-2:]
    maps = matrices(
        rotation=draw(-rotation, rotation),
        shear=draw(-shear, shear),
        scale=draw(*augmentation.scale),
        shift_x=draw(-augmentation.shift, augmentation.shift),
        shift_y=draw(-augmentation.shift, augmentation.shift),
        aspect=height / width,
    )
    return warp(images, maps)


def matrices(
    rotation: Tensor, shear: Tensor, scale: Tensor, shift_x: Tensor, shift_y: Tensor, aspect: float = 1.0
) -> Tensor:
    """`(B, 2, 3)` maps from places in the result to places in the source, both in -1..1 from edge to edge.

    Angles in radians, clockwise; shifts as shares of the sides, right and down; each `(B,)`. `aspect` is
    H / W. The result is the source sheared, rotated and scaled about its centre, then shifted.
    """
    cos, sin, tan = rotation.cos() / scale, rotation.sin() / scale, shear.tan()
    # The inverse of [[cos, -sin], [sin, cos]] @ [[1, -tan], [0, 1]].
    xx, xy = cos - sin * tan, (sin + cos * tan) * aspect
    yx, yy = -sin / aspect, cos
    # A shift of one side is 2 in these units, and undone before the rest.
    x = -2 * (xx * shift_x + xy * shift_y)
    y = -2 * (yx * shift_x + yy * shift_y)
    return torch.stack((xx, xy, x, yx, yy, y), dim=1).view(-1, 2, 3)


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """Sample `images` `(B, C, H, W)` bilinearly where `maps` `(B, 2, 3)` point, with 0 outside."""
    height, width = images.shape[-2:]
    x, y = _centres(width, images), _centres(height, images)
    from_x, from_y, offset = maps[..., None, None].unbind(2)  # each (B, 2, 1, 1)
    # What affine_grid computes as B products of (H * W, 3) by (3, 2) matrices, which are slow on the CPU and
    # lose digits where products are taken in TF32 or bfloat16. Only the last sum is of the images' size.
    grid = from_x * x + (from_y * y[:, None] + offset)  # (B, 2, H, W)
    return F.grid_sample(
        images, grid.permute(0, 2, 3, 1), mode="bilinear", padding_mode="zeros", align_corners=False
    )


def _centres(pixels: int, like: Tensor) -> Tensor:
    """Centres of the pixels of a side that runs from -1 to 1."""
    return torch.linspace(1 / pixels - 1, 1 - 1 / pixels, pixels, dtype=like.dtype, device=like.device)
