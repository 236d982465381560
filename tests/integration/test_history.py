"""All trials and epochs of a study: data frames, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from click.testing import CliRunner
from optuna.trial import TrialState
from sqlalchemy import event, text
from support.artifacts import MemoryStore
from support.claims import claim
from support.epochs import epoch_result
from support.shell import ROOT
from support.study_file import FUNCTION_TEXT, load

import hpo
from hpo.cli import cli
from hpo.cli.study_data import SCHEMA_VERSION
from hpo.errors import InputError, NotFoundError
from hpo.run.frames import DTYPES, _frame
from hpo.spec.study_spec import StudySpec
from hpo.store import costs, results
from hpo.store.connection import Storage
from hpo.store.results import TrialOutcome
from hpo.study import lifecycle
from hpo.study.create import create
from hpo.study.promote import promote
from hpo.study.schedule import LeasedTrial
from hpo.study.stored import remove
from hpo.study.study import Study
from hpo.study.table_columns import epoch_columns, trial_columns
from hpo.values.epoch import VALIDATION_LOSS
from hpo.values.objective import LOSS

SpecOf = Callable[..., StudySpec]

SCHEMA = ROOT / "docs" / "study.schema.json"
METRICS = {"train_loss": 0.5, VALIDATION_LOSS: 0.25, "seconds": -1.0, "größte Norm": math.inf}
"""The metrics of a kept epoch. Names are free, and a value need not be finite."""
REASON = 'ValueError: "a", b\nline 2'


def train(storage: Storage, trial: LeasedTrial, epochs: int, outcome: TrialOutcome | None = None) -> None:
    """Record epochs as a worker does, and the end of the trial if it has one."""
    with storage.transaction() as connection:
        for epoch in range(1, epochs + 1):
            result = epoch_result(trial.number, epoch, 1 / 2**epoch, metrics={"größte Norm": math.inf})
            results.report(connection, {trial.lease.trial_id: result}, LOSS, "worker-1")
        costs.charge(connection, {trial.lease.trial_id: {"training": 2.0, "evaluation": 0.5}})
        if outcome is not None:
            results.finish(connection, {trial.lease.trial_id: outcome}, "worker-1", "cpu")


@pytest.fixture
def stored(storage: Storage, spec: SpecOf) -> Study:
    """Return a study with trials of every state, a baseline and a running full training."""
    changed = spec(
        seed=3,
        space={"optimizer": ["sgd", "adam"], "nesterov": [True, False], "lr": {"low": 0.001, "high": 0.1}},
        baseline={"lr": 0.01, "batch_size": 16, "momentum": 0.9, "weight_decay": 0},
        search={"trials": 5, "epochs": 2},
        promotion={"top": 1, "seeds": 1},
    )
    study = create(storage, changed, "test").study
    trials = [trial for _ in range(4) for trial in claim(storage, study, "search", "worker-1", 1)]
    kept = TrialOutcome(TrialState.COMPLETE, 0.25, epochs=2, kept_epoch=2, metrics=METRICS)
    train(storage, trials[0], 2, kept)
    train(
        storage, trials[1], 1, TrialOutcome(TrialState.PRUNED, 0.5, epochs=1, metrics={VALIDATION_LOSS: 0.5})
    )
    train(storage, trials[2], 0, TrialOutcome(TrialState.FAIL, reason=REASON))
    train(
        storage,
        trials[3],
        1,
        TrialOutcome(TrialState.COMPLETE, 0.5, epochs=1, metrics={VALIDATION_LOSS: 0.5}),
    )
    lifecycle.stop(storage, study, ("search",))
    promote(storage, study)
    (full,) = claim(storage, study, "full", "worker-2", 1)
    train(storage, full, 1)
    return study


@pytest.fixture
def study(storage: Storage, stored: Study) -> hpo.Study:
    return hpo.load_study(stored.name, storage)


@pytest.fixture
def show(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a call of `hpo study show small` that returns its output."""
    monkeypatch.setenv("HPO_STORAGE_URL", storage.url.render_as_string(hide_password=False))

    def call(*options: str) -> str:
        done = CliRunner().invoke(
            cli, ("study", "show", "small", *options), standalone_mode=False, catch_exceptions=False
        )
        return done.stdout

    return call


def plain(value: Any) -> Any:
    """Return a value of a data frame as JSON has it."""
    if value is pd.NA or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value.to_pydatetime() if isinstance(value, pd.Timestamp) else value


def test_trials_frame_has_a_row_for_each_trial_and_a_type_for_each_column(study: hpo.Study) -> None:
    frame = study.trials_dataframe()
    assert list(frame.columns) == [
        *("stage", "number", "state", "value"),
        *("params_lr", "params_batch_size", "params_momentum", "params_weight_decay"),
        *("params_optimizer", "params_nesterov"),
        *("metrics_validation_loss", "metrics_größte Norm", "metrics_seconds", "metrics_train_loss"),
        *("baseline", "promoted_from", "forked_from", "retry_of", "refit_of", "seed", "paused", "takeovers"),
        *("worker", "device", "started", "ended", "epochs", "kept_epoch", "seconds", "reason"),
    ]
    types = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    assert types["params_lr"] == types["value"] == types["metrics_seconds"] == types["seconds"] == "float64"
    assert types["params_batch_size"] == types["promoted_from"] == types["kept_epoch"] == "Int64"
    assert types["params_optimizer"] == types["state"] == types["reason"] == "string"
    assert types["params_nesterov"] == types["baseline"] == "boolean"
    assert types["started"] == types["ended"] == "datetime64[us, UTC]"
    assert [*frame["stage"]] == ["search"] * 5 + ["full"]
    assert [*frame["number"]] == [0, 1, 2, 3, 4, 0]
    states = ["COMPLETE", "PRUNED", "FAIL", "COMPLETE", "WAITING", "RUNNING"]
    assert [*frame["state"]] == states
    assert [*map(plain, frame["value"])] == [0.25, 0.5, None, 0.5, None, None]
    assert [*frame["baseline"]] == [True, False, False, False, False, True]
    assert [*map(plain, frame["promoted_from"])] == [None] * 5 + [0]
    assert [*frame["epochs"]] == [2, 1, 0, 1, 0, 1]
    assert [*frame["seconds"]] == [2.5, 2.5, 2.5, 2.5, 0, 2.5]
    assert [*map(plain, frame["reason"])] == [None, None, REASON, None, None, None]
    assert frame["metrics_größte Norm"][0] == math.inf
    assert [*map(plain, frame["worker"])] == ["worker-1"] * 4 + [None] * 2
    now = datetime.now(UTC)
    assert all(now - timedelta(minutes=5) < time <= now for time in frame["ended"][:4])
    assert [*frame["ended"].isna()] == [False] * 4 + [True] * 2
    assert [*frame["started"].isna()] == [False] * 4 + [True, False]


def test_curves_frame_has_a_row_for_each_epoch(study: hpo.Study) -> None:
    frame = study.curves_dataframe()
    assert list(frame.columns) == [
        *("stage", "trial", "epoch"),
        *("metrics_validation_loss", "metrics_größte Norm", "metrics_train_loss"),
        "metrics_validation_accuracy",
        *("seconds", "worker", "time"),
    ]
    assert [*zip(frame["stage"], frame["trial"], frame["epoch"], strict=True)] == [
        ("search", 0, 1),
        ("search", 0, 2),
        ("search", 1, 1),
        ("search", 3, 1),
        ("full", 0, 1),
    ]
    assert [*frame["metrics_validation_loss"]] == [0.5, 0.25, 0.5, 0.5, 0.5]
    assert {*frame["seconds"]} == {1.25}
    assert {*frame["worker"]} == {"worker-1"}
    assert str(frame["time"].dtype) == "datetime64[us, UTC]"
    assert frame["time"].is_monotonic_increasing


def test_parameter_that_does_not_apply_is_missing(study: hpo.Study) -> None:
    frame = study.trials_dataframe()
    adam = frame["params_optimizer"] == "adam"
    assert adam.any()
    for name in ("params_momentum", "params_nesterov"):
        assert [*frame[name].isna()] == [*adam]


def test_frames_without_rows_have_all_columns_and_types(storage: Storage, spec: SpecOf) -> None:
    study = create(storage, spec(), "test").study
    curves = hpo.load_study("small", storage).curves_dataframe()
    assert list(curves.columns) == [
        *("stage", "trial", "epoch", "metrics_validation_loss", "seconds", "worker", "time")
    ]
    assert len(curves) == 0
    columns = trial_columns(study, [])
    trials = _frame(columns, [])
    assert [str(dtype) for dtype in trials.dtypes] == [DTYPES[column.kind] for column in columns]
    assert [str(dtype) for dtype in curves.dtypes] == [DTYPES[c.kind] for c in epoch_columns(study, [])]
    assert "params_weight_decay" in trials


def test_trials_of_other_programs_are_left_out_and_listed(
    storage: Storage, study: hpo.Study, show: Callable[..., str]
) -> None:
    before = study.trials_dataframe(), study.curves_dataframe()
    study.search.add_trial(optuna.trial.create_trial(value=-5.0, intermediate_values={1: -5.0}))
    pd.testing.assert_frame_equal(study.trials_dataframe(), before[0])
    pd.testing.assert_frame_equal(study.curves_dataframe(), before[1])
    shown = json.loads(show("--json"))
    assert shown["foreign_trials"] == [
        {"stage": "search", "number": 5, "state": "COMPLETE", "reason": "hpo did not add it"}
    ]
    assert len(shown["trials"]) == 6


DAMAGE = (
    "UPDATE hpo.epoch SET metrics = '[1]' WHERE epoch = 2",
    "UPDATE hpo.epoch SET metrics = '{\"validation_loss\": null}' WHERE epoch = 2",
    "UPDATE hpo.epoch SET metrics = '{\"validation_loss\": 1e999}' WHERE epoch = 2",
)


@pytest.mark.parametrize("statement", DAMAGE)
def test_metrics_that_cannot_be_read_are_missing(
    storage: Storage, study: hpo.Study, show: Callable[..., str], statement: str
) -> None:
    with storage.transaction() as connection:
        connection.execute(text(statement.replace(":", "\\:")))
    frame = study.curves_dataframe()
    assert plain(frame["metrics_validation_loss"][1]) is None
    assert frame["metrics_validation_loss"][0] == 0.5
    curve = json.loads(show("--json"))["trials"][0]["curve"]
    assert [epoch["metrics"].get(VALIDATION_LOSS) for epoch in curve] == [0.5, None]


def test_record_that_cannot_be_read_makes_the_trial_foreign(
    storage: Storage, study: hpo.Study, show: Callable[..., str]
) -> None:
    with storage.transaction() as connection:
        connection.execute(text("UPDATE hpo.trial SET metrics = '7' WHERE kept_epoch = 2"))
    assert [*study.trials_dataframe()["number"]] == [1, 2, 3, 4, 0]
    assert [*study.curves_dataframe()["trial"]] == [1, 3, 0]
    assert [entry["number"] for entry in json.loads(show("--json"))["foreign_trials"]] == [0]


def test_parameter_of_another_kind_makes_a_column_of_objects(storage: Storage, study: hpo.Study) -> None:
    kind = optuna.distributions.distribution_to_json(optuna.distributions.CategoricalDistribution(["x", "y"]))
    with storage.transaction() as connection:
        connection.execute(
            text(
                "UPDATE trial_params SET param_value = 1, distribution_json = :kind "
                "WHERE param_name = 'lr' AND trial_id = (SELECT min(trial_id) FROM trials)"
            ),
            {"kind": kind},
        )
    frame = study.trials_dataframe()
    assert frame["params_lr"].dtype == object
    assert frame["params_lr"][0] == "y"


def test_number_of_statements_does_not_depend_on_the_number_of_trials(storage: Storage, spec: SpecOf) -> None:
    counts = []
    sent: list[str] = []
    event.listen(storage.engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    for name, number in (("few", 1), ("few", 1), ("many", 20)):
        create(storage, spec(name=name, search={"trials": number}), "test")
        loaded = hpo.load_study(name, storage)
        sent.clear()
        loaded.trials_dataframe()
        loaded.curves_dataframe()
        counts.append(len(sent))
    assert counts[1] == counts[2]


def test_json_matches_its_schema(study: hpo.Study, show: Callable[..., str], tmp_path: Path) -> None:
    output = show("--json")
    file = tmp_path / "small.json"
    file.write_text(output)
    command = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(SCHEMA), str(file)]
    checked = subprocess.run(command, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout
    schema = json.loads(SCHEMA.read_text())
    assert schema["properties"]["schema_version"] == {"const": SCHEMA_VERSION}
    assert {*undocumented(json.loads(output, parse_constant=refuse), schema)} == set()
    # One trial on a line, so that programs may read the lines as they come.
    lines = [line for line in output.splitlines() if line.startswith('  {"stage"')]
    assert [json.loads(line.rstrip(","))["number"] for line in lines] == [0, 1, 2, 3, 4, 0]


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def undocumented(value: Any, schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the keys of an object that its schema does not name."""
    if isinstance(value, list):
        for entry in value:
            yield from undocumented(entry, schema.get("items", {}), path)
    elif isinstance(value, dict) and "properties" in schema:
        for key, entry in value.items():
            if key not in schema["properties"]:
                yield f"{path}.{key}"
            else:
                yield from undocumented(entry, schema["properties"][key], f"{path}.{key}")


def test_json_has_what_the_frames_have(study: hpo.Study, show: Callable[..., str]) -> None:
    shown = json.loads(show("--json"))
    assert shown["spec"] == study.spec.to_json()
    assert shown["objective"] == {"metric": "loss", "direction": "minimize", "key": VALIDATION_LOSS}
    assert shown["stopped"]["search"]["reason"] == "stopped by hand"
    trials = shown["trials"]
    assert trials[0]["params"] == {
        **{"lr": 0.01, "batch_size": 16, "momentum": 0.9, "weight_decay": 0.0},
        **{"optimizer": "sgd", "nesterov": False},
    }
    assert trials[0]["metrics"] == {**METRICS, "größte Norm": None}
    assert trials[4]["metrics"] == {}
    frame = study.trials_dataframe()
    for name in set(frame.columns) & trials[0].keys():
        values = [trial[name] for trial in trials]
        if name in ("started", "ended"):
            values = [None if value is None else datetime.fromisoformat(value) for value in values]
        assert values == [*map(plain, frame[name])], name
    curves = study.curves_dataframe()
    epochs = [epoch for trial in trials for epoch in trial["curve"]]
    assert [epoch["metrics"]["train_loss"] for epoch in epochs] == [*curves["metrics_train_loss"]]
    assert [datetime.fromisoformat(epoch["time"]) for epoch in epochs] == [*map(plain, curves["time"])]


@pytest.mark.parametrize("epochs", [False, True])
def test_csv_has_the_columns_and_the_rows_of_the_frame(
    study: hpo.Study, show: Callable[..., str], epochs: bool
) -> None:
    frame = study.curves_dataframe() if epochs else study.trials_dataframe()
    output = show("--csv", *(["--epochs"] if epochs else []))
    rows = [*csv.reader(io.StringIO(output))]
    assert rows[0] == [*frame.columns]
    read = pd.read_csv(io.StringIO(output), keep_default_na=False, na_values=[""])
    for name in frame.columns:
        if str(frame[name].dtype).startswith("datetime64"):
            values = [None if time == "" else datetime.fromisoformat(time) for time in column(rows, name)]
            assert values == [*map(plain, frame[name])]
        else:
            assert [*map(plain, read[name])] == [*map(plain, frame[name])], name


def column(rows: list[list[str]], name: str) -> list[str]:
    index = rows[0].index(name)
    return [row[index] for row in rows[1:]]


def test_study_of_a_function_has_the_names_of_its_own(storage: Storage, show: Callable[..., str]) -> None:
    text = FUNCTION_TEXT.replace("depth =", "seconds =").replace("lr =", "state =")
    stored = create(storage, load(text), "test").study
    (trial,) = claim(storage, stored, "search", "worker-1", 1)
    metrics = {"accuracy": -0.5, "val/f1": 0.25, "epoch": 7.0}
    result = replace(epoch_result(0, 1, 0.0), metrics=metrics)
    ended = TrialOutcome(TrialState.COMPLETE, -0.5, epochs=1, kept_epoch=1, metrics=metrics)
    with storage.transaction() as connection:
        results.report(connection, {trial.lease.trial_id: result}, stored.objective, "worker-1")
        results.finish(connection, {trial.lease.trial_id: ended}, "worker-1", "cpu")
    study = hpo.load_study("small", storage)
    trials, curves = study.trials_dataframe(), study.curves_dataframe()
    assert {str(trials[f"params_{name}"].dtype) for name in ("seconds", "optimizer", "state")} == {
        *("Int64", "string", "float64")
    }
    assert [name for name in map(str, trials) if name.startswith("metrics_")] == [
        *("metrics_accuracy", "metrics_epoch", "metrics_val/f1")
    ]
    assert (trials["value"][0], trials["state"][0]) == (-0.5, "COMPLETE")
    assert [*curves.loc[0, ["epoch", "metrics_accuracy", "metrics_epoch"]]] == [1, -0.5, 7.0]
    shown = json.loads(show("--json"))
    assert shown["objective"] == {"metric": "accuracy", "direction": "maximize", "key": "accuracy"}
    assert shown["trials"][0]["params"] == trial.point
    assert shown["trials"][0]["curve"][0]["metrics"] == metrics
    assert show("--csv").count("\n") == 1 + len(trials)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--json", "--csv"), "--json and --csv exclude each other"),
        (("--epochs",), "--epochs needs --csv; JSON has all epochs"),
    ],
)
def test_options_that_contradict_are_one_line(options: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(cli, ("study", "show", "small", *options))
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == f"Error: {message}"


def test_frames_of_a_deleted_study_say_so(storage: Storage, stored: Study, study: hpo.Study) -> None:
    remove(storage, stored, MemoryStore())
    create(storage, stored.spec, "test")  # another study of that name
    for call in (study.trials_dataframe, study.curves_dataframe):
        with pytest.raises(NotFoundError, match=r"^study 'small': the study has been deleted$"):
            call()


def test_frames_without_pandas_say_what_to_install(study: hpo.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    for call in (study.trials_dataframe, study.curves_dataframe):
        with pytest.raises(
            InputError, match=r"^data frames need pandas \(.*\); run: pip install 'hpo\[dataf"
        ):
            call()


def test_fork_keeps_the_times_of_its_epochs(storage: Storage, stored: Study, spec: SpecOf) -> None:
    from hpo.study.fork import fork

    changed = {**stored.spec.to_json(), "name": "wide", "sampler": {"name": "tpe"}}
    fork(storage, stored, StudySpec.parse(changed), "test")
    old, new = (hpo.load_study(name, storage).curves_dataframe() for name in ("small", "wide"))
    columns = ["epoch", "metrics_validation_loss", "seconds", "worker", "time"]
    inherited = old[old["stage"] == "search"][columns]
    pd.testing.assert_frame_equal(new[columns].reset_index(drop=True), inherited.reset_index(drop=True))
