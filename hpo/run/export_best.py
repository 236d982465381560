"""The export at the end of a study."""

import logging
from functools import partial
from pathlib import Path

from hpo.artifacts.registry import open_artifacts
from hpo.export.bundle import load_bundle
from hpo.export.export import export_bundle, is_exported
from hpo.export.metrics import AnyMetrics
from hpo.run.retry import AWAY_SECONDS, until_readable, until_storage_answers
from hpo.run.workload import study_workload
from hpo.settings import Settings
from hpo.store.connection import Storage
from hpo.study.best import best_params
from hpo.study.study import Study

log = logging.getLogger("hpo.run")


def export_best(
    storage: Storage, study: Study, settings: Settings, directory: Path, trained: bool
) -> AnyMetrics:
    """Export the best fully trained model to `directory`, unless it is there. Return its test metrics.

    `trained`: whether trials were trained just now. Their weights are then worth waiting for. Waits while the
    storage is away. Raises `HpoError` as `export_bundle` and `study_workload` do.
    """
    best = until_storage_answers(lambda: best_params(storage, study, "full"))
    if not trained and is_exported(study, best, directory):
        log.info("nothing to do: every trial is finished and the best model is exported")
        return load_bundle(directory).metrics
    workload = study_workload(study, settings)
    log.info("testing the best model on the test images")
    artifacts = open_artifacts(settings, study.artifacts_name)
    export = partial(export_bundle, storage, study, workload, artifacts, directory)
    return until_readable(lambda: until_storage_answers(export), AWAY_SECONDS if trained else 0.0)
