"""A contact sheet: the first images of each class on one page, to check labels by eye."""

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hpo.data.dataset import Labelled

CELL, GAP, PAD = 56, 4, 8  # pixels


def contact_sheet(labelled: Labelled, classes: tuple[str, ...], path: Path, per_class: int = 10) -> None:
    """Write a PNG with a row per class: its name, then its first `per_class` images, unprocessed."""
    step = CELL + GAP
    font = ImageFont.load_default()
    labels_end = 2 * PAD + math.ceil(max(font.getlength(name) for name in classes))
    sheet = Image.new("RGB", (labels_end + per_class * step, len(classes) * step), "dimgrey")
    draw = ImageDraw.Draw(sheet)
    for row, name in enumerate(classes):
        draw.text((PAD, row * step + CELL / 2), name, font=font, anchor="lm")
        for column, index in enumerate(np.flatnonzero(labelled.labels == row)[:per_class]):
            pixels = labelled.images[index].reshape(labelled.channels, *labelled.size)  # (C, H, W)
            image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
            cell = image.resize((CELL, CELL), Image.Resampling.NEAREST)
            sheet.paste(cell, (labels_end + column * step, row * step))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, format="PNG")
