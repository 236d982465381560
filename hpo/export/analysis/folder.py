"""The files of an analysis: an index in words, all figures as JSON, and pictures."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.export.analysis.error_analysis import ErrorAnalysis, analyse
from hpo.export.analysis.examples import ImageOf, draw_examples, strips
from hpo.export.analysis.predictions import Predictions
from hpo.export.analysis.words import in_words

INDEX, FIGURES = "errors.md", "errors.json"
CONFUSION, RELIABILITY, EXAMPLES = "confusion.png", "reliability.png", "confused-pairs.png"
FILES = frozenset({INDEX, FIGURES, CONFUSION, RELIABILITY, EXAMPLES})
"""The files of an analysis. `EXAMPLES` is missing if the inputs are no images, or nothing is confused."""


@dataclass(frozen=True, slots=True, eq=False)
class Analysed:
    """What is analysed: predictions for `part` of `data`. `image_of`: None if the inputs are no images."""

    predictions: Predictions
    classes: tuple[str, ...]
    data: str
    part: str
    image_of: ImageOf | None = None


def write_analysis(directory: Path, analysed: Analysed) -> ErrorAnalysis:
    """Write the files of an analysis to the folder `directory`, which exists. Return the analysis."""
    # matplotlib takes half a second to import.
    from hpo.export.analysis.drawing import draw_confusion, draw_reliability

    predictions, classes = analysed.predictions, analysed.classes
    analysis = analyse(predictions, classes)
    draw_confusion(predictions.confusion(len(classes)), classes, directory / CONFUSION)
    draw_reliability(analysis.calibration, directory / RELIABILITY)
    pictures = [CONFUSION, RELIABILITY]
    if analysed.image_of is not None and analysis.pairs:
        shown = strips(predictions, classes, analysis.pairs)
        draw_examples(shown, predictions, analysed.image_of, directory / EXAMPLES)
        pictures.append(EXAMPLES)
    parts = "all examples" if analysed.part == "all" else f"the {analysed.part} part"
    _write(directory / INDEX, in_words(analysis, f"{parts} of {analysed.data}", pictures))
    figures: dict[str, Any] = {"data": analysed.data, "part": analysed.part, **analysis.to_json()}
    text = json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False)
    _write(directory / FIGURES, f"{text}\n")
    return analysis


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
