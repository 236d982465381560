"""Outcomes of commands as plain values, for `--json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # these modules take long to import
    from hpo.run.run_study import StudyRun
    from hpo.study.best import BestParams
    from hpo.study.create import Creation
    from hpo.study.lifecycle import LifecycleChange


def outcome_json(outcome: StudyRun) -> dict[str, Any]:
    """Return the outcome of a whole study."""
    best, metrics = outcome.best, outcome.metrics
    plain = metrics if metrics is None or isinstance(metrics, Mapping) else metrics.to_json()
    return {
        "study": outcome.study.name,
        "stopped": None if outcome.stopped is None else asdict(outcome.stopped),
        "stage": None if best is None else best.stage,
        "trial": None if best is None else best.trial,
        "value": None if best is None else best.value,
        "params": None if best is None else best.params,
        "metrics": plain,
        "bundle": None if outcome.directory is None else str(outcome.directory),
    }


def best_json(best: BestParams) -> dict[str, Any]:
    """Return the best trial of a study."""
    return {
        "study": best.study,
        "stage": best.stage,
        "trial": best.trial,
        "value": best.value,
        "params": best.params,
        "metrics": best.record.metrics or {},
    }


def creation_json(creation: Creation) -> dict[str, Any]:
    """Return what happened to a study that was created, updated or forked."""
    study = creation.study
    return {
        "study": study.name,
        "did": creation.did,
        "queued": creation.added,
        "inherited": study.inherited,
    }


def change_json(name: str, change: LifecycleChange) -> dict[str, Any]:
    """Return what happened to a study that was stopped or resumed."""
    return {
        "study": name,
        "changed": change.changed,
        "running": change.running,
        "waiting": change.waiting,
    }
