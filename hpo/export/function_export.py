"""The last step of a study that trains with a function: write the best full training as a bundle.

No code of the user runs, and nothing is scored: the metrics are those that the function reported.
"""

from collections.abc import Mapping

from safetensors.numpy import load

from hpo.artifacts.base import ArtifactStore
from hpo.errors import AwayError
from hpo.export.function_bundle import FunctionContents, FunctionSpec, write_function_bundle
from hpo.export.provenance import installed_versions, record_export, study_provenance
from hpo.export.request import ExportRequest
from hpo.export.weights import read_weights
from hpo.store.connection import Storage
from hpo.study.best import BestParams, choose
from hpo.study.study import Study
from hpo.values.state import StateError


def export_function(
    storage: Storage, study: Study, artifacts: ArtifactStore, request: ExportRequest
) -> Mapping[str, float]:
    """Write a full training of the study as a bundle. Return the metrics of its kept epoch.

    Raises `NotFoundError` before the full training has completed, `InputError` for an ensemble or shifts, and
    `AwayError` if its state and files cannot be read.
    """
    request.shifts_of(study.spec)
    chosen = choose(storage, study, request.model_of(study.spec))
    best, (row,) = chosen.best, chosen.members
    name, arrays = read_weights(study, row, artifacts, load)
    contents = FunctionContents(
        function=_function(study, best),
        arrays=arrays,
        params=best.params,
        metrics=dict(best.record.metrics or {}),
        provenance={
            **study_provenance(study, chosen),
            "function_sha256": study.identity.function,
            "versions": installed_versions(),
        },
    )
    try:
        write_function_bundle(request.directory, contents)
    except StateError as error:
        raise AwayError(f"{name}: {error}") from error
    # After the write, which may take longer than Postgres lets a transaction idle.
    record_export(storage, study, chosen, 0, request.directory)
    return contents.metrics


def _function(study: Study, best: BestParams) -> FunctionSpec:
    record = best.record
    assert study.spec.train is not None, "the study trains with a function"
    return FunctionSpec(study.spec.train.function, record.seed, record.epochs, record.kept_epoch)
