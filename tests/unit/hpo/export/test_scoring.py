import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import Tensor, nn

import hpo
from hpo import models
from hpo.data import Dataset, Labelled
from hpo.data.device import DeviceImages
from hpo.errors import HpoError
from hpo.export.metrics import AnyMetrics, ClassMetrics, Metrics, Normalization, RegressionMetrics
from hpo.export.scoring import HeldOutPart, metrics, probabilities, validation_metrics
from hpo.training.classification import Classification
from hpo.training.criterion import OwnFunction
from hpo.training.regression import Regression

CLASSES = ("a", "b", "c")
MEAN, STD = (0.2,), (0.3,)
NORMALIZATION = Normalization(MEAN, STD)


def images(n: int, seed: int = 0) -> Tensor:
    return torch.randint(
        256, (n, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def lenet(classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return models.build("lenet", classes)


def one_hot(predicted: npt.NDArray[np.int64], classes: int = 3) -> npt.NDArray[np.float32]:
    return np.eye(classes, dtype=np.float32)[predicted]


class Logits(nn.Module):
    """Gives the first pixels of an image as its logits."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :3]


@st.composite
def predictions(draw: st.DrawFn) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Labels `(n,)` and probabilities `(n, 3)`."""
    n = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    skill = draw(st.sampled_from([0.0, 0.5, 1.0, 5.0]))
    labels = rng.integers(3, size=n)
    logits = rng.normal(size=(n, 3)) + skill * one_hot(labels)
    odds = np.exp(logits)
    return labels, (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


def test_probabilities_are_the_softmax_of_the_normalised_images() -> None:
    pixels = images(7)
    model = lenet()
    labelled = Labelled(pixels.numpy(), np.zeros(7, dtype=np.int64))
    batch, _ = DeviceImages.from_labelled(labelled, "cpu", MEAN, STD).batch(torch.arange(7))
    with torch.no_grad():
        expected = model.eval()(batch).softmax(-1).numpy()
    actual = probabilities(model, pixels, NORMALIZATION, "cpu")
    assert actual.dtype == np.float32
    assert np.array_equal(actual, expected)


def test_probabilities_by_hand() -> None:
    pixels = torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)  # (1, 1, 1, 3): 0, 0.2 and 1
    actual = probabilities(Logits(), pixels, Normalization((0.2,), (0.4,)), "cpu")
    odds = np.exp([-0.5, 0, 2])
    assert actual[0] == pytest.approx(odds / odds.sum(), rel=1e-6)


def test_log_probabilities_become_probabilities() -> None:
    model = nn.Sequential(lenet(), nn.LogSoftmax(-1))
    plain = probabilities(model[0], images(4), NORMALIZATION, "cpu")
    assert probabilities(model, images(4), NORMALIZATION, "cpu") == pytest.approx(plain, abs=1e-6)


def test_colour_images_are_normalised_per_channel() -> None:
    pixels = torch.tensor([51, 102, 153], dtype=torch.uint8).view(1, 3, 1, 1)
    actual = probabilities(Logits(), pixels, Normalization((0.2, 0.2, 0.2), (0.1, 0.2, 0.4)), "cpu")
    odds = np.exp([0, 1, 1])
    assert actual[0] == pytest.approx(odds / odds.sum(), rel=1e-5)


@pytest.mark.parametrize("n", [0, 1, 4, 10])
def test_neither_dropout_nor_batches_change_probabilities(n: int) -> None:
    model = lenet().train()
    whole = probabilities(model, images(n), NORMALIZATION, "cpu")
    parts = probabilities(model, images(n), NORMALIZATION, "cpu", batch_size=4)
    assert whole.shape == (n, 5)
    assert parts == pytest.approx(whole, abs=1e-6)
    assert not model.training


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_diverged_network_is_refused(value: float) -> None:
    model = lenet()
    with torch.no_grad():
        next(model.parameters())[0] = value
    with pytest.raises(HpoError, match="NaN or infinity"):
        probabilities(model, images(2), NORMALIZATION, "cpu")


def test_metrics_by_hand() -> None:
    # True a: predicted a, a, b. True b: predicted b, c. True c: predicted a.
    labels = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 1, 1, 2, 0])
    of_predicted, of_other = 0.5, 0.25
    given_ = np.where(one_hot(predicted) == 1, of_predicted, of_other).astype(np.float32)
    actual = metrics(labels, given_, CLASSES)

    assert actual.n == 6
    assert actual.accuracy == 3 / 6
    assert actual.confusion == ((2, 1, 0), (0, 1, 1), (1, 0, 0))
    rows = [(m.name, m.precision, m.recall, m.f1, m.support) for m in actual.per_class]
    assert rows == [("a", 2 / 3, 2 / 3, 2 / 3, 3), ("b", 1 / 2, 1 / 2, 1 / 2, 2), ("c", 0, 0, 0, 1)]
    assert actual.loss == pytest.approx(-(3 * math.log(of_predicted) + 3 * math.log(of_other)) / 6)
    for macro in (actual.macro_precision, actual.macro_recall, actual.macro_f1):
        assert macro == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    for weighted in (actual.weighted_precision, actual.weighted_recall, actual.weighted_f1):
        assert weighted == pytest.approx((3 * 2 / 3 + 2 * 1 / 2 + 1 * 0) / 6)


@given(st.integers(1, 500), st.data())
@settings(max_examples=50)
def test_interval_is_the_closed_form_of_wilson(n: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, n))
    labels = np.zeros(n, dtype=np.int64)
    actual = metrics(labels, one_hot((np.arange(n) >= correct).astype(np.int64)), CLASSES)
    z, p = 1.959963984540054, correct / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert actual.accuracy_interval == pytest.approx((middle - half, middle + half), abs=1e-12)


def test_metrics_of_a_perfect_classifier() -> None:
    labels = np.array([0, 1, 2, 2])
    actual = metrics(labels, one_hot(labels), CLASSES)
    summary = dataclasses.asdict(actual)
    assert {summary[f"{mean}_{rate}"] for mean in ("weighted", "macro") for rate in ("precision", "f1")} == {
        1
    }
    assert (actual.accuracy, actual.loss) == (1, 0)
    assert actual.accuracy_interval[1] == 1
    assert actual.confusion == ((1, 0, 0), (0, 1, 0), (0, 0, 2))


def test_metrics_of_a_classifier_that_is_always_wrong() -> None:
    labels = np.array([0, 1, 2, 2])
    actual = metrics(labels, one_hot((labels + 1) % 3), CLASSES)
    assert (actual.accuracy, actual.weighted_f1, actual.macro_recall) == (0, 0, 0)
    assert actual.accuracy_interval[0] == 0
    # It gave the truth no probability at all: the loss is that of the smallest normal float32.
    assert actual.loss == pytest.approx(126 * math.log(2))


def test_loss_of_a_uniform_classifier_is_the_logarithm_of_the_classes() -> None:
    uniform = np.full((10, 3), 1 / 3, dtype=np.float32)
    assert metrics(np.arange(10) % 3, uniform, CLASSES).loss == pytest.approx(math.log(3))


def test_class_without_examples_counts_in_the_macro_mean() -> None:
    labels = np.array([0, 1])
    actual = metrics(labels, one_hot(labels), CLASSES)
    assert actual.macro_f1 == pytest.approx(2 / 3)
    assert actual.weighted_f1 == 1
    assert actual.per_class[2] == ClassMetrics("c", 0, 0, 0, 0)


@given(predictions())
@settings(max_examples=50)
def test_metrics_are_consistent(case: tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]) -> None:
    labels, given_ = case
    actual = metrics(labels, given_, CLASSES)
    low, high = actual.accuracy_interval
    assert 0 <= low <= actual.accuracy <= high <= 1
    assert actual.weighted_recall == pytest.approx(actual.accuracy)
    confusion = np.array(actual.confusion)
    assert confusion.sum() == actual.n == len(labels)
    assert confusion.trace() / actual.n == actual.accuracy
    assert confusion.sum(axis=1).tolist() == [m.support for m in actual.per_class]
    assert actual.loss >= 0

    order = np.random.default_rng(0).permutation(len(labels))
    shuffled = metrics(labels[order], given_[order], CLASSES)
    assert dataclasses.replace(shuffled, loss=actual.loss) == actual
    assert shuffled.loss == pytest.approx(actual.loss)

    plain = actual.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_wrong_number_of_classes_is_refused() -> None:
    with pytest.raises(HpoError, match=r"shape \(2, 4\): 2 labels and 3 classes need \(2, 3\)"):
        metrics(np.array([0, 1]), one_hot(np.array([0, 1]), classes=4), CLASSES)


@pytest.mark.parametrize("grey", [True, False])
def test_test_metrics_use_the_test_images_only(grey: bool) -> None:
    pixels = images(12)
    labels = np.arange(12) % 5
    test = Labelled(pixels.squeeze(1).numpy() if grey else pixels.expand(-1, 3, -1, -1).numpy(), labels)

    def no_train() -> Labelled:
        raise AssertionError("the training part was read")

    dataset = Dataset("own", tuple("abcde"), no_train, lambda: test)
    torch.manual_seed(0)
    channels = 1 if grey else 3
    model = models.build("lenet", 5, channels)
    normalization = Normalization(MEAN * channels, STD * channels)
    score = HeldOutPart(dataset).score(model, normalization, "cpu", Classification(5))
    expected = probabilities(model, pixels.expand(-1, channels, -1, -1), normalization, "cpu")
    assert score.metrics == metrics(labels, expected, tuple("abcde"))
    assert score.evaluation is not None
    assert np.array_equal(score.evaluation.probabilities, expected)
    assert np.array_equal(score.evaluation.labels, labels)


def test_validation_metrics_are_those_of_the_test_part_by_the_names_of_an_epoch() -> None:
    pixels, labels = images(12), np.arange(12) % 5
    part = Labelled(pixels.squeeze(1).numpy(), labels)
    dataset = Dataset("own", tuple("abcde"), lambda: part, lambda: part)
    nothing = OwnFunction("model.metrics.own", "own:nothing", lambda _outputs, _targets: math.nan)
    criterion = Classification(5, own_metrics={"nothing": nothing})
    model = lenet()
    test = HeldOutPart(dataset).score(model, NORMALIZATION, "cpu", Classification(5)).metrics
    assert isinstance(test, Metrics)
    validated = validation_metrics(part, model, NORMALIZATION, "cpu", criterion)
    assert validated["validation_loss"] == pytest.approx(test.loss, rel=1e-6)
    assert validated["validation_accuracy"] == test.accuracy
    assert "validation_nothing" not in validated


def test_no_other_module_reads_test_images() -> None:
    package = Path(hpo.__file__).parent
    # examples.py is for `hpo evaluate`, which a user asks for. fit.py scales images that scoring.py loads.
    assert readers_of_test_images(package) == {"scoring.py", "examples.py", "fit.py"}
    # own.py checks what a user's function returns, arrays.py hashes and writes it.
    assert readers_of_test_images(package / "data") == {"dataset.py", "own.py", "arrays.py"}


def readers_of_test_images(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.py") if "load_test" in path.read_text(encoding="utf-8")}


@pytest.mark.parametrize("target", [(), (2,)])
def test_regression_is_measured_on_the_test_part(target: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(40, 3)).astype(np.float32)
    targets = rng.normal(size=(40, *target)).astype(np.float32)
    test = Labelled(inputs, targets)
    dataset = Dataset("own", None, lambda: test, lambda: test)
    torch.manual_seed(0)
    model = nn.Linear(3, target[0] if target else 1)
    worst = OwnFunction(
        "model.metrics.own", "own:worst", lambda outputs, targets: (outputs - targets).abs().max()
    )
    nothing = OwnFunction("model.metrics.own", "own:nothing", lambda _outputs, _targets: math.inf)
    criterion = Regression(target, own_metrics={"worst": worst, "nothing": nothing})
    score = HeldOutPart(dataset).score(model, Normalization((0.0,) * 3, (1.0,) * 3), "cpu", criterion)
    actual = score.metrics
    assert isinstance(actual, RegressionMetrics)
    assert score.evaluation is None
    with torch.no_grad():
        errors = model(torch.from_numpy(inputs)).numpy().reshape(targets.shape) - targets
    assert actual.n == 40
    assert actual.rmse == pytest.approx(math.sqrt(np.square(errors).mean()), rel=1e-5)
    assert actual.mae == pytest.approx(np.abs(errors).mean(), rel=1e-5)
    assert actual.own == {"worst": pytest.approx(np.abs(errors).max()), "nothing": None}
    assert actual.describe().startswith(f"RMSE {actual.rmse:.4f} ± ")
    assert actual.describe().endswith(f"(n = 40), worst {actual.own['worst']:.4f}, nothing -")
    assert TypeAdapter(AnyMetrics).validate_python(actual.to_json()) == actual


def test_own_loss_and_metrics_of_classes_are_measured_on_the_test_part() -> None:
    pixels, labels = images(12), np.arange(12) % 5
    test = Labelled(pixels.squeeze(1).numpy(), labels)
    dataset = Dataset("own", tuple("abcde"), lambda: test, lambda: test)
    halves = OwnFunction(
        "model.loss", "own:halves", lambda outputs, _targets: torch.full((len(outputs),), 0.5)
    )
    count = OwnFunction("model.metrics.own", "own:count", lambda outputs, _targets: len(outputs))
    criterion = Classification(5, own_loss=halves, own_metrics={"count": count})
    part = HeldOutPart(dataset)
    actual = part.score(lenet(), NORMALIZATION, "cpu", criterion).metrics
    plain = part.score(lenet(), NORMALIZATION, "cpu", Classification(5)).metrics
    assert isinstance(plain, Metrics)
    assert actual == dataclasses.replace(plain, loss=0.5, own={"count": 12.0})
    assert TypeAdapter(AnyMetrics).validate_python(actual.to_json()) == actual
