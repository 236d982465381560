"""Measure the share of worker time that goes into leases, reports, pruning and checkpoints.

The study is the paper's LeNet search on the mini split. The seconds of its workers are split as
`hpo status --json` splits them: training, evaluation, database (claims, leases, reports, pruning),
checkpoints, and idle (start-up, no trial to claim). The overhead is the share of database and checkpoints.
"""

from benchmarks.command import describe, lenet_spec, parser, run_hpo, stored_study
from benchmarks.results import Result
from hpo.settings import Settings
from hpo.spec.study_spec import StudySpec
from hpo.store.connection import Storage, open_storage
from hpo.study.status import ACTIVITIES, status
from hpo.values.stage import STAGES


def main() -> None:
    options = parser(__doc__, quick="6 trials of 2 epochs on digits, one run")
    options.add_argument("--workers", type=int, default=2, help="workers on the CPU (default 2)")
    options.add_argument("--pruner", default="median", help="pruner of the study (default median)")
    options.add_argument("--runs", type=int, default=3, help="searches (default 3)")
    arguments = options.parse_args()

    spec = lenet_spec("activities", arguments.quick, pruner={"name": arguments.pruner})
    settings = Settings.from_environment()
    storage = open_storage(settings)
    setup = f"{describe(spec)}; pruner {arguments.pruner}, {arguments.workers} workers"
    result = Result.begin("activities", setup, 1 if arguments.quick else arguments.runs)
    runs = [search(storage, spec, settings, arguments.workers) for _ in range(result.n)]
    report(result, runs)
    result.write(arguments.json)


def search(storage: Storage, spec: StudySpec, settings: Settings, workers: int) -> dict[str, float]:
    """Run the search by command and return the workers' seconds by activity."""
    with stored_study(storage, spec, settings) as study:
        run_hpo("workers", study.name, "--gpus", "cpu", "--per-device", str(workers))
        standing = status(storage, study)
    by_stage = [getattr(standing, stage).activities for stage in STAGES]
    return {name: sum(activities[name] for activities in by_stage) for name in ACTIVITIES}


def overhead(seconds: dict[str, float]) -> float:
    return (seconds["database"] + seconds["checkpoints"]) / sum(seconds.values())


def report(result: Result, runs: list[dict[str, float]]) -> None:
    result.values["runs"] = runs
    total = result.median("total seconds", (sum(run.values()) for run in runs))
    table = result.table("Seconds of all workers", ("activity", "median s", "share"))
    for name in ACTIVITIES:
        seconds = result.median(f"{name} seconds", (run[name] for run in runs))
        table.add(name, f"{seconds:.2f}", f"{seconds / total:.2%}")
    shares = [overhead(run) for run in runs]
    median = result.median("overhead", shares)
    table = result.table("Overhead: database and checkpoints", ("", "median", "least", "greatest"))
    table.add("overhead", f"{median:.2%}", f"{min(shares):.2%}", f"{max(shares):.2%}")


if __name__ == "__main__":
    main()
