"""The export of a trained study: what it reads from the artifact store, and what it leaves there."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from sqlalchemy import text
from support.artifacts import MemoryStore, away
from support.small_worker import WorkerFactory, use_small_network
from support.workloads import digits_workload

from hpo.errors import ArtifactError, ArtifactNameError, AwayError, InputError, NotFoundError
from hpo.export import bundle, export
from hpo.export.analysis.folder import FILES
from hpo.export.bundle import Bundle, BundleContents, open_bundle
from hpo.export.evaluator import measure
from hpo.export.examples import Examples
from hpo.export.metrics import AnyMetrics, Metrics
from hpo.export.request import ExportRequest
from hpo.export.scoring import HeldOutPart
from hpo.spec.export_section import ExportSection
from hpo.spec.study_spec import StudySpec
from hpo.store import events, exclusive
from hpo.store.connection import Storage
from hpo.study.best import best_params
from hpo.study.scored import ScoredModel, describe_reads, scored_models
from hpo.study.status import status
from hpo.study.study import Study
from hpo.training.workload import Workload
from hpo.values.exported import Exported

SEEDS = 2


class Trained:
    """A study that is fully trained with two seeds, with its artifacts in memory."""

    def __init__(self, storage: Storage, study: Study, workload: Workload) -> None:
        self.storage, self.study, self.workload, self.artifacts = storage, study, workload, MemoryStore()

    def export(self, directory: Path, model: Exported | None = None, shifts: int | None = None) -> AnyMetrics:
        request = ExportRequest(directory, model, shifts)
        return export.export_bundle(self.storage, self.study, self.workload, self.artifacts, request)

    def exported(
        self, directory: Path, model: Exported | None = None, shifts: int | None = None
    ) -> tuple[Bundle, Metrics]:
        metrics = self.export(directory, model, shifts)
        assert isinstance(metrics, Metrics)
        return open_bundle(directory), metrics

    def reads(self) -> tuple[ScoredModel, ...]:
        with self.storage.transaction() as connection:
            return scored_models(connection, self.study)

    def rename_weights(self, name: str) -> None:
        statement = text("UPDATE hpo.trial SET weights = :name WHERE weights IS NOT NULL")
        with self.storage.transaction() as connection:
            connection.execute(statement, {"name": name})

    @property
    def best(self) -> int:
        return best_params(self.storage, self.study, "full").trial


@pytest.fixture
def trained(
    storage: Storage, spec: Callable[..., StudySpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Trained:
    use_small_network(monkeypatch)
    full = {"pretrain": {"epochs": 1}, "finetune": {"epochs": 1}}
    works = WorkerFactory(storage, spec, tmp_path)
    promotion = {"top": 1, "seeds": SEEDS}
    worker = works(promotes=True, search={"trials": 1, "epochs": 1}, full=full, promotion=promotion)
    worker.run()
    trained = Trained(storage, worker.study, digits_workload(worker.study.spec))
    for name in worker.settings.artifacts.list():
        trained.artifacts.put(name, worker.settings.artifacts.get(name))
    return trained


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """Record the scorings of the test images. A call in the list is made in the middle of the next one."""
    calls: list[Callable[[], object]] = []
    score = HeldOutPart.score

    def spy(part: HeldOutPart, *arguments: Any) -> object:
        if calls:
            calls.pop()()
        return score(part, *arguments)

    monkeypatch.setattr(HeldOutPart, "score", spy)
    return calls


def results_in(trained: Trained) -> list[str]:
    return sorted(name for name in trained.artifacts.files if name.startswith("test/"))


def test_model_is_tested_once(trained: Trained, scored: list[Callable[[], object]], tmp_path: Path) -> None:
    first = trained.export(tmp_path / "first")
    (results,) = results_in(trained)
    scored.append(lambda: pytest.fail("tested again"))
    assert trained.export(tmp_path / "second").to_json() == first.to_json()
    assert open_bundle(tmp_path / "second").metrics.to_json() == first.to_json()
    assert trained.reads() == (ScoredModel((trained.best,), n=360),)
    del trained.artifacts.files[results]
    with pytest.raises(pytest.fail.Exception, match="tested again"):
        trained.export(tmp_path / "third")


def test_damaged_results_are_no_reason_to_test_again(
    trained: Trained, scored: list[Callable[[], object]], tmp_path: Path
) -> None:
    trained.export(tmp_path / "first")
    (results,) = results_in(trained)
    trained.artifacts.files[results] = trained.artifacts.files[results][:-9]
    scored.append(lambda: pytest.fail("tested again"))
    with pytest.raises(ArtifactError, match=rf"^{results}: damaged test results"):
        trained.export(tmp_path / "second")


def test_metrics_of_an_earlier_version_count_as_a_read(
    trained: Trained, scored: list[Callable[[], object]], tmp_path: Path
) -> None:
    first = trained.export(tmp_path / "first")
    (results,) = results_in(trained)
    del trained.artifacts.files[results]
    legacy = f"{Path(results).stem}.metrics.json"
    trained.artifacts.put(legacy, json.dumps(first.to_json()).encode())
    with trained.storage.transaction() as connection:
        connection.execute(text("DELETE FROM hpo.event WHERE kind = 'tested'"))
        connection.execute(text("UPDATE hpo.event SET detail = '{}' WHERE kind = 'exported'"))
    assert trained.reads() == (ScoredModel((trained.best,)),)
    scored.append(lambda: pytest.fail("tested again"))
    assert trained.export(tmp_path / "second") == first
    assert trained.reads() == (ScoredModel((trained.best,)),)


def test_ensemble_of_the_seeds_is_one_model(trained: Trained, tmp_path: Path) -> None:
    members = [trained.exported(tmp_path / str(number), number)[0] for number in range(SEEDS)]
    ensemble, metrics = trained.exported(tmp_path / "ensemble", "ensemble")
    weights = load_file(tmp_path / "ensemble" / "weights.safetensors")
    assert {name.split(".")[1] for name in weights} == {"0", "1"}
    test = trained.workload.dataset.load_test()
    expected = np.mean([member.predict(test.images) for member in members], axis=0)
    predicted = ensemble.predict(test.images)
    np.testing.assert_allclose(predicted, expected, atol=1e-6)
    assert (predicted.argmax(1) == test.labels).mean() == metrics.accuracy == ensemble.metrics.accuracy  # type: ignore[union-attr]
    assert ensemble.spec == replace(members[0].spec, members=2)
    mini = trained.workload.splits.mini
    hits = (
        ensemble.predict(trained.workload.train.images[mini]).argmax(1) == trained.workload.train.labels[mini]
    )
    assert ensemble.validation["validation_accuracy"] == hits.mean()
    assert ensemble.provenance["trials"] == [0, 1]
    assert [member["trial"] for member in ensemble.provenance["members"]] == [0, 1]
    seeds = best_params(trained.storage, trained.study).seeds
    assert seeds is not None
    assert ensemble.provenance["seeds"] == seeds.to_json()
    assert seeds.trials == (0, 1)
    assert seeds.best == trained.best
    assert [read["trials"] for read in ensemble.provenance["test_reads"]] == [[0], [1], [0, 1]]


def test_reads_are_counted_by_model_and_shown(trained: Trained, tmp_path: Path) -> None:
    assert describe_reads(trained.reads()) == "test part not read yet"
    for _ in range(2):
        trained.export(tmp_path / "bundle", 0)
        trained.export(tmp_path / "bundle", "ensemble")
        trained.export(tmp_path / "bundle", 0, 1)
    assert status(trained.storage, trained.study).scored == trained.reads()
    assert describe_reads(trained.reads()) == (
        "test part read for 3 models: trial 0; ensemble of trials 0, 1; trial 0 with shifts of 1 pixel"
    )


def test_shifts_are_those_of_the_bundle(trained: Trained, tmp_path: Path) -> None:
    plain, _ = trained.exported(tmp_path / "plain", 0)
    shifted, metrics = trained.exported(tmp_path / "shifted", 0, 1)
    test = trained.workload.dataset.load_test()
    predicted = shifted.predict(test.images)
    assert (predicted.argmax(1) == test.labels).mean() == metrics.accuracy
    np.testing.assert_array_equal(predicted, plain.predict(test.images, shifts=1))
    np.testing.assert_array_equal(shifted.predict(test.images, shifts=0), plain.predict(test.images))
    unshifted = shifted.provenance["unshifted"]
    assert unshifted["validation_accuracy"] == pytest.approx(plain.validation["validation_accuracy"])
    assert unshifted["validation_loss"] == pytest.approx(plain.validation["validation_loss"], rel=1e-5)
    assert shifted.validation["validation_loss"] != unshifted["validation_loss"]


def test_evaluation_gives_the_metrics_of_the_bundle(trained: Trained, tmp_path: Path) -> None:
    exported, metrics = trained.exported(tmp_path / "bundle", "ensemble", 1)
    examples = Examples.of(exported.spec, trained.workload.dataset, "test")
    assert measure(exported, examples, "cpu").metrics == metrics


def test_study_file_decides_what_is_exported(trained: Trained, tmp_path: Path) -> None:
    wanted = trained.study.spec.model_copy(update={"export": ExportSection(model="ensemble", shifts=1)})
    trained.study = replace(trained.study, spec=wanted)
    opened, _ = trained.exported(tmp_path / "bundle")
    assert (opened.spec.members, opened.spec.shifts) == (2, 1)
    opened, _ = trained.exported(tmp_path / "bundle", "best", 0)
    assert (opened.spec.members, opened.spec.shifts) == (1, 0)


def test_training_that_has_not_completed_cannot_be_exported(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"full training 7 has not completed; completed: 0, 1$"):
        trained.export(tmp_path / "bundle", 7)
    with trained.storage.transaction() as connection:
        query = "UPDATE trials SET state = 'FAIL' WHERE study_id = :study AND number = 1"
        connection.execute(text(query), {"study": trained.study.full_id})
    with pytest.raises(
        NotFoundError, match=r"needs two seeds or more, and only full training 0 .* --trial 0$"
    ):
        trained.export(tmp_path / "bundle", "ensemble")


def test_shifts_beyond_the_image_are_refused_before_anything_is_read(
    trained: Trained, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"^study 'small': shifts 28: must be from 0 to 27 pixels$"):
        trained.export(tmp_path / "bundle", shifts=28)
    assert trained.reads() == ()


def test_two_exports_at_once_test_once(
    trained: Trained,
    scored: list[Callable[[], object]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits, inner = threading.Event(), list[AnyMetrics]()
    monkeypatch.setattr(exclusive, "POLL_SECONDS", 0.01)
    second = threading.Thread(target=lambda: inner.append(trained.export(tmp_path / "inner")))
    hold = exclusive.exclusive

    def tell(storage: Storage, name: str) -> Any:
        if threading.current_thread() is second:
            waits.set()
        return hold(storage, name)

    monkeypatch.setattr(export, "exclusive", tell)

    def start_second() -> None:
        second.start()
        assert waits.wait(30)

    scored.append(start_second)
    outer = trained.export(tmp_path / "outer")
    second.join(30)
    assert [metrics.to_json() for metrics in inner] == [outer.to_json()]
    assert len(results_in(trained)) == 1
    assert [read.scorings for read in trained.reads()] == [1]


def test_read_survives_the_end_of_a_process_before_its_result(
    trained: Trained, scored: list[Callable[[], object]], tmp_path: Path
) -> None:
    def end() -> None:
        raise KeyboardInterrupt

    scored.append(end)
    with pytest.raises(KeyboardInterrupt):
        trained.export(tmp_path / "bundle")
    assert (trained.reads(), results_in(trained)) == ((ScoredModel((trained.best,), n=360),), [])
    trained.export(tmp_path / "bundle")
    (read,) = trained.reads()
    assert read.scorings == 2
    assert describe_reads([read]) == f"test part read for 1 model: trial {trained.best} (scored 2 times)"
    trained.export(tmp_path / "again")
    assert trained.reads() == (read,)


def test_damaged_event_still_counts(trained: Trained, tmp_path: Path) -> None:
    with trained.storage.transaction() as connection:
        events.record(connection, trained.study.full_id, 1, "tested", {"trials": "all"})
    assert trained.reads() == (ScoredModel((1,)),)


def test_no_transaction_is_open_while_the_bundle_is_written(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Postgres ends a transaction that idles for a minute, and a bundle on a slow disk may take longer."""
    write, open_transactions = bundle.write_bundle, list[int]()

    def spy(directory: Path, contents: BundleContents) -> None:
        open_transactions.append(idle_transactions(trained.storage))
        write(directory, contents)

    monkeypatch.setattr(export, "write_bundle", spy)
    trained.export(tmp_path / "bundle")
    assert open_transactions == [0]


def test_no_transaction_is_open_while_the_test_part_is_scored(
    trained: Trained, scored: list[Callable[[], object]], tmp_path: Path
) -> None:
    open_transactions = list[int]()
    scored.append(lambda: open_transactions.append(idle_transactions(trained.storage)))
    trained.export(tmp_path / "bundle")
    assert open_transactions == [0]


def idle_transactions(storage: Storage) -> int:
    query = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE state = 'idle in transaction' AND datname = current_database()"
    )
    with storage.transaction() as connection:
        return int(connection.execute(query).scalar_one())


@pytest.mark.parametrize("operation", ["get", "list", "put"])
def test_export_raises_while_the_store_is_away(trained: Trained, tmp_path: Path, operation: str) -> None:
    trained.artifacts.before = lambda called, _name: away() if called == operation else None
    with pytest.raises(AwayError, match="No space left on device"):
        trained.export(tmp_path / "bundle")
    assert trained.reads() == ()  # the store is tried before the test part is read
    trained.artifacts.before = lambda _called, _name: None
    assert trained.export(tmp_path / "bundle").n == 360
    assert [read.scorings for read in trained.reads()] == [1]


def test_missing_weights_are_reported_with_their_trial(trained: Trained, tmp_path: Path) -> None:
    trained.artifacts.files.clear()
    with pytest.raises(
        AwayError, match=r"^cannot read the weights of trial 0 of 'small-full': trial-0000-\d+"
    ):
        trained.export(tmp_path / "bundle", 0)


@pytest.mark.parametrize(
    "name",
    ["../../trial.safetensors", "/etc/passwd", "bundle/weights.safetensors", "trial-0000-1.safetensors\n"],
)
def test_weights_of_another_name_are_not_read(trained: Trained, tmp_path: Path, name: str) -> None:
    trained.rename_weights(name)
    with pytest.raises(ArtifactNameError, match=r"^trial 0 of 'small-full': artifact name '.*': must be "):
        trained.export(tmp_path / "bundle", 0)


def test_attribute_that_the_dashboard_can_set_is_not_read(trained: Trained, tmp_path: Path) -> None:
    with trained.storage.transaction() as connection:
        changed = connection.execute(
            text("UPDATE trial_user_attributes SET value_json = :value WHERE key = 'weights'"),
            {"value": '"../../etc/passwd"'},
        )
    assert changed.rowcount == SEEDS
    assert trained.export(tmp_path / "bundle").n == 360


def test_bundle_says_where_the_errors_are(
    trained: Trained, scored: list[Callable[[], object]], tmp_path: Path
) -> None:
    metrics = trained.export(tmp_path / "first")
    folder = tmp_path / "first" / "analysis"
    assert {path.name for path in folder.iterdir()} == FILES
    figures = json.loads((folder / "errors.json").read_text())
    assert isinstance(metrics, Metrics)
    assert (figures["data"], figures["part"], figures["n"]) == ("digits", "test", 360)
    assert figures["accuracy"] == metrics.accuracy
    confusion = np.array(metrics.confusion)
    both = confusion + confusion.T
    for pair in figures["pairs"]:
        first, second = map(int, pair["classes"])
        assert pair["errors"] == both[first, second]

    scored.append(lambda: pytest.fail("tested again"))
    trained.export(tmp_path / "second")
    for name in FILES:
        assert (tmp_path / "second" / "analysis" / name).read_bytes() == (folder / name).read_bytes()
