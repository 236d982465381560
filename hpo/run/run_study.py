"""A whole study: search, promotion, full training, export.

This process waits for others most of the time. It imports no torch and holds no images.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from hpo.errors import NotFoundError
from hpo.export.any_bundle import load_bundle
from hpo.export.bundle_folder import check_folder
from hpo.export.function_bundle import FunctionBundle
from hpo.export.metrics import AnyMetrics
from hpo.export.request import ExportRequest
from hpo.launch.executors.base import Executor
from hpo.launch.executors.registry import make_executor
from hpo.run import studies
from hpo.run.artifacts import check_artifacts
from hpo.run.displays import has_audience
from hpo.run.fleet import Fleet, ShowProgress, log_lines, train_study
from hpo.run.progress import StudyProgress
from hpo.run.retry import until_storage_answers
from hpo.run.studies import SpecLike, Study, read_spec, run_export, store_study
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage
from hpo.study.best import BestParams
from hpo.study.completion import is_done
from hpo.study.lifecycle import Stopped, stopped
from hpo.values.resources import Resources
from hpo.values.wording import counted

if TYPE_CHECKING:
    from hpo.export.bundle import Bundle

log = logging.getLogger("hpo.run")


@dataclass(frozen=True, slots=True)
class StudyRun:
    """The outcome of `run_study`.

    `best`: the best trial of full training, with its parameters in `best.params`. `metrics`: on the test
    part, or those that a training function reported, by name. `directory`: the folder of the bundle. All
    three are None if the study was stopped; `stopped` then says why.
    """

    study: Study
    stopped: Stopped | None = None
    best: BestParams | None = None
    metrics: AnyMetrics | Mapping[str, float] | None = None
    directory: Path | None = None

    @property
    def bundle(self) -> Bundle | FunctionBundle:
        """Open the bundle; a network imports torch. Raises `NotFoundError` if the study was stopped."""
        if self.directory is None:
            raise NotFoundError(f"study {self.study.name!r} was stopped before a model was exported")
        return load_bundle(self.directory)


def run_study(
    spec: SpecLike,
    executor: Executor | str = "local",
    *,
    storage: Storage | str | None = None,
    bundle: Path | str | None = None,
    progress: bool | None = None,
) -> StudyRun:
    """Run a study from its spec to the exported model, or continue it where it stands.

    `spec`: a `StudySpec`, a mapping of plain values, or the path of a study file. `executor`: where workers
    run; by default on the devices of this machine. `storage`: an opened storage or a URL; without it that of
    HPO_STORAGE_URL, or the embedded server. `bundle`: the folder of the exported model, by default below the
    artifacts of the study. `progress`: whether to show bars in a notebook or on a terminal, and lines on
    standard error elsewhere; by default in a notebook, and if standard output is a terminal. Without, lines
    go to the log `hpo.launch`.

    Runs in any thread. In the main thread, SIGINT, SIGTERM and an interrupt of the notebook's kernel stop the
    workers and raise `KeyboardInterrupt`. Nothing is lost, and the next call continues. Raises `HpoError`.
    """
    parsed, source = read_spec(spec)
    if bundle is not None:
        check_folder(Path(bundle))
    if isinstance(executor, str):
        executor = make_executor(executor, **_needs(parsed))
    study, creation = store_study(parsed, source, storage, probes=True)
    check_artifacts(study.storage, study.stored, study.settings)
    directory = _bundle_folder(study) if bundle is None else Path(bundle)
    check_folder(directory)
    queued = f", {counted(creation.added, 'trial')} queued" if creation.added else ""
    log.info("study %s: %s%s", study.name, creation.did, queued)
    fleet = Fleet(executor, study.settings, promotes=True)
    trained = train_study(study.storage, study.stored, fleet, _display(progress))
    mark = until_storage_answers(lambda: stopped(study.storage, study.stored, "full"))
    if mark is not None and not until_storage_answers(lambda: is_done(study.storage, study.stored)):
        return StudyRun(study, mark)
    until_storage_answers(lambda: studies.promote(study))  # raises where no trial can be promoted
    metrics = run_export(study, ExportRequest(directory), trained)
    return StudyRun(
        study,
        best=until_storage_answers(lambda: studies.best_params(study, "full")),
        metrics=metrics if parsed.is_function else TypeAdapter(AnyMetrics).validate_python(metrics),
        directory=directory,
    )


def _display(progress: bool | None) -> ShowProgress:
    return StudyProgress if progress or (progress is None and has_audience()) else log_lines


def _needs(spec: StudySpec) -> dict[str, Resources]:
    """Return the options of an executor for what one trial of a training function needs."""
    return {"resources": spec.make_resources()} if spec.is_function else {}


def _bundle_folder(study: Study) -> Path:
    return Path(study.settings.artifacts_location, study.stored.artifacts_name, "bundle")
