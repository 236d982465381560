"""The folder of a bundle: its files, how a bundle is written, and whether one can be written there.

There are two kinds of bundles: a network that hpo has trained, and the result of a training function.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from hpo.errors import HpoError, InputError

T = TypeVar("T")

Occupied = Callable[[Path], bool]
"""Returns whether a folder has the content that a new one would replace. Raises `InputError` for others."""

PARAMS, MODEL, METRICS, PROVENANCE = "params.json", "model.json", "metrics.json", "provenance.json"
WEIGHTS = "weights.safetensors"
ANALYSIS = "analysis"
FILES = frozenset({PARAMS, MODEL, WEIGHTS, METRICS, PROVENANCE})
NETWORK_EXTRAS = frozenset({ANALYSIS})
"""What the bundle of a network has, and what it may have: a folder with pictures and tables of its errors."""

FUNCTION, STATE, TRIAL_FILES = "function.json", "state.safetensors", "files"
FUNCTION_FILES = frozenset({PARAMS, FUNCTION, METRICS, PROVENANCE})
OPTIONAL_FILES = frozenset({STATE, TRIAL_FILES})
"""What the bundle of a training function has, and what it may have."""


def check_folder(directory: Path, occupied: Occupied | None = None) -> None:
    """Raise `InputError` if no bundle can be written to `directory`: before the training that makes one.

    `occupied`: the rule of another kind of folder, as `is_occupied`.
    """
    directory = directory.resolve()
    try:
        (occupied or is_occupied)(directory)
    except OSError as error:
        raise InputError(f"{directory}: cannot read the folder: {error.strerror}") from error
    # The content is built beside the folder, and then renamed.
    parent = next(parent for parent in directory.parents if parent.exists())
    if not parent.is_dir():
        raise InputError(f"{directory}: cannot be made, {parent} is a file; choose another folder")
    try:
        TemporaryDirectory(prefix=f".{directory.name}-", dir=parent).cleanup()
    except OSError as error:  # tried, because root may write where the permissions do not say so
        raise InputError(
            f"{directory}: cannot write in {parent}: {error.strerror}; choose another folder"
        ) from error


def is_occupied(directory: Path) -> bool:
    """Return whether `directory` is a bundle. Raises `InputError` for anything but a bundle or an empty
    folder."""
    if not directory.exists():
        return False
    if not directory.is_dir():
        raise InputError(f"{directory}: a bundle is a folder, and this is not one")
    names = {path.name for path in directory.iterdir()}
    if names and names - NETWORK_EXTRAS != FILES and names - OPTIONAL_FILES != FUNCTION_FILES:
        raise InputError(
            f"{directory}: is not empty and not a bundle: choose a new folder, or a bundle to replace"
        )
    return bool(names)


@contextmanager
def new_bundle(directory: Path) -> Iterator[Path]:
    """Yield a new folder that takes the place of `directory` after the block, as `new_folder` does."""
    with new_folder(directory, is_occupied) as new:
        yield new


@contextmanager
def new_folder(directory: Path, is_occupied: Occupied) -> Iterator[Path]:
    """Yield a new folder that takes the place of `directory` after the block.

    `is_occupied` returns whether there is an old one to replace, and raises `InputError` if anything else is
    there. If the block raises, nothing is left. Between the two renames the folder does not exist. Raises
    `HpoError` if the folder cannot be written.
    """
    directory = directory.resolve()  # replace the target of a link, not the link
    try:
        occupied = is_occupied(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as beside:
            new, old = Path(beside, "new"), Path(beside, "old")
            new.mkdir()
            yield new
            if occupied:
                directory.rename(old)
            try:
                new.rename(directory)
            except OSError:
                if occupied:
                    old.rename(directory)
                raise
    except OSError as error:
        raise HpoError(f"{directory}: cannot write the folder: {error.strerror}") from error


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON. Raises `ValueError` for a number that is not finite."""
    text = json.dumps(to_jsonable_python(value), indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, kind: type[T]) -> T:
    """Return the value in a file, of the given type. Raises `InputError` with one line."""
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        location = [".".join(map(str, first["loc"]))] if first["loc"] else []
        rule = first["msg"].removeprefix("Value error, ")
        raise InputError(": ".join([str(path), *location, rule])) from error
