"""The last step of a study: test the best fully trained model once, and write it as a bundle."""

from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors.torch import load

from hpo.artifacts.base import ArtifactStore
from hpo.artifacts.names import metrics_name
from hpo.errors import InputError
from hpo.export.bundle import BundleContents, misfit_of, write_bundle
from hpo.export.metrics import AnyMetrics, Normalization
from hpo.export.model_spec import ModelSpec
from hpo.export.provenance import record_export, study_provenance, versions
from hpo.export.scoring import test_metrics
from hpo.export.weights import read_weights
from hpo.store.connection import Storage
from hpo.study.best import BestParams, best_params
from hpo.study.study import Study
from hpo.training.workload import Workload
from hpo.values.parameters import model_keywords

ANY_METRICS: TypeAdapter[AnyMetrics] = TypeAdapter(AnyMetrics)

PACKAGES = ("hpo", "torch", "torchvision", "optuna", "numpy", "scikit-learn")


def export_bundle(
    storage: Storage, study: Study, workload: Workload, artifacts: ArtifactStore, directory: Path
) -> AnyMetrics:
    """Write the best fully trained model of the study to `directory`. Return its test metrics.

    A model is tested once: its metrics are stored beside its weights, and later exports read them. Raises
    `NotFoundError` before any full training has completed, and `AwayError` if the weights cannot be read or
    the metrics cannot be stored.
    """
    best = best_params(storage, study, "full")
    name, weights = read_weights(study, best, artifacts, load)
    network = workload.factory_of(best.params)()
    misfit = misfit_of(network, weights)
    if misfit is not None:
        raise InputError(
            f"the weights of trial {best.trial} of {study.spec.full_name!r} do not fit the model "
            f"{study.spec.model.name!r} of this machine: {misfit}; restore the code that was trained"
        )
    network.load_state_dict(weights)
    metrics = _test_once(artifacts, metrics_name(name), workload, network)
    spec = _model_spec(workload, best)
    origin = provenance(study, best, workload)
    write_bundle(directory, BundleContents(spec, weights, best.params, metrics, origin))
    # After the write, which may take longer than Postgres lets a transaction idle.
    record_export(storage, study, best, directory)
    return metrics


def _model_spec(workload: Workload, best: BestParams) -> ModelSpec:
    train, classes = workload.train, workload.dataset.classes
    return ModelSpec(
        name=workload.spec.model.name,
        classes=classes or (),
        target_shape=None if classes is not None else train.labels.shape[1:],
        in_channels=train.channels if train.is_images else None,
        image_size=train.size if train.is_images else None,
        input_shape=None if train.is_images else train.shape,
        mean=workload.mean,
        std=workload.std,
        keywords=model_keywords(best.params),
    )


def provenance(study: Study, best: BestParams, workload: Workload) -> dict[str, Any]:
    """Return the origin of a model: enough to compare two models, and to repeat the training."""
    hashes = workload.identity.data
    metrics = best.record.metrics or {}
    return {
        **study_provenance(study, best),
        **{key: value for key, value in metrics.items() if key.startswith("validation_")},
        "data": workload.dataset.name,
        "data_sha256": workload.train.sha256() if hashes is None else hashes.train,
        "network_sha256": workload.identity.network,
        "versions": versions(PACKAGES),
    }


def _test_once(
    artifacts: ArtifactStore, name: str, workload: Workload, network: torch.nn.Module
) -> AnyMetrics:
    """Return the test metrics in the artifact `name`, computed and stored on the first call."""
    if name in artifacts.list(name):
        return ANY_METRICS.validate_json(artifacts.get(name))
    normalization = Normalization(workload.mean, workload.std)
    metrics = test_metrics(workload.dataset, network, normalization, "cpu", workload.criterion)
    artifacts.put(name, ANY_METRICS.dump_json(metrics))
    return metrics
