"""The provenance in a bundle: where a result comes from."""

import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hpo.errors import HpoError
from hpo.export.any_bundle import load_bundle
from hpo.export.bundle_folder import PROVENANCE, read_json
from hpo.store import events
from hpo.store.connection import Storage
from hpo.store.trials import TrialRow
from hpo.study.best import Chosen
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


def study_provenance(study: Study, chosen: Chosen, shifts: int = 0) -> dict[str, Any]:
    """Return what the study and the trial say: enough to compare two results, and to repeat the training.

    The keys of an ensemble are those of its best member, and `members` has those of each. The keys of a refit
    are those of the training that it repeats, as are the figures of validation. `trials` are the refits, and
    `validated_trials` the trainings.
    """
    best = chosen.best
    return {
        "study": study.name,
        "study_key": study.key,
        "fingerprint": study.fingerprint,
        "spec": study.spec.to_json(),
        "trial": best.trial,
        "trials": list(chosen.trials),
        "shifts": shifts,
        "promoted_from": best.record.promoted_from,
        "seed": best.record.seed,
        **({} if best.seeds is None else {"seeds": best.seeds.to_json()}),
        "objective": {"metric": best.objective.name, "direction": best.objective.direction},
        **({} if best.baseline is None else {"baseline": best.baseline.to_json()}),
        "epochs": best.record.epochs,
        "kept_epoch": best.record.kept_epoch,
        "device": best.record.device,
        **({} if len(chosen.validated) == 1 else {"members": [_member(row) for row in chosen.validated]}),
        **(_refits(chosen) if chosen.is_refit else {}),
    }


def _refits(chosen: Chosen) -> dict[str, Any]:
    refits = [{**_member(row), "refit_of": row.record.refit_of} for row in chosen.members]
    return {"validated_trials": [row.number for row in chosen.validated], "refits": refits}


def _member(row: TrialRow) -> dict[str, Any]:
    record = row.record
    return {
        "trial": row.number,
        "seed": record.seed,
        "epochs": record.epochs,
        "kept_epoch": record.kept_epoch,
        "device": record.device,
    }


def is_exported(study: Study, chosen: Chosen, shifts: int, directory: Path) -> bool:
    """Return whether `directory` holds the bundle of this model of this study, with the same seeds beside
    it."""
    try:
        origin = load_bundle(directory).provenance
    except HpoError:
        return False
    wanted = study_provenance(study, chosen, shifts)
    return all(origin.get(key) == wanted.get(key) for key in ("study_key", "trials", "shifts", "seeds"))


def read_provenance(directory: Path) -> dict[str, Any]:
    """Return the provenance in a bundle of either kind, without torch. Raises `InputError`."""
    return read_json(directory / PROVENANCE, dict[str, Any])


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


def record_export(storage: Storage, study: Study, chosen: Chosen, shifts: int, directory: Path) -> None:
    """Record the event that a model was exported, with the first of its trials."""
    detail = {"directory": str(directory), "trials": list(chosen.trials), "shifts": shifts}
    with storage.transaction() as connection:
        events.record(connection, study.full_id, chosen.trials[0], "exported", detail)
