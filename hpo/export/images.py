"""Image files, brought to the form that a network takes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from hpo.errors import InputError
from hpo.export.model_spec import ModelSpec


@dataclass(frozen=True, slots=True, eq=False)
class InputImage:
    """`pixels` are `(H, W)`, or `(3, H, W)` for an RGB network. `inverted`: black and white were swapped."""

    pixels: npt.NDArray[np.uint8]
    inverted: bool


def read_image(path: Path, spec: ModelSpec) -> InputImage:
    """Read an image file in the form that the network of `spec` takes.

    A white on black image of the right size keeps its pixels. Other sizes are scaled without distortion and
    padded with black. If the network was trained on grey images with a dark background, an image with a
    mostly bright border, such as a scan, is inverted. Raises `InputError` if the file is missing or not an
    image, or if the network takes no images.
    """
    if spec.image_size is None:
        raise InputError(f"{path}: the model takes no images, but numbers; use load_bundle in Python")
    try:
        with Image.open(path) as file:
            image = _opaque(ImageOps.exif_transpose(file))
    except Exception as error:  # a decoder may raise anything on damaged bytes
        reason = getattr(error, "strerror", None) or "not an image such as PNG or JPEG, or a damaged one"
        raise InputError(f"{path}: {reason}") from error
    image = image.convert("L" if spec.in_channels == 1 else "RGB")
    inverted = image.mode == "L" and spec.mean[0] < 0.5 and _bright_border(np.asarray(image))
    if inverted:
        image = ImageOps.invert(image)
    return InputImage(fitted(image, spec), inverted)


def fitted(image: Image.Image, spec: ModelSpec) -> npt.NDArray[np.uint8]:
    """Return the pixels `(H, W)` or `(3, H, W)` of an image, in the channels and the size of a network.

    The image is scaled without distortion and padded with black.
    """
    assert spec.image_size is not None
    height, width = spec.image_size
    image = image.convert("L" if spec.in_channels == 1 else "RGB")
    if image.size != (width, height):
        image = ImageOps.pad(image, (width, height), Image.Resampling.BICUBIC, color=0)
    pixels = np.array(image)  # (H, W) or (H, W, 3)
    return pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _opaque(image: Image.Image) -> Image.Image:
    """Return the image in RGB. Transparent parts become black, or white if the drawing is mostly dark."""
    if image.mode.startswith("I"):  # 16 bits: Pillow would clip the values to 8 bits instead of scaling them
        image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
    rgba = image.convert("RGBA")
    shades = rgba.convert("L").histogram(rgba.getchannel("A"))  # without fully transparent pixels
    ground = "white" if sum(shades[:128]) > sum(shades[128:]) else "black"
    return Image.alpha_composite(Image.new("RGBA", rgba.size, ground), rgba).convert("RGB")


def _bright_border(grey: npt.NDArray[np.uint8]) -> bool:
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return bool(np.median(border) > 127)
