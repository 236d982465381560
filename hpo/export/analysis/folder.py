"""The files of an analysis: an index in words, all figures as JSON, and pictures."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpo.errors import InputError
from hpo.export.analysis.error_analysis import ErrorAnalysis, analyse
from hpo.export.analysis.examples import ImageOf, draw_examples, strips
from hpo.export.analysis.predictions import Predictions
from hpo.export.analysis.words import in_words
from hpo.export.bundle_folder import new_folder

INDEX, FIGURES = "errors.md", "errors.json"
CONFUSION, RELIABILITY, EXAMPLES = "confusion.png", "reliability.png", "confused-pairs.png"
FILES = frozenset({INDEX, FIGURES, CONFUSION, RELIABILITY, EXAMPLES})
"""The files of an analysis. `EXAMPLES` is missing if the inputs are no images, or nothing is confused."""


def is_analysis(directory: Path) -> bool:
    """Return whether a folder holds an analysis. Raises `InputError` for any other that is not empty."""
    if not directory.exists():
        return False
    names = {path.name for path in directory.iterdir()} if directory.is_dir() else {""}
    if not names <= FILES:
        raise InputError(f"{directory}: is no folder of an analysis: choose a new folder, or one to replace")
    return bool(names)


def write_folder(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write all files of an analysis to a folder or nothing, as `new_folder` does."""
    with new_folder(directory, is_analysis) as new:
        for name, content in files.items():
            (new / name).write_bytes(content)


@dataclass(frozen=True, slots=True, eq=False)
class Analysed:
    """What is analysed: predictions for `part` of `data`. `image_of`: None if the inputs are no images."""

    predictions: Predictions
    classes: tuple[str, ...]
    data: str
    part: str
    image_of: ImageOf | None = None


@dataclass(frozen=True, slots=True, eq=False)
class AnalysisFiles:
    """An analysis, and the content of its files by their names."""

    analysis: ErrorAnalysis
    files: Mapping[str, bytes]


def analysis_files(analysed: Analysed) -> AnalysisFiles:
    """Return the analysis of at least one prediction."""
    # matplotlib takes half a second to import.
    from hpo.export.analysis.drawing import draw_confusion, draw_reliability

    predictions, classes = analysed.predictions, analysed.classes
    analysis = analyse(predictions, classes)
    pictures = {
        CONFUSION: draw_confusion(predictions.confusion(len(classes)), classes),
        RELIABILITY: draw_reliability(analysis.calibration),
    }
    if analysed.image_of is not None and analysis.pairs:
        shown = strips(predictions, classes, analysis.pairs)
        pictures[EXAMPLES] = draw_examples(shown, predictions, analysed.image_of)
    part = "both parts" if analysed.part == "all" else f"the {analysed.part} part"
    words = in_words(analysis, f"{part} of {analysed.data}", list(pictures))
    figures = {"data": analysed.data, "part": analysed.part, **analysis.to_json()}
    text = json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False)
    return AnalysisFiles(analysis, {INDEX: words.encode(), FIGURES: f"{text}\n".encode(), **pictures})
