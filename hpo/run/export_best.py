"""The export at the end of a study."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from hpo.artifacts.registry import open_artifacts
from hpo.export.any_bundle import load_bundle
from hpo.export.function_export import export_function
from hpo.export.metrics import AnyMetrics
from hpo.export.provenance import is_exported
from hpo.run.retry import AWAY_SECONDS, until_readable, until_storage_answers
from hpo.settings import Settings
from hpo.store.connection import Storage
from hpo.study.best import best_params
from hpo.study.study import Study

log = logging.getLogger("hpo.run")

TestResult = AnyMetrics | Mapping[str, float]
"""The metrics of a network on the test part, or those that a training function reported, by name."""


def export_best(
    storage: Storage, study: Study, settings: Settings, directory: Path, trained: bool
) -> TestResult:
    """Export the best full training to `directory`, unless it is there. Return its metrics.

    `trained`: whether trials were trained just now. Their weights are then worth waiting for. Waits while the
    storage is away. Raises `HpoError` as `make_export` does.
    """
    best = until_storage_answers(lambda: best_params(storage, study, "full"))
    if not trained and is_exported(study, best, directory):
        log.info("nothing to do: every trial is finished and the best model is exported")
        return load_bundle(directory).metrics
    export = make_export(storage, study, settings, directory)
    return until_readable(lambda: until_storage_answers(export), AWAY_SECONDS if trained else 0.0)


def make_export(
    storage: Storage, study: Study, settings: Settings, directory: Path
) -> Callable[[], TestResult]:
    """Return the function that exports the best full training to `directory` and returns its metrics.

    The function raises `HpoError` as `export_bundle` and `export_function` do. For a network, the call reads
    the data, imports torch, and raises as `study_workload` does.
    """
    artifacts = open_artifacts(settings, study.artifacts_name)
    if study.spec.is_function:
        return partial(export_function, storage, study, artifacts, directory)
    from hpo.export.export import export_bundle
    from hpo.run.workload import study_workload

    workload = study_workload(study, settings)
    log.info("testing the best model on the test images")
    return partial(export_bundle, storage, study, workload, artifacts, directory)
