"""What must hold when a study has ended, whatever happened to it on the way: pure functions of what is left.

Each invariant gives a line, with the figures, for each violation.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from optuna.trial import TrialState
from safetensors import SafetensorError
from safetensors.numpy import load_file
from sqlalchemy import Connection, select, text

from hpo.store import results, schema, trials
from hpo.store.trials import TrialRow
from hpo.study.pause import rungs_of
from hpo.study.study import Study
from hpo.values.stage import STAGES, Stage

EXPORTED = "bundle"


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial with its reports; `losses`: of `hpo.epoch` by epoch, `steps`: Optuna's intermediate values."""

    stage: Stage
    row: TrialRow
    losses: Mapping[int, float]
    steps: Mapping[int, float]

    @property
    def name(self) -> str:
        return f"{self.stage} trial {self.row.number}"


@dataclass(frozen=True, slots=True)
class Remains:
    """All that a study leaves; `leases`, `checkpoints`, `workers`: the rows of these tables, `transactions`:
    open ones, `files`: those in the study's artifact folder, temporary ones too."""

    study: Study
    trials: Sequence[Trial]
    leases: Sequence[str]
    checkpoints: Sequence[str]
    workers: Sequence[str]
    transactions: Sequence[str]
    folder: Path
    files: Sequence[str]
    processes: Sequence[str] = ()

    def of(self, stage: Stage) -> list[Trial]:
        return [trial for trial in self.trials if trial.stage == stage]


def remains(connection: Connection, study: Study, artifacts: Path, processes: Sequence[str] = ()) -> Remains:
    """Reads them. `artifacts`: the artifact folder of all studies; `processes`: those that still live."""
    leases = connection.execute(select(schema.leases).order_by(schema.leases.c.trial_id)).all()
    checkpoints = connection.execute(select(schema.checkpoints).order_by(schema.checkpoints.c.trial_id)).all()
    workers = connection.execute(select(schema.workers).order_by(schema.workers.c.name)).all()
    others = text(
        "SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND backend_type = 'client backend'"
    )
    folder = study.artifacts(artifacts)
    return Remains(
        study,
        [trial for stage in STAGES for trial in _trials(connection, study, stage)],
        [f"of trial id {row.trial_id}, held by {row.worker} until {row.expires}" for row in leases],
        [f"of trial id {row.trial_id}, epoch {row.epoch}: {row.file}" for row in checkpoints],
        [f"{row.name}, alive until {row.expires}" for row in workers],
        [f"{row.state} in process {row.pid}: {row.query}" for row in connection.execute(others)],
        folder,
        sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
        processes,
    )


def _trials(connection: Connection, study: Study, stage: Stage) -> Iterator[Trial]:
    study_id = study.study_id(stage)
    curves, table = results.curves(connection, study_id), schema.epochs
    for row in trials.read(connection, study_id):
        query = select(table.c.epoch, table.c.validation_loss).where(table.c.trial_id == row.trial_id)
        losses = {each.epoch: each.validation_loss for each in connection.execute(query)}
        yield Trial(stage, row, losses, curves[row.trial_id].losses)


def exact_budget(left: Remains) -> Iterator[str]:
    """As many trials as asked for: none lost, none made anew under another number."""
    promotion = left.study.spec.promotion
    for stage, budget in zip(STAGES, (left.study.trials, promotion.top * promotion.seeds), strict=True):
        numbers = [trial.row.number for trial in left.of(stage)]
        if numbers != list(range(budget)):
            yield f"{stage}: {len(numbers)} trials, numbered {_ranges(numbers)}, for a budget of {budget}"


def all_complete(left: Remains) -> Iterator[str]:
    """No fault costs a trial, and none is left waiting, paused or running."""
    pauses = bool(rungs_of(left.study.spec))
    for trial in left.trials:
        fine = [TrialState.COMPLETE, TrialState.PRUNED][: 1 + (pauses and trial.stage == "search")]
        if trial.row.state not in fine or trial.row.value is None:
            reason = trial.row.attributes.get("reason", "no reason given")
            yield f"{trial.name} is {trial.row.state.name} with value {trial.row.value}: {reason}"


def no_cell_twice(left: Remains) -> Iterator[str]:
    """Each cell is searched once, each promoted trial trained once with each seed."""
    cells = Counter(str(sorted(trial.row.point.items())) for trial in left.of("search"))
    trainings = Counter(
        f"of search trial {trial.row.attributes.get('promoted_from')} "
        f"with seed {trial.row.attributes.get('seed')}"
        for trial in left.of("full")
    )
    for what, counts in (("cell", cells), ("full training", trainings)):
        yield from (f"{what} {name}: {count} trials" for name, count in counts.items() if count > 1)


def whole_curves(left: Remains) -> Iterator[str]:
    """Each trial's steps are 1 to n, the n that is noted on it, in both tables with the same losses."""
    for trial in left.trials:
        epochs = trial.row.attributes.get("epochs")
        if epochs is None:
            yield f"{trial.name}: its number of epochs is not noted"
            continue
        for table, curve in (("hpo.epoch", trial.losses), ("intermediate values", trial.steps)):
            if sorted(curve) != list(range(1, epochs + 1)):
                yield f"{trial.name}: {table} has the steps {_ranges(sorted(curve))} of 1-{epochs}"
        for step in sorted(trial.losses.keys() & trial.steps.keys()):
            if trial.losses[step] != trial.steps[step]:
                yield (
                    f"{trial.name}: loss {trial.losses[step]} of step {step} in hpo.epoch, "
                    f"{trial.steps[step]} among the intermediate values"
                )


def no_lease_left(left: Remains) -> Iterator[str]:
    yield from (f"lease {lease}" for lease in left.leases)


def no_checkpoint_left(left: Remains) -> Iterator[str]:
    yield from (f"checkpoint {checkpoint}" for checkpoint in left.checkpoints)


def no_worker_left(left: Remains) -> Iterator[str]:
    yield from (f"worker {worker}" for worker in left.workers)


def no_process_left(left: Remains) -> Iterator[str]:
    yield from (f"process {process}" for process in left.processes)


def no_open_transaction(left: Remains) -> Iterator[str]:
    yield from (f"transaction {transaction}" for transaction in left.transactions)


def weights_load(left: Remains) -> Iterator[str]:
    """Each full training's weights are there and whole."""
    for trial in left.of("full"):
        name = trial.row.attributes.get("weights")
        try:
            if not load_file(left.folder / str(name)):
                yield f"{trial.name}: {name} holds no tensor"
        except (OSError, SafetensorError) as error:
            yield f"{trial.name}: weights {name}: {error}"


def no_stray_file(left: Remains) -> Iterator[str]:
    """The weights, the metrics beside them and the bundle: no checkpoint, no half-written file."""
    weights = [Path(str(trial.row.attributes.get("weights"))) for trial in left.of("full")]
    expected = {str(file) for file in weights} | {str(file.with_suffix(".metrics.json")) for file in weights}
    for name in left.files:
        if name not in expected and Path(name).parts[0] != EXPORTED:
            yield f"stray file {name}"


INVARIANTS: tuple[Callable[[Remains], Iterator[str]], ...] = (
    exact_budget,
    all_complete,
    no_cell_twice,
    whole_curves,
    no_lease_left,
    no_checkpoint_left,
    no_worker_left,
    no_process_left,
    no_open_transaction,
    weights_load,
    no_stray_file,
)


def same_numbers(left: Remains, calm: Remains) -> Iterator[str]:
    """The best trial, its value and every reported loss are those of a run without faults, bit for bit.

    Where trials pause, who goes on depends on who was faster: only the losses of the search are the same.
    """
    pauses = bool(rungs_of(left.study.spec))
    for stage in () if pauses else STAGES:
        best, expected = _best(left, stage), _best(calm, stage)
        if best != expected:
            yield f"best {stage} trial and value {best}, without faults {expected}"
    calm_losses = {trial.name: trial.losses for trial in calm.trials}
    for trial in left.of("search") if pauses else left.trials:
        expected_losses = calm_losses.get(trial.name, {})
        for epoch, loss in trial.losses.items():
            if loss != expected_losses.get(epoch):
                yield (
                    f"{trial.name}: loss {loss} of epoch {epoch}, without faults {expected_losses.get(epoch)}"
                )
                break  # all later ones follow from it


def _best(left: Remains, stage: Stage) -> tuple[float, int] | None:
    values = [(t.row.value, t.row.number) for t in left.of(stage) if t.row.value is not None]
    return min(values, default=None)


def violations(left: Remains, calm: Remains | None = None) -> list[str]:
    """All, each with the name of its invariant; `calm`: what a run without faults left, to compare with."""
    found = [f"{invariant.__name__}: {line}" for invariant in INVARIANTS for line in invariant(left)]
    if calm is not None:
        found += [f"same_numbers: {line}" for line in same_numbers(left, calm)]
    return found


def _ranges(numbers: Sequence[int]) -> str:
    """As `1-4, 6-40`; `none` for none."""
    runs = [
        [number for _, number in group]
        for _, group in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    ]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs) or "none"
