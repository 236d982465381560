import argparse
import json
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Mapping

import click
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.cli import cli
from hpo.store.records import TrialRecord
from hpo.study.best import FORMATS, BestParams
from hpo.values.epoch import VALIDATION_ACCURACY
from hpo.values.objective import LOSS
from hpo.values.parameters import PARAMETERS
from hpo.values.space import Point

NAMES = ("lr", "batch_size", "momentum", "weight_decay")
POINTS: st.SearchStrategy[Point] = st.fixed_dictionaries(
    {
        "lr": st.floats(1e-12, 1e3) | st.sampled_from([1e-5, 1e16, 1.0, 0.1 + 0.2]),
        "batch_size": st.integers(2, 4096),
        "momentum": st.floats(0, 1, exclude_max=True),
        "weight_decay": st.floats(0, 1),
    }
).map(lambda point: {name: point[name] for name in NAMES})
POINT: Point = {"lr": 1e-05, "batch_size": 16, "momentum": 0.9, "weight_decay": 0.0}


def best(params: Point) -> BestParams:
    record = TrialRecord(seed=1, metrics={VALIDATION_ACCURACY: 0.85})
    return BestParams(
        study="lenet", objective=LOSS, stage="full", trial=3, value=0.5, params=params, record=record
    )


def read_env(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def read_args(text: str) -> Point:
    parser = argparse.ArgumentParser()
    for name in NAMES:
        kind = int if PARAMETERS[name].kind == "integer" else float
        parser.add_argument("--" + name.replace("_", "-"), type=kind)
    return vars(parser.parse_args(shlex.split(text)))


READERS: Mapping[str, Callable[[str], Point]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
    "args": read_args,
    "env": lambda text: {
        name: (int if name == "batch_size" else float)(read_env(text)[name.upper()]) for name in NAMES
    },
}


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=50)
@given(POINTS)
def test_parameters_are_read_back_exactly(form: str, point: Point) -> None:
    text = best(point).render(form)
    parameters = READERS[form](text)
    assert parameters == point
    assert list(parameters) == list(point)
    assert [type(value) for value in parameters.values()] == [float, int, float, float]
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_a_shell_reads_env_and_args() -> None:
    script = best(POINT).render("env") + 'echo "$LR $BATCH_SIZE $MOMENTUM $WEIGHT_DECAY"\n'
    script += "set -- " + best(POINT).render("args") + 'echo "$# $2 $4"\n'
    done = subprocess.run(["sh", "-eu"], input=script, capture_output=True, text=True, check=True)
    assert done.stdout == "1e-05 16 0.9 0.0\n8 1e-05 16\n"


def test_what_they_look_like() -> None:
    assert best(POINT).render("env") == "LR=1e-05\nBATCH_SIZE=16\nMOMENTUM=0.9\nWEIGHT_DECAY=0.0\n"
    assert best(POINT).render("args") == "--lr 1e-05 --batch-size 16 --momentum 0.9 --weight-decay 0.0\n"


def test_texts_and_booleans_are_read_back() -> None:
    params: Point = {"optimizer": "adam w's", "nesterov": True, "amsgrad": False}
    assert json.loads(best(params).render("json")) == params
    assert tomllib.loads(best(params).render("toml")) == params
    assert yaml.safe_load(best(params).render("yaml")) == params
    script = best(params).render("env") + 'echo "$OPTIMIZER $NESTEROV $AMSGRAD"\n'
    script += "set -- " + best(params).render("args") + 'echo "$2 $4 $6"\n'
    done = subprocess.run(["sh", "-eu"], input=script, capture_output=True, text=True, check=True)
    assert done.stdout == "adam w's true false\n" * 2


def test_the_command_offers_these_formats() -> None:
    option = next(parameter for parameter in cli.commands["export"].params if parameter.name == "form")
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == list(FORMATS)
    assert READERS.keys() == FORMATS.keys()


def test_accuracy_is_what_the_trial_notes() -> None:
    assert best(POINT).accuracy == 0.85
