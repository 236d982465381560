"""The invariants of an ended study, whatever faults it had: pure functions of its end state.

Each invariant yields one line for each violation, with the figures.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

from optuna.trial import TrialState
from safetensors import SafetensorError
from safetensors.numpy import load_file
from sqlalchemy import Connection, select, text

from hpo.store import events, results, schema, trials
from hpo.store.trials import TrialRow
from hpo.study.artifacts_mark import MARK
from hpo.study.study import Study
from hpo.values.stage import STAGES, Stage

EXPORTED = "bundle"

HELD = ("claimed", "resumed", "taken over")

ENDS = ("completed", "pruned", "failed")

FOLLOWERS: Mapping[str | None, Collection[str]] = {
    None: ("claimed",),
    **dict.fromkeys(HELD, ("paused", "released", "handed back", "lost", *ENDS)),
    "paused": ("resumed", "pruned"),
    "released": ("taken over",),
    "handed back": ("taken over", "claimed"),
    "lost": ("taken over",),
    **dict.fromkeys(("completed", "promoted", "tested", "exported"), ("promoted", "tested", "exported")),
}
"""The kinds of event that may follow each kind in the history of a trial; None stands for its begin."""

LAST_EVENTS = {
    TrialState.COMPLETE: "completed",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial with its validation losses by epoch, and the kinds of its events in their order.

    `losses` are those in `hpo.epoch`, `steps` Optuna's intermediate values.
    """

    stage: Stage
    row: TrialRow
    losses: Mapping[int, float]
    steps: Mapping[int, float]
    history: Sequence[events.Kind]

    @property
    def name(self) -> str:
        return f"{self.stage} trial {self.row.number}"


@dataclass(frozen=True, slots=True)
class EndState:
    """Everything that a study leaves behind.

    `leases`, `checkpoints` and `workers` describe the rows of these tables, `transactions` the open ones.
    `files` are the paths in the study's artifact folder, temporary files included. `processes` are still
    alive.
    """

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


def read_end_state(
    connection: Connection, study: Study, folder: Path, processes: Sequence[str] = ()
) -> EndState:
    """Read the end state of a study. `folder` has its artifacts."""
    leases = connection.execute(select(schema.leases).order_by(schema.leases.c.trial_id)).all()
    checkpoints = connection.execute(select(schema.checkpoints).order_by(schema.checkpoints.c.trial_id)).all()
    workers = connection.execute(select(schema.workers).order_by(schema.workers.c.name)).all()
    transactions = text(
        "SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND backend_type = 'client backend'"
    )
    return EndState(
        study=study,
        trials=[trial for stage in STAGES for trial in _trials(connection, study, stage)],
        leases=[f"of trial id {row.trial_id}, held by {row.worker} until {row.expires}" for row in leases],
        checkpoints=[f"of trial id {row.trial_id}, epoch {row.epoch}: {row.file}" for row in checkpoints],
        workers=[f"{row.name}, alive until {row.expires}" for row in workers],
        transactions=[
            f"{row.state} in process {row.pid}: {row.query}" for row in connection.execute(transactions)
        ],
        folder=folder,
        files=sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
        processes=processes,
    )


def _trials(connection: Connection, study: Study, stage: Stage) -> Iterator[Trial]:
    study_id = study.study_id(stage)
    curves, table = results.curves(connection, study_id, study.objective), schema.epochs
    history = events.read(connection, [study_id])
    for row in trials.read(connection, study_id).ours:
        query = select(table.c.epoch, table.c.metrics).where(table.c.trial_id == row.trial_id)
        losses = {epoch: study.objective.cost_of(metrics) for epoch, metrics in connection.execute(query)}
        kinds = [event.kind for event in history if event.trial == row.number]
        yield Trial(stage, row, losses, curves[row.trial_id].costs, kinds)


def exact_budget(state: EndState) -> Iterator[str]:
    """Check that there are as many trials as the budget has, with the numbers 0, 1, 2, ..."""
    promotion = state.study.spec.promotion
    for stage, budget in zip(STAGES, (state.study.trials, promotion.top * promotion.seeds), strict=True):
        numbers = [trial.row.number for trial in state.of(stage)]
        if numbers != list(range(budget)):
            yield f"{stage}: {len(numbers)} trials, numbered {_ranges(numbers)}, for a budget of {budget}"


def all_complete(state: EndState) -> Iterator[str]:
    """Check that no fault cost a trial, and that none is left waiting, paused or running."""
    pauses = bool(state.study.spec.make_pruner().pause_epochs)
    for trial in state.trials:
        may_be_pruned = pauses and trial.stage == "search"
        ended = {TrialState.COMPLETE, TrialState.PRUNED} if may_be_pruned else {TrialState.COMPLETE}
        if trial.row.state not in ended or trial.row.value is None:
            reason = trial.row.record.reason or "no reason given"
            yield f"{trial.name} is {trial.row.state.name} with value {trial.row.value}: {reason}"


def no_cell_twice(state: EndState) -> Iterator[str]:
    """Check that each cell is searched once, and each promoted trial trained once with each seed."""
    cells = Counter(str(sorted(trial.row.point.items())) for trial in state.of("search"))
    trainings = Counter(
        f"of search trial {trial.row.record.promoted_from} with seed {trial.row.record.seed}"
        for trial in state.of("full")
    )
    for kind, counts in (("cell", cells), ("full training", trainings)):
        yield from (f"{kind} {name}: {count} trials" for name, count in counts.items() if count > 1)


def whole_curves(state: EndState) -> Iterator[str]:
    """Check that each trial has the epochs 1 to n in both tables, with the same losses.

    n is the number of epochs noted on the trial.
    """
    for trial in state.trials:
        epochs = trial.row.record.epochs
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


def whole_histories(state: EndState) -> Iterator[str]:
    """Check that each trial is held by one worker at a time, and ends once, as its state says."""
    for trial in state.trials:
        for previous, kind in pairwise([None, *trial.history]):
            if kind is not None and kind not in FOLLOWERS.get(previous, ()):
                yield f"{trial.name}: {kind!r} follows {previous or 'nothing'!r} in {list(trial.history)}"
        ends = [kind for kind in trial.history if kind in LAST_EVENTS.values()]
        if ends != [LAST_EVENTS.get(trial.row.state)]:
            yield f"{trial.name} is {trial.row.state.name} and has the last events {ends}"


def no_lease_left(state: EndState) -> Iterator[str]:
    yield from (f"lease {lease}" for lease in state.leases)


def no_checkpoint_left(state: EndState) -> Iterator[str]:
    yield from (f"checkpoint {checkpoint}" for checkpoint in state.checkpoints)


def no_worker_left(state: EndState) -> Iterator[str]:
    yield from (f"worker {worker}" for worker in state.workers)


def no_process_left(state: EndState) -> Iterator[str]:
    yield from (f"process {process}" for process in state.processes)


def no_open_transaction(state: EndState) -> Iterator[str]:
    yield from (f"transaction {transaction}" for transaction in state.transactions)


def weights_load(state: EndState) -> Iterator[str]:
    """Check that the weights of each full training can be loaded."""
    for trial in state.of("full"):
        name = trial.row.record.weights
        try:
            if not load_file(state.folder / str(name)):
                yield f"{trial.name}: {name} holds no tensor"
        except (OSError, SafetensorError) as error:
            yield f"{trial.name}: weights {name}: {error}"


def no_stray_file(state: EndState) -> Iterator[str]:
    """Check that only weights, their test results, the mark of the store and the bundle are left."""
    weights = [str(trial.row.record.weights) for trial in state.of("full")]
    expected = {MARK, *weights, *(f"test/{name}" for name in weights)}
    for name in state.files:
        if name not in expected and Path(name).parts[0] != EXPORTED:
            yield f"stray file {name}"


INVARIANTS: tuple[Callable[[EndState], Iterator[str]], ...] = (
    exact_budget,
    all_complete,
    no_cell_twice,
    whole_curves,
    whole_histories,
    no_lease_left,
    no_checkpoint_left,
    no_worker_left,
    no_process_left,
    no_open_transaction,
    weights_load,
    no_stray_file,
)


def same_numbers(state: EndState, baseline: EndState) -> Iterator[str]:
    """Check that the best trial, its value and every loss are those of the baseline, bit for bit.

    With pauses, the trials that resume depend on timing. Then only the losses of the search are compared.
    """
    pauses = bool(state.study.spec.make_pruner().pause_epochs)
    for stage in () if pauses else STAGES:
        best, expected = _best(state, stage), _best(baseline, stage)
        if best != expected:
            yield f"best {stage} trial and value {best}, without faults {expected}"
    baseline_losses = {trial.name: trial.losses for trial in baseline.trials}
    for trial in state.of("search") if pauses else state.trials:
        expected_losses = baseline_losses.get(trial.name, {})
        for epoch, loss in trial.losses.items():
            if loss != expected_losses.get(epoch):
                yield (
                    f"{trial.name}: loss {loss} of epoch {epoch}, without faults {expected_losses.get(epoch)}"
                )
                break  # a wrong loss makes all later losses wrong


def _best(state: EndState, stage: Stage) -> tuple[float, int] | None:
    values = [(trial.row.value, trial.row.number) for trial in state.of(stage) if trial.row.value is not None]
    return min(values, default=None)


def violations(state: EndState, baseline: EndState | None = None) -> list[str]:
    """Return all violations, each with the name of its invariant.

    `baseline` is the end state of a run without faults.
    """
    lines = [f"{invariant.__name__}: {line}" for invariant in INVARIANTS for line in invariant(state)]
    if baseline is not None:
        lines += [f"same_numbers: {line}" for line in same_numbers(state, baseline)]
    return lines


def _ranges(numbers: Sequence[int]) -> str:
    """Return numbers as `1-4, 6-40`, or `none`."""
    runs = [
        [number for _, number in group]
        for _, group in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    ]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs) or "none"
