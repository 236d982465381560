import json
from io import BytesIO

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from hpo.export.analysis.error_analysis import analyse
from hpo.export.analysis.examples import CELL, GAP, LINE, PAD, STRIP, draw_examples, strips
from hpo.export.analysis.folder import EXAMPLES, FILES, Analysed, analysis_files
from hpo.export.analysis.predictions import Predictions

Pixels = npt.NDArray[np.uint8]


def predicted(labels: list[int], answers: list[int], sure: list[float], classes: int) -> Predictions:
    probabilities = np.full((len(labels), classes), 0, dtype=np.float32)
    for row, (answer, share) in enumerate(zip(answers, sure, strict=True)):
        probabilities[row] = (1 - share) / (classes - 1)
        probabilities[row, answer] = share
    return Predictions.of(np.array(labels), probabilities)


def random_predictions(classes: int, n: int = 300) -> Predictions:
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=n)
    answers = np.where(rng.random(n) < 0.7, labels, rng.integers(classes, size=n))
    return predicted(labels.tolist(), answers.tolist(), rng.uniform(0.6, 1, n).tolist(), classes)


def names(classes: int) -> tuple[str, ...]:
    return tuple(f"class {number} $x^2 | ä" for number in range(classes))


@pytest.mark.parametrize("classes", [2, 130])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 20, 90), None], ids=["grey", "RGB", "table"])
def test_files_are_an_index_figures_and_pictures(classes: int, shape: tuple[int, ...] | None) -> None:
    def image_of(row: int) -> Pixels:
        assert shape is not None
        return np.full(shape, row % 256, dtype=np.uint8)

    predictions = random_predictions(classes)
    source = Analysed(predictions, names(classes), "mine:load", "test", image_of if shape else None)
    made = analysis_files(source)
    files, analysis = made.files, made.analysis
    assert files.keys() == (FILES if shape else FILES - {EXAMPLES})
    figures = json.loads(files["errors.json"])
    assert (figures.pop("data"), figures.pop("part")) == ("mine:load", "test")
    assert figures == json.loads(json.dumps(analysis.to_json()))
    text = files["errors.md"].decode()
    assert f"300 examples of the test part of mine:load, {analysis.errors} errors: accuracy" in text
    assert "\\|" in text  # a bar in a name does not end a cell of the table
    for name in files.keys() - {"errors.json", "errors.md"}:
        assert f"({name})" in text
        with Image.open(BytesIO(files[name])) as picture:
            assert max(picture.size) <= 1700
            picture.load()


def test_same_predictions_make_the_same_files() -> None:
    image = np.zeros((1, 8, 8), dtype=np.uint8)
    source = Analysed(random_predictions(5), tuple("abcde"), "own", "all", lambda _: image)
    made = analysis_files(source).files
    assert made == analysis_files(source).files
    assert b"300 examples of both parts of own" in made["errors.md"]


def test_without_errors_there_are_no_pairs_to_show() -> None:
    right = predicted([0, 1], [0, 1], [1, 1], 2)
    image = np.zeros((1, 8, 8), dtype=np.uint8)
    files = analysis_files(Analysed(right, ("a", "b"), "own", "train", lambda _: image)).files
    assert files.keys() == FILES - {EXAMPLES}
    assert b"2 examples of the train part of own, 0 errors" in files["errors.md"]


def test_most_confident_errors_of_each_direction_are_shown() -> None:
    predictions = predicted([0, 0, 0, 1, 1, 2], [1, 1, 0, 0, 1, 1], [0.6, 0.9, 1, 0.7, 1, 0.8], 3)
    classes = ("a", "b", "c")
    shown = strips(predictions, classes, analyse(predictions, classes).pairs)
    assert [[(strip.truth, strip.predicted, strip.count, strip.rows) for strip in row] for row in shown] == [
        [("a", "b", 2, (1, 0)), ("b", "a", 1, (3,))],
        [("c", "b", 1, (5,))],
    ]
    assert shown[0][0].caption == "true a, predicted b: 2 images"

    page_file = draw_examples(shown, predictions, lambda row: np.full((1, 28, 28), 40 * row, np.uint8))
    with Image.open(BytesIO(page_file)) as page:
        middle = PAD + LINE + CELL // 2
        left = [PAD + CELL // 2, PAD + CELL + GAP + CELL // 2, PAD + STRIP + 2 * PAD + CELL // 2]
        assert [page.getpixel((x, middle)) for x in left] == [(40, 40, 40), (0, 0, 0), (120, 120, 120)]
