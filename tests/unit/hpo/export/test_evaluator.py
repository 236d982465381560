import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from hpo import models
from hpo.data import Dataset, Labelled
from hpo.errors import InputError
from hpo.export import examples
from hpo.export.analysis.predictions import Predictions
from hpo.export.bundle import Bundle, BundleContents, open_bundle, write_bundle
from hpo.export.evaluator import check_device, measure
from hpo.export.examples import Examples
from hpo.export.metrics import Metrics, RegressionMetrics
from hpo.export.model_spec import ModelSpec
from hpo.export.scoring import metrics, metrics_of

CLASSES = ("a", "b", "c")
GREY = ModelSpec("lenet", CLASSES, 1, (28, 28), (0.5,), (0.3,))
UNTESTED = metrics(np.array([0, 1, 2]), np.eye(3, dtype=np.float32), CLASSES)
NUMBERS = RegressionMetrics(1, 0, 0, 0, 0, 0, 0, 0, 0)


def bundle_of(folder: Path, spec: ModelSpec = GREY, provenance: Mapping[str, Any] | None = None) -> Bundle:
    torch.manual_seed(0)
    if spec.classes:
        network = models.build_with(spec.name, spec.shape.keywords, spec.input)
        tested: Metrics | RegressionMetrics = UNTESTED
    else:
        network, tested = nn.Linear(3, 1), NUMBERS
    write_bundle(folder, BundleContents(spec, network.state_dict(), {}, tested, provenance or {}))
    return open_bundle(folder)


def images(count: int, *shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(count).integers(256, size=(count, *shape), dtype=np.uint8)


def dataset(
    classes: tuple[str, ...] | None, train: Labelled, test: Labelled | None = None, name: str = "mine:load"
) -> Dataset:
    return Dataset(name, classes, lambda: train, lambda: test or train)


def labelled(count: int, classes: int = 3, shape: tuple[int, ...] = (28, 28)) -> Labelled:
    return Labelled(images(count, *shape), np.arange(count) % classes)


def test_metrics_are_those_of_the_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, part = bundle_of(tmp_path / "bundle"), labelled(20)
    expected = metrics(part.labels.astype(np.int64), bundle.predict(part.images), CLASSES)
    whole = Examples.of(bundle.spec, dataset(CLASSES, part), "test")
    assert measure(bundle, whole, "cpu").metrics == expected

    monkeypatch.setattr(examples, "CHUNK", 7)
    told = list[int]()
    measured = measure(bundle, whole, "cpu", told.append)
    assert told == [7, 7, 6]
    assert isinstance(measured.metrics, Metrics)
    assert replace(measured.metrics, loss=expected.loss) == expected
    assert measured.metrics.loss == pytest.approx(expected.loss)
    assert measured.predictions is not None
    assert np.array_equal(measured.predictions.labels, part.labels)


def test_parts_come_one_after_the_other(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path / "bundle")
    train, test = labelled(5), labelled(4)
    data = dataset(CLASSES, train, test)
    sizes = {part: len(Examples.of(bundle.spec, data, part)) for part in ("train", "test", "all")}
    assert sizes == {"train": 5, "test": 4, "all": 9}
    both = Examples.of(bundle.spec, data, "all")
    (first, labels), (second, _) = both.chunks()
    assert np.array_equal(first.numpy()[:, 0], train.images)
    assert np.array_equal(second.numpy()[:, 0], test.images)
    assert np.array_equal(labels.numpy(), train.labels)
    assert np.array_equal(both.image_of(4), train.images[4][None])
    assert np.array_equal(both.image_of(5), test.images[0][None])
    with pytest.raises(IndexError):
        both.image_of(9)


def test_other_part_is_not_read(tmp_path: Path) -> None:
    def unread() -> Labelled:
        raise AssertionError("read")

    part = labelled(3)
    Examples.of(GREY, Dataset("mine:load", CLASSES, lambda: part, unread), "train")
    Examples.of(GREY, Dataset("mine:load", CLASSES, unread, lambda: part), "test")


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    bundle, part = bundle_of(tmp_path / "bundle"), labelled(20, classes=2)
    given = Examples.of(bundle.spec, dataset(("c", "a"), part), "test")
    measured = measure(bundle, given, "cpu")
    expected = metrics(np.array([2, 0])[part.labels], bundle.predict(part.images), CLASSES)
    assert measured.metrics == expected
    assert isinstance(measured.metrics, Metrics)
    assert [row.support for row in measured.metrics.per_class] == [10, 0, 10]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            ("a", "x"),
            "mine:load: has 1 of 2 classes that the model lacks: 'x'; the model knows 'a', 'b', 'c'",
        ),
        (
            tuple("abcdefghij"),
            "has 7 of 10 classes that the model lacks: 'd', 'e', 'f', 'g', 'h' and 2 more;",
        ),
        (None, "mine:load: has numbers, and the model predicts classes"),
    ],
)
def test_other_classes_are_refused(classes: tuple[str, ...] | None, message: str) -> None:
    part = labelled(4) if classes else Labelled(images(4, 28, 28), np.zeros(4, dtype=np.float32))
    with pytest.raises(InputError) as caught:
        Examples.of(GREY, dataset(classes, part), "test")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(20, 30), (3, 28, 28)], ids=["other size", "RGB"])
def test_images_are_brought_to_the_form_of_the_model(tmp_path: Path, shape: tuple[int, ...]) -> None:
    bundle, part = bundle_of(tmp_path / "bundle"), labelled(6, shape=shape)
    given = Examples.of(bundle.spec, dataset(CLASSES, part), "test")
    assert given.are_scaled
    ((inputs, _),) = given.chunks()
    assert inputs.shape == (6, 1, 28, 28)
    assert inputs.dtype == torch.uint8
    assert np.array_equal(given.image_of(2).reshape(shape), part.images[2])
    assert measure(bundle, given, "cpu").metrics.n == 6


def table(count: int, features: int, targets: npt.NDArray[Any] | None = None) -> Labelled:
    inputs = np.random.default_rng(0).normal(size=(count, features)).astype(np.float32)
    return Labelled(inputs, np.arange(count) % 3 if targets is None else targets)


TABLE = ModelSpec("lenet", CLASSES, None, None, (0.0,) * 3, (1.0,) * 3, input_shape=(3,))
REGRESSION = replace(TABLE, name="own_evaluated:Net", classes=(), target_shape=())


@pytest.mark.parametrize(
    ("spec", "classes", "part", "message"),
    [
        (GREY, CLASSES, table(4, 3), "has numbers, and the model takes images"),
        (TABLE, CLASSES, labelled(4), "has images, and the model takes numbers"),
        (TABLE, CLASSES, table(4, 5), r"inputs have shape \(5,\), and the model takes \(3,\)"),
        (REGRESSION, CLASSES, table(4, 3), "has classes, and the model predicts numbers"),
        (
            REGRESSION,
            None,
            table(4, 3, np.zeros((4, 2), dtype=np.float32)),
            r"targets have shape \(2,\), and the model predicts \(\)",
        ),
    ],
)
def test_other_inputs_and_targets_are_refused(
    spec: ModelSpec, classes: tuple[str, ...] | None, part: Labelled, message: str
) -> None:
    with pytest.raises(InputError, match=f"mine:load: {message}"):
        Examples.of(spec, dataset(classes, part), "test")


OWN = """
import torch
from torch import nn

class Net(nn.Linear):
    def __init__(self, in_features, outputs):
        super().__init__(in_features, outputs)

def halves(outputs, targets):
    return torch.full((len(outputs),), 0.5)

def count(outputs, targets):
    return len(outputs)

def breaks(outputs, targets):
    raise ValueError("too few")
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_evaluated.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_evaluated", raising=False)
    return "own_evaluated"


def model_section(**keys: Any) -> Mapping[str, Any]:
    return {"model": {"name": "lenet", **keys}}


def test_own_loss_and_metrics_are_those_of_the_study(
    tmp_path: Path, own_module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = model_section(loss="own_evaluated:halves", metrics={"count": "own_evaluated:count"})
    bundle, part = bundle_of(tmp_path / "bundle", provenance={"spec": section}), labelled(20)
    monkeypatch.setattr(examples, "CHUNK", 6)
    measured = measure(bundle, Examples.of(GREY, dataset(CLASSES, part), "test"), "cpu").metrics
    assert (measured.loss, measured.own) == (0.5, {"count": 20.0})

    bundle = bundle_of(tmp_path / "other", provenance={"spec": model_section(loss="own_evaluated:gone")})
    with pytest.raises(InputError, match=r"/other: own_evaluated:gone: own_evaluated has no gone$"):
        measure(bundle, Examples.of(GREY, dataset(CLASSES, part), "test"), "cpu")


def test_error_in_own_code_is_one_line_with_its_place(tmp_path: Path, own_module: str) -> None:
    section = model_section(metrics={"worst": "own_evaluated:breaks"})
    bundle = bundle_of(tmp_path / "bundle", provenance={"spec": section})
    message = r"/bundle: own_evaluated:breaks raised ValueError at own_evaluated\.py:\d+: too few$"
    with pytest.raises(InputError, match=message):
        measure(bundle, Examples.of(GREY, dataset(CLASSES, labelled(4)), "test"), "cpu")


def test_regression_is_measured(tmp_path: Path, own_module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundle_of(tmp_path / "bundle", REGRESSION)
    part = table(20, 3, np.random.default_rng(1).normal(size=20).astype(np.float32))
    monkeypatch.setattr(examples, "CHUNK", 6)
    measured = measure(bundle, Examples.of(REGRESSION, dataset(None, part), "test"), "cpu")
    errors = bundle.predict(part.images) - part.labels
    assert isinstance(measured.metrics, RegressionMetrics)
    assert measured.predictions is None
    assert measured.metrics.n == 20
    assert measured.metrics.rmse == pytest.approx(math.sqrt(np.square(errors).mean()), rel=1e-5)


def test_unusable_device_is_refused_in_one_line() -> None:
    check_device("cpu")
    for name in ("tpu-9", "cuda:99"):
        with pytest.raises(InputError, match=f"device '{name}': ") as caught:
            check_device(name)
        assert "\n" not in str(caught.value)


def test_metrics_of_predictions_are_those_of_probabilities() -> None:
    rng = np.random.default_rng(0)
    labels, given = rng.integers(3, size=50), rng.dirichlet(np.ones(3), 50).astype(np.float32)
    halves = [Predictions.of(labels[rows], given[rows]) for rows in (slice(20), slice(20, None))]
    assert metrics_of(Predictions.join(halves), CLASSES) == metrics(labels, given, CLASSES)
