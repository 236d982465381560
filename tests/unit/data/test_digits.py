from pathlib import Path

import numpy as np

from hpo.data.registry import fetch, open_dataset

# A study's provenance names this digest. Another digest would be another data set.
DIGEST = "f5fba094931e07966e2f1f3a186449baf6d1b19f4a007f79a135d1cbdc78f4bd"


def test_digits_look_like_mnist() -> None:
    dataset = open_dataset("digits", Path("nowhere"))
    train, test = dataset.load_train(), dataset.load_test()
    assert (len(train), len(test)) == (1437, 360)
    assert train.size == test.size == (28, 28)
    assert dataset.classes == tuple("0123456789")
    for part in (train, test):
        counts = np.bincount(part.labels)
        assert counts.max() - counts.min() <= 8  # stratified
        border = part.images.copy()
        border[:, 4:24, 4:24] = 0
        assert not border.any()
        assert part.images.max() > 240  # white on black
        assert part.images.mean() < 64


def test_digits_are_upright() -> None:
    train = open_dataset("digits", Path("nowhere")).load_train()
    seven = train.images[train.labels == 7].mean(axis=0)
    # The mean 7 has its bar at the top and nothing at the lower left.
    assert seven[4:10, 8:20].mean() > 3 * seven[16:24, 4:9].mean()


def test_digits_are_the_same_every_time() -> None:
    first, again = (open_dataset("digits", Path("nowhere")) for _ in range(2))
    assert first.load_train().sha256() == again.load_train().sha256()
    assert first.load_test().sha256() == again.load_test().sha256()
    assert first.load_train().sha256() == DIGEST


def test_fetch_does_nothing(tmp_path: Path) -> None:
    fetch("digits", tmp_path)
    assert list(tmp_path.iterdir()) == []
