"""IDX files, the format of MNIST and its relatives.

A file has two zero bytes, one byte for the type of its numbers (8: unsigned byte), one byte for the number
of dimensions, each dimension as a big-endian 32-bit integer, and then the numbers.
"""

import math
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hpo.data.dataset import DataError


def shape(path: Path, dimensions: int) -> tuple[int, ...]:
    """Check the header and the size of an IDX file of bytes, and return its shape.

    Raises DataError if the header does not declare bytes in `dimensions` dimensions, or if the file is
    shorter or longer than the header declares.
    """
    header = 4 + 4 * dimensions
    with path.open("rb") as file:
        head = file.read(header)
    actual = path.stat().st_size
    if len(head) < header:
        raise DataError(f"{path}: {actual} bytes, too short for the IDX header of {header} bytes{_REMEDY}")
    expected_magic = bytes((0, 0, 8, dimensions))
    if head[:4] != expected_magic:
        raise DataError(f"{path}: begins with {head[:4].hex()} and not with {expected_magic.hex()}{_REMEDY}")
    sizes = struct.unpack(f">{dimensions}I", head[4:])
    expected = header + math.prod(sizes)
    if actual != expected:
        declared = "x".join(map(str, sizes))
        raise DataError(f"{path}: {actual} bytes, expected {expected} ({header} + {declared}){_REMEDY}")
    return sizes


def read(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """Read the numbers of an IDX file of bytes. Raises DataError as `shape` does."""
    sizes = shape(path, dimensions)
    return np.fromfile(path, np.uint8, offset=4 + 4 * dimensions).reshape(sizes)


_REMEDY = "; the file is damaged: delete it and fetch it again"
