"""Studies of tables, series and numbers: what is refused at creation, and what a network gets."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.workloads import checked_workload

from hpo.errors import InputError
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.training.workload import Workload
from hpo.values.data_shape import DataShape

SOURCE = """
import numpy as np
import torch
from torch import nn

rng = np.random.default_rng(0)
rows = rng.normal(5, 3, (120, 4))
rows[:, 3] = 7
series = rng.normal(size=(120, 2, 9))
photos = rng.random((120, 1, 8, 8))
pixels = (photos * 255).astype(np.uint8)
labels = np.arange(120) % 3
names = ["a", "b", "c"]

def split(inputs, targets, *rest): return inputs[:100], targets[:100], inputs[100:], targets[100:], *rest
def numbers(): return split(rows, rows[:, 0])
def pairs(): return split(rows, rows[:, :2])
def classes(): return split(rows, labels, names)
def equal(): return split(rows, rows[:, 3])
def floats(): return split(photos, labels, names)
def ages(): return split(pixels, rows[:, 0])
def waves(): return split(series, labels, names)
def same(): return split(rows * 0, rows[:, 0])

class Net(nn.Module):
    def __init__(self, width=4, **keywords):
        super().__init__()
        self.keywords = keywords
        outputs = keywords.get("outputs", keywords.get("classes"))
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.ReLU(), nn.Linear(width, outputs))

    def forward(self, inputs):
        return self.layers(inputs)

class Table(nn.Linear):
    def __init__(self, in_features, outputs):
        super().__init__(in_features, outputs)

class Wide(nn.Linear):
    def __init__(self, in_features, outputs):
        super().__init__(in_features, outputs + 1)

def absolute(outputs, targets): return (outputs - targets).abs()
def mean(outputs, targets): return absolute(outputs, targets).mean()
def worst(outputs, targets): return absolute(outputs, targets).max()
def shifted(outputs, targets): return targets.add_(1).mean()
def broken(outputs, targets): return outputs.nothing
def certainty(outputs, targets): return outputs.softmax(1).max()
def misses(outputs, targets): return (outputs > targets).long()
def detached(outputs, targets): return absolute(outputs, targets).detach()
"""


def raw(**changes: object) -> dict[str, object]:
    """Return a study of numbers in a table."""
    study: dict[str, object] = {
        "name": "table",
        "model": {"name": "own_tables:Net"},
        "data": {"name": "own_tables:numbers", "mini": 0.5, "validation": 0.4},
        "space": {"lr": [0.01], "batch_size": [8]},
        "search": {"trials": 1, "epochs": 1},
        "full": {"pretrain": {"epochs": 1}, "finetune": {"epochs": 1}},
    }
    for key, value in changes.items():
        section = study.get(key)
        study[key] = {**section, **value} if isinstance(section, dict) and isinstance(value, dict) else value
    return study


@pytest.fixture(autouse=True)
def _own_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_tables.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_tables", raising=False)


def checked(tmp_path: Path, **changes: object) -> Workload:
    return checked_workload(StudySpec.parse(raw(**changes), "my.toml"), Settings(home=tmp_path), "my.toml")


def data(function: str, **keys: object) -> dict[str, object]:
    return {"name": f"own_tables:{function}", **keys}


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        ("numbers", DataShape((4,), None, ())),
        ("pairs", DataShape((4,), None, (2,))),
        ("classes", DataShape((4,), 3)),
        ("floats", DataShape((1, 8, 8), 3)),
        ("ages", DataShape((1, 8, 8), None)),
        ("waves", DataShape((2, 9), 3)),
    ],
)
def test_network_gets_the_keywords_of_the_data(tmp_path: Path, function: str, shape: DataShape) -> None:
    workload = checked(tmp_path, data=data(function))
    assert workload.shape == shape
    network = workload.factory()
    assert network.keywords == shape.keywords
    train, validation = workload.images("search", "cpu")
    assert len(train) + len(validation) == 50
    batch, _ = train.batch(torch.arange(4))
    assert batch.shape == (4, *shape.input)


def test_features_are_standardised_by_the_training_part(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workload = checked(tmp_path)
    rows = workload.train.images.astype(np.float64)
    np.testing.assert_allclose(workload.mean, rows.mean(0))
    np.testing.assert_allclose(workload.std, [*rows.std(0)[:3], 1])
    assert caplog.messages == ["own_tables:numbers: feature 3 has one value in all training examples"]
    batch, _ = workload.images("full", "cpu")[0].batch(torch.arange(50))
    assert (batch[:, 3] == 0).all()
    given = checked(tmp_path, data={"mean": [1.0, 2.0, 3.0, -4.0], "std": [1.0, 1.0, 1.0, 2.0]})
    assert given.mean == (1, 2, 3, -4)


MISTAKES: dict[str, tuple[dict[str, object], str]] = {
    "too few numbers": (
        {"data": data("numbers", mini=0.05)},
        "data.mini = 0.05: the training part has 100 examples: with mini = 0.05 and validation = 0.4 it "
        "needs 120; set mini to 0.06 or more, or add examples",
    ),
    "equal targets": (
        {"data": data("equal")},
        'data.name = "own_tables:equal": all training targets are equal, there is nothing to learn',
    ),
    "equal inputs": (
        {"data": data("same")},
        'data.name = "own_tables:same": all training examples are equal, there is nothing to learn',
    ),
    "means of other features": (
        {"data": {"mean": [1.0], "std": [1.0]}},
        "data.mean = [1.0]: the examples have 4 features",
    ),
    "mean of unscaled pixels": (
        {"data": data("ages", mean=44.0, std=1.0)},
        "data.mean = 44.0: means of images are those of pixels / 255, from 0.0 to 1.0",
    ),
    "metric of classes": (
        {"objective": {"metric": "accuracy"}},
        'objective.metric = "accuracy": is not measured, because the targets are numbers: must be one of '
        "loss, rmse, mae, r2",
    ),
    "metric of numbers": (
        {"data": data("classes"), "promotion": {"metric": "mae"}},
        'promotion.metric = "mae": is not measured, because the targets are classes: must be one of loss, '
        "accuracy, macro_f1, balanced_accuracy",
    ),
    "augmentation of a table": (
        {"full": {"augment": {"rotation": 3}}},
        "full.augment: the inputs are no images (N, C, H, W), which augmentation needs; leave the section",
    ),
    "searched augmentation of a table": (
        {"space": {"shift": [0.1]}},
        "space.shift: the inputs are no images (N, C, H, W), which augmentation needs; leave the key out",
    ),
    "shifts of a table": (
        {"export": {"shifts": 1}},
        "export.shifts = 1: the inputs are no images of bytes, which can be shifted; leave the key out",
    ),
    "shifts of float images": (
        {"data": data("floats"), "export": {"shifts": 1}},
        "export.shifts = 1: the inputs are no images of bytes, which can be shifted; leave the key out",
    ),
    "label smoothing of numbers": (
        {"space": {"label_smoothing": [0.1]}},
        "space.label_smoothing: changes the cross entropy of classes, and the study has another loss; leave",
    ),
    "class weights with an own loss": (
        {
            "data": data("classes"),
            "model": {"loss": "own_tables:absolute"},
            "space": {"class_weights": ["balanced"]},
        },
        "space.class_weights: changes the cross entropy of classes, and the study has another loss; leave",
    ),
    "keyword of the data": (
        {"space": {"model.outputs": [3]}},
        "space.model.outputs: the data decide this keyword of the network",
    ),
    "network of images": (
        {"model": {"name": "lenet"}},
        "model.name = \"lenet\": model 'lenet' must be buildable as LeNet(outputs=1, in_features=4): ",
    ),
    "other outputs": (
        {"model": {"name": "own_tables:Wide"}},
        "model.name = \"own_tables:Wide\": model 'own_tables:Wide' gives (2, 2) for 2 inputs; it must give "
        "(2,) or (2, 1)",
    ),
    "missing loss": (
        {"model": {"loss": "own_tables:none"}},
        'model.loss = "own_tables:none": own_tables:none: own_tables has no none',
    ),
    "mean as a loss": (
        {"model": {"loss": "own_tables:mean"}, "space": {"model.width": [4]}},
        'model.loss = "own_tables:mean": gives () for 2 examples; it must give (2,), the loss of each',
    ),
    "whole numbers as losses": (
        {"model": {"loss": "own_tables:misses"}},
        'model.loss = "own_tables:misses": gives int64; it must give floats',
    ),
    "loss without a gradient": (
        {"model": {"loss": "own_tables:detached"}},
        'model.loss = "own_tables:detached": has no gradient; it must be computed from the outputs',
    ),
    "loss that raises": (
        {"model": {"loss": "own_tables:broken"}},
        'model.loss = "own_tables:broken": own_tables:broken on outputs (2,) and targets (2,) raised '
        "AttributeError at own_tables.py:47: ",
    ),
    "losses as a metric": (
        {"model": {"metrics": {"all": "own_tables:absolute"}}},
        'model.metrics.all = "own_tables:absolute": gives (20,) for 20 examples; it must give one number',
    ),
    "metric that changes the targets": (
        {"model": {"metrics": {"shifted": "own_tables:shifted"}}},
        'model.metrics.shifted = "own_tables:shifted": changes the targets in place; it must work on a copy',
    ),
    "metric that raises": (
        {"model": {"metrics": {"sure": "own_tables:certainty"}}},
        'model.metrics.sure = "own_tables:certainty": own_tables:certainty on outputs (20,) and targets '
        "(20,) raised IndexError at own_tables.py:48: ",
    ),
}


@pytest.mark.parametrize(("changes", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_names_file_key_and_value(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(f'my.toml: {message}')}") as error:
        checked(tmp_path, **changes)
    assert "\n" not in str(error.value)


def test_own_functions_are_part_of_the_code_and_of_the_criterion(tmp_path: Path) -> None:
    plain = checked(tmp_path)
    own = checked(
        tmp_path,
        model={"loss": "own_tables:absolute", "metrics": {"worst": "own_tables:worst"}},
        objective={"metric": "worst", "direction": "minimize"},
    )
    assert own.criterion.names[-1] == "validation_worst"
    assert None not in (plain.identity.network, own.identity.network)
    assert plain.identity.network != own.identity.network


def test_float_images_may_be_augmented(tmp_path: Path) -> None:
    workload = checked(tmp_path, data=data("floats"), full={"augment": {"rotation": 3}})
    assert workload.shape.input == (1, 8, 8)
