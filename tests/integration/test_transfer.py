"""The transfer of a bundle, from the call to the new bundle."""

import hashlib
import logging
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from support.bundles import random_bundle

from hpo.data.dataset import DataError, DataInputError
from hpo.errors import HpoError, InputError, NotFoundError
from hpo.export.any_bundle import load_bundle
from hpo.export.bundle import Bundle
from hpo.export.metrics import Metrics
from hpo.export.model_spec import ModelSpec
from hpo.transfer import TransferRecipe, transfer_bundle

CLASSES = tuple("0123456789AB")
GREY = ModelSpec("lenet", CLASSES, 1, (28, 28), (0.17,), (0.33,))
NUMBERS = ModelSpec("net:Net", (), None, None, (0.0,), (1.0,), input_shape=(1,), target_shape=())
ONE_EPOCH = TransferRecipe(epochs=1)

OWN_DATA = """
import numpy as np

def load():
    print("made")
    labels = np.arange(24) % 3
    images = np.full((24, 3, 8, 8), 0, np.uint8) + 100 * labels[:, None, None, None].astype(np.uint8)
    return images, labels, images[:6], labels[:6], ["dark", "grey", "bright"]

def constant():
    images, labels, *test = load()
    return images, 0 * labels, *test
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the arrays of the digits, once a test has written them."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("HPO_HOME", str(home))
    monkeypatch.setenv("HPO_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "transfer_data.py").write_text(OWN_DATA)


@pytest.fixture
def source(tmp_path: Path) -> Bundle:
    return random_bundle(tmp_path / "source", GREY)


def write_idx(path: Path, array: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.tobytes())


def write_mnist(raw: Path) -> None:
    """Write data in MNIST's layout: an image of label k has a bright band, 2k pixels from the top."""
    for prefix, count in (("train", 60), ("t10k", 20)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", labels)
        images = np.zeros((count, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[4 + 2 * label : 7 + 2 * label] = 255
        write_idx(raw / f"{prefix}-images-idx3-ubyte", images)


def test_bundle_with_new_classes_opens_like_any_other(
    tmp_path: Path, source: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hpo.transfer")
    returned = transfer_bundle(source, "digits", tmp_path / "new", TransferRecipe(epochs=2, seed=3))
    bundle = load_bundle(tmp_path / "new")
    assert isinstance(bundle, Bundle)
    assert bundle.spec == returned.spec
    assert bundle.classes == tuple("0123456789")
    assert (bundle.spec.mean, bundle.spec.std) == (GREY.mean, GREY.std)
    assert isinstance(bundle.metrics, Metrics)
    assert bundle.metrics.n == 360
    assert bundle.params["lr"] == 0.1
    assert bundle.predict(np.zeros((2, 28, 28), np.uint8)).shape == (2, 10)
    lines = [record.message for record in caplog.records if record.name == "hpo.transfer"]
    assert "142 for validation; new: classifier.8; trained: the new layers" in lines[0]
    assert [line.partition(":")[0] for line in lines[1:]] == ["epoch 1 of 2", "epoch 2 of 2"]


def test_provenance_names_source_data_and_training(tmp_path: Path, source: Bundle) -> None:
    origin = transfer_bundle(source, "digits", tmp_path / "new", ONE_EPOCH).provenance
    weights = (source.directory / "weights.safetensors").read_bytes()
    assert origin["source"]["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert origin["source"]["provenance"] == {"study": "first"}
    assert (origin["data"], origin["kept_epoch"], origin["epochs"]) == ("digits", 1, 1)
    assert origin["transfer"]["new_layers"] == ["classifier.8"]
    assert 0 <= origin["validation_accuracy"] <= 1
    assert len(origin["data_sha256"]) == 64


def test_files_in_the_layout_of_mnist_are_learned(tmp_path: Path, source: Bundle) -> None:
    write_mnist(tmp_path / "data" / "MNIST" / "raw")
    recipe = TransferRecipe("all", epochs=30, batch_size=10)
    bundle = transfer_bundle(source, "mnist", tmp_path / "new", recipe)
    assert isinstance(bundle.metrics, Metrics)
    assert bundle.metrics.n == 20
    assert bundle.metrics.accuracy > 0.5  # of ten classes


def test_images_of_a_function_are_scaled_and_become_grey(tmp_path: Path, source: Bundle) -> None:
    bundle = transfer_bundle(source.directory, "transfer_data:load", tmp_path / "new", ONE_EPOCH)
    assert bundle.classes == ("dark", "grey", "bright")
    assert bundle.spec.input == GREY.input


def test_source_may_be_the_result_of_a_transfer(tmp_path: Path, source: Bundle) -> None:
    first = transfer_bundle(source, "transfer_data:load", tmp_path / "first", ONE_EPOCH)
    second = transfer_bundle(first, "digits", tmp_path / "second", ONE_EPOCH)
    assert second.provenance["source"]["provenance"]["data"] == "transfer_data:load"


def test_bundles_without_a_network_of_classes_are_refused(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers"
    with pytest.raises(NotFoundError, match="no such folder"):
        transfer_bundle(numbers, "digits", tmp_path / "new")
    bundle = Bundle(numbers, NUMBERS, {}, None, {})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the model predicts numbers"):
        transfer_bundle(bundle, "digits", tmp_path / "new")
    ensemble = Bundle(numbers, replace(GREY, members=2), {}, None, {})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="choose one of its trainings with `hpo export --trial`"):
        transfer_bundle(ensemble, "digits", tmp_path / "new")


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        ("digit", DataInputError, "did you mean digits"),
        ("mnist", DataError, "run `hpo data fetch mnist`"),
        ("transfer_data:constant", DataInputError, "all training images are of one class"),
        ("transfer_data:missing", DataInputError, "transfer_data"),
    ],
)
def test_unusable_data_are_refused_in_one_line(
    tmp_path: Path, source: Bundle, data: str, kind: type[HpoError], message: str
) -> None:
    with pytest.raises(kind) as refused:
        transfer_bundle(source, data, tmp_path / "new")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "new").exists()


def test_occupied_folder_is_refused_before_the_training(tmp_path: Path, source: Bundle) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    with pytest.raises(InputError, match="not empty and not a bundle"):
        transfer_bundle(source, "digits", tmp_path / "full")
    with pytest.raises(InputError, match="is the bundle to transfer from"):
        transfer_bundle(source, "digits", tmp_path / "source")


def test_unknown_device_is_refused(tmp_path: Path, source: Bundle) -> None:
    with pytest.raises(InputError, match="'gpu': not usable here"):
        transfer_bundle(source, "digits", tmp_path / "new", device="gpu")


def test_interrupt_between_epochs_leaves_nothing(
    tmp_path: Path, source: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    class Interrupt(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("epoch 1"):
                raise KeyboardInterrupt

    log, handler = logging.getLogger("hpo.transfer"), Interrupt()
    caplog.set_level(logging.INFO, "hpo.transfer")
    log.addHandler(handler)
    before = sorted(path.name for path in tmp_path.iterdir())
    try:
        with pytest.raises(KeyboardInterrupt):
            transfer_bundle(source, "digits", tmp_path / "new")
    finally:
        log.removeHandler(handler)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_weights_of_the_source_are_those_of_its_file(tmp_path: Path, source: Bundle) -> None:
    bundle = transfer_bundle(source, "digits", tmp_path / "new", ONE_EPOCH)
    old, new = source.model.state_dict(), bundle.model.state_dict()
    assert all(old[name].equal(new[name]) for name in old if not name.startswith("classifier.8"))
