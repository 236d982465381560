import shutil
import string
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
import pytest
from torchvision.datasets import EMNIST, MNIST, FashionMNIST, mnist

from hpo.data.dataset import DataError
from hpo.data.registry import fetch, open_dataset

FILES = {
    "mnist": ("MNIST", "train", "t10k"),
    "fashion-mnist": ("FashionMNIST", "train", "t10k"),
} | {
    f"emnist-{split}": ("EMNIST", f"emnist-{split}-train", f"emnist-{split}-test") for split in EMNIST.splits
}
Write = Callable[[str, Path], dict[str, npt.NDArray[np.uint8]]]


@pytest.fixture
def write(write_idx: Callable[..., None]) -> Write:
    """Return a call that writes a small data set in the official layout.

    The call returns the stored arrays by file name.
    """

    def write(name: str, root: Path) -> dict[str, npt.NDArray[np.uint8]]:
        rng = np.random.default_rng(0)
        folder, *prefixes = FILES[name]
        arrays = {}
        for prefix, count in zip(prefixes, (5, 4), strict=True):
            arrays[f"{prefix}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            arrays[f"{prefix}-labels-idx1-ubyte"] = rng.integers(1, 10, count, dtype=np.uint8)
        for file, array in arrays.items():
            write_idx(root / folder / "raw" / file, array)
        return arrays

    return write


@pytest.mark.parametrize("name", FILES)
def test_both_parts_are_upright_with_labels_from_zero(name: str, tmp_path: Path, write: Write) -> None:
    arrays = write(name, tmp_path)
    dataset = open_dataset(name, tmp_path)
    for labelled, prefix in zip((dataset.load_train(), dataset.load_test()), FILES[name][1:], strict=True):
        images, labels = arrays[f"{prefix}-images-idx3-ubyte"], arrays[f"{prefix}-labels-idx1-ubyte"]
        upright = images.transpose(0, 2, 1) if name.startswith("emnist") else images
        np.testing.assert_array_equal(labelled.images, upright)
        assert labelled.images.flags.c_contiguous
        np.testing.assert_array_equal(labelled.labels, labels - (name == "emnist-letters"))


def test_class_names_of_every_data_set() -> None:
    # The order of the official mapping files.
    merged = string.digits + string.ascii_uppercase + "abdefghnqrt"
    expected = {
        "emnist-byclass": string.digits + string.ascii_uppercase + string.ascii_lowercase,
        "emnist-bymerge": merged,
        "emnist-balanced": merged,
        "emnist-letters": string.ascii_lowercase,
        "emnist-digits": string.digits,
        "emnist-mnist": string.digits,
        "mnist": string.digits,
    }
    for name, classes in expected.items():
        assert open_dataset(name, Path("nowhere")).classes == tuple(classes)
    assert open_dataset("fashion-mnist", Path("nowhere")).classes == tuple(FashionMNIST.classes)


def test_loading_train_does_not_read_the_test_files(tmp_path: Path, write: Write) -> None:
    write("mnist", tmp_path)
    for file in (tmp_path / "MNIST" / "raw").glob("t10k-*"):
        file.write_bytes(b"")
    dataset = open_dataset("mnist", tmp_path)
    assert len(dataset.load_train()) == 5
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte: 0 bytes"):
        dataset.load_test()


def test_missing_folder_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        open_dataset("emnist-byclass", tmp_path).load_train()
    assert str(error.value) == (
        f"{tmp_path}/EMNIST/raw has no emnist-byclass-train-images-idx3-ubyte: "
        "run `hpo data fetch emnist-byclass`, or set HPO_DATA_DIR to the folder that holds EMNIST/raw"
    )


def test_missing_test_file_is_reported_before_training(tmp_path: Path, write: Write) -> None:
    write("emnist-digits", tmp_path)
    (tmp_path / "EMNIST" / "raw" / "emnist-digits-test-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="has no emnist-digits-test-labels-idx1-ubyte"):
        open_dataset("emnist-digits", tmp_path).load_train()


def test_different_numbers_of_images_and_labels_are_refused(
    tmp_path: Path, write: Write, write_idx: Callable[..., None]
) -> None:
    write("mnist", tmp_path)
    write_idx(tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte", np.zeros(4, np.uint8))
    with pytest.raises(DataError, match="has 5 images and train-labels-idx1-ubyte 4 labels"):
        open_dataset("mnist", tmp_path).load_train()


def test_files_of_an_old_torchvision_are_incomplete(tmp_path: Path) -> None:
    (tmp_path / "MNIST" / "processed").mkdir(parents=True)
    with pytest.raises(DataError, match=r"MNIST/processed is of an old torchvision .*: delete it"):
        fetch("mnist", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "emnist-letters"])
def test_fetch_downloads_only_missing_files(
    name: str, tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads = []

    def download(url: str, download_root: str, filename: str | None = None, md5: str | None = None) -> None:
        assert md5
        downloads.append(url)
        write(name, tmp_path)
        (Path(download_root) / "gzip").mkdir(exist_ok=True)  # EMNIST's archive unpacks to this folder

    monkeypatch.setattr(mnist, "download_and_extract_archive", download)
    fetch(name, tmp_path)
    assert len(open_dataset(name, tmp_path).load_train()) == 5
    assert downloads
    downloads.clear()
    fetch(name, tmp_path)
    assert downloads == []

    shutil.rmtree(tmp_path)
    write(name, tmp_path)
    folder, _, test = FILES[name]
    (tmp_path / folder / "raw" / f"{test}-labels-idx1-ubyte").unlink()
    fetch(name, tmp_path)
    assert downloads


@pytest.mark.parametrize(
    "failure", [URLError("no route to host"), RuntimeError("File not found\nor corrupted."), TimeoutError()]
)
@pytest.mark.parametrize("name", ["fashion-mnist", "emnist-balanced"])
def test_failed_download_is_reported_in_one_line(
    name: str, failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*args: object, **kwargs: object) -> None:
        raise failure

    monkeypatch.setattr(mnist, "download_and_extract_archive", download)
    with pytest.raises(DataError, match=f"{name} could not be downloaded to {tmp_path}/") as error:
        fetch(name, tmp_path)
    assert "\n" not in str(error.value)


def test_fetch_reports_a_damaged_file_and_leaves_it(tmp_path: Path, write: Write) -> None:
    write("mnist", tmp_path)
    path = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte: 3151 bytes, expected 3152"):
        fetch("mnist", tmp_path)
    assert path.exists()


def test_every_download_has_a_checksum() -> None:
    assert EMNIST.md5
    assert all(md5 for source in (MNIST, FashionMNIST) for _, md5 in source.resources)


@pytest.mark.emnist
def test_real_emnist_is_upright_and_has_every_class(emnist_root: Path) -> None:
    dataset = open_dataset("emnist-byclass", emnist_root)
    train = dataset.load_train()
    assert train.size == (28, 28)
    assert dataset.classes is not None
    assert len(np.unique(train.labels)) == len(dataset.classes) == 62
    # An L has its bar at the bottom and a 7 at the top; transposed, both would have it on the left or right.
    bottom, top = train.images[:, 14:].mean((1, 2)), train.images[:, :14].mean((1, 2))
    capital_l, seven = train.labels == dataset.classes.index("L"), train.labels == dataset.classes.index("7")
    assert (bottom > top)[capital_l].mean() > 0.9
    assert (top > bottom)[seven].mean() > 0.9
