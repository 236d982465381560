from pathlib import Path

import numpy as np
from PIL import Image

from hpo.data.contact_sheet import CELL, GAP, contact_sheet
from hpo.data.dataset import Labelled


def test_each_class_has_a_row_with_its_first_images_upright(tmp_path: Path) -> None:
    images = np.zeros((5, 28, 28), np.uint8)
    images[:, 0, :14] = 255  # the upper left edge
    images[:, 20, 20] = np.arange(5) * 10  # a grey level that identifies the image
    labelled = Labelled(images, np.array([1, 1, 0, 1, 1]))
    path = tmp_path / "sheets" / "sheet.png"
    contact_sheet(labelled, ("first", "second", "none"), path, per_class=3)
    sheet = np.asarray(Image.open(path).convert("L"))
    step = CELL + GAP
    left = sheet.shape[1] - 3 * step
    assert sheet.shape[0] == 3 * step

    def cell(row: int, column: int) -> np.ndarray:
        x = left + column * step
        return sheet[row * step : row * step + CELL : CELL // 28, x : x + CELL : CELL // 28]

    np.testing.assert_array_equal(cell(0, 0), images[2])
    for column, index in enumerate((0, 1, 3)):
        np.testing.assert_array_equal(cell(1, column), images[index])
    assert len(np.unique(cell(0, 1))) == len(np.unique(cell(2, 0))) == 1  # a cell without an image is uniform
    for row in range(3):
        assert sheet[row * step : row * step + CELL, :left].max() > 200  # the class name is written here


def test_colour_images_stay_coloured(tmp_path: Path) -> None:
    images = np.zeros((1, 3, 8, 8), np.uint8)
    images[:, 1] = 200
    contact_sheet(Labelled(images, np.array([0])), ("green", "none"), tmp_path / "sheet.png", per_class=1)
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.getpixel((sheet.width - GAP - 1, 0)) == (0, 200, 0)
