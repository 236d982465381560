"""A whole study: search, promotion, full training, export."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hpo.artifacts.registry import open_artifacts
from hpo.export.bundle import load_bundle
from hpo.export.export import export_bundle, is_exported
from hpo.export.metrics import Metrics
from hpo.run.retry import AWAY_SECONDS, until_readable, until_storage_answers
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage, open_storage
from hpo.study.best import best_params
from hpo.study.create import create
from hpo.study.lifecycle import Stopped, stopped
from hpo.study.promote import promote
from hpo.study.study import Study
from hpo.training.workload import checked_workload
from hpo.values.wording import counted

log = logging.getLogger("hpo.run")

Train = Callable[[Storage, Study], bool]
"""Trains a study until no trial is open, promotion included. Returns whether there was an open trial."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The exported model of a study. `metrics`: on the test images; `bundle`: the folder of the files."""

    metrics: Metrics
    bundle: Path


@dataclass(frozen=True, slots=True)
class StudyRun:
    """The outcome of `run_study`. Exactly one of `stopped` and `exported` is None."""

    storage: Storage
    study: Study
    stopped: Stopped | None
    exported: Exported | None


def run_study(
    spec: StudySpec, settings: Settings, train: Train, source: str, bundle: Path | None = None
) -> StudyRun:
    """Run a study from its spec to the exported model, or continue it where it stands.

    `source` names the study file in messages. `bundle` is the folder of the exported model; by default it is
    below the artifacts of the study. Raises `HpoError`.
    """
    workload = checked_workload(spec, settings, source)
    storage = open_storage(settings)
    creation = create(storage, spec, source, workload.identity)
    study = creation.study
    artifacts = open_artifacts(settings, study.artifacts_name)
    queued = f", {counted(creation.added, 'trial')} queued" if creation.added else ""
    log.info("study %s: %s%s", study.name, creation.did, queued)
    trained = train(storage, study)
    mark = until_storage_answers(lambda: stopped(storage, study, "full"))
    if mark is not None:
        return StudyRun(storage, study, mark, None)
    until_storage_answers(lambda: promote(storage, study))  # raises where no trial can be promoted
    best = until_storage_answers(lambda: best_params(storage, study, "full"))
    directory = bundle or Path(settings.artifacts_location, study.artifacts_name, "bundle")
    if not trained and is_exported(study, best, directory):
        log.info("nothing to do: every trial is finished and the best model is exported")
        metrics = load_bundle(directory).metrics
    else:
        log.info("testing the best model on the test images")
        export = partial(export_bundle, storage, study, workload, artifacts, directory)
        # Weights that were written just now are worth waiting for.
        seconds = AWAY_SECONDS if trained else 0.0
        metrics = until_readable(lambda: until_storage_answers(export), seconds)
    return StudyRun(storage, study, None, Exported(metrics, directory))
