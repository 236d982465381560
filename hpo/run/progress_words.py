"""How far a study is, in words."""

from hpo.study.live import LiveStatus, StageProgress
from hpo.study.status import StageStatus
from hpo.study.time_left import NONE_LEFT
from hpo.values.wording import counted


def stage_text(figures: StageStatus, progress: StageProgress, noun: str) -> str:
    """Return how much of a stage is done, as in "62 of 96 epochs, 14 trials, 9 paused"."""
    budget = progress.budget
    tried = figures.finished + figures.paused
    if budget.unit == "trials":
        first = [f"{tried if noun == 'trial' else figures.finished} of {counted(figures.budget, noun)}"]
    elif budget.unit == "epochs":
        first = [f"{budget.used:.0f} of {budget.total:.0f} epochs", counted(tried, noun)]
    else:
        first = [f"{budget.used:.2g} of {budget.total:g} device hours", counted(tried, noun)]
    failed = figures.states["FAIL"] - figures.foreign.get("FAIL", 0)
    counts = [f"{figures.paused} paused"] if figures.paused else []
    counts += [f"{failed} failed"] if failed else []
    if budget.unit != "epochs":
        counts.append(counted(progress.epochs, "epoch"))
    return ", ".join([*first, *counts])


def left_text(live: LiveStatus) -> str:
    """Return the time left and its basis, as in "about 4 min, from the last 60 epochs of 2 workers"."""
    left, search, full = live.left, live.search.left, live.full.left
    if left == NONE_LEFT:
        return "nothing is left to train"
    if left.seconds is None:
        return f"unknown: {left.basis}"
    both = NONE_LEFT not in (search, full)
    parts = f" (search {search.describe()}, full training {full.describe()})" if both else ""
    return f"{left.describe()}{parts}, {left.basis}"
