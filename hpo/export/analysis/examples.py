"""Images of the most confused pairs on one page, with the true and the predicted class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from hpo.export.analysis.pairs import ConfusedPair
from hpo.export.analysis.predictions import Predictions
from hpo.values.wording import counted

Pixels = npt.NDArray[np.uint8]
ImageOf = Callable[[int], Pixels]
"""Returns the image `(C, H, W)` of an example, C is 1 or 3."""


PAIRS, PER_DIRECTION = 12, 8
CELL, GAP, PAD, LINE = 60, 4, 14, 17  # pixels
SIZE = 12  # of the letters
GROUND, INK, FAINT = (52, 52, 52), (255, 255, 255), (190, 190, 190)

STRIP = PER_DIRECTION * (CELL + GAP) - GAP
ROW = LINE + CELL + LINE + PAD


@dataclass(frozen=True, slots=True)
class Strip:
    """The `count` images of the class `truth` that were taken for `predicted`. `rows`: those to show."""

    truth: str
    predicted: str
    count: int
    rows: tuple[int, ...]

    @property
    def caption(self) -> str:
        return f"true {self.truth}, predicted {self.predicted}: {counted(self.count, 'image')}"


def strips(
    predictions: Predictions, classes: Sequence[str], pairs: Sequence[ConfusedPair]
) -> list[tuple[Strip, ...]]:
    """Return the images to show of each pair, the most confident errors first.

    A pair has a strip for each direction with errors. A single strip takes the whole row of the page.
    """
    index = {name: number for number, name in enumerate(classes)}

    def strip(truth: str, predicted: str) -> Strip:
        confused = (predictions.labels == index[truth]) & (predictions.predicted == index[predicted])
        rows = np.flatnonzero(confused)
        first = rows[np.argsort(-predictions.confidence[rows], kind="stable")[: 2 * PER_DIRECTION]]
        return Strip(truth, predicted, len(rows), tuple(first.tolist()))

    def row(pair: ConfusedPair) -> tuple[Strip, ...]:
        both = tuple(filter(lambda found: found.count, (strip(*pair.classes), strip(*pair.classes[::-1]))))
        if len(both) == 1:
            return both
        return tuple(replace(found, rows=found.rows[:PER_DIRECTION]) for found in both)

    return [row(pair) for pair in pairs[:PAIRS]]


def draw_examples(shown: Sequence[tuple[Strip, ...]], predictions: Predictions, image_of: ImageOf) -> bytes:
    """Return a PNG with a row for each pair. Below an image is the probability of the wrong class."""
    import matplotlib  # its import takes a moment

    # Pillow's own font lacks most letters of other languages.
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), SIZE)
    size = (2 * STRIP + 4 * PAD, PAD + len(shown) * ROW)
    page = Image.new("RGB", size, GROUND)
    draw = ImageDraw.Draw(page)
    for number, pair in enumerate(shown):
        for side, strip in enumerate(pair):
            left, top = PAD + side * (STRIP + 2 * PAD), PAD + number * ROW
            draw.text((left, top), _shortened(strip.caption, font), INK, font)
            for column, row in enumerate(strip.rows):
                x, y = left + column * (CELL + GAP), top + LINE
                image = _fitted(image_of(row))
                page.paste(image, (x + (CELL - image.width) // 2, y + (CELL - image.height) // 2))
                sure = f"{predictions.confidence[row]:.0%}"
                draw.text((x + CELL / 2, y + CELL + 2), sure, FAINT, font, anchor="ma")
    file = BytesIO()
    page.save(file, format="PNG")
    return file.getvalue()


def _fitted(pixels: Pixels) -> Image.Image:
    """Return an image whose longer side is a cell. Small images keep their pixels visible."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    scale = CELL / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _shortened(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Return the text as far as it fits above a strip."""
    if font.getlength(text) <= STRIP:
        return text
    while font.getlength(f"{text}…") > STRIP:
        text = text[:-1]
    return f"{text}…"
