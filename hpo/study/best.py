"""The best parameters of a study, in formats that other programs read."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import tomli_w
import yaml
from sqlalchemy import Connection

from hpo.errors import NotFoundError
from hpo.store import trials
from hpo.store.connection import Storage
from hpo.store.records import TrialRecord
from hpo.store.trials import TrialRow
from hpo.study.baseline import BaselineComparison, compare
from hpo.study.failures import failures
from hpo.study.promote import best_trials
from hpo.study.refits import is_refit, refit_of
from hpo.study.seeds import Seeds, seeds_of, spread
from hpo.study.study import Study
from hpo.values.exported import Exported
from hpo.values.objective import Objective
from hpo.values.space import Point, Value
from hpo.values.stage import Stage
from hpo.values.wording import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class BestParams:
    """The best trial of a study.

    `value` is its objective, such as the validation loss per example. `params` has the parameters of the
    search space. `baseline` compares the best trial of the search with the study's baseline, if it has one.
    `seeds`: the spread over the full trainings that differ from this one in the seed alone; None in the
    search.
    """

    study: str
    objective: Objective
    stage: Stage
    trial: int
    value: float
    params: Point
    record: TrialRecord
    baseline: BaselineComparison | None = None
    seeds: Seeds | None = None

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
                seeds = seeds_of(rows, row, study.objective) if candidate == "full" else []
                return _params_of(connection, study, row, seeds)
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


@dataclass(frozen=True, slots=True)
class Chosen:
    """The full trainings that an export takes.

    `best` stands for the model: the one training, or the best of an ensemble. `members`: those whose weights
    are exported, in the order of their numbers. `validated`: the trainings that validation figures are of;
    the members, or those that the members repeat as refits.
    """

    best: BestParams
    members: tuple[TrialRow, ...]
    validated: tuple[TrialRow, ...]

    @property
    def trials(self) -> tuple[int, ...]:
        """Return the numbers of the members."""
        return tuple(row.number for row in self.members)

    @property
    def is_refit(self) -> bool:
        """Return whether the members are refits."""
        return self.members != self.validated

    def before_refit(self) -> "Chosen":
        """Return the trainings that validation figures are of, as if they were exported."""
        return replace(self, members=self.validated)


def choose(storage: Storage, study: Study, exported: Exported) -> Chosen:
    """Return the full trainings to export. With `full.refit`, these are the refits of the best.

    A number stands for that training or refit. Raises `NotFoundError` if no full training has completed, or
    not the one with the number, if a refit has not, and if an ensemble has a single member.
    """
    if not isinstance(exported, int):
        best_params(storage, study, "full")  # says why there is none
    with storage.transaction() as connection:
        rows = trials.read(connection, study.full_id).ours
        ranked = best_trials(rows, len(rows), study.objective)
        chosen, refit = ranked, None
        if isinstance(exported, int):
            refit = next((row for row in rows if row.number == exported and is_refit(row)), None)
            wanted = exported if refit is None else refit.record.refit_of
            chosen = [row for row in ranked if row.number == wanted]
        if not chosen:
            raise NotFoundError(_no_training(study, exported, ranked))
        seeds = seeds_of(rows, chosen[0], study.objective)
        if exported == "ensemble" and len(seeds) == 1:
            raise NotFoundError(
                f"study {study.name!r}: an ensemble needs two seeds or more, and only full training "
                f"{seeds[0].number} of search trial {seeds[0].record.promoted_from} has completed; raise "
                f"promotion.seeds in the study file, or export the one: --trial {seeds[0].number}"
            )
        validated = sorted(seeds if exported == "ensemble" else chosen[:1], key=lambda row: row.number)
        members = validated if refit is None else [refit]
        if study.spec.full.refit and not isinstance(exported, int):
            members = sorted((_refit(study, rows, row) for row in validated), key=lambda row: row.number)
        best = _params_of(connection, study, chosen[0], seeds)
    return Chosen(best, tuple(members), tuple(validated))


def _refit(study: Study, rows: Sequence[TrialRow], row: TrialRow) -> TrialRow:
    """Return the completed refit of a full training."""
    if (refit := refit_of(rows, row)) is not None:
        return refit
    raise NotFoundError(
        f"study {study.name!r}: full.refit = true: full training {row.number} has not been refitted; "
        f"next: hpo promote {study.name}, then hpo workers {study.name}; "
        f"or export the training itself: --trial {row.number}"
    )


def _no_training(study: Study, exported: Exported, ranked: Sequence[TrialRow]) -> str:
    completed = ", ".join(map(str, sorted(row.number for row in ranked))) or "none"
    return f"study {study.name!r}: full training {exported} has not completed; completed: {completed}"


def _params_of(connection: Connection, study: Study, row: TrialRow, seeds: Sequence[TrialRow]) -> BestParams:
    """Return a completed trial. `seeds`: those of a full training, none of the search."""
    assert row.value is not None, "a completed trial has a value"
    return BestParams(
        study=study.name,
        objective=study.objective,
        stage="full" if seeds else "search",
        trial=row.number,
        value=row.value,
        params=row.point,
        record=row.record,
        baseline=_comparison(connection, study),
        seeds=spread(seeds) if seeds else None,
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
