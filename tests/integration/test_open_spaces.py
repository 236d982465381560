"""Searches of spaces with text, booleans, ranges, keywords of the network, conditions and constraints."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from typing import Any

import optuna
import pytest
import tomli_w
from optuna.trial import TrialState
from support.claims import claim
from support.outcomes import trained

from hpo.cli.tables import status_table, trial_table
from hpo.errors import ConflictError
from hpo.simulate.curve_table import CurveTable, Measured
from hpo.simulate.replay import replay_search, scratch_storage
from hpo.spec.study_spec import StudySpec
from hpo.store import results, trials
from hpo.store.connection import Storage
from hpo.study.best import FORMATS, best_params
from hpo.study.create import create
from hpo.study.fork import fork
from hpo.study.status import status
from hpo.study.stored import load
from hpo.study.study import Study
from hpo.values.space import Point, cell
from hpo.values.space_section import parse_space

RawOf = Callable[..., dict[str, Any]]

SPACE: dict[str, Any] = {
    "lr": [0.01, 0.1],
    "optimizer": ["sgd", "adamw"],
    "momentum": {"low": 0.0, "high": 0.9, "step": 0.3, "when": {"model.norm": True}},
    "model": {
        "act": {"choices": ["relu", "gelu"], "when": {"depth": [2, 3]}},
        "norm": [True, False],
        "depth": {"low": 1, "high": 3},
        "width": [16, 32],
    },
    "constraints": ["model.depth * model.width < 64", "model.act != 'gelu'"],
}
WIDER = {
    **SPACE,
    "lr": {"low": 0.01, "high": 0.2},
    "model": {**SPACE["model"], "width": {"low": 16, "high": 64}},
    "constraints": ["model.depth * model.width < 100"],
}
CELLS = 2 * (1 + 4 + 1 + 1) * (1 * 2 + 1 * 1 + 1 * 1)  # lr; optimizer, norm and momentum; depth and width


def loss(point: Point) -> float:
    """Return a loss that is least in one cell."""
    change = 0.1 * (point["optimizer"] == "adamw") + 0.1 * (not point["model.norm"])
    return float(0.5 + point["lr"] + change + point.get("momentum", 0.45) + 1 / point["model.width"])


@pytest.fixture(scope="module")
def scratch() -> Iterator[Storage]:
    with scratch_storage() as storage:
        yield storage


@pytest.fixture
def spec(raw: RawOf) -> Callable[..., StudySpec]:
    def make(space: dict[str, Any], **changes: Any) -> StudySpec:
        return StudySpec.parse({**raw(**changes), "space": space}, "test")

    return make


@pytest.fixture
def study(storage: Storage, spec: Callable[..., StudySpec]) -> Study:
    """A finished search of the whole space."""
    study = create(storage, spec(SPACE, search={"trials": 100}), "test").study
    while claimed := claim(storage, study, "search", "one", 5):
        with storage.transaction() as connection:
            for trial in claimed:
                outcome = trained(loss(trial.point), TrialState.COMPLETE, 0.75, epochs=9)
                results.finish(connection, {trial.lease.trial_id: outcome})
    return study


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_search_ends_with_the_last_cell(
    sampler: str, scratch: Storage, spec: Callable[..., StudySpec]
) -> None:
    searched = spec(SPACE, sampler={"name": sampler}, search={"trials": 100})
    points = [searched.space.point_at(index) for index in range(CELLS)]
    assert searched.space.cells == CELLS

    def run(point: Point) -> tuple[Measured, ...]:
        return tuple(Measured(1.0, loss(point) + 1 / epoch, 0.5, 2.0, 0.5) for epoch in range(1, 10))

    table = CurveTable(tuple(searched.space.domains), {cell(point): (run(point),) for point in points})
    replay = replay_search(scratch, searched, table, 4)
    assert replay.moments[-1].trials == CELLS
    assert replay.moments[-1].epochs == 9 * CELLS


def test_finished_study_is_shown(storage: Storage, study: Study) -> None:
    figures = status(storage, study)
    assert (figures.search.budget, figures.search.finished) == (CELLS, CELLS)
    assert figures.search.distinct_cells == CELLS
    assert figures.search.best is not None
    assert figures.search.best.params == {
        "lr": 0.01,
        "optimizer": "sgd",
        "momentum": 0.0,
        "model.depth": 1,
        "model.norm": True,
        "model.width": 32,
    }
    assert "best loss" in status_table(figures)
    shown = trial_table(storage, study)
    assert all(name in shown for name in ("model.act", "model.norm", "model.width"))
    stored = load(storage, study.name)
    assert stored.spec == study.spec
    file = tomllib.loads(tomli_w.dumps(stored.spec.to_json()))
    assert StudySpec.parse(file, "shown") == study.spec
    assert StudySpec.parse(file, "shown").fingerprint == study.fingerprint


def test_optuna_reads_the_trials(storage: Storage, study: Study) -> None:
    with storage.transaction() as connection:
        rows = trials.read(connection, study.search_id).ours
    seen = storage.study(study.name)
    assert [trial.params for trial in seen.trials] == [row.point for row in rows]
    assert {type(trial.params["model.norm"]) for trial in seen.trials} == {bool}
    kinds = seen.trials[0].distributions
    assert kinds["model.depth"] == optuna.distributions.IntDistribution(1, 3)
    assert kinds["model.norm"] == optuna.distributions.CategoricalDistribution((True, False))


@pytest.mark.parametrize("form", FORMATS)
def test_best_parameters_are_exported(form: str, storage: Storage, study: Study) -> None:
    text = best_params(storage, study).render(form)
    assert text.endswith("\n")
    assert "32" in text
    if form == "toml":
        (point,) = [space.point_at(0) for space in [parse_space(tomllib.loads(text))]]
        assert point in study.spec.space


def test_fork_inherits_the_trials_in_its_space(
    storage: Storage, study: Study, spec: Callable[..., StudySpec]
) -> None:
    wider = spec(WIDER, name="wider", search={"trials": 4})
    made = fork(storage, study, wider, "test")
    assert (made.creation.study.inherited, made.left_out) == (CELLS, 0)
    with storage.transaction() as connection:
        rows = trials.read(connection, made.creation.study.search_id).ours
    assert all(row.point in wider.space for row in rows)
    assert len(rows) == CELLS + 4

    narrow = spec({**SPACE, "constraints": ["model.depth == 1"]}, name="narrow", search={"trials": 40})
    made = fork(storage, study, narrow, "test")
    assert made.creation.study.inherited == 2 * 7 * 2
    assert made.left_out == CELLS - 2 * 7 * 2
    assert made.creation.study.trials == 2 * 7 * 2


def test_other_constraints_are_another_study(
    storage: Storage, study: Study, spec: Callable[..., StudySpec]
) -> None:
    again = spec({**SPACE, "constraints": ["(model.depth*model.width)<64", 'model.act!="gelu"']})
    assert again.fingerprint == study.fingerprint
    other = spec({**SPACE, "constraints": ["model.depth < 3"]}, search={"trials": 100})
    with pytest.raises(ConflictError, match=r'space.constraints = \["model.depth < 3"\]: the stored study'):
        create(storage, other, "test")
