"""The names of the files with weights, and their check, and the names of the files with test results.

A row of the database names the file with weights. Other programs may write the row, so the name is checked
before it becomes a path.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import NewType

from hpo.errors import ArtifactNameError

WeightsName = NewType("WeightsName", str)
"""A name of the form that `weights_name` gives."""

_WEIGHTS = re.compile(r"trial-[0-9]{4,}-[0-9]+\.safetensors")


def weights_name(number: int, token: int) -> WeightsName:
    """Return the name of the weights that a trial has under a lease's token."""
    return WeightsName(f"trial-{number:04d}-{token}.safetensors")


def check_weights_name(name: str | None) -> WeightsName:
    """Return a name from the database. Raises `ArtifactNameError` for another form than that of hpo."""
    if name is None or not _WEIGHTS.fullmatch(name):
        raise ArtifactNameError(f"artifact name {name!r}: must be trial-NUMBER-TOKEN.safetensors")
    return WeightsName(name)


def results_name(weights: Sequence[WeightsName], shifts: int) -> str:
    """Return the name of the test results of a network, or of an ensemble of several.

    In a folder of their own: workers delete weights that no trial names.
    """
    stems = [name.removesuffix(".safetensors") for name in weights]
    stem = stems[0]
    if len(stems) > 1:
        stem = f"ensemble-{sha256(' '.join(sorted(stems)).encode()).hexdigest()[:16]}"
    return f"test/{stem}-shifts-{shifts}.safetensors" if shifts else f"test/{stem}.safetensors"


def metrics_name(weights: WeightsName) -> str:
    """Return the name of a file with the test metrics of a network and no predictions."""
    return f"{weights.removesuffix('.safetensors')}.metrics.json"
