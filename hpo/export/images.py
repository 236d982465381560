"""An image file as a network takes it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from hpo.errors import InputError
from hpo.export.bundle import ModelSpec


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """`pixels` uint8: `(H, W)`, or `(3, H, W)` for a network of RGB.

    `inverted`: whether black and white were swapped.
    """

    pixels: npt.NDArray[np.uint8]
    inverted: bool


def read_image(path: Path, spec: ModelSpec) -> Picture:
    """An image file as `spec`'s network takes it; one of its size and white on black keeps its pixels.

    Others are scaled to fit, without distortion, and padded with black. Where the network knows grey images
    on dark ground, an image with a mostly bright border, such as a scan, is inverted. Raises InputError when
    the file is missing or not an image.
    """
    try:
        with Image.open(path) as file:
            image = _opaque(ImageOps.exif_transpose(file))
    except Exception as error:  # a decoder meets whatever bytes there are, and may raise anything
        reason = getattr(error, "strerror", None) or "not an image such as PNG or JPEG, or a damaged one"
        raise InputError(f"{path}: {reason}") from error
    image = image.convert("L" if spec.in_channels == 1 else "RGB")
    inverted = image.mode == "L" and spec.mean[0] < 0.5 and _bright_border(np.asarray(image))
    if inverted:
        image = ImageOps.invert(image)
    height, width = spec.image_size
    if image.size != (width, height):
        image = ImageOps.pad(image, (width, height), Image.Resampling.BICUBIC, color=0)
    pixels = np.array(image)  # (H, W) or (H, W, 3)
    return Picture(pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1), inverted)


def _opaque(image: Image.Image) -> Image.Image:
    """In RGB, with transparent parts black, or white where what is drawn is dark and would vanish."""
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip to 8 and not scale
        image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
    drawn = image.convert("RGBA")
    shades = drawn.convert("L").histogram(drawn.getchannel("A"))  # of what is not fully transparent
    ground = "white" if sum(shades[:128]) > sum(shades[128:]) else "black"
    return Image.alpha_composite(Image.new("RGBA", drawn.size, ground), drawn).convert("RGB")


def _bright_border(grey: npt.NDArray[np.uint8]) -> bool:
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return bool(np.median(border) > 127)
