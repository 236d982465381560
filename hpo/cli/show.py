"""`hpo study show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hpo.cli.command import as_json, command, study_name
from hpo.cli.output import result
from hpo.values.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpo.cli.study_data import StudyFacts
    from hpo.store.connection import Storage
    from hpo.study.study import Study


@command(
    "hpo study show lenet\n"
    "hpo study show lenet --json > lenet.json\n"
    "hpo study show lenet --csv > trials.csv\n"
    "hpo study show lenet --csv --epochs > epochs.csv"
)
@study_name
@as_json
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: a row for each trial.")
@click.option("--epochs", is_flag=True, help="With --csv: a row for each epoch of each trial.")
def show(name: str, as_json: bool, as_csv: bool, epochs: bool) -> None:
    """Show the stored spec of a study and its trials.

    JSON has all trials with all epochs and metrics, each trial on a line of its own. Its schema is
    docs/study.schema.json.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    if epochs and not as_csv:
        raise click.UsageError("--epochs needs --csv; JSON has all epochs")
    from hpo.run.environment import open_study

    _, storage, study = open_study(name)
    if as_csv:
        lines = _csv(storage, study, epochs)
    elif as_json:
        lines = _json(storage, study)
    else:
        lines = _text(storage, study)
    for line in lines:
        result(line)


def _csv(storage: Storage, study: Study, epochs: bool) -> Iterator[str]:
    from hpo.cli.study_data import csv_lines
    from hpo.study.history import history
    from hpo.study.table_columns import epoch_columns, epochs_of, trial_columns

    trials = history(storage, study, with_epochs=epochs).trials
    if not epochs:
        return csv_lines(trial_columns(study, trials), trials)
    rows = epochs_of(trials)
    return csv_lines(epoch_columns(study, rows), rows)


def _json(storage: Storage, study: Study) -> Iterator[str]:
    from hpo.cli.study_data import json_lines
    from hpo.study.history import history

    return json_lines(_facts(storage, study), history(storage, study, with_epochs=True))


def _text(storage: Storage, study: Study) -> Iterator[str]:
    import tomli_w

    from hpo.cli.tables import trial_table

    facts = _facts(storage, study)
    yield f"# fingerprint {study.fingerprint}"
    if facts.forked_from is not None:
        yield f"# forked from {facts.forked_from}, {counted(study.inherited, 'trial')} inherited"
    for stage, mark in facts.stopped.items():
        yield f"# {stage} stopped: {mark['reason']}"
    yield tomli_w.dumps(study.spec.to_json())
    yield trial_table(storage, study)


def _facts(storage: Storage, study: Study) -> StudyFacts:
    from dataclasses import asdict

    from hpo.cli.study_data import StudyFacts
    from hpo.study.fork import origin_of
    from hpo.study.lifecycle import stopped
    from hpo.values.stage import STAGES

    marks = {stage: stopped(storage, study, stage) for stage in STAGES}
    return StudyFacts(
        study,
        origin_of(storage, study),
        {stage: asdict(mark) for stage, mark in marks.items() if mark is not None},
    )
