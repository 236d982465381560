"""Reading a study file as plain values, and passing them on as JSON."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpo.errors import SpecError

MAX_DEPTH = 20
"""Deepest nesting of lists and tables. No key needs more than a few levels."""


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables and values of a TOML file. Raises `SpecError`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SpecError(f"{path}: cannot read the study file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not a text file in UTF-8 (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: not valid TOML: {error}") from error
    except ValueError as error:  # Python converts no integer of more than 4300 digits
        raise SpecError(f"{path}: a whole number has too many digits") from error
    except RecursionError as error:
        raise SpecError(f"{path}: lists and tables are nested more than {MAX_DEPTH} deep") from error


def to_json(raw: Mapping[str, Any], source: str) -> str:
    """Return plain values as JSON. Raises `SpecError`; `source` begins the message."""
    if _is_deeper(raw, MAX_DEPTH):
        raise SpecError(f"{source}: lists and tables are nested more than {MAX_DEPTH} deep")
    try:
        return json.dumps(raw, default=_plain)
    except TypeError as error:  # a key that JSON has no text for
        raise SpecError(f"{source}: {error}") from error
    except ValueError as error:  # a hexadecimal integer may be longer than its decimal text may be
        raise SpecError(f"{source}: a whole number has too many digits") from error


def _is_deeper(value: object, depth: int) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, list | tuple):
        return False
    return depth == 0 or any(_is_deeper(entry, depth - 1) for entry in value)


def _plain(value: object) -> object:
    """Return a value for JSON: a number of numpy as a number, anything else as text."""
    return value.item() if isinstance(value, np.generic) else str(value)
