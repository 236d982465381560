"""The books of studies of a training function: claims, curves, promotion, status, forks and replays."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace

import optuna
import pytest
import tomli_w
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import text
from support.epochs import epoch_result
from support.study_file import FUNCTION_TEXT, load

from hpo.cli.tables import status_table, trial_table
from hpo.errors import ConflictError, NothingCompletedError
from hpo.simulate.curve_table import CurveTable, Reported
from hpo.simulate.replay import replay_search, scratch_storage
from hpo.spec.identity import Identity
from hpo.spec.study_spec import StudySpec
from hpo.store import results, trials
from hpo.store.connection import Storage
from hpo.store.results import TrialOutcome
from hpo.study import schedule, stored
from hpo.study.best import FORMATS, best_params
from hpo.study.create import create
from hpo.study.fork import fork
from hpo.study.promote import promote
from hpo.study.retry import retry
from hpo.study.schedule import ClaimRequest
from hpo.study.status import status
from hpo.study.study import Study
from hpo.values.free import FREE
from hpo.values.space import Point, cell

EPOCHS = 9
OLD, NEW = Identity(function="a" * 64), Identity(function="b" * 64)

FINITE = FUNCTION_TEXT.replace(
    "lr = { low = 1e-5, high = 1e-1, log = true }",
    'lr = [1e-4, 1e-3, 1e-2]\nmomentum = { choices = [0.5, 2.0], when = { optimizer = "lion" } }',
).replace("epochs = 3", f"epochs = {EPOCHS}")
"""A space of 27 cells, in which `momentum` has a value that SGD does not take."""


@pytest.fixture(scope="module")
def scratch() -> Iterator[Storage]:
    with scratch_storage() as storage:
        yield storage


def accuracy(point: Point) -> float:
    """Return the metric of a point after many epochs, which is negative."""
    return -10.0 * float(point["lr"]) - float(point["depth"]) - float(point.get("momentum", 0.0)) / 100


def metrics(point: Point, epoch: int) -> dict[str, float]:
    return {"accuracy": accuracy(point) - 1 / epoch, "loss": -accuracy(point), "val/f1": 0.5}


def table_of(spec: StudySpec) -> CurveTable:
    def run(point: Point) -> tuple[Reported, ...]:
        return tuple(Reported(metrics(point, epoch)) for epoch in range(1, EPOCHS + 1))

    points = [spec.space.point_at(index) for index in range(spec.space.cells or 0)]
    return CurveTable(tuple(spec.space.domains), {cell(point): (run(point),) for point in points}, FREE)


def claim(storage: Storage, study: Study, width: int = 16) -> list[schedule.LeasedTrial]:
    return schedule.claim(storage, study, ClaimRequest(stage="search", worker="one", width=width))


def finished(storage: Storage, spec: StudySpec) -> Study:
    """Return a study of the code `OLD` whose search has ended."""
    study = create(storage, spec, "test", OLD).study
    while claimed := claim(storage, study):
        (trial,) = claimed
        with storage.transaction() as connection:
            for epoch in range(1, EPOCHS + 1):
                result = replace(epoch_result(trial.number, epoch, 0.0), metrics=metrics(trial.point, epoch))
                results.report(connection, {trial.lease.trial_id: result}, study.objective)
            final = metrics(trial.point, EPOCHS)
            outcome = TrialOutcome(
                TrialState.COMPLETE, final["accuracy"], epochs=EPOCHS, kept_epoch=EPOCHS, metrics=final
            )
            results.finish(connection, {trial.lease.trial_id: outcome})
    return study


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
@pytest.mark.parametrize("pruner", ["none", "median", "asha", "hyperband", "pause"])
def test_search_of_a_free_space_finds_the_best_cell(sampler: str, pruner: str, scratch: Storage) -> None:
    text = FINITE.replace('name = "random"', f'name = "{sampler}"\nstartup = 4')
    spec = load(text.replace('name = "none"', f'name = "{pruner}"').replace("trials = 12", "trials = 27"))
    assert spec.space.cells == 27
    table = table_of(spec)
    table.check(spec.space, EPOCHS, "study.toml", spec.make_objective())
    replay = replay_search(scratch, spec, table, workers=2)
    best = max(map(dict, table.runs), key=accuracy)
    assert (replay.moments[-1].best, replay.promoted[0]) == (best, best)
    assert replay.moments[-1].trials == 27


def test_trials_of_a_function_come_one_at_a_time(storage: Storage) -> None:
    study = create(storage, load(FUNCTION_TEXT), "test").study
    claims = [claim(storage, study) for _ in range(3)]
    assert [[trial.number for trial in claimed] for claimed in claims] == [[0], [1], [2]]
    assert all(claimed[0].point in study.spec.space for claimed in claims)


def test_optuna_has_the_objective_and_all_curves(storage: Storage) -> None:
    study = finished(storage, load(FINITE))
    found = optuna.load_study(study_name=study.name, storage=storage.backend)
    assert found.direction == StudyDirection.MAXIMIZE
    assert storage.study(study.spec.full_name).direction == StudyDirection.MAXIMIZE
    for trial in found.trials:
        assert trial.intermediate_values == {
            epoch: metrics(trial.params, epoch)["accuracy"] for epoch in range(1, EPOCHS + 1)
        }
        assert trial.value == trial.intermediate_values[EPOCHS]


def test_what_shows_a_study_names_the_metrics_of_the_function(storage: Storage) -> None:
    study = finished(storage, load(FINITE))
    figures = status(storage, study)
    shown = status_table(figures)
    assert all(label in shown for label in ("best accuracy", "its loss", "its val/f1"))
    assert "macro" not in shown
    best = figures.to_json()["search"]["best"]
    assert best["metrics"] == metrics(best["params"], EPOCHS)
    rows = trial_table(storage, study)
    assert all(name in rows for name in ("momentum", "depth", "val/f1", "loss"))
    file = tomllib.loads(tomli_w.dumps(study.spec.to_json()))
    assert StudySpec.parse(file, "shown") == stored.load(storage, study.name).spec
    chosen = best_params(storage, study)
    assert json.loads(chosen.render("json")) == best["params"]
    assert all(chosen.render(form) for form in FORMATS)
    assert "LR=" in chosen.render("env")


def test_promotion_by_another_metric(storage: Storage) -> None:
    by_loss = FINITE.replace("top = 2", 'top = 2\nmetric = "loss"\ndirection = "maximize"')
    study = finished(storage, load(by_loss))
    with storage.transaction() as connection:
        rows = trials.read(connection, study.search_id).ours
    worst = sorted(rows, key=lambda row: (accuracy(row.point), row.number))[:2]
    assert [row.number for row in promote(storage, study).chosen] == [row.number for row in worst]
    with storage.transaction() as connection:
        full = trials.read(connection, study.full_id).ours
    assert [row.point for row in full] == [row.point for row in worst]


def test_promotion_by_a_metric_that_no_trial_has_names_those_they_have(storage: Storage) -> None:
    misspelt = FINITE.replace("top = 2", 'top = 2\nmetric = "los"\ndirection = "minimize"')
    study = finished(storage, load(misspelt))
    with storage.transaction() as connection:
        completed = len(trials.read(connection, study.search_id).ours)
    with pytest.raises(NothingCompletedError) as caught:
        promote(storage, study)
    assert str(caught.value) == (
        f"study 'small': promotion.metric = \"los\": none of the {completed} completed search trials "
        "has this metric; they have accuracy, loss, val/f1"
    )


def test_promotion_counts_the_trials_that_lack_its_metric(storage: Storage) -> None:
    by_loss = FINITE.replace("top = 2", 'top = 2\nmetric = "loss"\ndirection = "minimize"')
    study = finished(storage, load(by_loss))
    without_loss = text("UPDATE hpo.trial SET metrics = metrics - 'loss' WHERE trial_id = :id")
    with storage.transaction() as connection:
        first = trials.read(connection, study.search_id).ours[0]
        connection.execute(without_loss, {"id": first.trial_id})
    promotion = promote(storage, study)
    assert first.number not in [row.number for row in promotion.chosen]
    assert promotion.unranked == 1
    assert promotion.announcement.endswith("; 1 completed trial without loss cannot be ranked")


def test_study_does_not_go_on_with_other_code(storage: Storage) -> None:
    study = create(storage, load(FINITE), "test", OLD).study
    with pytest.raises(ConflictError) as caught:
        create(storage, load(FINITE), "new.toml", NEW)
    assert str(caught.value).startswith('new.toml: train.function = "train:fit": the hash of its code is bbb')
    assert "hpo study retry small" in str(caught.value)
    with pytest.raises(ConflictError, match=r'study: train\.function = "train:fit": the hash of its code'):
        study.check(NEW, "study", in_file=False)


def test_retry_accepts_new_code_before_the_first_epoch(storage: Storage) -> None:
    study = create(storage, load(FINITE), "test", OLD).study
    assert retry(storage, study, present=NEW).adopted
    assert stored.load(storage, study.name).identity == NEW
    assert create(storage, load(FINITE), "test", NEW).did == "unchanged"


def test_retry_refuses_new_code_after_an_epoch(storage: Storage) -> None:
    study = finished(storage, load(FINITE))
    with pytest.raises(ConflictError, match=r"the code of its training function is bbbbbbbbbbbb, but"):
        retry(storage, study, present=NEW)


def test_fork_inherits_the_trials_and_says_what_differs(storage: Storage) -> None:
    study = finished(storage, load(FINITE))
    wider = FINITE.replace("depth = [2, 3, 4]", "depth = [2, 3, 4, 5]")
    spec = StudySpec.parse({**load(wider).to_json(), "name": "wider"})
    forked = fork(storage, study, spec, "wider.toml", NEW)
    assert (forked.creation.study.inherited, forked.left_out) == (12, 0)
    assert forked.other_code is not None
    assert forked.other_code.key == "train.function"
    other = StudySpec.parse({**spec.to_json(), "name": "other", "train": {"function": "train:other"}})
    with pytest.raises(ConflictError, match=r'^other.toml: train.function = "train:other": the study'):
        fork(storage, study, other, "other.toml")


def test_fork_leaves_out_points_with_other_parameters(storage: Storage) -> None:
    study = finished(storage, load(FINITE))
    text = FINITE.replace("depth = [2, 3, 4]", "depth = [2]")
    spec = StudySpec.parse({**load(text).to_json(), "name": "narrow"})
    with storage.transaction() as connection:
        rows = trials.read(connection, study.search_id).ours
    inside = [row for row in rows if row.point["depth"] == 2]
    forked = fork(storage, study, spec, "narrow.toml")
    assert (forked.creation.study.inherited, forked.left_out) == (len(inside), 12 - len(inside))


def test_resources_and_limits_may_change(storage: Storage) -> None:
    create(storage, load(FINITE), "test")
    changed = load(FINITE + '[resources]\ngpus = 0.5\nmemory = "2 GB"\n[limits]\nepoch_minutes = 5\n')
    creation = create(storage, changed, "test")
    assert creation.did == "updated"
    assert stored.load(storage, "small").spec == changed
    with pytest.raises(ConflictError, match=r"^test: full.epochs = 6: the stored study 'small' has 5"):
        create(storage, load(FINITE.replace("epochs = 5", "epochs = 6")), "test")


SpecOf = Callable[..., StudySpec]


def test_a_name_cannot_change_from_a_network_to_a_function(storage: Storage, spec: SpecOf) -> None:
    create(storage, spec(), "test")
    with pytest.raises(ConflictError, match=r"^new.toml: data.name = null: the stored study 'small' has"):
        create(storage, load(FUNCTION_TEXT), "new.toml")
