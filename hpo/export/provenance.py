"""The provenance in a bundle: where a result comes from."""

import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hpo.errors import HpoError
from hpo.export.any_bundle import load_bundle
from hpo.store import events
from hpo.store.connection import Storage
from hpo.study.best import BestParams
from hpo.study.study import Study

FRAMEWORKS = (
    "numpy",
    "scikit-learn",
    "torch",
    "jax",
    "tensorflow",
    "xgboost",
    "lightgbm",
    "catboost",
    "optuna",
)
"""Packages that a training function may use. Their versions are noted where they are installed."""


def study_provenance(study: Study, best: BestParams) -> dict[str, Any]:
    """Return what the study and the trial say: enough to compare two results, and to repeat the training."""
    return {
        "study": study.name,
        "study_key": study.key,
        "fingerprint": study.fingerprint,
        "spec": study.spec.to_json(),
        "trial": best.trial,
        "promoted_from": best.record.promoted_from,
        "seed": best.record.seed,
        "objective": {"metric": best.objective.name, "direction": best.objective.direction},
        **({} if best.baseline is None else {"baseline": best.baseline.to_json()}),
        "epochs": best.record.epochs,
        "kept_epoch": best.record.kept_epoch,
        "device": best.record.device,
    }


def is_exported(study: Study, best: BestParams, directory: Path) -> bool:
    """Return whether `directory` holds the bundle of this trial of this study."""
    try:
        origin = load_bundle(directory).provenance
    except HpoError:
        return False
    return origin.get("study_key") == study.key and origin.get("trial") == best.trial


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of installed packages, by name."""
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def installed_versions() -> dict[str, str]:
    """Return the versions of Python, hpo, and those frameworks that are installed here."""
    present = []
    for name in FRAMEWORKS:
        with suppress(PackageNotFoundError):
            version(name)
            present.append(name)
    return versions(["hpo", *present])


def record_export(storage: Storage, study: Study, best: BestParams, directory: Path) -> None:
    """Record the event that a trial was exported."""
    with storage.transaction() as connection:
        events.record(connection, study.full_id, best.trial, "exported", {"directory": str(directory)})
