"""The last step: the best fully trained model, tested once, with all that belongs to it, as a bundle."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file

from hpo.errors import AwayError, HpoError
from hpo.export.bundle import ModelSpec, load_bundle, write_bundle
from hpo.export.metrics import Metrics, test_metrics
from hpo.store.connection import Storage
from hpo.study.best import BestParams, best_params
from hpo.study.study import Study
from hpo.training.workload import Workload

PACKAGES = ("hpo", "torch", "torchvision", "optuna", "numpy", "scikit-learn")


def export_bundle(
    storage: Storage, study: Study, workload: Workload, artifacts: Path, directory: Path
) -> Metrics:
    """Writes the best model of the study's full training to `directory`; gives its test metrics.

    A model is tested once: its metrics are kept beside its weights and read from there afterwards. Raises
    `NotFoundError` before any full training has completed, `AwayError` if its weights cannot be read.
    """
    best = best_params(storage, study, "full")
    folder = study.artifacts(artifacts)
    file = folder / str(best.attributes["weights"])
    try:
        weights = load_file(file)
    except (OSError, SafetensorError) as error:
        raise AwayError(
            f"{file}: cannot read the weights of trial {best.trial} of {study.spec.full_name!r} ({error}); "
            "is HPO_ARTIFACTS the folder that its worker wrote to?"
        ) from error
    network = workload.factory()
    network.load_state_dict(weights)
    metrics = _tested_once(file.with_suffix(".metrics.json"), workload, network)
    spec = ModelSpec(
        name=study.spec.model.name,
        classes=workload.dataset.classes,
        in_channels=workload.train.channels,
        image_size=workload.train.size,
        mean=workload.mean,
        std=workload.std,
    )
    write_bundle(directory, spec, weights, best.params, metrics, provenance(study, best, workload))
    return metrics


def is_exported(study: Study, best: BestParams, directory: Path) -> bool:
    """Whether the bundle in `directory` is that of this trial of this study."""
    try:
        found = load_bundle(directory).provenance
    except HpoError:
        return False
    return found.get("study_key") == study.key and found.get("trial") == best.trial


def provenance(study: Study, best: BestParams, workload: Workload) -> dict[str, Any]:
    """Where a model comes from: enough to tell whether two are the same, and to train it again."""
    return {
        "study": study.name,
        "study_key": study.key,
        "fingerprint": study.spec.fingerprint,
        "spec": study.spec.to_json(),
        "trial": best.trial,
        "promoted_from": best.attributes["promoted_from"],
        "seed": best.attributes["seed"],
        "validation_loss": best.value,
        "validation_accuracy": best.accuracy,
        "epochs": best.attributes["epochs"],
        "kept_epoch": best.attributes["kept_epoch"],
        "device": best.attributes["device"],
        "data": workload.dataset.name,
        "data_sha256": workload.train.sha256(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def _tested_once(kept: Path, workload: Workload, network: torch.nn.Module) -> Metrics:
    if kept.exists():
        return TypeAdapter(Metrics).validate_json(kept.read_bytes())
    metrics = test_metrics(workload.dataset, network, workload.mean, workload.std, "cpu")
    partial = kept.with_suffix(".partial")
    partial.write_bytes(TypeAdapter(Metrics).dump_json(metrics))
    partial.replace(kept)  # whole or not at all: it is read again
    return metrics
