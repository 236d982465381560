"""What to do next with a study, as the last line of a command."""

from hpo.spec.study_spec import FULL_SUFFIX
from hpo.study.lifecycle import BY_USER, Stopped
from hpo.study.status import Status


def next_step(status: Status) -> str:
    """Return the next command for a study, and why the study needs it."""
    name, search, full = status.study, status.search, status.full
    mark = _stopped(status)
    if mark is not None:
        reason = mark.reason if mark == BY_USER else f"stopped ({mark.reason})"
        return f"{reason}; to continue: hpo study resume {name}"
    if search.begun or full.open or (search.open and search.stopped is None):
        return f"next: hpo workers {name}"
    for stage_name, stage in ((name, search), (f"{name}{FULL_SUFFIX}", full)):
        if stage.failures is not None and stage.best is None:
            return f"finished without a result: {stage.failures.describe(stage_name)}"
    if search.best is None:
        return f"finished without a result: no search trial completed; to list them: hpo study show {name}"
    if not full.present:
        return f"search finished; next: hpo promote {name}, then hpo workers {name}"
    if full.due:
        return f"full training finished; next: hpo promote {name} to refit the best, then hpo workers {name}"
    return f"finished; next: hpo export {name} --bundle DIR"


def _stopped(status: Status) -> Stopped | None:
    """Return the mark that keeps the study from its next step, None if there is none."""
    search, full = status.search, status.full
    is_done = not search.open and full.present and not full.open
    if full.stopped is not None and not is_done:
        return full.stopped
    # The best trial of a stopped search can be promoted.
    return search.stopped if search.open and search.best is None and not search.begun else None
