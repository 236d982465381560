from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpo.data.dataset import DataInputError, Dataset, Labelled
from hpo.export.fit import fit, fit_dataset
from hpo.export.images import read_image
from hpo.export.model_spec import ModelSpec

CLASSES = ("0", "1")
GREY = ModelSpec("lenet", CLASSES, 1, (28, 20), (0.1,), (0.3,))
RGB = ModelSpec("lenet", CLASSES, 3, (28, 20), (0.1,) * 3, (0.3,) * 3)
TABLE = ModelSpec("mlp", CLASSES, None, None, (0.0,) * 4, (1.0,) * 4, input_shape=(4,))


def labelled(*shape: int) -> Labelled:
    pixels = np.random.default_rng(0).integers(120, size=(3, *shape), dtype=np.uint8)
    return Labelled(pixels, np.array([0, 1, 0]))


@pytest.mark.parametrize("spec", [GREY, RGB], ids=["grey network", "RGB network"])
@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (3, 40, 30), (28, 20)], ids=str)
def test_images_are_those_that_predict_reads_from_files(
    tmp_path: Path, spec: ModelSpec, shape: tuple[int, ...]
) -> None:
    given = labelled(*shape)
    fitted = fit(given, spec, "own")
    assert fitted.shape == spec.input
    assert fitted.labels is given.labels
    for image, pixels in zip(given.images, fitted.images, strict=True):
        rows = image.transpose(1, 2, 0) if image.ndim == 3 else image
        Image.fromarray(rows.squeeze()).save(tmp_path / "image.png")
        read = read_image(tmp_path / "image.png", spec).pixels
        np.testing.assert_array_equal(pixels.reshape(spec.input), read.reshape(spec.input))


def test_images_of_the_right_form_are_not_copied() -> None:
    given = labelled(28, 20)
    assert fit(given, GREY, "own") is given


def test_numbers_of_the_right_shape_stay_as_they_are() -> None:
    table = Labelled(np.zeros((2, 4), np.float32), np.array([0, 1]))
    assert fit(table, TABLE, "own") is table


@pytest.mark.parametrize(
    ("given", "spec", "message"),
    [
        (labelled(8, 8), TABLE, r"own has images of shape \(1, 8, 8\), .* takes numbers of shape \(4,\)"),
        (Labelled(np.zeros((2, 5), np.float32), np.array([0, 1])), TABLE, r"numbers of shape \(5,\)"),
        (Labelled(np.zeros((2, 1, 28, 20), np.float32), np.array([0, 1])), GREY, "takes images"),
    ],
)
def test_inputs_that_cannot_be_brought_to_the_form_are_refused(
    given: Labelled, spec: ModelSpec, message: str
) -> None:
    with pytest.raises(DataInputError, match=message):
        fit(given, spec, "own")


def test_parts_of_a_data_set_are_read_when_they_are_loaded() -> None:
    read = []

    def part(name: str) -> Labelled:
        read.append(name)
        return labelled(8, 8)

    fitted = fit_dataset(Dataset("own", CLASSES, lambda: part("train"), lambda: part("test")), GREY)
    assert read == []
    assert fitted.load_train().shape == GREY.input
    assert read == ["train"]
