"""What it costs a pack to wait for the answer to its report of an epoch, and what it saves.

python -m benchmarks.answers [--runs N] [--quick] [--json FILE]

waits     training waits until it knows who is pruned, at most two seconds, as workers do
goes on   it does not, and who is pruned leaves an epoch late

The paper's search of LeNet with ASHA by one worker, alternating. `database`: seconds in which the worker
waited for the storage.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from benchmarks import hardware
from benchmarks.command import lenet, stored
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage, open_storage
from hpo.study.status import status
from hpo.training.workload import Workload
from hpo.worker import reporter
from hpo.worker.worker import Worker

WAYS = {"waits": reporter.ANSWER_SECONDS, "goes on": 0.0}


def search(
    storage: Storage, spec: StudySpec, workload: Workload, settings: Settings, answer_seconds: float
) -> dict[str, float]:
    """Seconds in all, and of the worker's activities."""
    reporter.ANSWER_SECONDS = answer_seconds
    with stored(storage, spec, settings.artifacts_path) as study:
        worker = Worker(
            storage,
            study,
            workload,
            f"benchmark-{answer_seconds}",
            "cpu",
            settings.artifacts_path,
            programs=settings.programs_path,
        )
        start = time.perf_counter()
        worker.run()
        seconds = time.perf_counter() - start
        return {"all": seconds, **status(storage, study).search.activities}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="alternating runs of each (default 5)")
    parser.add_argument("--quick", action="store_true", help="6 trials of 2 epochs on digits, one run")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()

    torch.set_num_threads(1)
    runs = 1 if options.quick else options.runs
    spec, settings = lenet("answers", options.quick, pruner={"name": "asha"}), Settings.from_environment()
    storage, workload = open_storage(settings), Workload(spec, settings.data_path)
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(runs):
        for way, seconds in WAYS.items():
            found[way].append(search(storage, spec, workload, settings, seconds))
    print(f"{hardware.line()}; n = {runs}")
    print(f"{'median s':10}{'all':>9}{'training':>10}{'evaluation':>12}{'database':>10}")
    for way, each in found.items():
        middle = {what: statistics.median(one[what] for one in each) for what in each[0]}
        print(
            f"{way:10}{middle['all']:9.2f}{middle['training']:10.2f}{middle['evaluation']:12.2f}"
            f"{middle['database']:10.2f}"
        )
    pairs = zip(found["goes on"], found["waits"], strict=True)
    ratios = [theirs["all"] / ours["all"] for theirs, ours in pairs]
    print(f"goes on / waits: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    if options.json:
        options.json.write_text(json.dumps({"runs": found, "ratios": ratios, "hardware": hardware.line()}))


if __name__ == "__main__":
    main()
