import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from hpo.data import open_dataset
from hpo.errors import InputError
from hpo.export.images import read_image
from hpo.export.model_spec import ModelSpec

CLASSES = ("0", "A", "ä")
GREY = ModelSpec("lenet", CLASSES, 1, (28, 28), (0.1736,), (0.3248,))
COLOUR = ModelSpec("lenet", CLASSES, 3, (28, 28), (0.1, 0.2, 0.3), (0.3, 0.2, 0.1))
Pixels = npt.NDArray[np.uint8]


def images(*shape: int) -> Pixels:
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


def digit() -> Pixels:
    """White on black, with black margins."""
    pixels = np.zeros((28, 28), dtype=np.uint8)
    pixels[4:24, 4:24] = images(20, 20)
    return pixels


def save(path: Path, pixels: npt.NDArray[Any], **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_image_of_the_right_size_keeps_its_pixels(tmp_path: Path, mode: str) -> None:
    pixels = digit()
    file = tmp_path / "digit.png"
    Image.fromarray(pixels).convert(mode).save(file)
    read = read_image(file, GREY)
    assert read.pixels.dtype == np.uint8
    assert np.array_equal(read.pixels, pixels)
    assert not read.inverted


def test_16_bit_image_is_scaled_to_8_bits(tmp_path: Path) -> None:
    file = save(tmp_path / "deep.png", digit().astype(np.uint16) * 257)
    assert np.array_equal(read_image(file, GREY).pixels, digit())


def test_black_on_white_image_is_inverted(tmp_path: Path) -> None:
    read = read_image(save(tmp_path / "scan.png", 255 - digit()), GREY)
    assert read.inverted
    assert np.array_equal(read.pixels, digit())


@pytest.mark.parametrize("ink", [0, 255])
def test_drawing_on_a_transparent_ground_is_visible(tmp_path: Path, ink: int) -> None:
    layers = np.stack([np.full_like(digit(), ink), digit()], axis=-1)  # (28, 28, 2): grey, alpha
    Image.fromarray(layers, mode="LA").save(tmp_path / "ink.png")
    read = read_image(tmp_path / "ink.png", GREY)
    assert np.array_equal(read.pixels, digit())
    assert read.inverted == (ink == 0)


def test_fully_transparent_image_is_black(tmp_path: Path) -> None:
    Image.new("RGBA", (28, 28), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    assert not read_image(tmp_path / "clear.png", GREY).pixels.any()


@pytest.mark.parametrize(("height", "width"), [(112, 56), (56, 112), (14, 7), (1000, 30)])
def test_other_sizes_keep_their_aspect_and_are_padded_with_black(
    tmp_path: Path, height: int, width: int
) -> None:
    file = save(tmp_path / "wide.png", np.full((height, width), 100, dtype=np.uint8))
    pixels = read_image(file, GREY).pixels
    longer = max(height, width)
    rows, columns = round(28 * height / longer), round(28 * width / longer)
    assert pixels.shape == (28, 28)
    assert (pixels.any(axis=1).sum(), pixels.any(axis=0).sum()) == (rows, columns)
    assert set(np.unique(pixels)) == {0, 100}


@pytest.mark.parametrize("shape", [(1, 1000), (1000, 1), (1, 1)])
def test_extreme_aspect_ratio_is_padded(tmp_path: Path, shape: tuple[int, int]) -> None:
    assert read_image(save(tmp_path / "line.png", images(*shape)), GREY).pixels.shape == (28, 28)


def test_photo_is_turned_by_its_exif_orientation(tmp_path: Path) -> None:
    turned = Image.fromarray(np.rot90(digit()))
    exif = turned.getexif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees clockwise to see it upright
    turned.save(tmp_path / "photo.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "photo.png", GREY).pixels, digit())


def test_rgb_network_gets_colours(tmp_path: Path) -> None:
    pixels = images(28, 28, 3) // 2 + 128
    read = read_image(save(tmp_path / "colours.png", pixels), COLOUR)
    assert np.array_equal(read.pixels, pixels.transpose(2, 0, 1))
    assert not read.inverted


def test_image_is_not_inverted_for_a_network_of_bright_images(tmp_path: Path) -> None:
    read = read_image(save(tmp_path / "page.png", 255 - digit()), dataclasses.replace(GREY, mean=(0.9,)))
    assert np.array_equal(read.pixels, 255 - digit())
    assert not read.inverted


def test_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.png: No such file or directory"):
        read_image(tmp_path / "none.png", GREY)
    with pytest.raises(InputError, match="Is a directory"):
        read_image(tmp_path, GREY)
    whole = save(tmp_path / "whole.png", images(28, 28)).read_bytes()
    damages = [b"", b"not an image", whole[: len(whole) // 2], *(whole[:at] for at in (10, 30, 45))]
    damages += [whole[:at] + b"\0\xff\xfe" + whole[at + 3 :] for at in range(0, len(whole), 29)]
    messages = []
    for content in damages:
        (tmp_path / "bad.png").write_bytes(content)
        try:
            read_image(tmp_path / "bad.png", GREY)
        except InputError as error:
            messages.append(str(error))
    assert set(messages) == {f"{tmp_path / 'bad.png'}: not an image such as PNG or JPEG, or a damaged one"}
    assert len(messages) >= len(damages) // 2


def test_images_stack_to_a_batch(tmp_path: Path) -> None:
    files = [save(tmp_path / f"{n}.png", digit() // (n + 1)) for n in range(3)]
    assert np.stack([read_image(file, GREY).pixels for file in files]).shape == (3, 28, 28)


@pytest.mark.emnist
def test_emnist_characters_are_not_inverted(tmp_path: Path) -> None:
    root = os.environ.get("HPO_DATA_DIR")
    if not root or not Path(root).is_dir():
        pytest.skip("HPO_DATA_DIR is not set to a folder")
    train = open_dataset("emnist-byclass", Path(root)).load_train()
    for index in range(0, len(train), len(train) // 500):
        read = read_image(save(tmp_path / "character.png", train.images[index]), GREY)
        assert not read.inverted
        assert np.array_equal(read.pixels, train.images[index])
