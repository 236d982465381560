"""The tables: Optuna's, as its own classes define them, and ours beside them in the schema `hpo`.

The life of a trial (queued, leased, reported, finished) is written by this service straight into Optuna's
tables, because only then can a trial, its lease and its results change in one transaction. Optuna's
revision is checked when the storage is opened; everything Optuna offers (samplers, dashboard, importance,
`optuna.load_study`) reads the same rows.
"""

from typing import cast

from optuna.storages._rdb import models
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    Sequence,
    Table,
    Text,
)
from sqlalchemy import text as sql_text

OPTUNA_REVISION = "v3.2.0.a"
"""The revision of Optuna's tables that the statements of this service are written for."""

REVISION = "2"
"""The revision of our own tables, kept as the comment of their schema."""


def _table(model: object) -> Table:
    return cast(Table, model.__table__)  # type: ignore[attr-defined]


optuna_metadata: MetaData = models.BaseModel.metadata

studies = _table(models.StudyModel)
study_directions = _table(models.StudyDirectionModel)
study_attributes = _table(models.StudyUserAttributeModel)
trials = _table(models.TrialModel)
trial_params = _table(models.TrialParamModel)
trial_values = _table(models.TrialValueModel)
trial_attributes = _table(models.TrialUserAttributeModel)
trial_system_attributes = _table(models.TrialSystemAttributeModel)
intermediate_values = _table(models.TrialIntermediateValueModel)
FINITE_VALUE = models.TrialValueModel.TrialValueType.FINITE
FINITE_INTERMEDIATE = models.TrialIntermediateValueModel.TrialIntermediateValueType.FINITE


metadata = MetaData(schema="hpo")
_now = sql_text("now()")


def _of_trial() -> Column[int]:
    return Column(
        "trial_id",
        Integer,
        ForeignKey(trials.c.trial_id, ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    )


tokens = Sequence("token", metadata=metadata, data_type=BigInteger)
"""Lease tokens: each one handed out is higher than all before it."""

leases = Table(
    "lease",
    metadata,
    _of_trial(),
    Column("worker", Text, comment="null while nobody has the trial"),
    Column("token", BigInteger, nullable=False),
    Column("seconds", Float(53), nullable=False, comment="how long it lasts when it is renewed"),
    Column("expires", DateTime(timezone=True), nullable=False),
    Column("takeovers", Integer, nullable=False, server_default="0"),
    Column("losses", Integer, nullable=False, server_default="0", comment="in a row without progress"),
    Column("durable", Integer, nullable=False, server_default="0", comment="epochs saved when it was given"),
    comment="The right of one worker to one open trial until a time by this database's clock.",
)

checkpoints = Table(
    "checkpoint",
    metadata,
    _of_trial(),
    Column("epoch", Integer, nullable=False),
    Column("file", Text, nullable=False),
    comment="What an open trial goes on from: a file in the artifact folder of its study.",
)

epochs = Table(
    "epoch",
    metadata,
    _of_trial(),
    Column("epoch", Integer, primary_key=True),
    Column("train_loss", Float(53), nullable=False),
    Column("validation_loss", Float(53), nullable=False),
    Column("validation_accuracy", Float(53), nullable=False),
    comment="What Optuna's intermediate values have no room for: the other figures of each epoch.",
)

costs = Table(
    "cost",
    metadata,
    _of_trial(),
    Column("activity", Text, primary_key=True),
    Column("seconds", Float(53), nullable=False),
    comment="Device seconds spent on each trial, by activity; a pack's seconds are shared by its members.",
)

overheads = Table(
    "overhead",
    metadata,
    Column(
        "study_id",
        Integer,
        ForeignKey(studies.c.study_id, ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    Column("activity", Text, primary_key=True),
    Column("seconds", Float(53), nullable=False),
    comment="Device seconds of a study's workers that belong to no trial.",
)

deliveries = Table(
    "delivery",
    metadata,
    Column("worker", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    comment="The last report of each worker that was written: one that is made again adds nothing.",
)

workers = Table(
    "worker",
    metadata,
    Column("name", Text, primary_key=True),
    Column("study", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("started", DateTime(timezone=True), nullable=False, server_default=_now),
    Column("expires", DateTime(timezone=True), nullable=False),
    comment="The worker processes, and until when each counts as alive.",
)
