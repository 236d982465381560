"""The folder of a bundle: its files, and whether a bundle can be written there."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hpo.errors import InputError

PARAMS, MODEL, METRICS, PROVENANCE = "params.json", "model.json", "metrics.json", "provenance.json"
WEIGHTS = "weights.safetensors"
FILES = frozenset({PARAMS, MODEL, WEIGHTS, METRICS, PROVENANCE})


def check_folder(directory: Path) -> None:
    """Raise `InputError` if no bundle can be written to `directory`: before the training that makes one."""
    directory = directory.resolve()
    try:
        is_occupied(directory)
    except OSError as error:
        raise InputError(f"{directory}: cannot read the folder: {error.strerror}") from error
    # The bundle is built beside the folder, and then renamed.
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
    if names not in (set(), FILES):
        raise InputError(
            f"{directory}: is not empty and not a bundle: choose a new folder, or a bundle to replace"
        )
    return bool(names)
