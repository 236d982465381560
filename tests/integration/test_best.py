"""The best parameters of a study, and the forms in which other programs read them."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Callable
from dataclasses import replace

import pytest
import yaml
from optuna.trial import TrialState
from support.claims import claim
from support.outcomes import trained

from hpo.errors import NotFoundError
from hpo.spec.study_spec import StudySpec
from hpo.store import results
from hpo.store.connection import Storage
from hpo.store.records import TrialRecord
from hpo.study.best import FORMATS, BestParams, best_params
from hpo.study.create import create
from hpo.study.promote import promote
from hpo.study.study import Study
from hpo.values.objective import LOSS
from hpo.values.space_section import parse_space
from hpo.values.stage import Stage

SpecOf = Callable[..., StudySpec]


@pytest.fixture
def study(storage: Storage, spec: SpecOf) -> Study:
    return create(storage, spec(search={"trials": 4}, promotion={"top": 2}), "test").study


def run(storage: Storage, study: Study, stage: Stage, *losses: float | None) -> None:
    """Gives the next trials these losses; None fails one."""
    for loss in losses:
        (trial,) = claim(storage, study, stage, "one", 1)
        state = TrialState.FAIL if loss is None else TrialState.COMPLETE
        with storage.transaction() as connection:
            results.finish(connection, {trial.lease.trial_id: trained(loss, state, 0.75, epochs=3)})


def test_no_best_trial_before_a_trial_completes(storage: Storage, study: Study) -> None:
    run(storage, study, "search", None)
    with pytest.raises(
        NotFoundError, match=r"^study 'small': no trial has completed yet; .*hpo workers small$"
    ):
        best_params(storage, study)


def test_best_of_the_search_until_a_full_training_completes(storage: Storage, study: Study) -> None:
    run(storage, study, "search", 0.5, 0.125)
    assert best_params(storage, study).trial == 1  # under way, too
    run(storage, study, "search", 0.0625, None)
    promote(storage, study)
    best = best_params(storage, study)
    assert (best.study, best.stage, best.trial, best.value, best.accuracy) == (
        "small",
        "search",
        2,
        0.0625,
        0.75,
    )
    with pytest.raises(NotFoundError):
        best_params(storage, study, "full")

    run(storage, study, "full", 0.9, 0.8)  # losses on other images: not comparable with the search's
    full = best_params(storage, study)
    assert (full.stage, full.trial, full.value) == ("full", 1, 0.8)
    assert full.record.promoted_from == 1
    assert best_params(storage, study, "search") == best


def test_best_params_equal_those_of_optuna(storage: Storage, study: Study) -> None:
    run(storage, study, "search", 0.5, 0.25, 0.25, 0.75)
    seen = storage.study("small")
    best = best_params(storage, study)
    assert (best.trial, best.params, best.value) == (1, seen.best_params, seen.best_value)


POINT = {"lr": 0.001, "batch_size": 16, "momentum": 0.0, "weight_decay": 0.0001}
READERS: dict[str, Callable[[str], dict[str, float]]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
    "env": lambda text: {
        name.lower(): float(value) for name, value in (line.split("=") for line in text.splitlines())
    },
    "args": lambda text: {
        name.removeprefix("--").replace("-", "_"): float(value)
        for name, value in zip(shlex.split(text)[::2], shlex.split(text)[1::2], strict=True)
    },
}


BEST = BestParams(
    study="small",
    objective=LOSS,
    stage="search",
    trial=0,
    value=0.5,
    params=dict(POINT),
    record=TrialRecord(seed=1),
)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_can_be_read_back(form: str) -> None:
    text = BEST.render(form)
    assert text.endswith("\n")
    read = READERS[form](text)
    assert read == POINT
    assert list(read) == list(POINT)


def test_formats_for_a_shell() -> None:
    assert BEST.render("args") == "--lr 0.001 --batch-size 16 --momentum 0.0 --weight-decay 0.0001\n"
    assert BEST.render("env") == "LR=0.001\nBATCH_SIZE=16\nMOMENTUM=0.0\nWEIGHT_DECAY=0.0001\n"


NETWORK = replace(
    BEST,
    params={"lr": 0.1, "model.act": "no $relu", "model.is_wide": True, "model.width": 32, "model.x": -0.5},
)


def test_keywords_of_the_network_can_be_pasted_into_the_space() -> None:
    space = parse_space({name: [value] for name, value in NETWORK.params.items()})
    for form, read in (("toml", tomllib.loads), ("json", json.loads), ("yaml", yaml.safe_load)):
        assert parse_space(read(NETWORK.render(form))) == space
    assert tomllib.loads("[space]\n" + NETWORK.render("toml"))["space"] == NETWORK.params


def test_keywords_of_the_network_for_a_shell() -> None:
    assert NETWORK.render("args") == (
        "--lr 0.1 --model-act 'no $relu' --model-is-wide true --model-width 32 --model-x -0.5\n"
    )
    assert NETWORK.render("env") == (
        "LR=0.1\nMODEL_ACT='no $relu'\nMODEL_IS_WIDE=true\nMODEL_WIDTH=32\nMODEL_X=-0.5\n"
    )
