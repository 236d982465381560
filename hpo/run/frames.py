"""The trials and the epochs of a study as pandas data frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from hpo.errors import InputError, one_line
from hpo.store.connection import Storage
from hpo.study.history import history
from hpo.study.study import Study
from hpo.study.table_columns import Kind, TableColumn, epoch_columns, epochs_of, trial_columns

if TYPE_CHECKING:
    import pandas as pd

Row = TypeVar("Row")

DTYPES: Mapping[Kind, str] = {
    "integer": "Int64",  # with a missing value, an int64 would become a float
    "number": "float64",
    "boolean": "boolean",
    "text": "string",
    "time": "datetime64[us, UTC]",
    "any": "object",
}


def trials_frame(storage: Storage, study: Study) -> pd.DataFrame:
    """Return a row for each trial. Raises `InputError` without pandas."""
    _check_pandas()
    trials = history(storage, study, with_epochs=False).trials
    return _frame(trial_columns(study, trials), trials)


def curves_frame(storage: Storage, study: Study) -> pd.DataFrame:
    """Return a row for each epoch of each trial. Raises `InputError` without pandas."""
    _check_pandas()
    epochs = epochs_of(history(storage, study, with_epochs=True).trials)
    return _frame(epoch_columns(study, epochs), epochs)


def _check_pandas() -> None:
    try:
        import pandas  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"data frames need pandas ({one_line(error)}); run: pip install 'hpo[dataframe]'"
        ) from error


def _frame(columns: Sequence[TableColumn[Row]], rows: Sequence[Row]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({column.name: _series(column, rows) for column in columns})


def _series(column: TableColumn[Row], rows: Sequence[Row]) -> pd.Series:
    import pandas as pd

    values = [column.of(row) for row in rows]
    try:
        return pd.Series(values, dtype=DTYPES[column.kind])
    except (TypeError, ValueError):  # another program has changed a parameter to a value of another kind
        return pd.Series(values, dtype="object")
