"""What leases, reports, pruning and checkpoints cost: the LeNet search of the paper on the mini split.

python -m benchmarks.activities [--workers N] [--pruner NAME] [--runs N] [--quick] [--json FILE]

A worker's seconds are split as `hpo status --json` has them: training, evaluation, waiting for the database
(claims, leases, reports, pruning), checkpoints, and idle (start-up, no trial to claim). The share that counts
is that of database and checkpoints.
"""

import argparse
import json
import statistics
from pathlib import Path

from benchmarks import hardware
from benchmarks.command import hpo, lenet, stored
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage, open_storage
from hpo.study.status import ACTIVITIES, status
from hpo.values.stage import STAGES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="on the CPU (default 2)")
    parser.add_argument("--pruner", default="median", help="pruner of the study (default median)")
    parser.add_argument("--runs", type=int, default=3, help="searches (default 3)")
    parser.add_argument("--quick", action="store_true", help="6 trials of 2 epochs on digits, one run")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()

    if options.quick:
        options.runs = 1
    spec = lenet("activities", options.quick, pruner={"name": options.pruner})
    settings = Settings.from_environment()
    storage = open_storage(settings)
    runs = [search(storage, spec, settings.artifacts_path, options.workers) for _ in range(options.runs)]
    report(options, spec, runs)


def search(storage: Storage, spec: StudySpec, artifacts: Path, workers: int) -> dict[str, float]:
    """Runs the search by command; gives the workers' seconds by activity."""
    with stored(storage, spec, artifacts) as study:
        hpo("workers", study.name, "--gpus", "cpu", "--per-device", str(workers))
        found = status(storage, study)
    stages = [getattr(found, stage).activities for stage in STAGES]
    return {name: sum(activities[name] for activities in stages) for name in ACTIVITIES}


def share(seconds: dict[str, float]) -> float:
    return (seconds["database"] + seconds["checkpoints"]) / sum(seconds.values())


def report(options: argparse.Namespace, spec: StudySpec, runs: list[dict[str, float]]) -> None:
    print(
        f"{spec.search.trials} trials of {spec.search.epochs} epochs, {spec.model.name} on {spec.data.name}"
    )
    print(f"pruner {options.pruner}, {options.workers} workers; {hardware.line()}; n = {options.runs}")
    print(f"{'':14}{'median s':>10}{'share':>9}")
    total = statistics.median(sum(run.values()) for run in runs)
    for name in ACTIVITIES:
        middle = statistics.median(run[name] for run in runs)
        print(f"{name:14}{middle:10.2f}{middle / total:9.2%}")
    shares = [share(run) for run in runs]
    print(
        f"database and checkpoints: median {statistics.median(shares):.2%} of the workers' time "
        f"({min(shares):.2%} to {max(shares):.2%})"
    )
    if options.json:
        options.json.write_text(json.dumps({"runs": runs, "hardware": hardware.line()}, indent=2))


if __name__ == "__main__":
    main()
