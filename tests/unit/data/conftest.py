import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from hpo.data.dataset import Labelled

WriteIdx = Callable[[Path, npt.NDArray[np.uint8]], None]


@pytest.fixture
def write_idx() -> WriteIdx:
    """Return a call that writes an array as an IDX file, the format of MNIST and its relatives."""

    def write(path: Path, array: npt.NDArray[np.uint8]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
        path.write_bytes(header + array.tobytes())

    return write


@pytest.fixture
def emnist_root() -> Path:
    """Return the folder of the real EMNIST ByClass files."""
    root = Path(os.environ.get("HPO_DATA_DIR", ""))
    if not (root / "EMNIST" / "raw").is_dir():
        pytest.skip("HPO_DATA_DIR is not set to a folder with EMNIST/raw")
    return root


@pytest.fixture
def labelled() -> Labelled:
    """Return thirty random images of shape 4x6 in three classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 4, 6), dtype=np.uint8)
    return Labelled(images, np.arange(30, dtype=np.int64) % 3)
