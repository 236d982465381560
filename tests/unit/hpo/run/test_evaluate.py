import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hpo import models
from hpo.data import open_dataset
from hpo.errors import InputError, NotFoundError
from hpo.export.bundle import BundleContents, write_bundle
from hpo.export.function_bundle import FunctionContents, FunctionSpec, write_function_bundle
from hpo.export.metrics import Metrics
from hpo.export.model_spec import ModelSpec
from hpo.export.scoring import metrics
from hpo.run.evaluate import EvaluationRequest, Part, evaluate, evaluate_bundle

DIGITS = tuple("0123456789")
NOTHING = metrics(np.arange(10), np.eye(10, dtype=np.float32), DIGITS)
TRAIN = open_dataset("digits", Path("nowhere")).load_train().sha256()
ORIGIN: Mapping[str, Any] = {"data": "digits", "data_sha256": TRAIN}

OWN_DATA = """
import numpy as np

def load():
    images = np.zeros((6, 20, 20), dtype=np.uint8)
    labels = np.arange(6) % 2
    return images, labels, images[:4], labels[:4], ["3", "7"]
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep arrays in the folder of the test, which is the current directory."""
    monkeypatch.setenv("HPO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def bundle(provenance: Mapping[str, Any] = ORIGIN, classes: tuple[str, ...] = DIGITS) -> Path:
    torch.manual_seed(0)
    spec = ModelSpec("lenet", classes, 1, (28, 28), (0.5,), (0.3,))
    weights = models.build("lenet", len(classes), 1).state_dict()
    write_bundle(Path("bundle"), BundleContents(spec, weights, {}, NOTHING, provenance))
    return Path("bundle")


def notes(provenance: Mapping[str, Any] = ORIGIN, part: Part = "test", data: str | None = None) -> list[str]:
    return list(evaluate_bundle(bundle(provenance), data, part).notes)


def test_default_is_the_test_part_of_the_data_of_the_study() -> None:
    folder = bundle()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = list[tuple[int, int]]()
    found = evaluate(EvaluationRequest(folder), lambda advance, total: done.append((advance, total)))
    test = open_dataset("digits", Path("nowhere")).load_test()
    assert (found.data, found.part, done) == ("digits", "test", [(360, 360)])
    assert found.metrics == metrics(test.labels.astype(np.int64), found.bundle.predict(test.images), DIGITS)
    assert np.array_equal(found.analysed().image_of(3)[0], test.images[3])  # type: ignore[misc]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_reading_the_test_part_is_said() -> None:
    read = "the test part of digits is read once more; choose nothing by it"
    trained = "the model was trained on examples of the train part of digits"
    assert notes() == [read]
    assert notes(part="train") == [trained]
    assert notes(part="all") == [read, trained]
    assert notes({**ORIGIN, "test_reads": [{}, {}]}) == [
        "the test part of digits is read once more (the bundle's study had scored 2 models on it); "
        "choose nothing by it"
    ]
    assert notes({"data": "digits", "data_sha256": "other"}) == [
        "digits: the training examples are others than those of the bundle's study",
        read,
    ]
    assert notes({"data": "mnist", "data_sha256": TRAIN}, data="digits") == [read]
    assert notes({}, data="digits") == []


def test_own_data_with_fewer_classes_and_other_images() -> None:
    Path("evaluated_data.py").write_text(OWN_DATA)
    found = evaluate_bundle(bundle(), "evaluated_data:load", "all")
    assert isinstance(found.metrics, Metrics)
    assert found.metrics.n == 10
    assert [row.name for row in found.metrics.per_class if row.support] == ["3", "7"]
    assert list(found.notes) == [
        "evaluated_data:load has 2 of the 10 classes of the model; macro means count the others as 0",
        "images are scaled to the 28x28 of the model",
    ]


@pytest.mark.parametrize(
    ("provenance", "data", "message"),
    [
        ({}, None, "bundle: its provenance names no data set; give --data"),
        ({}, "digit", "no data set 'digit': did you mean digits"),
        (ORIGIN, "mnist", "has no train-images-idx3-ubyte: run `hpo data fetch mnist`"),
    ],
)
def test_missing_data_are_named(
    provenance: Mapping[str, Any], data: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPO_DATA_DIR", "nowhere")
    with pytest.raises(Exception, match=message) as caught:
        evaluate_bundle(bundle(provenance), data)
    assert "\n" not in str(caught.value)


def test_other_classes_are_refused() -> None:
    with pytest.raises(InputError, match="digits: has 9 of 10 classes that the model lacks: '1', '2', "):
        evaluate_bundle(bundle(classes=("0", "a")))


def test_other_folders_are_refused() -> None:
    with pytest.raises(NotFoundError, match="nowhere: no such folder"):
        evaluate_bundle("nowhere")
    spec = FunctionSpec("train:fit", seed=0, epochs=1, kept_epoch=1)
    write_function_bundle(Path("function"), FunctionContents(spec, {}, {}, {}, {}))
    with pytest.raises(InputError, match="function: the bundle of a training function has no network to"):
        evaluate_bundle("function")
    (bundle() / "metrics.json").write_text(json.dumps({}))
    with pytest.raises(InputError, match=r"metrics.json: n: Field required"):
        evaluate_bundle("bundle")
