"""Databases that were empty, or made by another version of hpo or Optuna."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
import torch
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.exc import ProgrammingError
from support.claims import claim
from support.clients import at_once, table_names
from support.epochs import epoch_result
from support.workloads import digits_workload

from hpo.artifacts.folder import FolderStore
from hpo.errors import SpecError, StorageError
from hpo.spec.study_spec import StudySpec
from hpo.store import checkpoints, histories, leases, results, schema, trials
from hpo.store.connection import Storage, open_url
from hpo.store.migrate import MIGRATIONS, Migration, migrate
from hpo.store.trials import TrialRow
from hpo.study.best import best_params
from hpo.study.create import create
from hpo.study.status import status
from hpo.study.stored import load
from hpo.study.study import Study
from hpo.values.objective import LOSS
from hpo.worker.context import WorkerSettings
from hpo.worker.pack_training import PackTraining
from hpo.worker.worker import Worker

OURS = {
    "hpo.trial",
    "hpo.event",
    "hpo.lease",
    "hpo.epoch",
    "hpo.cost",
    "hpo.worker",
    "hpo.checkpoint",
    "hpo.overhead",
    "hpo.delivery",
}


NEWEST = MIGRATIONS[-1].revision

REVISION_1 = (
    "INSERT INTO trial_user_attributes (trial_id, key, value_json) "
    "SELECT trial_id, 'seed', seed FROM hpo.trial",
    "DROP TABLE hpo.event, hpo.trial, hpo.lease, hpo.worker, hpo.checkpoint, hpo.overhead, hpo.delivery",
    "DROP TABLE hpo.epoch",
    "CREATE TABLE hpo.epoch (trial_id int REFERENCES trials ON DELETE CASCADE, epoch int, train_loss float8 "
    "NOT NULL, validation_loss float8, validation_accuracy float8, PRIMARY KEY (trial_id, epoch))",
    "CREATE TABLE hpo.lease (trial_id int PRIMARY KEY, worker text, token bigint, expires timestamptz)",
    "CREATE TABLE hpo.worker (name text PRIMARY KEY, study text, device text, started timestamptz)",
    "COMMENT ON SCHEMA hpo IS '1'",
)
"""Statements that take the schema of hpo back to revision 1."""


def execute(url: URL, *statements: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def revision(connection: Connection) -> str | None:
    query = "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'hpo'"
    comment: str | None = connection.execute(text(query)).scalar()
    return comment


def assert_current(storage: Storage) -> None:
    """Check the revisions, and the tables against their definitions for SQLAlchemy."""
    assert storage.backend.get_current_version() == schema.OPTUNA_REVISION
    with storage.transaction() as connection:
        assert revision(connection) == str(MIGRATIONS[-1].revision)
        options = {
            "include_schemas": True,
            "include_name": lambda name, kind, _parents: kind != "schema" or name == "hpo",
            "compare_server_default": True,
        }
        context = MigrationContext.configure(connection, opts=options)
        differences = chain.from_iterable(
            difference if isinstance(difference, list) else [difference]
            for difference in compare_metadata(context, schema.metadata)
        )
    # Only the migrations have comments. They differ between versions.
    assert [d for d in differences if d[0] not in ("remove_table_comment", "modify_comment")] == []


# From empty


def test_eight_processes_open_an_empty_database_at_once(database: URL) -> None:
    names = at_once(8, table_names, database)
    assert all(other == names[0] for other in names)
    assert names[0] >= OURS | {"studies", "trials", "trial_params", "alembic_version"}


def test_an_empty_database_gets_all_tables(database: URL) -> None:
    storage = open_url(database)
    assert_current(storage)
    storage.engine.dispose()


def test_a_set_up_that_died_half_way_is_finished_by_the_next(database: URL) -> None:
    engine = create_engine(database)
    schema.optuna_metadata.create_all(engine)  # tables, but no revision yet
    engine.dispose()
    assert at_once(2, table_names, database)[0] >= OURS


def test_opening_again_changes_nothing(storage: Storage, spec: Callable[..., StudySpec]) -> None:
    create(storage, spec(), "test")
    again = open_url(storage.url)
    assert len(again.study("small").trials) == 12
    again.engine.dispose()


# From other revisions of the schema hpo


def test_revision_1_is_migrated_with_its_trials(storage: Storage, spec: Callable[..., StudySpec]) -> None:
    study = create(storage, spec(search={"trials": 2}), "test").study
    claim(storage, study, "search", "of the past", 2)
    execute(storage.url, *REVISION_1)
    storage.engine.dispose()
    again = open_url(storage.url)
    assert_current(again)
    claimed = claim(again, study, "search", "one", 1) + claim(again, study, "search", "one", 1)
    assert [trial.number for trial in claimed] == [0, 1]
    again.engine.dispose()


def test_epochs_of_revision_6_have_no_known_time(storage: Storage, spec: Callable[..., StudySpec]) -> None:
    study = create(storage, spec(search={"trials": 1}), "test").study
    (trial,) = claim(storage, study, "search", "one", 1)
    (migration,) = (migration for migration in MIGRATIONS if migration.revision == 7)
    with storage.transaction() as connection:
        for epoch in (1, 2):
            results.report(connection, {trial.lease.trial_id: epoch_result(0, epoch, 0.5)}, LOSS, "one")
            if epoch == 1:
                columns = "DROP COLUMN worker, DROP COLUMN seconds, DROP COLUMN at"
                connection.execute(text(f"ALTER TABLE hpo.epoch {columns}"))
                connection.exec_driver_sql(migration.sql)
        old, new = histories.epochs(connection, [study.search_id])[trial.lease.trial_id]
    assert (old.worker, old.seconds, old.at) == (None, None, None)
    assert (new.worker, new.seconds) == ("one", 1.25)
    assert new.at is not None


def test_eight_processes_open_revision_1_at_once(storage: Storage) -> None:
    execute(storage.url, *REVISION_1)
    storage.engine.dispose()
    names = at_once(8, table_names, storage.url)
    assert all(other >= OURS for other in names)


@pytest.mark.parametrize("comment", ["0", "99", "of somebody else"])
def test_an_unknown_revision_is_refused_in_one_line(storage: Storage, comment: str) -> None:
    execute(storage.url, f"COMMENT ON SCHEMA hpo IS '{comment}'")
    with pytest.raises(StorageError) as caught:
        open_url(storage.url)
    reason = f"its schema hpo is of revision {comment}; this version works with {NEWEST}"
    assert str(caught.value) == f"{storage.url.render_as_string()}: {reason}"


def test_migrations_are_numbered_without_gaps() -> None:
    assert [migration.revision for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


def test_a_migration_that_fails_leaves_the_revision_before_it(storage: Storage) -> None:
    works = Migration(NEWEST + 1, "CREATE TABLE hpo.third (share text DEFAULT '100%')")
    fails = Migration(NEWEST + 2, "CREATE TABLE hpo.fourth (number integer); SELECT nothing")
    with storage.engine.connect() as connection, pytest.raises(ProgrammingError):
        migrate(connection, storage.url, (*MIGRATIONS, works, fails))
    with storage.engine.connect() as connection:
        assert revision(connection) == str(NEWEST + 1)
        tables = connection.execute(text("SELECT to_regclass('hpo.third'), to_regclass('hpo.fourth')"))
        assert tables.one() == ("hpo.third", None)


# Optuna's tables


@pytest.mark.parametrize(
    ("revision", "advice"), [("v3.0.0.d", "optuna storage upgrade"), ("v9.0.0", "updating optuna")]
)
def test_tables_of_another_optuna_are_refused(database: URL, revision: str, advice: str) -> None:
    RDBStorage(database.render_as_string(hide_password=False)).engine.dispose()
    execute(database, f"UPDATE alembic_version SET version_num = '{revision}'")
    with pytest.raises(StorageError, match=advice) as caught:
        open_url(database)
    assert "\n" not in str(caught.value)
    engine = create_engine(database)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT to_regnamespace('hpo')")).scalar() is None
    engine.dispose()


def test_optuna_that_changed_after_set_up_is_refused(storage: Storage) -> None:
    execute(storage.url, "UPDATE alembic_version SET version_num = 'v3.0.0.d'")
    with pytest.raises(StorageError, match="optuna storage upgrade"):
        open_url(storage.url)


def test_tables_that_are_gone_are_named_by_the_reason(storage: Storage) -> None:
    execute(storage.url, "DROP TABLE version_info, alembic_version")
    with pytest.raises(StorageError, match='relation "version_info" does not exist'):
        open_url(storage.url)


# A database of version 0.1


def rows(storage: Storage, study: Study) -> list[TrialRow]:
    with storage.transaction() as connection:
        return trials.read(connection, study.search_id).ours


def test_a_database_of_version_0_1_has_the_current_schema(restored: Storage) -> None:
    assert_current(restored)


def test_a_finished_study_of_version_0_1_reads_the_same(restored: Storage) -> None:
    study = load(restored, "quickstart")
    shown = status(restored, study)
    assert shown.fingerprint == "6e5d154da3b9074e"
    assert study.key == "f0995df8"
    search, full = shown.search, shown.full
    assert (search.budget, search.states["COMPLETE"], search.states["PRUNED"], search.finished) == (
        16,
        3,
        13,
        16,
    )
    assert search.best is not None
    assert (search.best.trial, search.best.value) == (0, 0.4084282629734541)
    assert search.best.accuracy == 0.8854166666666666
    assert (full.budget, full.states["COMPLETE"], full.finished) == (4, 4, 4)
    assert search.device_seconds == pytest.approx(8.007806231000131)
    assert search.stopped is None
    with restored.transaction() as connection:
        values = [row.value for row in trials.read(connection, study.full_id).ours]
    assert values == [0.06977181761644254, 0.11305064280933191, 0.06933527223942174, 0.056674945315245626]


def test_a_study_of_version_0_1_keeps_its_fingerprint_as_it_grows(restored: Storage) -> None:
    study = load(restored, "half")
    assert create(restored, study.spec, "half.toml").did == "unchanged"
    search = study.spec.search.model_copy(update={"trials": 25})
    grown = create(restored, study.spec.model_copy(update={"search": search}), "half.toml")
    assert (grown.did, grown.added) == ("extended", 1)
    for stored in (grown.study, load(restored, "half")):
        assert stored.fingerprint == "8dba80e034afb646"
        assert stored.fingerprint != stored.spec.fingerprint
        assert stored.spec.search.trials == 25


def test_a_spec_of_a_newer_version_is_refused_in_one_line(restored: Storage) -> None:
    execute(
        restored.url,
        """UPDATE study_user_attributes SET value_json = jsonb_set(value_json::jsonb, '{version}', '3')::text
        WHERE key = 'hpo:spec'""",
    )
    with pytest.raises(SpecError) as caught:
        load(restored, "half")
    assert str(caught.value).startswith("stored study 'half': version = 3: this version of hpo reads specs")
    assert "\n" not in str(caught.value)


def test_the_best_parameters_of_version_0_1_read_the_same(restored: Storage) -> None:
    study = load(restored, "quickstart")
    best = best_params(restored, study)
    assert (best.stage, best.trial, best.accuracy) == ("full", 3, 0.9833101529902643)
    assert best.record.kept_epoch == 34
    assert best.record.weights == "trial-0003-30.safetensors"
    assert best.params == {
        "lr": 0.062087716225561224,
        "batch_size": 32,
        "momentum": 0.9,
        "weight_decay": 0.0001,
    }
    assert best_params(restored, study, "search").params["lr"] == 0.02221391066348374


def test_a_half_finished_study_of_version_0_1_reads_the_same(restored: Storage) -> None:
    study = load(restored, "half")
    shown = status(restored, study)
    assert shown.fingerprint == "8dba80e034afb646"
    assert (shown.search.budget, shown.search.finished, shown.search.paused) == (24, 12, 2)
    # The lease of the killed worker has been reaped, so its trial waits as well.
    assert {k: n for k, n in shown.search.states.items() if n} == {"COMPLETE": 2, "PRUNED": 10, "WAITING": 8}
    assert shown.search.best is not None
    assert (shown.search.best.trial, shown.search.best.value) == (1, 0.503148930351017)
    with restored.transaction() as connection:
        by_id = {row.trial_id: row for row in rows(restored, study)}
        saved = {by_id[i].number: c.epoch for i, c in checkpoints.read(connection, by_id).items()}
        losses = {by_id[i].number: n for i, n in leases.losses(connection, by_id).items()}
    assert saved == {12: 3, 13: 2, 14: 2, 15: 2, 16: 1}
    assert losses == {12: 1, 15: 0, 16: 0, 17: 0}
    assert [row.number for row in by_id.values() if row.is_paused] == [13, 14]


@pytest.mark.slow
def test_a_half_finished_study_of_version_0_1_is_finished(restored: Storage, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    study = load(restored, "half")
    with restored.transaction() as connection:
        old = results.curves(connection, study.search_id, LOSS)
    ended = {row.number: row for row in rows(restored, study) if row.state.is_finished()}
    Worker(
        restored,
        study,
        PackTraining(digits_workload(study.spec)),
        WorkerSettings("w", "cpu", FolderStore(tmp_path / "study")),
    ).run()
    after = rows(restored, study)
    assert [row.number for row in after] == list(range(24))
    assert {row.state for row in after} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert {row.number: row for row in after if row.number in ended} == ended
    assert status(restored, study).search.distinct_cells == 24
    with restored.transaction() as connection:
        new = results.curves(connection, study.search_id, LOSS)
        trial_ids = [row.trial_id for row in after]
        assert checkpoints.read(connection, trial_ids) == {}
        assert leases.losses(connection, trial_ids) == {}
    for trial_id, curve in old.items():
        # Epochs on record stay, also those of trials that started over.
        assert new[trial_id].costs.items() >= curve.costs.items()
    assert all(len(curve.costs) in (2, 4, 6) for curve in new.values())
    complete = [row for row in after if row.state == TrialState.COMPLETE]
    assert all(len(new[row.trial_id].costs) == 6 for row in complete)
