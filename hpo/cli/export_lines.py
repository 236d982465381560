"""What the commands say of an exported model: its seeds, its validation, and the reads of the test part."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpo.export.provenance import read_provenance
from hpo.study.best import BestParams
from hpo.study.scored import ScoredModel, describe_reads
from hpo.values.epoch import validation_key
from hpo.values.objective import Objective
from hpo.values.wording import counted


def seed_lines(best: BestParams) -> list[str]:
    """Return the line about the spread over the seeds, if there are several."""
    seeds = best.seeds
    return [] if seeds is None or len(seeds.trials) == 1 else [f"seeds: {seeds.describe(best.objective)}"]


def export_lines(best: BestParams, directory: Path) -> list[str]:
    """Return the lines about the model in a new bundle. `best`: the full training that stands for it."""
    origin = read_provenance(directory)
    validated = origin.get("validated_trials", origin["trials"])
    model = ScoredModel(tuple(validated), origin["shifts"])
    figures = _figures(best.objective, origin)
    lines = seed_lines(best)
    if figures:
        lines.append(f"validation of {model.describe()}: {figures}")
    if "unshifted" in origin:
        lines.append(f"without shifts: {_figures(best.objective, origin['unshifted'])}")
    lines += [
        f"exported: trial {refit['trial']}, the refit of trial {refit['refit_of']} on all training images "
        f"({counted(refit['epochs'], 'epoch')})"
        for refit in origin.get("refits", ())
    ]
    if "test_reads" in origin:
        reads = [ScoredModel(**{**read, "trials": tuple(read["trials"])}) for read in origin["test_reads"]]
        lines.append(describe_reads(reads))
    return lines


def _figures(objective: Objective, metrics: Mapping[str, Any]) -> str:
    """Return the metrics of the validation part among these, the objective first."""
    prefix = validation_key("")
    measured = {key: value for key, value in metrics.items() if key.startswith(prefix)}
    shown = [metric for metric in (objective, *objective.others([measured])) if metric.key in measured]
    return ", ".join(f"{metric.title} {metric.show(measured[metric.key])}" for metric in shown)
