"""What was measured of an exported model, as an artifact: later exports read it, and score nothing again.

The artifact is a safetensors file. One file holds everything, so it is there as a whole or not at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from hpo.artifacts.base import ArtifactStore
from hpo.errors import ArtifactError
from hpo.export.evaluation import Evaluation
from hpo.export.metrics import AnyMetrics

LABELS, PROBABILITIES, RECORD = "labels", "probabilities", "record"
"""The arrays of the file. The record is JSON in UTF-8."""

PROBE = "test/probe"
"""The name of an empty file by which the store shows that it can be written."""


@dataclass(frozen=True, eq=False)
class Results:
    """What was measured of a model.

    metrics            on the test part
    validation         metrics on the mini images, by the names of an epoch's metrics
    unshifted          the same without shifts, None for a model without shifts
    evaluation         the predictions on the test part; None of numbers, and if metrics alone are stored
    """

    metrics: AnyMetrics
    validation: Mapping[str, float]
    unshifted: Mapping[str, float] | None = None
    evaluation: Evaluation | None = None


@dataclass(frozen=True)
class _Record:
    metrics: AnyMetrics
    validation: dict[str, float]
    unshifted: dict[str, float] | None
    classes: tuple[str, ...]


_RECORD = TypeAdapter(_Record)


def read_results(artifacts: ArtifactStore, name: str) -> Results | None:
    """Return the results in the artifact `name`, None if there are none.

    Raises `AwayError` if the store is away, and `ArtifactError` if the file is damaged: a new scoring would
    be a second read of the test part.
    """
    if name not in artifacts.list(name):
        return None
    try:
        arrays = load(artifacts.get(name))
        record = _RECORD.validate_json(arrays[RECORD].tobytes())
        evaluation = None
        if record.classes:
            evaluation = Evaluation(arrays[LABELS], arrays[PROBABILITIES], record.classes)
    except (SafetensorError, ValidationError, KeyError) as error:
        raise ArtifactError(f"{name}: damaged test results ({type(error).__name__})") from error
    return Results(record.metrics, record.validation, record.unshifted, evaluation)


def write_results(artifacts: ArtifactStore, name: str, results: Results) -> None:
    """Write results durably. Raises `AwayError`."""
    evaluation, unshifted = results.evaluation, results.unshifted
    record = _Record(
        results.metrics,
        dict(results.validation),
        None if unshifted is None else dict(unshifted),
        () if evaluation is None else tuple(evaluation.classes),
    )
    arrays: dict[str, npt.NDArray[Any]] = {RECORD: np.frombuffer(_RECORD.dump_json(record), dtype=np.uint8)}
    if evaluation is not None:
        arrays |= {LABELS: evaluation.labels, PROBABILITIES: evaluation.probabilities}
    artifacts.put(name, save({key: np.ascontiguousarray(array) for key, array in arrays.items()}))


def check_writable(artifacts: ArtifactStore) -> None:
    """Raise `AwayError` if the store cannot be written: before a scoring whose result would be lost."""
    artifacts.put(PROBE, b"")
    artifacts.delete(PROBE)


def read_metrics(artifacts: ArtifactStore, name: str) -> AnyMetrics | None:
    """Return the test metrics in the JSON artifact `name`, None if there are none.

    Raises `AwayError` if the store is away, and `ArtifactError` if the file is damaged.
    """
    if name not in artifacts.list(name):
        return None
    try:
        metrics: AnyMetrics = TypeAdapter(AnyMetrics).validate_json(artifacts.get(name))
    except ValidationError as error:
        raise ArtifactError(f"{name}: damaged test metrics") from error
    return metrics
