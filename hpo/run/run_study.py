"""A whole study: search, promotion, full training, export.

This process waits for others most of the time. It imports no torch and holds no images.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from hpo.artifacts.registry import open_artifacts
from hpo.export.metrics import Metrics
from hpo.run.child import run_in_child
from hpo.run.retry import until_storage_answers
from hpo.settings import Settings
from hpo.spec.identity import Identity
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage, open_storage
from hpo.study.create import create
from hpo.study.lifecycle import Stopped, stopped
from hpo.study.promote import promote
from hpo.study.study import Study
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
    identity = run_in_child("check", settings, spec=spec.to_json(), source=source)
    storage = open_storage(settings)
    creation = create(storage, spec, source, Identity.from_attributes(identity))
    study = creation.study
    open_artifacts(settings, study.artifacts_name)  # a wrong location is refused before anything is trained
    queued = f", {counted(creation.added, 'trial')} queued" if creation.added else ""
    log.info("study %s: %s%s", study.name, creation.did, queued)
    trained = train(storage, study)
    mark = until_storage_answers(lambda: stopped(storage, study, "full"))
    if mark is not None:
        return StudyRun(storage, study, mark, None)
    until_storage_answers(lambda: promote(storage, study))  # raises where no trial can be promoted
    directory = bundle or Path(settings.artifacts_location, study.artifacts_name, "bundle")
    metrics = run_in_child("export", settings, study=study.name, directory=str(directory), trained=trained)
    return StudyRun(storage, study, None, Exported(TypeAdapter(Metrics).validate_python(metrics), directory))
