import hashlib

import numpy as np
import pytest

from hpo.data.dataset import DataError, Dataset, Labelled

IMAGES = np.zeros((3, 4, 5), dtype=np.uint8)
LABELS = np.array([0, 1, 1])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            IMAGES.astype(np.float64),
            LABELS,
            "inputs are float64: they have to be uint8, as images are, or fl",
        ),
        (
            np.zeros(3, np.float32),
            LABELS,
            r"inputs have shape \(3,\): it has to be \(N, F\) or \(N, C, ...\)",
        ),
        (
            IMAGES,
            LABELS.astype(np.float32)[:2],
            r"targets have shape \(2,\): it has to be \(3,\) or \(3, K\)",
        ),
        (IMAGES[0], LABELS, r"images have shape \(4, 5\): it has to be \(N, H, W\)"),
        (IMAGES[:0], LABELS[:0], r"images have shape \(0, 4, 5\): .* N > 0"),
        (
            np.zeros((3, 32, 32, 3), np.uint8),
            LABELS,
            r"\(3, 32, 32, 3\): axis 1 has to be the 1 or 3 channels",
        ),
        (IMAGES, LABELS.astype(np.int32), "labels are int32 .* int64"),
        (IMAGES, LABELS[:2], r"shape \(2,\): .* shape \(3,\), one for each image"),
        (IMAGES, LABELS - 1, "label -1: labels count from 0"),
    ],
)
def test_wrong_arrays_are_refused_with_the_rule(images: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        Labelled(images, labels)
    assert "\n" not in str(error.value)


def test_channels_and_size_follow_from_the_shape() -> None:
    grey = Labelled(IMAGES, LABELS)
    assert (len(grey), grey.channels, grey.size) == (3, 1, (4, 5))
    colour = Labelled(np.zeros((3, 3, 4, 5), np.uint8), LABELS)
    assert (len(colour), colour.channels, colour.size) == (3, 3, (4, 5))


def test_table_has_features_and_other_floats_have_channels() -> None:
    table = Labelled(np.zeros((3, 7), np.float32), LABELS)
    assert (table.shape, table.channels, table.noun) == ((7,), 7, "example")
    series = Labelled(np.zeros((3, 2, 9), np.float32), np.zeros((3, 4), np.float32))
    assert (series.shape, series.channels) == ((2, 9), 2)
    assert Labelled(IMAGES, LABELS).shape == (1, 4, 5)


def test_digest_of_images_and_labels_is_that_of_stored_studies() -> None:
    images = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    expected = hashlib.sha256(b"(3, 4, 5)" + images.tobytes() + LABELS.astype("<i8").tobytes()).hexdigest()
    assert Labelled(images, LABELS).sha256() == expected


def test_digest_of_numbers_covers_their_types_and_shapes() -> None:
    zeros = np.zeros((4, 2), np.float32)
    digests = {
        Labelled(zeros, np.zeros(4, np.float32)).sha256(),
        Labelled(zeros, np.zeros((4, 1), np.float32)).sha256(),
        Labelled(zeros, np.zeros((4, 2), np.float32)).sha256(),
        Labelled(zeros, np.zeros(4, np.int64)).sha256(),
        Labelled(zeros.reshape(4, 1, 2), np.zeros(4, np.float32)).sha256(),
        Labelled(zeros, np.array([0, 0, 0, 1], np.float32)).sha256(),
    }
    assert len(digests) == 6


def test_digest_covers_pixels_labels_shape_and_order_only() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 4, 5), dtype=np.uint8)
    digest = Labelled(images, LABELS).sha256()
    assert digest == Labelled(np.asfortranarray(images), LABELS.copy()).sha256()
    others = (
        Labelled(images ^ np.uint8(1), LABELS),
        Labelled(images, LABELS[::-1].copy()),
        Labelled(images[::-1], LABELS),
        Labelled(images.reshape(3, 5, 4), LABELS),
        Labelled(images[:, None], LABELS),
    )
    assert len({digest, *(other.sha256() for other in others)}) == 6


def test_each_part_is_read_when_it_is_loaded() -> None:
    reads = []

    def read(part: str) -> Labelled:
        reads.append(part)
        return Labelled(IMAGES, LABELS)

    dataset = Dataset("d", ("a", "b"), lambda: read("train"), lambda: read("test"))
    assert reads == []
    dataset.load_train()
    assert reads == ["train"]
    dataset.load_test()
    assert reads == ["train", "test"]


def test_label_without_a_class_is_refused() -> None:
    dataset = Dataset("d", ("a", "b"), lambda: Labelled(IMAGES, LABELS), lambda: Labelled(IMAGES, LABELS + 1))
    dataset.load_train()
    with pytest.raises(DataError, match=r"d: label 2 in the test part: 2 classes have labels 0 to 1"):
        dataset.load_test()


@pytest.mark.parametrize("classes", [(), ("a",), ("a", "a")])
def test_fewer_than_two_distinct_classes_are_refused(classes: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="two or more different names"):
        Dataset("d", classes, lambda: Labelled(IMAGES, LABELS), lambda: Labelled(IMAGES, LABELS))
