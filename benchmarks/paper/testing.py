"""One read of the test part for each model: the seeds of a study, and their ensemble.

The export scores a model once, stores the result beside the weights, and counts the reads.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper.intervals import Hits
from benchmarks.paper.predictions import Model, models_of
from benchmarks.paper.scores import score
from benchmarks.paper.trained import Trained, mean_and_spread
from benchmarks.paper.training import Trainer
from hpo.artifacts.names import check_weights_name, results_name
from hpo.artifacts.registry import open_artifacts
from hpo.export.request import ExportRequest
from hpo.export.results import Results, read_results
from hpo.run import studies
from hpo.study.scored import scored_models
from hpo.study.study import Study

METRICS = ("accuracy", "weighted_precision", "weighted_recall", "weighted_f1", "macro_f1")


def models_to_test(trained: Trained, shifts: int) -> list[Model]:
    """Return the models of a study: its seeds and their ensemble, and the ensemble with shifts if wanted."""
    models = list(models_of(trained.trainings))
    if shifts and len(trained.trainings) > 1:
        models.append(Model(trained.trainings, shifts))
    return models


def score_models(trainer: Trainer, study: Study, models: Sequence[Model]) -> None:
    """Export models of a finished study, and so score each of them once, unless it was scored.

    The bundles are in the folder `bundles/STUDY` of HPO_HOME. Raises `HpoError`.
    """
    api = studies.Study(study, trainer.storage, trainer.settings)
    for model in models:
        if read_result(trainer, study, model) is None:
            request = ExportRequest(_folder(trainer, study, model), model.exported, model.shifts)
            studies.run_export(api, request, trained=False)


def read_result(trainer: Trainer, study: Study, model: Model) -> Results | None:
    """Return what was measured of a model on the test part, None if it was not scored."""
    names = [check_weights_name(training.weights) for training in model.trainings]
    artifacts = open_artifacts(trainer.settings, study.artifacts_name)
    return read_results(artifacts, results_name(names, model.shifts))


@dataclass(frozen=True, eq=False)
class Tested:
    """The test results of a study.

    `hits`: of the seeds, `(S, N)`. `figures`: the metrics of seeds and ensemble as plain values.
    """

    hits: Hits
    figures: dict[str, Any]


def read_tested(trainer: Trainer, study: Study, trained: Trained, shifts: int) -> Tested | None:
    """Return the test results of a study, None until all of its seeds were scored."""
    seeds = [read_result(trainer, study, Model([training])) for training in trained.trainings]
    scored = [results for results in seeds if results is not None]
    if not scored or len(scored) < len(seeds):
        return None
    figures: dict[str, Any] = {"metrics": _spread(scored), "reads": _reads(trainer, study)}
    for key, pixels in {"ensemble": 0, "shifted_ensemble": shifts}.items():
        if len(seeds) > 1 and (pixels or key == "ensemble"):
            results = read_result(trainer, study, Model(trained.trainings, pixels))
            if results is not None:
                figures[key] = {**_metrics(results), **score(_hits([results]))}
    return Tested(_hits(scored), figures)


def _reads(trainer: Trainer, study: Study) -> int:
    with trainer.storage.transaction() as connection:
        return sum(model.scorings for model in scored_models(connection, study))


def _hits(results: Sequence[Results]) -> Hits:
    evaluations = [result.evaluation for result in results if result.evaluation is not None]
    return np.stack([shown.probabilities.argmax(1) == shown.labels for shown in evaluations])


def _metrics(results: Results) -> dict[str, float]:
    values = asdict(results.metrics)
    return {name: values[name] for name in METRICS}


def _spread(scored: Sequence[Results]) -> dict[str, dict[str, float | None]]:
    """Return mean and standard deviation over the seeds of each metric."""
    rows = [_metrics(results) for results in scored]
    spreads = {name: mean_and_spread([row[name] for row in rows]) for name in METRICS}
    return {name: {"mean": mean, "deviation": deviation} for name, (mean, deviation) in spreads.items()}


def _folder(trainer: Trainer, study: Study, model: Model) -> Path:
    name = "ensemble" if len(model.trainings) > 1 else f"seed-{model.trainings[0].index}"
    folder = Path(trainer.settings.home, "bundles", study.name).expanduser().absolute()
    return folder / (f"{name}-shifts-{model.shifts}" if model.shifts else name)
