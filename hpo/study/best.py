"""The best parameters of a study, in formats that other programs read."""

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import tomli_w
import yaml
from sqlalchemy import Connection

from hpo.errors import NotFoundError
from hpo.store import trials
from hpo.store.connection import Storage
from hpo.store.records import TrialRecord
from hpo.study.baseline import BaselineComparison, compare
from hpo.study.failures import failures
from hpo.study.promote import best_trials
from hpo.study.study import Study
from hpo.values.objective import Objective
from hpo.values.space import Point, Value
from hpo.values.stage import Stage
from hpo.values.wording import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class BestParams:
    """The best trial of a study.

    `value` is its objective, such as the validation loss per example. `params` has the parameters of the
    search space. `baseline` compares the best trial of the search with the study's baseline, if it has one.
    """

    study: str
    objective: Objective
    stage: Stage
    trial: int
    value: float
    params: Point
    record: TrialRecord
    baseline: BaselineComparison | None = None

    @property
    def accuracy(self) -> float | None:
        """Return the validation accuracy at the kept epoch, as a share. None if it was not measured."""
        return self.record.accuracy

    def render(self, form: str) -> str:
        """Return the parameters in one of `FORMATS`, with a newline at the end."""
        return FORMATS[form](self.params)


def best_params(storage: Storage, study: Study, stage: Stage | None = None) -> BestParams:
    """Return the best trial of a stage; by default of full training, or of the search if no training
    completed.

    Raises `NotFoundError` if no trial has completed.
    """
    stages: tuple[Stage, ...] = ("full", "search") if stage is None else (stage,)
    with storage.transaction() as connection:
        for candidate in stages:
            rows = trials.read(connection, study.study_id(candidate)).ours
            for row in best_trials(rows, 1, study.objective):
                assert row.value is not None
                return BestParams(
                    study=study.name,
                    objective=study.objective,
                    stage=candidate,
                    trial=row.number,
                    value=row.value,
                    params=row.point,
                    record=row.record,
                    baseline=_comparison(connection, study),
                )
        whole = trials.read(connection, study.study_id(stages[0])).ours
    known = failures(whole)
    if known is not None and all(row.state.is_finished() for row in whole):
        name = study.spec.full_name if stages[0] == "full" else study.name
        noun = counted(len(whole), "full training" if stages[0] == "full" else "search trial")
        raise NotFoundError(f"study {study.name!r}: none of its {noun} completed; {known.describe(name)}")
    noun = "full training" if stages == ("full",) else "trial"
    raise NotFoundError(
        f"study {study.name!r}: no {noun} has completed yet; run it first: hpo workers {study.name}"
    )


def _comparison(connection: Connection, study: Study) -> BaselineComparison | None:
    if study.spec.baseline is None:
        return None
    return compare(study, trials.read(connection, study.search_id).ours)


def _word(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _env(params: Point) -> str:
    """Return a line for each variable; "model.width" is MODEL_WIDTH."""
    return "".join(
        f"{name.replace('.', '_').upper()}={shlex.quote(_word(value))}\n" for name, value in params.items()
    )


def _arguments(params: Point) -> str:
    """Return the words of a command line; "model.width" is --model-width."""
    words = [word for name, value in params.items() for word in (_option(name), _word(value))]
    return shlex.join(words) + "\n"


def _option(name: str) -> str:
    return f"--{name.replace('_', '-').replace('.', '-')}"


FORMATS: Mapping[str, Callable[[Point], str]] = {
    "json": lambda params: json.dumps(params, indent=2) + "\n",
    "toml": tomli_w.dumps,
    "yaml": lambda params: yaml.safe_dump(params, sort_keys=False),
    "env": _env,
    "args": _arguments,
}
