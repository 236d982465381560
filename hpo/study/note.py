"""The note of a study in optuna-dashboard: what it is, its state, and where to look next."""

from hpo.study.study import Study
from hpo.values.stage import Stage

SPECIAL = "\\`*_{}[]<>#|~"


def note_of(study: Study, stage: Stage, stopped: str | None = None) -> str:
    """Return the note of a stage in Markdown. `stopped`: why the stage is stopped, None if it is not."""
    name, objective = study.name, study.objective
    better = "higher" if objective.is_maximised else "lower"
    what, other = (
        ("The search", f"full training is the study {study.spec.full_name}")
        if stage == "search"
        else ("Full training", f"the search is the study {name}")
    )
    state = f"State: stopped, {_plain(stopped)}. " if stopped is not None else ""
    return (
        f"{what} of the hpo study {name}; {other}. "
        f"Objective: {_plain(objective.title)}, {better} is better.\n\n"
        f"{state}[The report of this study](/report/{name}) says what it found and what that is worth.\n\n"
        "Paused trials are shown as waiting.\n\n"
        f"- where it stands: `hpo status {name}`\n"
        f"- parameters and model: `hpo export {name} --bundle best-{name}`\n"
        f"- every trial as data: `hpo study show {name} --json`\n"
    )


def _plain(words: str) -> str:
    """Return text without a meaning in Markdown, in one line."""
    return "".join(f"\\{letter}" if letter in SPECIAL else letter for letter in " ".join(words.split()))
