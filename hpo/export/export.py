"""The last step of a study: test a fully trained model once, and write it as a bundle."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from hpo.artifacts.base import ArtifactStore
from hpo.artifacts.names import metrics_name, results_name
from hpo.data import Labelled
from hpo.export.analysis.folder import Analysed, analysis_files
from hpo.export.analysis.folding import folding_of
from hpo.export.analysis.predictions import Predictions
from hpo.export.bundle import BundleContents, write_bundle
from hpo.export.metrics import AnyMetrics
from hpo.export.provenance import record_export, study_provenance, versions
from hpo.export.request import ExportRequest
from hpo.export.results import Results, check_writable, read_metrics, read_results, write_results
from hpo.export.scoring import HeldOutPart, validation_metrics
from hpo.export.trained_model import TrainedModel, read_model
from hpo.store.connection import Storage
from hpo.store.exclusive import exclusive
from hpo.study.best import Chosen, choose
from hpo.study.scored import ScoredModel, record_scoring, scored_models
from hpo.study.study import Study
from hpo.training.workload import Workload

log = logging.getLogger("hpo.run")

PACKAGES = ("hpo", "torch", "torchvision", "optuna", "numpy", "scikit-learn")

DEVICE = "cpu"
"""Scores are those that an opened bundle gives, and that is on the CPU."""


def export_bundle(
    storage: Storage, study: Study, workload: Workload, artifacts: ArtifactStore, request: ExportRequest
) -> AnyMetrics:
    """Write a fully trained model of the study as a bundle. Return its test metrics.

    A model is tested once: the results are stored beside its weights, and later exports read them. Raises
    `NotFoundError` before the full training has completed, `InputError` for shifts of inputs that are no
    images, and `AwayError` if the weights cannot be read or the results cannot be stored.
    """
    chosen = choose(storage, study, request.model_of(study.spec))
    model = read_model(study, chosen, request.shifts_of(study.spec), workload, artifacts)
    export = _Export(storage, study, workload, artifacts, chosen, model)
    results = export.results()
    contents = BundleContents(
        spec=model.spec,
        weights=model.weights,
        params=chosen.best.params,
        metrics=results.metrics,
        provenance=export.provenance(results),
        analysis=export.analysis(results),
    )
    write_bundle(request.directory, contents)
    # After the write, which may take longer than Postgres lets a transaction idle.
    record_export(storage, study, chosen, model.spec.shifts, request.directory)
    return results.metrics


@dataclass(frozen=True, eq=False)
class _Export:
    """An export of a network or an ensemble."""

    storage: Storage
    study: Study
    workload: Workload
    artifacts: ArtifactStore
    chosen: Chosen
    model: TrainedModel

    def results(self) -> Results:
        """Return what was measured of the model, measured and stored on the first call."""
        name = results_name(self.model.names, self.model.spec.shifts)
        known = self._stored(name)
        if known is not None:
            return known
        with exclusive(self.storage, f"{self.study.artifacts_name}/{name}"):  # another export may test it now
            return self._stored(name) or self._measure(name)

    def provenance(self, results: Results) -> dict[str, Any]:
        """Return the origin of the model: enough to compare two models, and to repeat the training."""
        workload, hashes = self.workload, self.workload.identity.data
        with self.storage.transaction() as connection:
            reads = scored_models(connection, self.study)
        return {
            **study_provenance(self.study, self.chosen, self.model.spec.shifts),
            **results.validation,
            **({} if results.unshifted is None else {"unshifted": dict(results.unshifted)}),
            "test_reads": [read.to_json() for read in reads],
            "data": workload.dataset.name,
            "data_sha256": workload.train.sha256() if hashes is None else hashes.train,
            "network_sha256": workload.identity.network,
            "versions": versions(PACKAGES),
        }

    def analysis(self, results: Results) -> Mapping[str, bytes]:
        """Return the files about the errors of a model of classes, as its predictions were stored."""
        evaluation, dataset = results.evaluation, self.workload.dataset
        if evaluation is None:
            return {}
        classes = tuple(evaluation.classes)
        predictions = Predictions.of(evaluation.labels, evaluation.probabilities, folding_of(classes))
        images = HeldOutPart(dataset).image_of
        return analysis_files(Analysed(predictions, classes, dataset.name, "test", images)).files

    def _stored(self, name: str) -> Results | None:
        results = read_results(self.artifacts, name)
        if results is not None or not self._is_plain:
            return results
        metrics = read_metrics(self.artifacts, metrics_name(self.model.names[0]))
        return None if metrics is None else Results(metrics, self._recorded)

    def _measure(self, name: str) -> Results:
        check_writable(self.artifacts)
        predictor, shifts = self.model.predictor, self.model.spec.shifts
        validation, unshifted = self._recorded, None
        if not self._is_plain:
            judged = self._judged
            validation = self._validation_of(judged.predictor)
            unshifted = self._validation_of(judged.network) if shifts else None
        part = HeldOutPart(self.workload.dataset)
        scored = ScoredModel(self.chosen.trials, shifts, len(part))
        log.info("testing %s on the test part", scored.describe())
        # Before the scoring: whoever ends this process in the middle may have seen the result.
        record_scoring(self.storage, self.study, scored)
        score = part.score(predictor, self.model.spec.normalization, DEVICE, self.workload.criterion)
        results = Results(score.metrics, validation, unshifted, score.evaluation)
        write_results(self.artifacts, name, results)
        return results

    @property
    def _judged(self) -> TrainedModel:
        """The model that is validated: before the refit, which has seen the validation images."""
        if not self.chosen.is_refit:
            return self.model
        shifts = self.model.spec.shifts
        return read_model(self.study, self.chosen.before_refit(), shifts, self.workload, self.artifacts)

    @property
    def _is_plain(self) -> bool:
        """Whether the model is a single network without shifts."""
        return len(self.chosen.members) == 1 and self.model.spec.shifts == 0

    @property
    def _recorded(self) -> Mapping[str, float]:
        """The validation metrics of the kept epoch."""
        recorded = self.chosen.best.record.metrics or {}
        return {
            key: value
            for key, value in recorded.items()
            if key.startswith("validation_") and math.isfinite(value)
        }

    def _validation_of(self, network: nn.Module) -> Mapping[str, float]:
        train, rows = self.workload.train, self.workload.splits.mini
        mini = Labelled(train.images[rows], train.labels[rows])
        return validation_metrics(
            mini, network, self.model.spec.normalization, DEVICE, self.workload.criterion
        )
