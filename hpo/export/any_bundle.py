"""Bundles of both kinds: a network that hpo has trained, or the result of a training function.

This module imports torch only to open a network.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hpo.errors import NotFoundError
from hpo.export.bundle_folder import FUNCTION
from hpo.export.function_bundle import FunctionBundle, open_function_bundle

if TYPE_CHECKING:
    from hpo.export.bundle import Bundle


def load_bundle(directory: Path | str) -> Bundle | FunctionBundle:
    """Open a bundle: a `Bundle` of a network, or a `FunctionBundle` of a training function.

    Weights and states are read on first use. The bundle of a network may name a class of the user's own,
    which is imported: open only bundles you trust. Raises `NotFoundError` if the folder does not exist, and
    `InputError` if a file is missing or damaged, or if the class cannot be imported.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise NotFoundError(f"{directory}: no such folder; a bundle is one, as `hpo export` writes it")
    if (directory / FUNCTION).is_file():
        return open_function_bundle(directory)
    from hpo.export.bundle import open_bundle

    return open_bundle(directory)
