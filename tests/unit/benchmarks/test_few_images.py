"""A few images of each class, none of them from the test part."""

import numpy as np
import pytest

from benchmarks import few_images
from hpo.data import Dataset, Labelled, registry


@pytest.fixture
def dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.tile(np.arange(3), 20)
    images = np.arange(60, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), dtype=np.uint8)

    def test_part() -> Labelled:
        raise AssertionError("the test part is read")

    opened = Dataset("emnist-byclass", ("a", "b", "c"), lambda: Labelled(images, labels), test_part)
    monkeypatch.setattr(registry, "open_dataset", lambda _name, _root: opened)


@pytest.mark.usefixtures("dataset")
def test_each_class_has_its_first_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(few_images.IMAGES, "13")
    images, labels, others, other_labels, classes = few_images.load()
    assert classes == ("a", "b", "c")
    assert np.bincount(labels).tolist() == np.bincount(other_labels).tolist() == [4, 4, 4]
    first, further = (set(part[:, 0, 0].tolist()) for part in (images, others))
    assert first == set(range(12))
    assert further == set(range(12, 24))


@pytest.mark.usefixtures("dataset")
def test_too_many_images_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(few_images.IMAGES, "60")
    with pytest.raises(SystemExit, match="take fewer --images"):
        few_images.load()


def test_epoch_without_metrics_has_empty_cells() -> None:
    assert few_images.cells(None, 1.0, 0.5) == ["", "", ""]
    assert few_images.cells(1.0, 2.0, 0.5) == ["1.0000", "2.0000", "50.0"]
