"""The export at the end of a study."""

import logging
from collections.abc import Callable, Mapping
from functools import partial

from hpo.artifacts.registry import open_artifacts
from hpo.export.any_bundle import load_bundle
from hpo.export.function_export import export_function
from hpo.export.metrics import AnyMetrics
from hpo.export.provenance import is_exported
from hpo.export.request import ExportRequest
from hpo.run.retry import AWAY_SECONDS, until_readable, until_storage_answers
from hpo.settings import Settings
from hpo.store.connection import Storage
from hpo.study.best import choose
from hpo.study.study import Study

log = logging.getLogger("hpo.run")

TestResult = AnyMetrics | Mapping[str, float]
"""The metrics of a network on the test part, or those that a training function reported, by name."""


def export_best(
    storage: Storage, study: Study, settings: Settings, request: ExportRequest, trained: bool
) -> TestResult:
    """Export a model, unless it is in the folder already. Return its metrics.

    `trained`: whether trials were trained just now. Their weights are then worth waiting for. Waits while the
    storage is away. Raises `HpoError` as `make_export` does.
    """
    model, shifts = request.model_of(study.spec), request.shifts_of(study.spec)
    chosen = until_storage_answers(lambda: choose(storage, study, model))
    if not trained and is_exported(study, chosen, shifts, request.directory):
        log.info("nothing to do: every trial is finished and the model is exported")
        return load_bundle(request.directory).metrics
    export = make_export(storage, study, settings, request)
    return until_readable(lambda: until_storage_answers(export), AWAY_SECONDS if trained else 0.0)


def make_export(
    storage: Storage, study: Study, settings: Settings, request: ExportRequest
) -> Callable[[], TestResult]:
    """Return the function that exports a model and returns its metrics.

    The function raises `HpoError` as `export_bundle` and `export_function` do. For a network, the call reads
    the data, imports torch, and raises as `study_workload` does.
    """
    artifacts = open_artifacts(settings, study.artifacts_name)
    if study.spec.is_function:
        return partial(export_function, storage, study, artifacts, request)
    from hpo.export.export import export_bundle
    from hpo.run.workload import study_workload

    return partial(export_bundle, storage, study, study_workload(study, settings), artifacts, request)
