import numpy as np
import pytest

from hpo.data.dataset import DataError, Dataset, Labelled

IMAGES = np.zeros((3, 4, 5), dtype=np.uint8)
LABELS = np.array([0, 1, 1])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES.astype(np.float32), LABELS, "images are float32: they have to be uint8"),
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
