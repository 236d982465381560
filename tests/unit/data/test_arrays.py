import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hpo.data import DataError, Dataset, Labelled, arrays, open_dataset
from hpo.data.arrays import ArrayStore, find_mapped, open_mapped
from hpo.data.dataset import DataHashes
from hpo.data.statistics import statistics

PREFIX = "emnist-digits"
WriteIdx = Callable[[Path, "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"], None]


@pytest.fixture
def dataset(labelled: Labelled) -> Dataset:
    test = Labelled(labelled.images[:6], labelled.labels[:6])
    return Dataset("letters", ("a", "b", "c"), lambda: labelled, lambda: test)


@pytest.fixture
def store(tmp_path: Path) -> ArrayStore:
    return ArrayStore(tmp_path / "arrays")


@pytest.fixture
def files(tmp_path: Path, write_idx: WriteIdx) -> Path:
    """Return a folder with the files of a small emnist-digits."""
    rng = np.random.default_rng(1)
    for part, count in (("train", 20), ("test", 5)):
        raw = tmp_path / "EMNIST" / "raw"
        write_idx(
            raw / f"{PREFIX}-{part}-images-idx3-ubyte", rng.integers(0, 256, (count, 4, 6), dtype=np.uint8)
        )
        write_idx(raw / f"{PREFIX}-{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)
    return tmp_path


def write(store: ArrayStore, dataset: Dataset) -> str:
    with store.lock(dataset.name):
        return store.write(dataset)


def folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir())


def test_written_arrays_are_mapped_with_their_facts(store: ArrayStore, dataset: Dataset) -> None:
    content = write(store, dataset)
    mapped = store.find("mine", content)
    assert mapped is not None
    assert (mapped.name, mapped.classes) == ("mine", ("a", "b", "c"))
    for part, original in (
        (mapped.load_train(), dataset.load_train()),
        (mapped.load_test(), dataset.load_test()),
    ):
        np.testing.assert_array_equal(part.images, original.images)
        np.testing.assert_array_equal(part.labels, original.labels)
        assert isinstance(part.images, np.memmap)
    facts, expected = mapped.facts, statistics(dataset.load_train(), dataset.classes)
    assert facts is not None
    assert (facts.mean, facts.std) == (expected.mean, expected.std)
    assert facts.hashes == DataHashes(content, dataset.load_train().sha256(), dataset.load_test().sha256())


def test_writing_to_a_mapped_array_changes_no_file(store: ArrayStore, dataset: Dataset) -> None:
    content = write(store, dataset)
    first, second = store.find("a", content), store.find("b", content)
    assert first is not None
    assert second is not None
    first.load_train().images[:] = 0
    np.testing.assert_array_equal(second.load_train().images, dataset.load_train().images)


def test_content_covers_images_labels_classes_and_both_parts(store: ArrayStore, dataset: Dataset) -> None:
    train, test = dataset.load_train(), dataset.load_test()
    others = (
        replace(dataset, classes=("a", "b", "d")),
        replace(dataset, read_train=lambda: Labelled(train.images[::-1].copy(), train.labels)),
        replace(dataset, read_train=lambda: Labelled(train.images, train.labels[::-1].copy())),
        replace(dataset, read_test=lambda: Labelled(255 - test.images, test.labels)),
    )
    contents = {write(store, each) for each in (dataset, *others)}
    assert len(contents) == 5
    assert write(store, replace(dataset, name="other")) in contents  # the name is no part of it


def test_equal_content_is_written_once(store: ArrayStore, dataset: Dataset) -> None:
    content = write(store, dataset)
    times = {path: path.stat().st_mtime_ns for path in (store.root / content).iterdir()}
    assert write(store, replace(dataset, name="other")) == content
    assert {path: path.stat().st_mtime_ns for path in (store.root / content).iterdir()} == times
    assert folders(store.root) == [content]


def test_remains_of_a_killed_writer_are_removed(store: ArrayStore, dataset: Dataset) -> None:
    content = write(store, dataset)
    store.root.joinpath(content).rename(store.root / f".{arrays._key(dataset.name)}-abandoned")
    (store.root / f".{arrays._key('other')}-busy").mkdir()
    assert store.find("letters", content) is None
    assert write(store, dataset) == content
    assert folders(store.root) == sorted([content, f".{arrays._key('other')}-busy"])


@pytest.mark.parametrize("text", [None, "", "{}"], ids=["deleted", "damaged", "of another version"])
def test_folder_that_cannot_be_opened_is_replaced(
    store: ArrayStore, dataset: Dataset, text: str | None
) -> None:
    content = write(store, dataset)
    meta = store.root / content / "meta.json"
    meta.unlink() if text is None else meta.write_text(text)
    assert store.find("letters", content) is None
    assert write(store, dataset) == content
    assert store.find("letters", content) is not None
    assert folders(store.root) == [content]


@pytest.mark.parametrize("file", ["train_images.npy", "train_labels.npy"])
def test_damaged_array_is_named(store: ArrayStore, dataset: Dataset, file: str) -> None:
    content = write(store, dataset)
    path = store.root / content / file
    path.write_bytes(path.read_bytes()[:-1])
    mapped = store.find("letters", content)
    assert mapped is not None
    with pytest.raises(DataError, match=rf"{content}: is damaged \(.*\); delete it, and it is written again"):
        mapped.load_train()


@pytest.mark.parametrize("content", ["", "..", "../" + 61 * "0", 64 * "g"])
def test_only_a_hash_names_a_folder(store: ArrayStore, content: str) -> None:
    with pytest.raises(DataError, match="is not the hash of a data set"):
        store.find("letters", content)


def test_folder_that_cannot_be_written_is_named(tmp_path: Path, dataset: Dataset) -> None:
    (tmp_path / "file").touch()
    store = ArrayStore(tmp_path / "file" / "arrays")
    with pytest.raises(DataError, match="arrays there: Not a directory; make room, or set HPO_HOME"):
        write(store, dataset)


def test_files_are_read_once(files: Path, store: ArrayStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_mapped(PREFIX, files, store.root)
    np.testing.assert_array_equal(first.load_test().images, open_dataset(PREFIX, files).load_test().images)

    def no_read(name: str, root: Path) -> Dataset:
        raise AssertionError("the files were read again")

    monkeypatch.setattr(arrays, "open_dataset", no_read)
    assert open_mapped(PREFIX, files, store.root).facts == first.facts


@pytest.mark.parametrize("torn", ["", "0123", "../" + "0" * 64])
def test_torn_index_is_written_again(files: Path, store: ArrayStore, torn: str) -> None:
    facts = open_mapped(PREFIX, files, store.root).facts
    (index,) = (store.root / arrays.INDEX).iterdir()
    index.write_text(torn)
    assert find_mapped(PREFIX, files, store.root) is None
    assert open_mapped(PREFIX, files, store.root).facts == facts
    assert facts is not None
    assert index.read_text() == facts.hashes.content


def test_changed_files_are_read_again(files: Path, store: ArrayStore, write_idx: WriteIdx) -> None:
    old = open_mapped(PREFIX, files, store.root).facts
    path = files / "EMNIST" / "raw" / f"{PREFIX}-test-labels-idx1-ubyte"
    write_idx(path, np.array([9, 8, 7, 6, 5], np.uint8))
    new = open_mapped(PREFIX, files, store.root).facts
    assert old is not None
    assert new is not None
    assert (old.hashes.train, old.mean) == (new.hashes.train, new.mean)
    assert old.hashes.test != new.hashes.test
    assert old.hashes.content != new.hashes.content


def test_known_content_needs_no_files(files: Path, store: ArrayStore, tmp_path: Path) -> None:
    facts = open_mapped(PREFIX, files, store.root).facts
    assert facts is not None
    elsewhere = tmp_path / "elsewhere"
    assert open_mapped(PREFIX, elsewhere, store.root, facts.hashes.content).facts == facts
    assert find_mapped(PREFIX, elsewhere, store.root) is None
    with pytest.raises(DataError, match="hpo data fetch"):
        open_mapped(PREFIX, elsewhere, store.root)


def test_files_that_change_while_they_are_read_are_not_indexed(
    files: Path, store: ArrayStore, monkeypatch: pytest.MonkeyPatch, write_idx: WriteIdx
) -> None:
    def changing(name: str, root: Path) -> Dataset:
        dataset = open_dataset(name, root)
        train = dataset.load_train()
        write_idx(files / "EMNIST" / "raw" / f"{PREFIX}-train-labels-idx1-ubyte", np.zeros(20, np.uint8))
        return replace(dataset, read_train=lambda: train)

    monkeypatch.setattr(arrays, "open_dataset", changing)
    old = open_mapped(PREFIX, files, store.root).facts
    monkeypatch.setattr(arrays, "open_dataset", open_dataset)
    new = open_mapped(PREFIX, files, store.root).facts
    assert old is not None
    assert new is not None
    assert old.hashes.train != new.hashes.train


def test_meta_file_names_the_data_set_for_people(files: Path, store: ArrayStore) -> None:
    facts = open_mapped(PREFIX, files, store.root).facts
    assert facts is not None
    meta = json.loads((store.root / facts.hashes.content / "meta.json").read_text())
    assert (meta["name"], meta["classes"]) == (PREFIX, list("0123456789"))


def test_table_of_a_regression_is_written_and_mapped(store: ArrayStore) -> None:
    rng = np.random.default_rng(0)
    train = Labelled(rng.normal(size=(30, 4)).astype(np.float32), rng.normal(size=(30, 2)).astype(np.float32))
    test = Labelled(train.images[:5], train.labels[:5])
    dataset = Dataset("own:table", None, lambda: train, lambda: test)
    mapped = store.find("own:table", write(store, dataset))
    assert mapped is not None
    assert mapped.classes is None
    assert mapped.facts is not None
    moments = statistics(train, None)
    assert (mapped.facts.mean, mapped.facts.std) == (moments.mean, moments.std)
    assert mapped.facts.hashes == arrays.hashes_of(dataset)
    for part, original in ((mapped.load_train(), train), (mapped.load_test(), test)):
        np.testing.assert_array_equal(part.images, original.images)
        np.testing.assert_array_equal(part.labels, original.labels)


def test_same_numbers_as_classes_are_other_data(store: ArrayStore) -> None:
    numbers = Labelled(np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1], np.float32))
    classes = Labelled(np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1]))
    regression = Dataset("own:table", None, lambda: numbers, lambda: numbers)
    classification = Dataset("own:table", ("a", "b"), lambda: classes, lambda: classes)
    assert arrays.hashes_of(regression).content != arrays.hashes_of(classification).content
