import dataclasses
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hpo import models
from hpo.errors import HpoError, InputError
from hpo.export import bundle
from hpo.export.bundle import BundleContents, open_bundle, write_bundle
from hpo.export.bundle_folder import FILES, is_occupied
from hpo.export.ensemble import ensemble_of
from hpo.export.metrics import RegressionMetrics
from hpo.export.model_spec import ModelSpec
from hpo.export.scoring import metrics, probabilities
from hpo.values.space import Value

CLASSES = ("0", "A", "ä")
GREY = ModelSpec("lenet", CLASSES, 1, (28, 28), (0.1736,), (0.3248,))
COLOUR = ModelSpec("lenet", CLASSES, 3, (28, 28), (0.1, 0.2, 0.3), (0.3, 0.2, 0.1))
PARAMS = {"lr": 0.1, "batch_size": 16, "momentum": 0.9, "weight_decay": 0.0}
PROVENANCE = {"study": "lenet", "trial": 7, "seeds": [0, 1], "device": None}
NUMBERS = RegressionMetrics(9, 4.0, 2.0, 1.5, 0.5, 0.1, 0.2, 0.3, 0.4, {"worst": 3.0, "nothing": None})
METRICS = metrics(np.array([0, 1, 2]), np.eye(3, dtype=np.float32), CLASSES)
Pixels = npt.NDArray[np.uint8]


def network(spec: ModelSpec = GREY, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return models.build(spec.name, len(spec.classes), spec.in_channels or 1).eval()


def write(directory: Path, spec: ModelSpec = GREY, seed: int = 0, **changes: Any) -> Path:
    parts = {"params": PARAMS, "metrics": METRICS, "provenance": PROVENANCE, **changes}
    weights = parts.pop("weights", None) or network(spec, seed).state_dict()
    write_bundle(directory, BundleContents(spec, weights, **parts))
    return directory


def images(*shape: int) -> Pixels:
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "bundle")


@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
def test_loaded_bundle_equals_the_written_one(tmp_path: Path, spec: ModelSpec) -> None:
    opened = open_bundle(write(tmp_path / "new" / "bundle", spec))
    assert (opened.spec, opened.classes, opened.metrics) == (spec, CLASSES, METRICS)
    assert (opened.params, opened.provenance) == (PARAMS, PROVENANCE)
    assert isinstance(opened.params["batch_size"], int)
    pixels = images(5, *spec.input)
    expected = probabilities(network(spec), torch.from_numpy(pixels), spec.normalization, "cpu")
    assert np.array_equal(opened.predict(pixels), expected)
    assert opened.model is opened.model
    assert not opened.model.training


def test_bundle_is_five_plain_files(path: Path) -> None:
    assert {file.name for file in path.iterdir()} == FILES
    assert [file.name for file in path.parent.iterdir()] == ["bundle"]
    assert json.loads((path / "params.json").read_text()) == PARAMS
    assert json.loads((path / "metrics.json").read_text()) == METRICS.to_json()
    assert load_file(path / "weights.safetensors").keys() == network().state_dict().keys()


def test_bundle_without_keywords_of_the_network_is_opened(path: Path) -> None:
    raw = json.loads((path / "model.json").read_text())
    assert raw.pop("keywords") == {}
    (path / "model.json").write_text(json.dumps(raw))
    assert open_bundle(path).spec == GREY


def test_keywords_of_the_network_keep_their_types(tmp_path: Path) -> None:
    keywords: dict[str, Value] = {"width": 8, "drop": 1.0, "deep": True, "kind": "a"}
    opened = open_bundle(write(tmp_path / "bundle", dataclasses.replace(GREY, keywords=keywords)))
    assert opened.spec.keywords == keywords
    assert [type(value) for value in opened.spec.keywords.values()] == [int, float, bool, str]
    with pytest.raises(InputError, match=r"model 'lenet' must be buildable as LeNet\(classes=3, "):
        _ = opened.model


def test_bundle_has_the_permissions_of_the_umask(path: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o666 & ~mask}
    assert path.stat().st_mode & 0o777 == 0o777 & ~mask


def test_grey_images_need_no_channel_axis(path: Path) -> None:
    opened = open_bundle(path)
    pixels = images(4, 28, 28)
    assert np.array_equal(opened.predict(pixels), opened.predict(pixels[:, None]))
    backwards = opened.predict(pixels[::-1])
    assert backwards == pytest.approx(opened.predict(pixels)[::-1], abs=1e-6)
    assert opened.predict(pixels[:0]).shape == (0, 3)


def test_rank_orders_classes_by_probability(path: Path) -> None:
    opened = open_bundle(path)
    pixels = images(4, 28, 28)
    rankings = opened.rank(pixels, top=2)
    for row, ranking in zip(opened.predict(pixels), rankings, strict=True):
        assert len(ranking) == 2
        assert ranking[0] == (CLASSES[row.argmax()], row.max())
        assert ranking[0][1] >= ranking[1][1]


def test_weights_of_a_pack_and_tied_weights_can_be_written(tmp_path: Path) -> None:
    state = network().state_dict()
    stacked = {name: torch.stack([tensor, tensor + 1]) for name, tensor in state.items()}
    opened = open_bundle(write(tmp_path / "pack", weights={name: t[0] for name, t in stacked.items()}))
    assert all(torch.equal(tensor, state[name]) for name, tensor in opened.model.state_dict().items())

    tied = {**state, "again": state["classifier.1.weight"], "turned": state["classifier.1.weight"].T}
    saved = load_file(write(tmp_path / "tied", weights=tied) / "weights.safetensors")
    assert all(torch.equal(tensor, tied[name]) for name, tensor in saved.items())


def test_loading_does_not_advance_the_random_numbers(path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert open_bundle(path).model is not None
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("failing", ["save", "write_json"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=type)
def test_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(bundle, failing, fail)
    expected = HpoError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        write(tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_json_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nan"):
        write(tmp_path / "bundle", params={"lr": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_bundle_is_replaced_as_a_whole(path: Path) -> None:
    other = write(path.parent / "other", COLOUR, seed=1)
    write(path, COLOUR, seed=1)
    for name in FILES:
        assert (path / name).read_bytes() == (other / name).read_bytes()
    assert {file.name for file in path.parent.iterdir()} == {"bundle", "other"}


def test_old_bundle_stays_when_its_replacement_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    rename = Path.rename

    def fail_for_the_new(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(HpoError, match="Permission denied"):
        write(path, seed=1)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert [file.name for file in path.parent.iterdir()] == ["bundle"]


def test_empty_folder_and_link_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert open_bundle(tmp_path / "real").params == PARAMS


def test_other_folder_is_never_replaced(path: Path) -> None:
    (path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"bundle: is not empty and not a bundle: choose a new folder"):
        write(path)
    assert (path / "notes.txt").read_text() == "mine"

    file = path.parent / "file"
    file.write_text("mine")
    with pytest.raises(InputError, match=r"file: a bundle is a folder"):
        write(file)
    with pytest.raises(HpoError, match="cannot write"):
        write(file / "below")
    assert file.read_text() == "mine"


@pytest.mark.parametrize("name", sorted(FILES))
def test_missing_file_is_named(path: Path, name: str) -> None:
    (path / name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such file"):
        open_bundle(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("params.json", "{", "params.json: Invalid JSON"),
        ("params.json", '{"lr": ["fast"]}', r"params.json: lr\.?\w*: Input should be a valid"),
        ("provenance.json", "[]", "provenance.json: Input should be an object"),
        ("metrics.json", '{"n": 1.5}', "metrics.json: n: Input should be a valid integer"),
        ("model.json", b"\xff\xfe", "model.json: Invalid JSON"),
    ],
)
def test_damaged_file_is_reported_in_one_line(path: Path, name: str, text: str | bytes, message: str) -> None:
    (path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message) as caught:
        open_bundle(path)
    assert "\n" not in str(caught.value)


def test_ensemble_is_opened_like_any_other_network(tmp_path: Path) -> None:
    members = [network(seed=seed) for seed in (1, 2)]
    weights = ensemble_of(members, of_classes=True).state_dict()
    spec = dataclasses.replace(GREY, members=2)
    opened = open_bundle(write(tmp_path / "bundle", spec, weights=weights))
    alone = [
        probabilities(member, torch.from_numpy(images(3, 1, 28, 28)), spec.normalization, "cpu")
        for member in members
    ]
    np.testing.assert_allclose(opened.predict(images(3, 28, 28)), np.mean(alone, axis=0), atol=1e-6)
    assert opened.rank(images(3, 28, 28), top=1)[0][0][0] in CLASSES
    single = write(tmp_path / "single", spec)
    with pytest.raises(InputError, match=r"tensor classifier\.\S+ is \(.*\), it must be absent"):
        open_bundle(single).predict(images(1, 28, 28))


def test_bundle_of_an_earlier_version_is_a_single_network_without_shifts(path: Path) -> None:
    file = path / "model.json"
    plain = json.loads(file.read_text())
    del plain["members"], plain["shifts"]
    file.write_text(json.dumps(plain))
    assert open_bundle(path).spec == GREY


def test_shifts_of_a_bundle_can_be_overridden(tmp_path: Path, path: Path) -> None:
    plain = open_bundle(path)
    shifted = open_bundle(write(tmp_path / "shifted", dataclasses.replace(GREY, shifts=1)))
    pixels = images(3, 28, 28)
    assert np.array_equal(shifted.predict(pixels), plain.predict(pixels, shifts=1))
    assert np.array_equal(shifted.predict(pixels, shifts=0), plain.predict(pixels))
    assert not np.array_equal(shifted.predict(pixels), plain.predict(pixels))
    assert shifted.rank(pixels, top=1)[0][0][1] == shifted.predict(pixels).max(1)[0]
    for shifts in (-1, 28):
        with pytest.raises(InputError, match=rf"shifts {shifts}: must be from 0 to 27 pixels"):
            plain.predict(pixels, shifts=shifts)


def test_analysis_is_a_folder_that_a_bundle_may_have(tmp_path: Path, path: Path) -> None:
    opened = open_bundle(path)
    (path / "analysis").mkdir()
    assert is_occupied(path)
    assert open_bundle(path).spec == opened.spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": 0}, "members 0: must be at least 1"),
        ({"shifts": 28}, "shifts 28: must be from 0 to 27 pixels"),
        ({"classes": ["a"]}, "two or more different names"),
        ({"classes": ["a", "b", "b"]}, "two or more different names"),
        ({"in_channels": 2}, "in_channels 2: must be 1"),
        ({"image_size": [0, 28]}, "at least 1 pixel"),
        ({"mean": [0.1, 0.1]}, "one of each per channel"),
        ({"std": [0.0]}, "every std above 0"),
    ],
)
def test_invalid_model_file_is_refused(path: Path, change: dict[str, Any], message: str) -> None:
    file = path / "model.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=rf"model.json: .*{message}"):
        open_bundle(path)


def test_unknown_model_is_named(path: Path) -> None:
    file = path / "model.json"
    file.write_text(file.read_text().replace("lenet", "lennet"))
    with pytest.raises(InputError, match=r"model.json: unknown model 'lennet': did you mean lenet"):
        open_bundle(path)


def test_own_class_that_cannot_be_imported_is_named_when_the_bundle_is_opened(path: Path) -> None:
    file = path / "model.json"
    file.write_text(file.read_text().replace("lenet", "elsewhere:Net"))
    message = r"elsewhere:Net: No module named 'elsewhere'; elsewhere has to be installed or in /"
    with pytest.raises(InputError, match=message):
        open_bundle(path)


@pytest.mark.parametrize("damage", ["empty", "truncated", "garbage", "pickle"])
def test_damaged_weights_are_reported_and_never_unpickled(path: Path, tmp_path: Path, damage: str) -> None:
    trace = tmp_path / "unpickled"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (trace,)

    weights = path / "weights.safetensors"
    whole = weights.read_bytes()
    damaged = {
        "empty": b"",
        "truncated": whole[:-1],
        "garbage": bytes(64),
        "pickle": pickle.dumps(Payload()),
    }
    weights.write_bytes(damaged[damage])
    opened = open_bundle(path)
    with pytest.raises(InputError, match=r"weights.safetensors: damaged or unreadable") as caught:
        opened.predict(images(1, 28, 28))
    assert "\n" not in str(caught.value)
    assert not trace.exists()


def test_weights_of_another_network_are_refused(path: Path) -> None:
    weights = path / "weights.safetensors"
    other = dataclasses.replace(GREY, classes=tuple("abcd"))
    save_file(network(other).state_dict(), weights)
    message = r"3 classes: tensor classifier\.8\.bias is \(4,\), it must be \(3,\)"
    with pytest.raises(InputError, match=message):
        open_bundle(path).predict(images(1, 28, 28))

    state = network().state_dict()
    bias = state.pop("classifier.8.bias")
    save_file(state, weights)
    with pytest.raises(InputError, match=r"classifier\.8\.bias is absent, it must be \(3,\)"):
        open_bundle(path).predict(images(1, 28, 28))

    save_file({**state, "classifier.8.bias": bias, "extra": bias.clone()}, weights)
    with pytest.raises(InputError, match=r"extra is \(3,\), it must be absent"):
        open_bundle(path).predict(images(1, 28, 28))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((1, 28, 28)), "images are float64: they must be uint8"),
        (images(28, 28), r"shape \(28, 28\): it must be \(N, 1, 28, 28\) or \(N, 28, 28\)"),
        (images(2, 28, 32), r"shape \(2, 28, 32\)"),
        (images(2, 3, 28, 28), r"shape \(2, 3, 28, 28\)"),
        (np.uint8(3), r"shape \(\)"),
    ],
)
def test_images_of_wrong_type_or_shape_are_refused(path: Path, bad: Pixels, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_bundle(path).predict(bad)


def test_colour_images_need_a_channel_axis(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"shape \(2, 28, 28\): it must be \(N, 3, 28, 28\)$"):
        open_bundle(write(tmp_path / "bundle", COLOUR)).predict(images(2, 28, 28))


TABLE = """
from torch import nn

class Net(nn.Linear):
    def __init__(self, in_features, outputs=None, classes=None):
        super().__init__(in_features, outputs or classes)
"""


@pytest.fixture
def own_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a user's network on tables, and return its name."""
    (tmp_path / "own_bundled.py").write_text(TABLE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_bundled", raising=False)
    return "own_bundled:Net"


def table_spec(name: str, classes: tuple[str, ...] = (), target: tuple[int, ...] | None = None) -> ModelSpec:
    return ModelSpec(
        name, classes, None, None, (1.0, 2.0, 3.0), (1.0, 2.0, 4.0), input_shape=(3,), target_shape=target
    )


@pytest.mark.parametrize(
    ("classes", "target", "outputs", "shape"),
    [(CLASSES, None, 3, (5, 3)), ((), (), 1, (5,)), ((), (1,), 1, (5, 1)), ((), (4,), 4, (5, 4))],
    ids=["classes", "a number", "a column", "numbers"],
)
def test_bundle_of_a_table_predicts_from_numbers(
    tmp_path: Path,
    own_net: str,
    classes: tuple[str, ...],
    target: tuple[int, ...] | None,
    outputs: int,
    shape: tuple[int, ...],
) -> None:
    layer, spec = nn.Linear(3, outputs), table_spec(own_net, classes, target)
    metrics = METRICS if classes else NUMBERS
    opened = open_bundle(write(tmp_path / "bundle", spec, weights=layer.state_dict(), metrics=metrics))
    assert (opened.spec, opened.metrics) == (spec, metrics)
    rows = np.random.default_rng(0).normal(size=(5, 3))
    predicted = opened.predict(rows)
    assert predicted.shape == shape
    assert predicted.dtype == np.float32
    with torch.no_grad():
        normalised = (torch.tensor(rows, dtype=torch.float32) - torch.tensor(spec.mean)) / torch.tensor(
            spec.std
        )
        expected = layer(normalised)
    if classes:
        expected = expected.softmax(1)
        assert opened.rank(rows, top=1)[0][0][0] in classes
    else:
        with pytest.raises(InputError, match="the model predicts numbers, and no classes"):
            opened.rank(rows)
    np.testing.assert_allclose(predicted, expected.reshape(shape), rtol=1e-5, atol=1e-6)
    assert opened.predict(rows.astype(np.float32).tolist()).shape == shape


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((2, 4)), r"inputs have shape \(2, 4\): it must be \(N, 3\)"),
        (np.zeros(3), r"inputs have shape \(3,\): it must be \(N, 3\)"),
        (np.full((2, 3), np.nan), "inputs have NaN or infinity"),
        (np.array([["a", "b", "c"]]), "inputs are <U1: they must be numbers"),
    ],
)
def test_bundle_of_a_table_refuses_other_inputs(
    tmp_path: Path, own_net: str, inputs: npt.NDArray[Any], message: str
) -> None:
    spec = table_spec(own_net, CLASSES)
    opened = open_bundle(write(tmp_path / "bundle", spec, weights=nn.Linear(3, 3).state_dict()))
    with pytest.raises(InputError, match=message):
        opened.predict(inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_shape": (2, 2)}, r"target_shape \(2, 2\): must be \(\) or \(K,\), without classes"),
        ({"classes": ("a", "b")}, r"target_shape \(\): must be \(\) or \(K,\), without classes"),
        ({"input_shape": ()}, r"input_shape \(\): must be \(F,\) or \(C, ...\), without an image_size"),
        ({"image_size": (2, 2)}, r"input_shape \(3,\): must be \(F,\) or \(C, ...\), without an image_size"),
        ({"input_shape": None}, "in_channels None: must be 1"),
        ({"shifts": 1}, "shifts 1: the inputs are no images, and cannot be shifted"),
        ({"mean": (1.0,)}, "one of each per channel"),
    ],
)
def test_contradictory_model_spec_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(table_spec("own:Net", (), ()), **changes)
