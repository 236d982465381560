"""What a study will take on a machine: epochs, time, device hours and disk, from what was measured there."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from statistics import mean
from typing import Any, Literal

from hpo.run.measurement import FunctionMeasurement, Measurement, Pace
from hpo.run.planned_points import PlannedPoints
from hpo.search.expected_epochs import EpochRange, expected_counts, remaining_epochs
from hpo.spec.study_spec import StudySpec
from hpo.study.work import between, least_epochs
from hpo.values.parameters import pack_keys
from hpo.values.wording import counted

Unit = Literal["epochs", "seconds", "device hours", "bytes"]

FASTER, SLOWER = 0.8, 1.3
"""A whole study takes between these multiples of the measured time: other processes come and go."""

EPOCH_OVERHEAD = 0.05
"""Seconds per epoch of a trial that go into the database, checkpoints and waiting."""

ROW_BYTES = 1000
"""Bytes that an epoch takes in the database, about."""

CACHED_SECONDS = 1.0
"""A preparation that takes less has found stored programs and measurements."""

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a plan with its bounds. All three are None if it is not known; `basis` says why."""

    name: str
    unit: Unit
    low: float | None
    expected: float | None
    high: float | None
    basis: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a study will take with `workers` workers on `device`."""

    study: str
    device: str
    workers: int
    figures: Sequence[Figure]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The workers of a plan: their number, and the largest pack."""

    workers: int
    width: int


def search_epochs(spec: StudySpec) -> EpochRange:
    """Return how many epochs the search trains."""
    cells = spec.space.cells
    trials = spec.search.trials if cells is None else min(spec.search.trials, cells)
    completing = spec.promotion.top + (spec.baseline is not None)
    counts = expected_counts(spec.make_pruner(), trials, spec.search.epochs, completing)
    epochs = remaining_epochs(counts, [0] * trials, [])
    return epochs if spec.stop.epochs is None else epochs.capped(spec.stop.epochs)


def full_epochs(spec: StudySpec) -> EpochRange:
    """Return how many epochs all full trainings train, between early stopping and the last epoch.

    A refit has one epoch at least, and as many as a full training at most.
    """
    budget, trainings, refits = spec.budget("full"), _trainings(spec), _refits(spec)
    low, high = trainings * least_epochs(budget) + refits, (trainings + refits) * budget.epochs
    return EpochRange(between(low, high), low, high)


def _trainings(spec: StudySpec) -> int:
    return spec.promotion.top * spec.promotion.seeds


def _refits(spec: StudySpec) -> int:
    return spec.promotion.seeds if spec.full.refit else 0


def _names(spec: StudySpec) -> str:
    """Return what is trained in full, such as "4 trainings, 2 refits"."""
    refits = _refits(spec)
    names = [counted(_trainings(spec), "training"), *([counted(refits, "refit")] if refits else [])]
    return ", ".join(names)


def epoch_figures(spec: StudySpec) -> list[Figure]:
    """Return what can be said of any study without a measurement: epochs."""
    search, full = search_epochs(spec), full_epochs(spec)
    rule = f"{counted(spec.search.trials, 'trial')} of {spec.search.epochs}, pruner {spec.pruner.name}"
    if spec.stop.epochs is not None:
        rule += f", stop.epochs {spec.stop.epochs}"
    stops = "" if full.low == full.high else ", early stopping"
    return [
        _figure("search epochs", "epochs", search, rule),
        _figure("full epochs", "epochs", full, f"{_names(spec)}{stops}"),
    ]


def make_plan(
    spec: StudySpec, points: PlannedPoints, measured: Sequence[Measurement], fleet: Fleet, device: str
) -> Plan:
    """Return the plan of a study. `measured` was measured at the same time, as workers train."""
    pace = _search_pace(points, measured)
    search, full = search_epochs(spec), full_epochs(spec)
    spent = _times(search, pace + EPOCH_OVERHEAD)
    trained = _full_seconds(spec, measured)
    trainings, refits = _trainings(spec), _refits(spec)
    preparation = _preparation(spec, measured)
    start = 3 * mean(each.start_seconds for each in measured)  # the check, the workers and the export
    steps = f"measured steps of {counted(len(measured), 'worker')} at once"
    search_time = _times(spent, 1 / fleet.workers)
    # Trainings are not divided: the last worker to end has the most of them. Refits begin after all of them.
    shares = ceil(trainings / fleet.workers) + ceil(refits / fleet.workers)
    full_time = _times(trained, shares / (trainings + refits))
    rest = EpochRange(start, start, start) + _times(preparation, 1 / fleet.workers)
    total = search_time + full_time + rest
    # Workers that wait for the last trials count as well.
    busy = search_time + full_time + _times(preparation, 1 / fleet.workers)
    hours = _times(busy, fleet.workers / HOUR)
    prepared = "none left" if not preparation.high else "programs that this machine has not compiled yet"
    return Plan(
        spec.name,
        device,
        fleet.workers,
        [
            *epoch_figures(spec),
            _figure("search time", "seconds", search_time, f"{pace:.3g} s an epoch, {steps}"),
            _figure("full time", "seconds", full_time, f"{_names(spec)}, {steps}"),
            _figure("compilation", "seconds", _times(preparation, 1 / fleet.workers), prepared),
            _figure("total time", "seconds", total, "with the start of processes, and the export"),
            _figure("device hours", "device hours", hours, "of all workers, also while they wait"),
            _disk(spec, measured[0], search + full, fleet),
        ],
    )


def function_plan(
    spec: StudySpec, measured: Sequence[FunctionMeasurement], workers: int, device: str
) -> Plan:
    """Return the plan of a study of a training function, of which each worker has trained one epoch."""
    pace = mean(each.epoch_seconds for each in measured) + EPOCH_OVERHEAD
    start = 3 * mean(each.start_seconds for each in measured)
    trainings = spec.promotion.top * spec.promotion.seeds
    search_time = _times(search_epochs(spec), pace / workers)
    full_time = _times(full_epochs(spec), pace * ceil(trainings / workers) / trainings)
    basis = f"{pace:.3g} s an epoch, as one epoch of each of {counted(len(measured), 'worker')}"
    state = max(each.state_bytes for each in measured)
    size = float(state * (spec.search.trials + workers + 2 * trainings))
    return Plan(
        spec.name,
        device,
        workers,
        [
            *epoch_figures(spec),
            _figure("search time", "seconds", search_time, basis),
            _figure("full time", "seconds", full_time, "as long as epochs of the search"),
            _figure(
                "total time",
                "seconds",
                search_time + full_time + EpochRange(start, start, start),
                "with the start of processes, and the export",
            ),
            _figure(
                "device hours",
                "device hours",
                _times(search_time + full_time, workers / HOUR),
                "of all workers, also while they wait",
            ),
            Figure("disk", "bytes", 0.0, size, size, "what the function saved, for each trial"),
        ],
    )


def unmeasured_plan(spec: StudySpec, device: str, workers: int, reason: str) -> Plan:
    """Return the plan of a study of which nothing was measured, for the reason."""
    names: list[tuple[str, Unit]] = [("total time", "seconds"), ("device hours", "device hours")]
    unknown = [Figure(name, unit, None, None, None, reason) for name, unit in names]
    return Plan(spec.name, device, workers, [*epoch_figures(spec), *unknown])


def _search_pace(points: PlannedPoints, measured: Sequence[Measurement]) -> float:
    """Return the mean seconds of an epoch over the points.

    An epoch takes a time for its images and a time for its steps, which two batch sizes tell apart. Other
    pack keys tell how much more or less other networks and optimizers take.
    """
    by_key = zip(*(each.search for each in measured), strict=True)
    paces = [_mean_pace(same) for same in by_key]
    first, last = paces[0], paces[min(1, len(paces) - 1)]
    inverse = 1 / first.batch_size - 1 / last.batch_size
    per_inverse = (first.seconds - last.seconds) / inverse if inverse else 0.0

    def seconds(batch_size: float) -> float:
        return last.seconds + per_inverse * (1 / batch_size - 1 / last.batch_size)

    factors = [pace.seconds / seconds(pace.batch_size) for pace in paces if seconds(pace.batch_size) > 0]
    return mean(map(seconds, points.batch_sizes)) * mean(factors)


def _mean_pace(paces: Sequence[Pace]) -> Pace:
    """Return the mean of the same measurement by several processes."""
    first = paces[0]
    return Pace(
        first.batch_size,
        first.width,
        mean(pace.train_seconds for pace in paces),
        mean(pace.evaluation_seconds for pace in paces),
        max(pace.prepare_seconds for pace in paces),
    )


def _full_seconds(spec: StudySpec, measured: Sequence[Measurement]) -> EpochRange:
    """Return the device seconds of all full trainings."""
    budget, total = spec.budget("full"), EpochRange(0.0, 0.0, 0.0)
    for index, phase in enumerate(budget.phases):
        pace = mean(each.full[index].seconds for each in measured) + EPOCH_OVERHEAD
        least = phase.epochs if phase.patience is None else min(phase.epochs, phase.patience + 1)
        epochs = EpochRange(between(least, phase.epochs), least, phase.epochs)
        total += _times(epochs, pace * _trainings(spec))
        if refits := _refits(spec):
            # A refit has the images of mini as well. It ends with its first epoch, if that was the best.
            refit = EpochRange(between(least, phase.epochs), 0 if index else 1, phase.epochs)
            total += _times(refit, pace * refits / (1 - spec.data.mini))
    return total


def _preparation(spec: StudySpec, measured: Sequence[Measurement]) -> EpochRange:
    """Return the seconds in which workers compile and compare the programs that were not measured."""
    by_key = zip(*(each.search for each in measured), strict=True)
    taken = [_mean_pace(same).prepare_seconds for same in by_key]
    compiled = [seconds for seconds in taken if seconds > CACHED_SECONDS]
    left = min(pack_keys(spec.space), spec.search.trials) - len(taken)
    if not compiled or left <= 0:
        return EpochRange(0.0, 0.0, 0.0)
    seconds = left * mean(compiled)
    return EpochRange(seconds, 0.0, seconds)


def _disk(spec: StudySpec, measured: Measurement, epochs: EpochRange, fleet: Fleet) -> Figure:
    """Return the most bytes at one time: checkpoints, weights of full trainings, and rows of epochs."""
    at_once = min(spec.search.trials, fleet.workers * fleet.width)
    kept = spec.search.trials if spec.make_pruner().pause_epochs else at_once
    trainings = _trainings(spec) + _refits(spec)
    # A new checkpoint is written before the old one is deleted.
    search = (kept + at_once) * measured.state_bytes
    full = trainings * (2 * measured.full_state_bytes + measured.weights_bytes)
    rows = _times(epochs, ROW_BYTES)
    weights = (trainings + 1) * measured.weights_bytes
    least = weights + rows.low
    most = max(search, full) + weights + rows.high
    return Figure("disk", "bytes", least, most, most, "weights that stay; the most with all checkpoints")


def _times(epochs: EpochRange, factor: float) -> EpochRange:
    return EpochRange(epochs.expected * factor, epochs.low * factor, epochs.high * factor)


def _figure(name: str, unit: Unit, number: EpochRange, basis: str) -> Figure:
    slack = (FASTER, SLOWER) if unit != "epochs" else (1.0, 1.0)
    return Figure(name, unit, slack[0] * number.low, number.expected, slack[1] * number.high, basis)
