"""The export of a trained study: what it reads from the artifact store, and what it leaves there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from support.artifacts import MemoryStore, away
from support.small_worker import WorkerFactory, use_small_network
from support.workloads import digits_workload

from hpo.errors import ArtifactNameError, AwayError
from hpo.export import bundle, export, scoring
from hpo.export.bundle import BundleContents, open_bundle
from hpo.export.metrics import AnyMetrics
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage
from hpo.study.study import Study
from hpo.training.workload import Workload

Export = Callable[[Path], AnyMetrics]


class Trained:
    """A study that is fully trained, with its artifacts in memory."""

    def __init__(self, storage: Storage, study: Study, workload: Workload) -> None:
        self.storage, self.study, self.workload, self.artifacts = storage, study, workload, MemoryStore()

    def export(self, directory: Path) -> AnyMetrics:
        return export.export_bundle(self.storage, self.study, self.workload, self.artifacts, directory)

    def rename_weights(self, name: str) -> None:
        statement = text("UPDATE hpo.trial SET weights = :name WHERE weights IS NOT NULL")
        with self.storage.transaction() as connection:
            connection.execute(statement, {"name": name})


@pytest.fixture
def trained(
    storage: Storage, spec: Callable[..., StudySpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Trained:
    use_small_network(monkeypatch)
    full = {"pretrain": {"epochs": 1}, "finetune": {"epochs": 1}}
    works = WorkerFactory(storage, spec, tmp_path)
    worker = works(promotes=True, search={"trials": 1, "epochs": 1}, full=full, promotion={"top": 1})
    worker.run()
    trained = Trained(storage, worker.study, digits_workload(worker.study.spec))
    for name in worker.settings.artifacts.list():
        trained.artifacts.put(name, worker.settings.artifacts.get(name))
    return trained


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """Record the scorings of the test images. A call in the list is made in the middle of the next one."""
    calls: list[Callable[[], object]] = []
    score = scoring.test_metrics

    def test_metrics(*arguments: Any) -> AnyMetrics:
        if calls:
            calls.pop()()
        return score(*arguments)

    monkeypatch.setattr(export, "test_metrics", test_metrics)
    return calls


def test_model_is_tested_once(trained: Trained, scored: list[Callable[[], object]], tmp_path: Path) -> None:
    first = trained.export(tmp_path / "first")
    (metrics,) = (name for name in trained.artifacts.files if name.endswith(".metrics.json"))
    scored.append(lambda: pytest.fail("tested again"))
    assert trained.export(tmp_path / "second").to_json() == first.to_json()
    assert open_bundle(tmp_path / "second").metrics.to_json() == first.to_json()
    del trained.artifacts.files[metrics]
    with pytest.raises(pytest.fail.Exception, match="tested again"):
        trained.export(tmp_path / "third")


def test_two_exports_at_once_agree(
    trained: Trained, scored: list[Callable[[], object]], tmp_path: Path
) -> None:
    before = set(trained.artifacts.files)
    scored.append(lambda: trained.export(tmp_path / "inner"))
    outer = trained.export(tmp_path / "outer")
    assert open_bundle(tmp_path / "inner").metrics.to_json() == outer.to_json()
    (new,) = trained.artifacts.files.keys() - before
    assert new.endswith(".metrics.json")


def test_no_transaction_is_open_while_the_bundle_is_written(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Postgres ends a transaction that idles for a minute, and a bundle on a slow disk may take longer."""
    write, open_transactions = bundle.write_bundle, list[int]()
    query = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE state = 'idle in transaction' AND datname = current_database()"
    )

    def spy(directory: Path, contents: BundleContents) -> None:
        with trained.storage.transaction() as connection:
            open_transactions.append(connection.execute(query).scalar_one())
        write(directory, contents)

    monkeypatch.setattr(export, "write_bundle", spy)
    trained.export(tmp_path / "bundle")
    assert open_transactions == [0]


@pytest.mark.parametrize("operation", ["get", "list", "put"])
def test_export_raises_while_the_store_is_away(trained: Trained, tmp_path: Path, operation: str) -> None:
    trained.artifacts.before = lambda called, _name: away() if called == operation else None
    with pytest.raises(AwayError, match="No space left on device"):
        trained.export(tmp_path / "bundle")
    trained.artifacts.before = lambda _called, _name: None
    assert trained.export(tmp_path / "bundle").n == 360


def test_missing_weights_are_reported_with_their_trial(trained: Trained, tmp_path: Path) -> None:
    trained.artifacts.files.clear()
    with pytest.raises(
        AwayError, match=r"^cannot read the weights of trial 0 of 'small-full': trial-0000-\d+"
    ):
        trained.export(tmp_path / "bundle")


@pytest.mark.parametrize(
    "name",
    ["../../trial.safetensors", "/etc/passwd", "bundle/weights.safetensors", "trial-0000-1.safetensors\n"],
)
def test_weights_of_another_name_are_not_read(trained: Trained, tmp_path: Path, name: str) -> None:
    trained.rename_weights(name)
    with pytest.raises(ArtifactNameError, match=r"^trial 0 of 'small-full': artifact name '.*': must be "):
        trained.export(tmp_path / "bundle")


def test_attribute_that_the_dashboard_can_set_is_not_read(trained: Trained, tmp_path: Path) -> None:
    with trained.storage.transaction() as connection:
        changed = connection.execute(
            text("UPDATE trial_user_attributes SET value_json = :value WHERE key = 'weights'"),
            {"value": '"../../etc/passwd"'},
        )
    assert changed.rowcount == 1
    assert trained.export(tmp_path / "bundle").n == 360
