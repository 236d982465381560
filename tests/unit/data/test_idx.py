from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hpo.data import idx
from hpo.data.dataset import DataError


def test_shape_comes_from_the_header(tmp_path: Path, write_idx: Callable[..., None]) -> None:
    write_idx(tmp_path / "images", np.zeros((3, 28, 20), np.uint8))
    write_idx(tmp_path / "labels", np.zeros(300, np.uint8))
    assert idx.shape(tmp_path / "images", 3) == (3, 28, 20)
    assert idx.shape(tmp_path / "labels", 1) == (300,)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:0], "0 bytes, too short for the IDX header of 16 bytes"),
        (lambda content: content[:15], "15 bytes, too short"),
        (lambda content: content[:-1], r"1583 bytes, expected 1584 \(16 \+ 2x28x28\)"),
        (lambda content: content + b"0", "1585 bytes, expected 1584"),
        (lambda content: b"<htm" + content[4:], "begins with 3c68746d and not with 00000803"),
        (lambda content: b"\0\0\x08\x01" + content[4:], "begins with 00000801 and not with 00000803"),
    ],
)
def test_damaged_file_is_named(
    tmp_path: Path, write_idx: Callable[..., None], damage: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "images"
    write_idx(path, np.zeros((2, 28, 28), np.uint8))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message) as error:
        idx.shape(path, 3)
    assert str(error.value).startswith(f"{path}: ")
    assert "delete it and fetch it again" in str(error.value)
