"""Reading a study file as plain values, and passing them on as JSON."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpo.errors import SpecError
from hpo.spec.plain_values import MAX_DEPTH, plain_values


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
    """Return a spec as JSON. Raises `SpecError` as `plain_values` does; `source` begins the message."""
    try:
        return json.dumps(plain_values(raw, source))
    except ValueError as error:  # a hexadecimal integer may be longer than its decimal text may be
        raise SpecError(f"{source}: a whole number has too many digits") from error
