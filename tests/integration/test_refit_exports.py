"""The export of refits: their weights, with the figures that validation measured before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.small_worker import WorkerFactory, trials, use_small_network, weights
from support.workloads import digits_workload

from hpo.cli.export_lines import export_lines
from hpo.errors import NotFoundError
from hpo.export.any_bundle import load_bundle
from hpo.export.export import export_bundle
from hpo.export.provenance import is_exported
from hpo.export.request import ExportRequest
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage
from hpo.study.best import best_params, choose
from hpo.study.study import Study
from hpo.worker.worker import Worker

FULL = {"pretrain": {"epochs": 2}, "finetune": {"epochs": 1}, "refit": True}


@pytest.fixture
def worker(
    storage: Storage, spec: Callable[..., StudySpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Worker:
    """Return a worker that has trained two seeds and their refits, numbers 2 and 3."""
    use_small_network(monkeypatch)
    works = WorkerFactory(storage, spec, tmp_path)
    promotion = {"top": 1, "seeds": 2}
    worker = works(promotes=True, search={"trials": 1, "epochs": 1}, full=FULL, promotion=promotion)
    worker.run()
    return worker


def without_refit(study: Study) -> Study:
    full = study.spec.full.model_copy(update={"refit": False})
    return replace(study, spec=study.spec.model_copy(update={"full": full}))


def test_refit_of_the_best_is_exported(worker: Worker, storage: Storage, tmp_path: Path) -> None:
    study, workload = worker.study, digits_workload(worker.study.spec)
    best = best_params(storage, study)
    (refit,) = (row for row in trials(storage, study, "full") if row.record.refit_of == best.trial)
    request = ExportRequest(tmp_path / "bundle")
    export_bundle(storage, study, workload, worker.settings.artifacts, request)
    written = load_file(tmp_path / "bundle" / "weights.safetensors")
    for name, tensor in weights(worker)[refit.number].items():
        assert torch.equal(written[name], tensor)
    origin = load_bundle(tmp_path / "bundle").provenance
    assert (origin["trial"], origin["trials"]) == (best.trial, [refit.number])
    assert origin["validated_trials"] == [best.trial]
    assert origin["validation_loss"] == best.value
    (described,) = origin["refits"]
    assert (described["refit_of"], described["epochs"]) == (best.trial, best.record.kept_epoch)
    _seeds, validation, exported, *_ = export_lines(best, tmp_path / "bundle")
    assert validation.startswith(f"validation of trial {best.trial}: loss ")
    epochs = best.record.kept_epoch
    assert exported == (
        f"exported: trial {refit.number}, the refit of trial {best.trial} on all training images "
        f"({epochs} epoch{'s' * (epochs != 1)})"
    )
    assert is_exported(study, choose(storage, study, "best"), 0, tmp_path / "bundle")
    before = without_refit(study)
    assert not is_exported(before, choose(storage, before, "best"), 0, tmp_path / "bundle")


def test_ensemble_of_refits_has_the_validation_of_the_trainings(
    worker: Worker, storage: Storage, tmp_path: Path
) -> None:
    study, workload = worker.study, digits_workload(worker.study.spec)
    origins = {}
    for name, exported in (("before", without_refit(study)), ("after", study)):
        request = ExportRequest(tmp_path / name, "ensemble", 1)
        export_bundle(storage, exported, workload, worker.settings.artifacts, request)
        origins[name] = load_bundle(tmp_path / name).provenance
    assert [origins[name]["trials"] for name in origins] == [[0, 1], [2, 3]]
    for key in ("validation_loss", "validation_accuracy", "unshifted", "members"):
        assert origins["before"][key] == origins["after"][key]
    assert [refit["refit_of"] for refit in origins["after"]["refits"]] in ([0, 1], [1, 0])
    first, second = (load_file(tmp_path / name / "weights.safetensors") for name in origins)
    assert not all(torch.equal(first[key], second[key]) for key in first)


def test_number_stands_for_the_trial_itself(worker: Worker, storage: Storage) -> None:
    study = worker.study
    assert choose(storage, study, 0).trials == (0,)
    chosen = choose(storage, study, 2)
    assert (chosen.trials, [row.number for row in chosen.validated]) == (
        (2,),
        [trials(storage, study, "full")[2].record.refit_of],
    )
    with pytest.raises(NotFoundError, match=r"full training 4 has not completed; completed: 0, 1$"):
        choose(storage, study, 4)


def test_missing_refit_is_reported(storage: Storage, works: WorkerFactory) -> None:
    changes: dict[str, Any] = {"search": {"trials": 1, "epochs": 1}}
    works(promotes=True, full={**FULL, "refit": False}, **changes).run()
    study = works(full=FULL, **changes).study
    with pytest.raises(NotFoundError) as caught:
        choose(storage, study, "best")
    assert str(caught.value) == (
        "study 'small': full.refit = true: full training 0 has not been refitted; next: hpo promote small, "
        "then hpo workers small; or export the training itself: --trial 0"
    )
