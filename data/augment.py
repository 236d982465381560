"""Random affine maps of a batch, a new one for each image, on the images' device."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Augmentation(Protocol):
    """Ranges of random maps.

    `rotation` and `shear` are the greatest angles in degrees, `shift` the greatest share of a side, all in
    both directions. `scale` is the (least, greatest) factor.
    """

    @property
    def rotation(self) -> float: ...
    @property
    def shift(self) -> float: ...
    @property
    def scale(self) -> tuple[float, float]: ...
    @property
    def shear(self) -> float: ...


def affine(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Map each image of `images` `(B, C, H, W)` at random. Pixels from outside an image are 0, black.

    Call this before normalisation: afterwards black is not 0. Shear is along x alone, as in torchvision's
    RandomAffine with one shear number. Unlike there, shifts are not rounded to whole pixels. A generator on
    the CPU gives the same maps for any device.
    """

    def draw(low: float, high: float) -> Tensor:
        # Always float32, so that float64 images get the same maps.
        values = torch.empty(len(images), device=generator.device).uniform_(low, high, generator=generator)
        return values.to(images)

    rotation, shear = math.radians(augmentation.rotation), math.radians(augmentation.shear)
    height, width = images.shape[-2:]
    maps = Maps(
        rotation=draw(-rotation, rotation),
        shear=draw(-shear, shear),
        scale=draw(*augmentation.scale),
        shift_x=draw(-augmentation.shift, augmentation.shift),
        shift_y=draw(-augmentation.shift, augmentation.shift),
    )
    return warp(images, maps.matrices(aspect=height / width))


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """One affine map per image; each field is `(B,)`.

    Angles are in radians, clockwise. Shifts are shares of the sides, to the right and down. The result is the
    source sheared, rotated and scaled about its centre, then shifted.
    """

    rotation: Tensor
    shear: Tensor
    scale: Tensor
    shift_x: Tensor
    shift_y: Tensor

    def matrices(self, aspect: float) -> Tensor:
        """Return `(B, 2, 3)` matrices from positions in the result to positions in the source.

        Positions run from -1 to 1, edge to edge. `aspect` is H / W.
        """
        cos, sin = self.rotation.cos() / self.scale, self.rotation.sin() / self.scale
        tan = self.shear.tan()
        # The inverse of [[cos, -sin], [sin, cos]] @ [[1, -tan], [0, 1]].
        xx, xy = cos - sin * tan, (sin + cos * tan) * aspect
        yx, yy = -sin / aspect, cos
        # A side is 2 units long. The inverse undoes the shift before the rest.
        x = -2 * (xx * self.shift_x + xy * self.shift_y)
        y = -2 * (yx * self.shift_x + yy * self.shift_y)
        return torch.stack((xx, xy, x, yx, yy, y), dim=1).view(-1, 2, 3)


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """Sample `images` `(B, C, H, W)` bilinearly at the positions of `maps` `(B, 2, 3)`, with 0 outside."""
    height, width = images.shape[-2:]
    x, y = _centres(width, images), _centres(height, images)
    from_x, from_y, offset = maps[..., None, None].unbind(2)  # each (B, 2, 1, 1)
    # affine_grid computes the same as B products of (H * W, 3) by (3, 2) matrices. They are slow on a CPU and
    # lose digits in TF32 or bfloat16. Here only the last sum has the size of the images.
    grid = from_x * x + (from_y * y[:, None] + offset)  # (B, 2, H, W)
    return F.grid_sample(
        images, grid.permute(0, 2, 3, 1), mode="bilinear", padding_mode="zeros", align_corners=False
    )


def _centres(pixels: int, like: Tensor) -> Tensor:
    """Return the centres of the pixels of a side that runs from -1 to 1."""
    return torch.linspace(1 / pixels - 1, 1 - 1 / pixels, pixels, dtype=like.dtype, device=like.device)
