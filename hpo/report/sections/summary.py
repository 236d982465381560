"""The summary: what the study found, what it is worth and what it took, in sentences with intervals."""

from collections.abc import Iterator

from optuna.trial import TrialState

from hpo.report.blocks import Block, Section, Table, Text
from hpo.report.study_data import StudyData
from hpo.report.wording import duration, gain, is_known, parameters, value_of
from hpo.study.baseline import compare
from hpo.study.failures import failed
from hpo.values.objective import Objective
from hpo.values.stage import STAGES
from hpo.values.wording import counted

ROWS = 10
"""Trials in the table of the best."""


def summary(data: StudyData) -> Section:
    """Return the sentences about the whole study, and the best trials."""
    blocks: list[Block] = [Text([*_state(data), *_best(data)]), Text([*_gain(data), *_assumptions(data)])]
    if table := _table(data):
        blocks.append(table)
    blocks.append(Text([*_budget(data), *_time(data)]))
    filled = [block for block in blocks if not isinstance(block, Text) or block.sentences]
    return Section("summary", "Summary", filled)


def _state(data: StudyData) -> Iterator[str]:
    study = data.study
    counts = {stage: [trial.row.state for trial in data.trials(stage)] for stage in ("search", "full")}
    running = sum(states.count(TrialState.RUNNING) for states in counts.values())
    if running or data.workers:
        yield (
            f"The study is running: {counted(running, 'trial')} on {counted(len(data.workers), 'worker')}, "
            "and every figure below may still change."
        )
        return
    if data.stopped:
        for stage, mark in data.stopped.items():
            name = "search" if stage == "search" else "full training"
            yield f"The {name} is stopped: {mark.reason}."
        return
    unfinished = study.trials - sum(state.is_finished() for state in counts["search"])
    if unfinished > 0:
        yield (
            f"The search is not finished: {counted(unfinished, 'trial')} of {study.trials} "
            f"{'has' if unfinished == 1 else 'have'} not ended, and no worker runs."
        )
    elif not counts["full"]:
        yield "The search is finished, and no trial is promoted yet."
    elif all(state.is_finished() for state in counts["full"]):
        yield "The study is finished."
    else:
        yield "The search is finished. Full trainings wait, and no worker runs."


def _best(data: StudyData) -> Iterator[str]:
    objective, completed = data.objective, data.completed("search")
    if not completed:
        ended = sum(trial.row.state.is_finished() for trial in data.trials("search"))
        yield f"{counted(ended, 'search trial')} ended and none completed, so there is no best trial."
        return
    best = completed[0].row
    yield (
        f"The best of {counted(len(completed), 'completed search trial')} is trial {best.number} with "
        f"{objective.title} {value_of(best, objective)}: {parameters(best)}."
    )
    if len(completed) == 1:
        yield "There is no second completed trial to compare it with."
        return
    second = completed[1].row
    difference, half_width = gain(best, second, objective)
    verdict = _verdict(difference, half_width)
    yield (
        f"Trial {best.number} beats the second, trial {second.number}, by "
        f"{objective.show_gain(difference, half_width)}: {verdict}."
    )
    yield from _full(data, objective)


def _verdict(difference: float, half_width: float | None) -> str:
    if half_width is None:
        return "whether it is better is not known"
    return "better" if is_known(difference, half_width) else "not known to be better"


def _full(data: StudyData, objective: Objective) -> Iterator[str]:
    trained = data.completed("full")
    if trained:
        best = trained[0].row
        yield (
            f"The best full training is trial {best.number}, a training of search trial "
            f"{best.record.promoted_from}, with {objective.title} {value_of(best, objective)}."
        )


def _gain(data: StudyData) -> Iterator[str]:
    """Yield what the search gained over the baseline, or over the initial trials."""
    objective, rows = data.objective, [trial.row for trial in data.trials("search")]
    if (comparison := compare(data.study, rows)) is not None:
        yield f"{comparison.describe().capitalize()}."
        return
    completed = data.completed("search")
    if not completed or data.study.spec.sampler.plans_all:
        return
    initial = [trial.row for trial in completed if trial.row.number < data.study.planned]
    best, count = completed[0].row, data.study.planned - data.study.inherited
    if best.number < data.study.planned:
        yield (
            f"The best trial is one of the {count} initial trials: the sampler has suggested no better one."
        )
    elif initial:
        difference, half_width = gain(best, initial[0], objective)
        yield (
            f"The sampler gained {objective.show_gain(difference, half_width)} over the best of the {count} "
            f"initial trials that completed, trial {initial[0].number}."
        )
    else:
        yield f"None of the {count} initial trials completed, so the gain of the sampler is not known."


def _assumptions(data: StudyData) -> Iterator[str]:
    completed = data.completed("search")
    if len(completed) < 2:
        return
    if gain(completed[0].row, completed[1].row, data.objective)[1] is None:
        yield (
            "The metrics have no standard error, so differences have no interval. Several seeds per promoted "
            "trial show how much a repetition differs."
        )
        return
    yield (
        "± is a 95% interval from the sampling error of the validation images. Both trials of a comparison "
        "share these images, which the interval ignores, so it is rather too wide."
    )
    yield (
        f"The best of {len(completed)} trials is partly the luckiest on these images: expect a little less "
        "on others."
    )


def _table(data: StudyData) -> Table | None:
    """Return the best trials of the search, each with the distance to the best."""
    completed, objective = data.completed("search"), data.objective
    if not completed:
        return None
    names = list(dict.fromkeys(name for trial in completed[:ROWS] for name in trial.row.point))
    rows = []
    for trial in completed[:ROWS]:
        behind = (
            ""
            if trial is completed[0]
            else objective.show_gain(*gain(completed[0].row, trial.row, objective))
        )
        values = [_value(trial.row.point.get(name)) for name in names]
        rows.append([str(trial.row.number), value_of(trial.row, objective), behind, *values])
    return Table(["trial", objective.title, "behind the best", *names], rows)


def _value(value: object) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _budget(data: StudyData) -> Iterator[str]:
    trials, study = data.trials("search"), data.study
    states = [trial.row.state for trial in trials]
    parts = [
        f"{states.count(state)} {word}"
        for state, word in (
            (TrialState.COMPLETE, "completed"),
            (TrialState.PRUNED, "pruned"),
            (TrialState.FAIL, "failed"),
            (TrialState.RUNNING, "running"),
            (TrialState.WAITING, "waiting or paused"),
        )
        if states.count(state)
    ]
    epochs = sum(trial.epochs for trial in trials)
    whole = len(trials) * study.spec.search.epochs
    present = f"{len(trials)} of {counted(study.trials, 'trial')}"
    yield f"The search has {present}{': ' if parts else ''}{', '.join(parts)}."
    if epochs:
        yield (
            f"They trained {counted(epochs, 'epoch')}, {epochs / whole:.0%} of the {whole} epochs of "
            f"{counted(len(trials), 'whole trial')}."
        )
    repeated = len(failed([trial.row for trial in trials]))
    if repeated:
        yield f"{counted(repeated, 'failed trial')} {'is' if repeated == 1 else 'are'} not repeated."


def _time(data: StudyData) -> Iterator[str]:
    seconds = {stage: sum(spent.values()) for stage, spent in data.seconds.items()}
    total = sum(seconds.values())
    if not total:
        return
    times = [
        time for trial in data.history.trials for time in (trial.times.started, trial.times.ended) if time
    ]
    wall = (max(times) - min(times)).total_seconds() if times else 0.0
    search, full = (duration(seconds.get(stage, 0.0)) for stage in STAGES)
    split = f": {search} in the search, {full} in full training" if seconds.get("full") else ""
    yield f"The study took {duration(total)} of device time{split}."
    yield f"From the first start to the last end it took {duration(wall)}."
