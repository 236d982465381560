"""Encode and decode the states of members as safetensors.

A file holds the arrays of a state, and its other values as JSON in the metadata.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from hpo.errors import one_line
from hpo.values.state import Arrays, SessionState


class CheckpointError(Exception):
    """A checkpoint that is damaged, or does not fit the session that would resume from it."""


def encode_arrays(arrays: Arrays, metadata: dict[str, str] | None = None) -> bytes:
    # safetensors writes a file that it cannot read if it is given no arrays and an empty dict.
    return save({name: np.asarray(array, order="C") for name, array in arrays.items()}, metadata or None)


def encode_state(state: SessionState) -> bytes:
    return encode_arrays(state.arrays, {name: json.dumps(value) for name, value in state.meta.items()})


def decode_state(data: bytes, epochs: int) -> SessionState:
    """Return the state that `encode_state` encoded; `epochs` are those it was trained.

    Raises `CheckpointError` if the data are damaged.
    """
    try:
        return SessionState(epochs, load(data), _metadata(data))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(one_line(error)) from error


def _metadata(data: bytes) -> Mapping[str, Any]:
    """Return the metadata of valid safetensors data, whose reader drops them.

    The format is the length of the header as 8 bytes, little-endian, then the header as JSON.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8:end]).get("__metadata__", {})
    return {name: json.loads(text) for name, text in metadata.items()}
