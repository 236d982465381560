"""Attributes that older versions set on Optuna's trials, and the records that they become."""

from __future__ import annotations

from dataclasses import asdict

import optuna
import pytest
from optuna.storages import RDBStorage
from sqlalchemy import URL, create_engine, text
from support.old_database import restore

from hpo.store import results, trials
from hpo.store.connection import Storage, open_url
from hpo.store.records import TrialRecord
from hpo.store.trials import StudyTrials
from hpo.study.status import status
from hpo.study.stored import load
from hpo.study.study import Study
from hpo.values.epoch import TRAIN_LOSS, VALIDATION_ACCURACY, VALIDATION_LOSS
from hpo.values.objective import LOSS
from hpo.values.stage import STAGES, Stage

QUEUED, QUEUED_ID = 19, 40
"""Number and id of a trial of the study `half` that no worker has begun."""


def read(storage: Storage, study: Study, stage: Stage = "search") -> StudyTrials:
    with storage.transaction() as connection:
        return trials.read(connection, study.study_id(stage))


@pytest.mark.parametrize("name", ["quickstart", "half"])
def test_attributes_become_records(restored: Storage, name: str) -> None:
    study = load(restored, name)
    for stage in STAGES:
        seen = restored.study(study.spec.name if stage == "search" else study.spec.full_name).trials
        stored = read(restored, study, stage)
        assert (len(stored.ours), stored.foreign) == (len(seen), [])
        for row in stored.ours:
            values = {**asdict(row.record), "accuracy": row.record.accuracy}
            attributes = seen[row.number].user_attrs
            assert attributes == {key: values[key] for key in attributes}
            unset = {key for key, value in values.items() if value is None} - {"metrics"}
            assert not unset & attributes.keys()


def test_paused_trials_stay_paused(restored: Storage) -> None:
    study = load(restored, "half")
    paused = {row.number: row.record.paused for row in read(restored, study).ours if row.is_paused}
    assert paused == {13: 2, 14: 2}
    assert not any("hpo:paused" in trial.user_attrs for trial in restored.study("half").trials)


def test_metrics_are_those_of_the_kept_epoch(restored: Storage) -> None:
    query = """
    SELECT count(*), count(*) FILTER (
        WHERE trial.metrics = epoch.metrics AND (epoch.metrics -> 'validation_loss')::float8 = value
    )
    FROM hpo.trial JOIN hpo.epoch USING (trial_id) JOIN trial_values USING (trial_id) WHERE epoch = kept_epoch
    """
    with restored.transaction() as connection:
        assert tuple(connection.execute(text(query)).one()) == (32, 32)


@pytest.mark.parametrize("digits", [0, 1])
def test_metrics_of_epochs_survive_exactly(database: URL, digits: int) -> None:
    """Also where the settings of a role would write fewer digits."""
    restore(database)
    losses = [5e-324, 1e-310, 1 / 3, 0.1 + 0.2, 1.0, 123456789.12345679, 1e22, 1.7976931348623157e308]
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO hpo.epoch VALUES (:id, :epoch, :loss, :loss, :loss)"),
            [{"id": QUEUED_ID, "epoch": epoch, "loss": loss} for epoch, loss in enumerate(losses)],
        )
    engine.dispose()
    storage = open_url(database.update_query_dict({"options": f"-c extra_float_digits={digits}"}))
    with storage.transaction() as connection:
        for epoch, loss in enumerate(losses):
            assert results.epoch_metrics(connection, {QUEUED_ID: epoch}, LOSS) == {
                QUEUED_ID: dict.fromkeys((TRAIN_LOSS, VALIDATION_LOSS, VALIDATION_ACCURACY), loss)
            }
    storage.engine.dispose()


ODD: dict[str, tuple[dict[str, str], TrialRecord | None]] = {
    "no seed": ({"worker": '"w"'}, None),
    "fraction": ({"seed": "1.0"}, None),
    "boolean": ({"seed": "true"}, None),
    "text": ({"seed": '"7"'}, None),
    "no JSON": ({"seed": "seven"}, None),
    "too large": ({"seed": "1" * 19}, None),
    "negative": ({"seed": "-1"}, None),
    "odd values": (
        {
            "seed": "4294967295",
            "promoted_from": "null",
            "takeovers": '"many"',
            "epochs": "1.5",
            "kept_epoch": "99999999999",
            "accuracy": "NaN",
            "weights": "[1]",
            "worker": r'"\u0000"',
            "device": r'"\u00e9 \"cpu\""',
            "hpo:paused": "{}",
            "by": '"me"',
        },
        TrialRecord(4294967295, device='é "cpu"'),
    ),
    "paused": ({"seed": "0", "hpo:paused": "2"}, TrialRecord(0, paused=2)),
    "without epochs": (
        {"seed": "0", "accuracy": "0.30000000000000004", "kept_epoch": "9"},
        TrialRecord(0, kept_epoch=9, metrics={VALIDATION_ACCURACY: 0.1 + 0.2}),
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_attributes_are_tolerated(database: URL, case: str) -> None:
    attributes, record = ODD[case]
    restore(database)
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.execute(text(f"DELETE FROM trial_user_attributes WHERE trial_id = {QUEUED_ID}"))
        connection.execute(
            text("INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (:id, :key, :value)"),
            [{"id": QUEUED_ID, "key": key, "value": value} for key, value in attributes.items()],
        )
    engine.dispose()
    storage = open_url(database)
    study = load(storage, "half")
    stored = read(storage, study)
    assert {row.number: row.record for row in stored.ours}.get(QUEUED) == record
    assert [trial.number for trial in stored.foreign] == ([QUEUED] if record is None else [])
    assert status(storage, study).search.states["WAITING"] == 8
    storage.engine.dispose()


def test_trials_of_other_studies_get_no_record(database: URL) -> None:
    restore(database)
    backend = RDBStorage(database.render_as_string(hide_password=False))
    other = optuna.create_study(storage=backend, study_name="other")
    attributes = {"seed": 1, "hpo:paused": 1}
    other.add_trial(optuna.create_trial(value=1.0, user_attrs=attributes))
    backend.engine.dispose()
    storage = open_url(database)
    with storage.transaction() as connection:
        stored = trials.read(connection, storage.backend.get_study_id_from_name("other"))
    assert (stored.ours, [trial.value for trial in stored.foreign]) == ([], [1.0])
    assert storage.study("other").trials[0].user_attrs == attributes
    storage.engine.dispose()
