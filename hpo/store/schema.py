"""The tables, for statements that are built in Python: Optuna's, and those of hpo in the schema `hpo`.

hpo writes each change of a trial (queued, leased, reported, finished) straight into Optuna's tables. Only
then can a trial, its lease and its results change in one transaction. The revision of Optuna's tables is
checked when the storage is opened. All tools of Optuna read the same rows: samplers, the dashboard,
importance, `optuna.load_study`.

The migrations make the tables of hpo. A test compares them with the definitions here.
"""

from typing import cast

from optuna.storages._rdb import models
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

OPTUNA_REVISION = "v3.2.0.a"
"""The revision of Optuna's tables that the statements of hpo are written for."""


def _table(model: object) -> Table:
    return cast(Table, model.__table__)  # type: ignore[attr-defined]


optuna_metadata: MetaData = models.BaseModel.metadata

studies = _table(models.StudyModel)
study_attributes = _table(models.StudyUserAttributeModel)
trials = _table(models.TrialModel)
trial_params = _table(models.TrialParamModel)
trial_values = _table(models.TrialValueModel)
trial_attributes = _table(models.TrialUserAttributeModel)
intermediate_values = _table(models.TrialIntermediateValueModel)
FINITE_VALUE = models.TrialValueModel.TrialValueType.FINITE
FINITE_INTERMEDIATE = models.TrialIntermediateValueModel.TrialIntermediateValueType.FINITE

metadata = MetaData(schema="hpo")


def _trial_id() -> Column[int]:
    key = ForeignKey(trials.c.trial_id, ondelete="CASCADE")
    return Column("trial_id", Integer, key, primary_key=True, nullable=False)


records = Table(
    "trial",
    metadata,
    _trial_id(),
    Column("seed", BigInteger, nullable=False),
    Column("promoted_from", Integer),  # number of the search trial that a full training repeats
    Column("forked_from", Integer),  # number of the original in the study that was forked
    Column("paused", Integer),  # epoch of the pause, null unless the trial is paused
    Column("takeovers", Integer, nullable=False, server_default="0"),
    Column("worker", Text),  # the worker that paused or ended the trial last
    Column("device", Text),
    Column("epochs", Integer),
    Column("kept_epoch", Integer),
    Column("metrics", JSONB),  # of the kept epoch; null unless hpo trained the trial to its end
    Column("weights", Text),
    Column("reason", Text),
    Column("traceback", Text),
    Column("alone", Boolean, nullable=False, server_default="false"),  # gets no pack mates
    Column("retry_of", Integer),  # number of the failed trial that this one repeats
    Column("refit_of", Integer),  # number of the full training that this one repeats on all images
    Column("limits", ARRAY(Integer)),  # epochs of each phase of a refit
)

leases = Table(
    "lease",
    metadata,
    _trial_id(),
    Column("worker", Text),  # null while no worker has the trial
    Column("token", BigInteger, nullable=False),
    Column("seconds", Float(53), nullable=False),  # to expiry after a renewal
    Column("expires", DateTime(timezone=True), nullable=False),
    Column("losses", Integer, nullable=False, server_default="0"),  # in a row without a new checkpoint
    Column("durable", Integer, nullable=False, server_default="0"),  # epoch of the checkpoint at the grant
)

checkpoints = Table(
    "checkpoint",
    metadata,
    _trial_id(),
    Column("epoch", Integer, nullable=False),
    Column("file", Text, nullable=False),
)

events = Table(
    "event",
    metadata,
    Column("study_id", Integer, primary_key=True, autoincrement=False),  # no reference: see the migration
    Column("event_id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    Column("trial_id", ForeignKey(trials.c.trial_id, ondelete="CASCADE"), nullable=False),
    Column("worker", Text),
    Column("kind", Text, nullable=False),
    Column("detail", JSONB, nullable=False, server_default="{}"),
    Index("event_trial_id", "trial_id"),
)

epochs = Table(
    "epoch",
    metadata,
    _trial_id(),
    Column("epoch", Integer, primary_key=True),
    Column("metrics", JSONB, nullable=False),
    Column("worker", Text),  # the worker that reported the epoch
    Column("seconds", Float(53)),  # the trial's share of the device seconds
    Column("at", DateTime(timezone=True), server_default=text("clock_timestamp()")),  # null: not known
)

costs = Table(
    "cost",
    metadata,
    _trial_id(),
    Column("activity", Text, primary_key=True),
    Column("seconds", Float(53), nullable=False),
)

_study_id = ForeignKey(studies.c.study_id, ondelete="CASCADE")

overheads = Table(
    "overhead",
    metadata,
    Column("study_id", Integer, _study_id, primary_key=True, nullable=False),
    Column("activity", Text, primary_key=True),
    Column("seconds", Float(53), nullable=False),
)

deliveries = Table(
    "delivery",
    metadata,
    Column("worker", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
)

workers = Table(
    "worker",
    metadata,
    Column("name", Text, primary_key=True),
    Column("study", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("started", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("expires", DateTime(timezone=True), nullable=False),
    Column("quiet_since", DateTime(timezone=True)),  # start of its pack or its last epoch
)
